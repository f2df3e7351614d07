//! Pictures of a compilation: a page, a graph and a memory plan.
//!
//! [`of_compilation`] and [`of_package`] decide what is shown, as data ([`model`]); [`html`], [`dot`] and [`arena`] print
//! it. Equal input gives equal bytes.

pub mod arena;
pub mod dot;
mod escape;
mod figures;
mod gather;
pub mod html;
pub mod model;
mod texts;
mod timeline;

#[cfg(test)]
mod tests;

use crate::code::{Code, Legalised, modules};
use crate::error::Errors;
use crate::pipeline::{Compiled, Options, package_error};
use crate::{reasons, rewrites};
use gather::Known;
use mlxc_codegen::gpu_profiles::{self, ShaderLanguage};
use mlxc_codegen::llvm;
use mlxc_codegen::wgsl::Header;
use mlxc_ir::kernel;
use mlxc_ir::{Diagnostic, TargetProfile};
use mlxc_package::{Package, Target, TargetKind};
use model::Picture;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use texts::Texts;

pub use gather::entry;
pub use timeline::Trace;

/// What of a compilation is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// One entry; all unless given.
    pub entry: Option<&'a str>,
    /// Times of a run; work is counted at its sizes then.
    pub trace: Option<&'a Trace>,
}

const KERNEL_IR: &str = "Kernel IR";
const LLVM_IR: &str = "LLVM IR";
/// Languages, those that are kept longest where a page has no room for all first.
const LANGUAGES: [&str; 4] = [KERNEL_IR, "WGSL", "MSL", LLVM_IR];

/// The name of a model as a picture has it: the last part of its path, never the path.
pub fn name_of(path: &Path) -> String {
    let last = |p: &Path| p.file_name().map(|n| n.to_string_lossy().into_owned());
    last(path).or_else(|| last(&path.canonicalize().ok()?)).unwrap_or_else(|| "model".into())
}

/// A picture of compilations of one module.
///
/// # Errors
/// What LLVM says when it prints a kernel, or a trace that does not fit.
pub fn of_compilation(model: &str, all: &[Compiled], wanted: Wanted<'_>) -> Result<Picture, Errors> {
    let mut known = Vec::new();
    for c in all {
        let plan = &c.scheduled.plan;
        let kernel_ir = c.scheduled.kernels.iter().map(|k| (k.name.to_string(), kernel::print(k))).collect();
        known.push(Known {
            name: c.target().to_string(),
            plan,
            profile: Some(c.options.profile.clone()),
            kernels: c.scheduled.kernels.iter().map(|k| (k.name.to_string(), k.clone())).collect(),
            functions: c.decomposed.functions.iter().map(|f| f.name.to_string()).collect(),
            code: vec![(KERNEL_IR.into(), kernel_ir), written(c)?],
            reasons: Some(reasons::collect(c)),
        });
    }
    let rules = all.first().map(rewrites::collect);
    Ok(draw(model, &known, rules, wanted, Vec::new())?)
}

/// A picture of a package, for some of its targets, with what it holds.
///
/// # Errors
/// A member that is damaged, or a trace that does not fit.
pub fn of_package(model: &str, package: &Package, targets: &[&Target], wanted: Wanted<'_>) -> Result<Picture, Errors> {
    let functions = functions_of(package);
    let mut known = Vec::new();
    let mut absent = Vec::new();
    for t in targets {
        let mut code = Vec::new();
        let member = package.member(&crate::source::kernels_member(&t.name)).ok();
        let text = member.map(|b| String::from_utf8_lossy(b).into_owned());
        let kernels = text.as_deref().and_then(|t| kernel::parse(t, "ir/kernels").ok()).unwrap_or_default();
        if text.is_none() {
            absent.push(format!(
                "Kernel IR, estimates and operations for {}: the package was stripped of them. Bytes are those of the \
                 buffers that a launch binds.",
                t.name
            ));
        } else {
            code.push((KERNEL_IR.into(), kernels.iter().map(|k| (k.name.to_string(), kernel::print(k))).collect()));
        }
        // A package may come from anywhere: work is counted of kernels whose indices are proven alone.
        let proven: BTreeMap<_, _> =
            kernels.into_iter().filter(|k| kernel::verify(k).is_ok()).map(|k| (k.name.to_string(), k)).collect();
        if text.is_some() && package.plan_of(t).kernels.iter().any(|k| !proven.contains_key(&k.name)) {
            absent.push(format!("Estimates and operations for {}: its Kernel IR is not that of its kernels.", t.name));
        }
        let profile = Options::for_target(&t.name).ok().map(|o| o.profile);
        match t.kind {
            TargetKind::Native => absent.push(format!(
                "LLVM IR for {}: a package holds machine code; the model's folder gives LLVM IR too.",
                t.name
            )),
            TargetKind::Shader => code.extend(shaders(package, t, profile.as_ref())?),
        }
        let reasons = reasons::of_package(package, &t.name);
        if reasons.is_none() {
            absent.push(format!("Refused merges for {}: the package was stripped of them.", t.name));
        }
        let plan = package.plan_of(t);
        let functions = functions.clone();
        known.push(Known { name: t.name.clone(), plan, profile, kernels: proven, functions, code, reasons });
    }
    let rules = rewrites::of_package(package);
    if rules.is_none() {
        absent.push("Rewrite rules: the package was stripped of them, or is of an older version.".into());
    }
    Ok(draw(model, &known, rules, wanted, absent)?)
}

