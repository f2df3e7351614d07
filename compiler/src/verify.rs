//! Comparing compiled code with the interpreter of the graph it was compiled from.

use crate::error::Errors;
use crate::executable::runtime_error;
use crate::source::Build;
use crate::weights::Weights;
use mlxc_ir::graph::interpret::{self, Mode, Tensor};
use mlxc_ir::graph::{Function, Module, Op, Role, SymbolKind, TensorType};
use mlxc_ir::{DType, Diagnostic};
use mlxc_package::Package;
use mlxc_passes::{activations, canonicalise};
use mlxc_runtime::{LoadOptions, Model, TensorView};
use serde::Serialize;
use std::sync::Arc;

/// One output or state, compared.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// The entry.
    pub entry: String,
    /// The output, or `state NAME`.
    pub output: String,
    /// Largest difference from the f64 reference.
    pub max_error: f64,
    /// The same, relative to the largest value.
    pub max_relative: f64,
    /// The same, in units of the last place of the largest value.
    pub ulp: f64,
    /// What was allowed: the stated-dtype interpreter's own error and a few ulp.
    pub allowed: f64,
    /// The difference is within what is allowed.
    pub passed: bool,
}

/// Units of the last place of a tensor's largest value that are allowed beside the stated mode's own error. Sums of
/// hundreds of terms in another order differ by this much.
const ULP: f64 = 16.0;

/// Runs every entry once on random inputs, compiled and interpreted.
///
/// Symbolic extents take the value `size` (within their bounds), positions 0; token ids are drawn below 256 and below the
/// rows they pick from.
///
/// # Errors
/// What compiling, the weights or the runtime says; a package that was stripped of its graph.
pub fn verify(
    build: &Build,
    size: i64,
    seed: u64,
    load: &LoadOptions,
    stage: &mut dyn FnMut(&'static str),
) -> Result<Vec<Checked>, Errors> {
    let package = build.package(stage)?;
    let text = package.member("ir/graph").map_err(|_| {
        Diagnostic::new(909, "the package was stripped of its graph").note("compile it again without --strip")
    })?;
    let mut module = mlxc_ir::graph::text::parse(&String::from_utf8_lossy(text), "ir/graph")?;
    mlxc_ir::graph::verify::verify(&module)?;
    let rounds = |m: &Module| m.functions.iter().flat_map(|f| &f.nodes).any(|n| matches!(n.op, Op::Int8MatMul { .. }));
    if !rounds(&module) && lowered(&package).is_some_and(|m| rounds(&m)) {
        // Rounding is what was asked for, so the reference rounds too.
        for f in &mut module.functions {
            *f = activations::round(&canonicalise::canonicalise(f)?)?;
        }
    }
    stage("interpret");
    let source: Box<dyn Weights> =
        if build.is_package() { Box::new(Stored { package: package.clone() }) } else { build.weights(&module)? };
    let model = Model::load(package, load).map_err(runtime_error)?;
    let mut out = Vec::new();
    for f in module.entries() {
        entry(&module, f, &*source, &model, size, seed, &mut out)?;
    }
    Ok(out)
}

/// What the package's kernels compute, as a graph.
fn lowered(package: &Package) -> Option<Module> {
    let text = package.member("ir/lowered").ok()?;
    mlxc_ir::graph::text::parse(&String::from_utf8_lossy(text), "ir/lowered").ok()
}

/// Weights read back from a package, out of their storage order and out of merged weights.
struct Stored {
    package: Arc<Package>,
}

impl Weights for Stored {
    fn read(&self, name: &str, ty: &TensorType) -> Result<std::borrow::Cow<'_, [u8]>, Diagnostic> {
        for w in &self.package.plan().weights {
            let Some(part) = w.parts.iter().position(|p| p == name) else { continue };
            let stored = self.package.member(&w.member).map_err(crate::pipeline::package_error)?;
            let plain = w.layout.restore(stored, &w.shape, w.dtype.bytes() as usize);
            if w.parts.len() == 1 {
                return Ok(plain.into());
            }
            // Parts lie behind each other along the first axis; the shapes of those before are in the graph's types.
            let bytes = ty.max_bytes(&[]) as usize;
            let start = self.before(w, part)?;
            return plain
                .get(start..start + bytes)
                .map(|b| b.to_vec().into())
                .ok_or_else(|| Diagnostic::new(922, format!("weight `{name}` is not whole in `{}`", w.name)));
        }
        Err(Diagnostic::new(921, format!("the package has no weight `{name}`")))
    }
}

impl Stored {
    /// Bytes of the parts before one.
    fn before(&self, w: &mlxc_package::plan::Weight, part: usize) -> Result<usize, Diagnostic> {
        let text = self.package.member("ir/graph").map_err(crate::pipeline::package_error)?;
        let module = mlxc_ir::graph::text::parse(&String::from_utf8_lossy(text), "ir/graph")?;
        let bytes = |name: &String| {
            module.weights.iter().find(|x| *x.name == **name).map_or(0, |x| x.ty.max_bytes(&[]) as usize)
        };
        Ok(w.parts[..part].iter().map(bytes).sum())
    }
}

