//! `mlxc dump`: every stage, printed.

use super::args::Dump;
use super::progress::Progress;
use super::{Outcome, print, write_file};
use mlxc::Diagnostic;
use mlxc::code::{Legalised, modules};
use mlxc::pipeline::{Compiled, STAGES};
use mlxc_codegen::gpu_profiles::{self, ShaderLanguage};
use mlxc_codegen::wgsl::{self, Header};
use mlxc_ir::profile::TargetKind;
use mlxc_package::Package;
use std::fmt::Write;

pub fn run(a: &Dump) -> Outcome {
    if a.stage == "stages" {
        return print(&format!("{}\n", STAGES.join("\n")));
    }
    if !STAGES.contains(&a.stage.as_str()) {
        return Err(Diagnostic::new(908, "there is no stage of that name")
            .expected(STAGES.join(", "))
            .found(a.stage.clone())
            .into());
    }
    let text = if a.build.build().is_package() { of_package(a)? } else { of_compilation(a)? };
    match &a.output {
        Some(path) => write_file(path, text.as_bytes()),
        None => print(&text),
    }
}

fn plan_json(plan: &mlxc_package::plan::Plan) -> String {
    let mut text = serde_json::to_string_pretty(plan).expect("a plan is plain data");
    text.push('\n');
    text
}

fn of_package(a: &Dump) -> Result<String, super::Failure> {
    let package = a.build.build().open_package()?;
    let (target, plan) = a.build.plan_of(&package)?;
    let member = match a.stage.as_str() {
        "plan" if a.json => return Ok(plan_json(plan)),
        "plan" => return Ok(plan_text(plan)),
        "trace" => "ir/graph".to_string(),
        "decompose" => "ir/lowered".to_string(),
        "kernels" => mlxc::source::kernels_member(&target),
        "wgsl" | "msl" => return shaders_of_package(a, &package, &target),
        other => {
            return Err(Diagnostic::new(909, format!("a package does not hold stage `{other}`"))
                .expected("trace, decompose, kernels, plan, wgsl or msl; dump the model's folder for the others")
                .into());
        }
    };
    let bytes = package.member(&member).map_err(|e| {
        Diagnostic::new(909, "the package was stripped").found(e.to_string()).note("compile it again without --strip")
    })?;
    let text = String::from_utf8_lossy(bytes).into_owned();
    if a.stage == "kernels" { Ok(pick(&text, a.kernel.as_deref())) } else { Ok(text) }
}

/// The shaders that a package holds for a target.
fn shaders_of_package(a: &Dump, package: &Package, target: &str) -> Result<String, super::Failure> {
    let profile = mlxc::Options::for_target(target)?.profile;
    let language = (profile.kind == TargetKind::Gpu).then(|| gpu_profiles::language(&profile));
    let found = package.manifest().targets.iter().find(|t| t.name == target);
    let Some(found) = found.filter(|_| language.is_some_and(|l| stage_of(l) == a.stage)) else {
        return Err(no_stage(&a.stage, target));
    };
    let code = package.code(found).map_err(mlxc::pipeline::package_error)?;
    let mut symbols = package.symbols(found).map_err(mlxc::pipeline::package_error)?;
    symbols.sort_by_key(|s| s.1);
    let ends = symbols.iter().skip(1).map(|s| s.1).chain([code.len() as u64]);
    let mut out = String::new();
    for ((symbol, from), to) in symbols.iter().zip(ends) {
        let own = |k: &str| symbol.strip_prefix(k).is_some_and(|rest| rest.starts_with('_'));
        if a.kernel.as_deref().is_none_or(own) {
            out.push_str(&String::from_utf8_lossy(&code[*from as usize..to as usize]));
        }
    }
    Ok(out)
}

fn stage_of(language: ShaderLanguage) -> &'static str {
    match language {
        ShaderLanguage::Wgsl => "wgsl",
        ShaderLanguage::Msl => "msl",
    }
}

fn no_stage(stage: &str, target: &str) -> super::Failure {
    let expected = match stage {
        "llvm" | "asm" => "a CPU's profile",
        "msl" => "--target metal",
        _ => "--target webgpu or vulkan",
    };
    Diagnostic::new(909, format!("target `{target}` has no stage `{stage}`")).expected(expected).into()
}