fn draw(
    model: &str,
    known: &[Known<'_>],
    rules: Option<Vec<rewrites::Rewrites>>,
    wanted: Wanted<'_>,
    mut absent: Vec<String>,
) -> Result<Picture, Diagnostic> {
    let mut targets: Vec<model::Target> = known.iter().map(|k| gather::target(k, wanted)).collect();
    let mut texts = Texts::default();
    for language in LANGUAGES {
        for (k, t) in known.iter().zip(&mut targets) {
            gather::code(k, language, &mut t.kernels, &mut texts);
        }
    }
    let (texts, (cut, bytes)) = texts.finish();
    if cut > 0 {
        absent.push(format!(
            "{} of code in {cut} texts, which would make the page too large: `mlxc dump --kernel NAME` prints them.",
            crate::report::human(bytes as u64)
        ));
    }
    let writer = mlxc_package::WRITER.into();
    let mut out = Picture { model: model.into(), writer, targets, rules, measured: None, texts, absent };
    if let Some(trace) = wanted.trace {
        trace.add_to(&mut out)?;
    }
    Ok(out)
}

/// A compilation's code in its target's language, by kernel.
fn written(c: &Compiled) -> Result<(String, BTreeMap<String, String>), Diagnostic> {
    match (&c.legal, &c.code) {
        (Legalised::Cpu(all), _) => {
            let one =
                |l: &mlxc_codegen::legalise::Legal| llvm::print_ir(l).map(|text| (l.kernel().name.to_string(), text));
            // Any number of threads gives the same texts in the same order.
            let all = all.par_iter().map(one).collect::<Result<BTreeMap<_, _>, _>>()?;
            Ok((LLVM_IR.into(), all))
        }
        (Legalised::Gpu(all), Code::Shaders(shaders)) => {
            let mut out: BTreeMap<String, String> = BTreeMap::new();
            for m in modules(all, shaders.language, Header::Naga) {
                out.entry(m.kernel).or_default().push_str(&m.text);
            }
            Ok((language_name(shaders.language).into(), out))
        }
        (Legalised::Gpu(_), Code::Native(_)) => unreachable!("invariant: a GPU's code is shaders"),
    }
}

fn language_name(language: ShaderLanguage) -> &'static str {
    match language {
        ShaderLanguage::Wgsl => "WGSL",
        ShaderLanguage::Msl => "MSL",
    }
}

/// The shaders that a package holds for a target, by kernel.
fn shaders(
    package: &Package,
    target: &Target,
    profile: Option<&TargetProfile>,
) -> Result<Option<(String, BTreeMap<String, String>)>, Errors> {
    let Some(profile) = profile else { return Ok(None) };
    let code = package.code(target).map_err(package_error)?;
    let mut symbols = package.symbols(target).map_err(package_error)?;
    symbols.sort_by_key(|s| s.1);
    let ends: Vec<u64> = symbols.iter().skip(1).map(|s| s.1).chain([code.len() as u64]).collect();
    let module = |symbol: &str| {
        let at = symbols.iter().position(|(s, _)| s == symbol)?;
        code.get(symbols[at].1 as usize..ends[at] as usize)
    };
    let mut out: BTreeMap<String, String> = BTreeMap::new();
    for k in &package.plan_of(target).kernels {
        for p in &k.phases {
            if let Some(text) = module(&p.symbol) {
                out.entry(k.name.clone()).or_default().push_str(&String::from_utf8_lossy(text));
            }
        }
    }
    Ok(Some((language_name(gpu_profiles::language(profile)).into(), out)))
}

/// Names of the functions that blocks are numbered by; none where the package was stripped.
fn functions_of(package: &Package) -> Vec<String> {
    let text = package.member("ir/lowered").ok().map(|b| String::from_utf8_lossy(b).into_owned());
    let parsed = text.and_then(|t| mlxc_ir::graph::text::parse_source(&t, "ir/lowered").ok());
    parsed.map_or_else(Vec::new, |m| m.functions.iter().map(|f| f.name.to_string()).collect())
}