fn entry(
    module: &Module,
    f: &Function,
    weights: &dyn Weights,
    model: &Model,
    size: i64,
    seed: u64,
    out: &mut Vec<Checked>,
) -> Result<(), Errors> {
    let symbols: Vec<i64> = f
        .symbols
        .iter()
        .map(|s| match s.kind {
            SymbolKind::Size => (size / s.multiple * s.multiple).clamp(s.range.lo, s.range.hi),
            SymbolKind::Scalar => s.range.lo,
        })
        .collect();
    let mut random = Stream(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut args = Vec::new();
    for p in &f.params {
        let shape: Vec<usize> = p.ty.shape.iter().map(|d| d.eval(&symbols).max(0) as usize).collect();
        args.push(match p.role {
            Role::Scalar(id) => Tensor::ints(DType::I32, &[], &[symbols[id.0 as usize]]),
            Role::Weight(_) => {
                let bytes = weights.read(&p.name, &p.ty)?;
                Tensor::from_bytes(p.ty.dtype, &shape, &bytes)
                    .ok_or_else(|| Diagnostic::new(922, format!("weight `{}` is too short", p.name)))?
            }
            Role::State(_) => Tensor::zeros(p.ty.dtype, &shape),
            _ => random.tensor(p.ty.dtype, &shape),
        });
    }
    let reference = interpret::run(module, f, &args, Mode::Reference)?;
    let stated = interpret::run(module, f, &args, Mode::Stated)?;
    let held: Vec<(String, DType, Vec<u64>, Vec<u8>)> = f
        .params
        .iter()
        .zip(&args)
        .filter(|(p, _)| matches!(p.role, Role::Input | Role::Scalar(_)))
        .map(|(p, t)| (p.name.to_string(), t.dtype, t.shape.iter().map(|n| *n as u64).collect(), t.to_bytes()))
        .collect();
    let views: Vec<(&str, TensorView<'_>)> = held
        .iter()
        .map(|(n, d, s, b)| TensorView::new(*d, s, b).map(|v| (n.as_str(), v)))
        .collect::<Result<_, _>>()
        .map_err(runtime_error)?;
    let mut session = model.session().map_err(runtime_error)?;
    let got = session.run(&f.name, &views).map_err(runtime_error)?;
    for (i, (name, t)) in got.iter().enumerate() {
        out.push(compare(&f.name, name, &t.to_f64s(), &reference.results[i], &stated.results[i]));
    }
    for (k, (param, want)) in reference.updates.iter().enumerate() {
        let name = &f.params[*param as usize].name;
        let t = session.state(name).map_err(runtime_error)?;
        out.push(compare(&f.name, &format!("state {name}"), &t.to_f64s(), want, &stated.updates[k].1));
    }
    Ok(())
}

fn compare(entry: &str, output: &str, got: &[f64], want: &Tensor, stated: &Tensor) -> Checked {
    let same = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan();
    let distance = |a: f64, b: f64| if same(a, b) { 0.0 } else { (a - b).abs() };
    let (want, own) = (want.to_floats(), stated.to_floats());
    let most = |xs: &[f64]| {
        xs.iter().zip(&want).map(|(a, b)| distance(*a, *b)).fold(0.0, |m: f64, x| if x.is_nan() { x } else { m.max(x) })
    };
    let scale = want.iter().filter(|x| x.is_finite()).fold(0.0f64, |m, x| m.max(x.abs()));
    let epsilon = match stated.dtype {
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        DType::F32 => 2f64.powi(-23),
        DType::F64 => 2f64.powi(-52),
        _ => 0.0,
    };
    let max_error = if got.len() == want.len() { most(got) } else { f64::INFINITY };
    let allowed = most(&own) + ULP * epsilon * scale;
    let relative = |x: f64| if scale == 0.0 { 0.0 } else { x / scale };
    Checked {
        entry: entry.into(),
        output: output.into(),
        max_error,
        max_relative: relative(max_error),
        ulp: if epsilon == 0.0 { 0.0 } else { relative(max_error) / epsilon },
        allowed,
        passed: max_error <= allowed,
    }
}

/// xorshift64* (Vigna, 2016).
struct Stream(u64);

impl Stream {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn tensor(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        let n = shape.iter().product();
        if dtype.is_float() {
            let v: Vec<f64> = (0..n).map(|_| (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0).collect();
            return Tensor::floats(dtype, shape, &v);
        }
        let v: Vec<i64> = (0..n).map(|_| (self.bits() % if dtype == DType::Bool { 2 } else { 256 }) as i64).collect();
        Tensor::ints(dtype, shape, &v)
    }
}