fn of_compilation(a: &Dump) -> Result<String, super::Failure> {
    let progress = Progress::new();
    let compiled = a.build.build().compile(&mut |s| progress.stage(s))?;
    progress.finish();
    let graph = mlxc_ir::graph::text::print;
    let wanted = |name: &str| a.kernel.as_deref().is_none_or(|k| k == name);
    Ok(match a.stage.as_str() {
        "trace" => graph(&compiled.traced),
        "canonical" => graph(&compiled.canonical),
        "outline" => graph(&compiled.outlined),
        "eqsat" => graph(&compiled.saturated),
        "join" => graph(&compiled.joined),
        "decompose" => graph(&compiled.decomposed),
        "partition" => {
            let mut out = String::new();
            for e in &compiled.scheduled.plan.entries {
                let _ = writeln!(out, "entry {}", e.name);
                out.push_str(&mlxc::report::kernels(&compiled.scheduled.plan, e));
            }
            out
        }
        "plan" if a.json => plan_json(&compiled.scheduled.plan),
        "plan" => plan_text(&compiled.scheduled.plan),
        "kernels" => {
            let all: String = compiled.scheduled.kernels.iter().map(mlxc_ir::kernel::print).collect();
            pick(&all, a.kernel.as_deref())
        }
        "legal" => {
            let legal = compiled.legal.kernels();
            legal.into_iter().filter(|k| wanted(&k.name)).map(mlxc_ir::kernel::print).collect()
        }
        stage => code_of(a, stage, &compiled)?,
    })
}

/// The stages that are the target's own.
fn code_of(a: &Dump, stage: &str, compiled: &Compiled) -> Result<String, super::Failure> {
    let wanted = |name: &str| a.kernel.as_deref().is_none_or(|k| k == name);
    let mut out = String::new();
    match &compiled.legal {
        Legalised::Cpu(all) if matches!(stage, "llvm" | "asm") => {
            for l in all.iter().filter(|l| wanted(&l.kernel().name)) {
                out.push_str(&if stage == "llvm" {
                    mlxc_codegen::llvm::print_ir(l)?
                } else {
                    mlxc_codegen::llvm::print_assembly(l)?
                });
            }
        }
        Legalised::Gpu(all) => {
            let language = if stage == "msl" { ShaderLanguage::Msl } else { ShaderLanguage::Wgsl };
            let profile = mlxc::Options::for_target(compiled.target())?.profile;
            if gpu_profiles::language(&profile) != language || matches!(stage, "llvm" | "asm") {
                return Err(no_stage(stage, compiled.target()));
            }
            for m in modules(all, language, Header::Naga).into_iter().filter(|m| wanted(&m.kernel)) {
                if stage == "spirv" {
                    let _ = writeln!(out, "; {}", m.entry);
                    out.push_str(&words(&wgsl::spirv(&m.text)?));
                } else {
                    out.push_str(&m.text);
                }
            }
        }
        Legalised::Cpu(_) => return Err(no_stage(stage, compiled.target())),
    }
    Ok(out)
}

/// SPIR-V as words, eight a line; `xxd -r -p` and `spirv-dis` read it back.
fn words(module: &[u32]) -> String {
    let mut out = String::new();
    for line in module.chunks(8) {
        let line: Vec<String> = line.iter().map(|w| format!("{:08x}", w.swap_bytes())).collect();
        let _ = writeln!(out, "{}", line.join(" "));
    }
    out
}

/// The kernel of a name out of the text of all.
fn pick(text: &str, name: Option<&str>) -> String {
    let Some(name) = name else { return text.to_string() };
    let begins = |l: &str| l.strip_prefix("kernel ").and_then(|r| r.split_whitespace().next()) == Some(name);
    let mut out = String::new();
    let mut inside = false;
    for line in text.lines() {
        inside |= begins(line);
        if inside {
            out.push_str(line);
            out.push('\n');
        }
        inside &= line != "}";
    }
    out
}

fn plan_text(plan: &mlxc_package::plan::Plan) -> String {
    let mut out = String::new();
    for e in &plan.entries {
        let name = |id: mlxc_package::SymId| {
            e.symbols.get(id.0 as usize).map_or_else(|| format!("?{}", id.0), |s| s.name.clone())
        };
        let size = |s: &mlxc_package::Size| s.display(&name).to_string();
        let _ = writeln!(out, "entry {}: arena {} bytes, lower bound {}", e.name, e.arena.bytes, e.arena.lower_bound);
        for (i, b) in e.buffers.iter().enumerate() {
            let shape: Vec<String> = b.shape.iter().map(size).collect();
            let _ = writeln!(
                out,
                "  buffer {i} {:?}: {}[{}] {} bytes, {:?}, launches {}..={}",
                b.name,
                b.dtype,
                shape.join(", "),
                b.bytes,
                b.place,
                b.first,
                b.last
            );
        }
        for (i, l) in e.launches.iter().enumerate() {
            let k = &plan.kernels[l.kernel as usize];
            let grid: Vec<String> = l.grid.iter().map(size).collect();
            let _ = writeln!(
                out,
                "  launch {i}: {}.{} over [{}] on {:?}",
                k.name,
                k.phases[l.phase as usize].name,
                grid.join(", "),
                l.buffers
            );
        }
    }
    out
}
