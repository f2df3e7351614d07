//! Kernel IR written as MSL: compiled, and run in every order and both builds against the interpreter.

#![allow(clippy::unwrap_used)]

#[path = "../../../codegen/tests/run/mod.rs"]
mod run;

use std::collections::BTreeMap;

use mlxc_codegen::legalise::{GpuLegal, legalise_gpu};
use mlxc_codegen::{gpu_profiles, msl};
use mlxc_ir::DType::{self, *};
use mlxc_ir::kernel::{self, Access, ArgKind, BufferData, Kernel, Options, Scalar, Step, VarId};
use mlxc_msl_gate::{Build, Failure, Gate, Library};
use run::{elements, evaluate, kernel, launch_values};

fn file(name: &str, replace: &[(&str, &str)]) -> Kernel {
    let path = format!("{}/../../ir/tests/kernels/{name}.kir", env!("CARGO_MANIFEST_DIR"));
    let mut text = std::fs::read_to_string(path).unwrap();
    for (from, to) in replace {
        assert!(text.contains(from), "{name}: no {from}");
        text = text.replace(from, to);
    }
    kernel(&text)
}

/// A kernel, values of its scalars, its buffers, and how far results may be from the interpreter's.
struct Case {
    kernel: Kernel,
    scalars: Vec<u64>,
    data: Vec<BufferData>,
    tolerance: f64,
}

impl Case {
    fn random(kernel: Kernel, scalars: &[u64], seed: u64, tolerance: f64) -> Case {
        let mut random = mlxc_tests::kernels::Random::new(seed + 1);
        let data = (0..kernel.buffers.len()).map(|b| {
            let (n, d) = (elements(&kernel, b, scalars), kernel.buffers[b].dtype);
            match d.is_float() {
                true => BufferData::of(d, (0..n).map(|_| random.unit())),
                false => BufferData { dtype: d, bits: (0..n).map(|_| random.bits() >> (64 - d.bytes() * 8)).collect() },
            }
        });
        let data = data.collect();
        Case { kernel, scalars: scalars.to_vec(), data, tolerance }
    }

    fn interpreted(&self) -> Vec<BufferData> {
        let k = &self.kernel;
        let symbols = k.symbols.iter().map(|s| (k.var_name(s.var), false));
        let args = k.args.iter().map(|a| (&*a.name, matches!(a.kind, ArgKind::Scalar(d) if d.is_float())));
        let scalars: Vec<(&str, Scalar)> = symbols
            .chain(args)
            .zip(&self.scalars)
            .map(|((n, float), v)| (n, if float { Scalar::Float(*v as f64) } else { Scalar::Int(*v as i64) }))
            .collect();
        let mut data = self.data.clone();
        kernel::run(k, &mut data, &scalars, &Options::default())
            .unwrap_or_else(|d| panic!("{d}\n{}", kernel::print(k)));
        data
    }
}

fn legal(kernel: &Kernel) -> GpuLegal {
    let profile = gpu_profiles::by_name("apple7").unwrap();
    let read_only: Vec<bool> = kernel.buffers.iter().map(|b| b.access == Access::Read).collect();
    legalise_gpu(kernel, &profile, &read_only).unwrap_or_else(|d| panic!("{}\n{}", d[0], kernel::print(kernel)))
}

/// Runs every phase of a kernel.
struct Launches<'a> {
    legal: &'a GpuLegal,
    library: &'a Library,
    words: Vec<u32>,
    vars: BTreeMap<VarId, i64>,
    next: usize,
}

impl Launches<'_> {
    fn steps(&mut self, steps: &[Step], buffers: &mut [Vec<u8>]) -> Result<(), Failure> {
        for step in steps {
            match step {
                Step::Phase(phase) => {
                    let made = &self.legal.phases()[self.next];
                    self.next += 1;
                    let k = self.legal.kernel();
                    let extents: Vec<u64> =
                        phase.grid.iter().map(|(_, e)| evaluate(k, *e, &self.vars).max(0) as u64).collect();
                    let total: u64 = extents.iter().product();
                    if total == 0 {
                        continue;
                    }
                    let mut grid = [1; 3];
                    if made.linear {
                        // Narrower than a device's, so that the shader's return is reached.
                        let x = total.min(1000);
                        grid = [x as u32, total.div_ceil(x) as u32, 1];
                    } else {
                        extents.iter().rev().zip(&mut grid).for_each(|(e, g)| *g = *e as u32);
                    }
                    self.library.run_in_every_order(&made.entry, grid, made.lanes, &self.words, buffers)?;
                }
                Step::Serial { var, lo, hi, step, body } => {
                    let k = self.legal.kernel();
                    let (mut now, end) = (evaluate(k, *lo, &self.vars), evaluate(k, *hi, &self.vars));
                    let first = self.next;
                    while now < end {
                        self.next = first;
                        self.vars.insert(*var, now);
                        self.words.push(now as u32);
                        self.steps(body, buffers)?;
                        self.words.pop();
                        now += step;
                    }
                }
            }
        }
        Ok(())
    }
}

fn text(legal: &GpuLegal) -> String {
    msl::write(legal).into_iter().map(|m| m.text).collect::<Vec<_>>().join("\n")
}

/// Holds all cases to the interpreter, in both builds. Kernels have names of their own.
fn check(cases: Vec<Case>) {
    let gate = Gate::new().unwrap_or_else(|e| panic!("{e}"));
    let legal: Vec<GpuLegal> = cases.iter().map(|c| legal(&c.kernel)).collect();
    let modules: Vec<_> = legal.iter().flat_map(msl::write).collect();
    let kernels: Vec<(&str, &str)> = modules.iter().map(|m| (m.entry.as_str(), m.text.as_str())).collect();
    for build in [Build::Strict, Build::Checked] {
        let library = gate.compile(&kernels, build).unwrap_or_else(|e| panic!("{e}"));
        for (case, legal) in cases.iter().zip(&legal) {
            if let Err(what) = held(case, legal, &library) {
                panic!("{}, {build:?}: {what}\n{}", case.kernel.name, text(legal));
            }
        }
    }
}

/// Runs a case, and holds it to the interpreter.
fn held(case: &Case, legal: &GpuLegal, library: &Library) -> Result<(), String> {
    let float = |i: usize| {
        let arg = i.checked_sub(case.kernel.symbols.len()).map(|a| &case.kernel.args[a].kind);
        matches!(arg, Some(ArgKind::Scalar(d)) if d.is_float())
    };
    let word = |(i, v): (usize, &u64)| if float(i) { (*v as f32).to_bits() } else { *v as u32 };
    let words = case.scalars.iter().enumerate().map(word).collect();
    let vars = launch_values(&case.kernel, &case.scalars);
    let mut buffers: Vec<Vec<u8>> = case.data.iter().map(BufferData::to_bytes).collect();
    let mut launches = Launches { legal, library, words, vars, next: 0 };
    launches.steps(&legal.kernel().steps, &mut buffers).map_err(|e| e.to_string())?;
    let want = case.interpreted();
    for ((want, got), b) in want.iter().zip(&buffers).zip(&case.kernel.buffers) {
        if b.access != Access::Scratch {
            let got = BufferData::from_bytes(want.dtype, got);
            close(&got, want, case.tolerance).map_err(|what| format!("`{}`, {what}", b.name))?;
        }
    }
    Ok(())
}

fn close(got: &BufferData, want: &BufferData, tolerance: f64) -> Result<(), String> {
    let half = match want.dtype {
        BF16 => 0.01,
        F16 => 0.002,
        _ => 0.0,
    };
    let top = want.values().iter().filter(|v| v.is_finite()).fold(1e-30, |m: f64, v| m.max(v.abs()));
    let slack = if tolerance == 0.0 { 0.0 } else { (tolerance + half) * top };
    for (i, (g, w)) in got.values().into_iter().zip(want.values()).enumerate() {
        let same = if want.dtype.is_float() { g == w || g.is_nan() && w.is_nan() } else { got.bits[i] == want.bits[i] };
        if !same && ((g - w).abs() > slack || g.is_nan()) {
            return Err(format!("element {i} is {g}, not {w}"));
        }
    }
    Ok(())
}

#[test]
fn kernel_files() {
    let norm = &[("2048", "256"), ("1024", "128"), ("256>", "32>"), ("group 256", "group 32")];
    let qmv = &[
        ("grid(b: 256)", "grid(b: 2)"),
        ("u32[2048, 256]", "u32[16, 256]"),
        ("bf16[2048, 32]", "bf16[16, 32]"),
        ("y: bf16[2048]", "y: bf16[16]"),
    ];
    let small = &[("2048", "64"), ("8192", "64"), ("nb: 256", "nb: 2")];
    let prefill = &[("4096", "64"), ("4095", "63")];
    let of = |name: &str, replace: &[(&str, &str)], sizes: &[&[u64]], tolerance: f64| -> Vec<Case> {
        let case = |(i, s): (usize, &&[u64])| Case::random(file(name, replace), s, i as u64, tolerance);
        sizes.iter().enumerate().map(case).collect()
    };
    check(
        [
            of("silu_scale_gpu", &[], &[&[3, 1], &[2, 37], &[1, 300]], 2e-5),
            of("add_rms_norm_gpu", norm, &[&[1], &[3]], 2e-5),
            of("decode_attention_gpu", &[], &[&[0], &[70]], 2e-5),
            of("histogram_gpu", &[], &[&[1], &[1100]], 0.0),
            of("qmv4_gpu", qmv, &[&[]], 2e-5),
            of("rope_cache", prefill, &[&[1, 0], &[5, 7]], 2e-5),
            of("gate_up_silu_regs", small, &[&[1], &[33]], 2e-5),
            of("gate_up_silu_tiles", small, &[&[1], &[33]], 2e-5),
            of("prefill_attention", prefill, &[&[1, 0], &[9, 5], &[40, 3]], 2e-4),
        ]
        .into_iter()
        .flatten()
        .collect(),
    );
}

/// An elementwise kernel of one statement.
fn elementwise(name: &str, types: &[(&str, DType)], to: DType, expression: &str) -> Kernel {
    let buffers: String = types.iter().map(|(name, d)| format!("  buf {name}: {d}[N] read\n")).collect();
    kernel(&format!(
        "kernel {name} {{
  sym N in 0..=4096
{buffers}  buf out: {to}[N] write
  phase main grid(g: ceildiv(N, 16)) group 16 {{
    let i = g*16 + lane
    if i < N {{ out[i] = {expression} }}
  }}
}}"
    ))
}

const TYPES: [DType; 11] = [U8, I8, U16, I16, U32, I32, U64, I64, F16, BF16, F32];

/// Interesting values of a type, and random bits.
fn values(of: DType) -> BufferData {
    let interesting =
        [0.0, -0.0, 0.5, -1.5, 1e-6, 3e-5, 127.5, -129.0, 255.0, 300.7, 65504.0, 65520.0, 1e10, -1e10, 3e38];
    let mut random = mlxc_tests::kernels::Random::new(3);
    let mut bits = BufferData::of(of, interesting).bits;
    if of.is_float() {
        bits.extend(BufferData::of(of, [f64::NAN, f64::INFINITY, f64::NEG_INFINITY]).bits);
        bits.extend(BufferData::of(of, (0..40).map(|i| random.unit() * 2f64.powi(i - 20))).bits);
    } else {
        let top = 64 - of.bytes() * 8;
        bits.extend((0..40).map(|_| random.bits() >> top));
        bits.extend([u64::MAX >> top, 1 << (63 - top), (1 << (63 - top)) - 1]);
    }
    BufferData { dtype: of, bits }
}

#[test]
fn tiles_in_every_role() {
    let text = |dtype: DType| {
        format!(
            "kernel tiles_{dtype} {{
  buf x: {dtype}[16, 24] read
  buf y: f32[8, 24] write
  phase main grid(g: 1) group 32 subgroup 32 {{
    let a = tile_a(x[0 +: 8, 8 +: 8])
    let b = tile_b_t(x[8 +: 8, 0 +: 8])
    let c = tile_b(x[8 +: 8, 16 +: 8])
    var d: tile<f32,8x8> = 0.5
    d = mma(a, b, d)
    let e = tile.map(d, [i, j, v]: v * 2.0 + f32(i*8 + j))
    y[0 +: 8, 0 +: 8] = d
    y[0 +: 8, 8 +: 8] = e
    y[0 +: 8, 16 +: 8] = mma(a, c, mma(a, b, e))
  }}
}}"
        )
    };
    check(vec![Case::random(kernel(&text(F32)), &[], 1, 1e-5), Case::random(kernel(&text(F16)), &[], 2, 1e-5)]);
}

#[test]
fn casts_between_all_types() {
    let mut cases = Vec::new();
    for from in TYPES {
        for to in TYPES.into_iter().filter(|to| *to != from) {
            let name = format!("cast_{from}_{to}");
            let data = values(from);
            let n = data.bits.len();
            cases.push(Case {
                kernel: elementwise(&name, &[("x", from)], to, &format!("{to}(x[i])")),
                scalars: vec![n as u64],
                data: vec![data, BufferData::zeros(to, n)],
                tolerance: 0.0,
            });
        }
    }
    check(cases);
}

#[test]
fn integer_arithmetic_wraps() {
    let mut cases = Vec::new();
    for of in TYPES.into_iter().filter(|d| d.is_int()) {
        let bits = of.bytes() * 8 - 1;
        for (n, e) in [
            "x[i] + y[i]".to_string(),
            "x[i] - y[i] * x[i]".into(),
            "-x[i]".into(),
            "abs(x[i])".into(),
            "min(x[i], y[i]) ^ max(x[i], y[i])".into(),
            "!x[i] | y[i]".into(),
            format!("x[i] << (y[i] & {bits})"),
            format!("x[i] >> (y[i] & {bits})"),
            "select(y[i] == 0, x[i], x[i] / select(y[i] == 0, 1, y[i]))".into(),
            "select(y[i] == 0, x[i], x[i] % select(y[i] == 0, 1, y[i]))".into(),
            "x[i] / 3 + x[i] % 5".into(),
        ]
        .into_iter()
        .enumerate()
        {
            let x = values(of);
            let n_values = x.bits.len();
            let mut y = x.clone();
            y.bits.rotate_left(n_values / 3);
            cases.push(Case {
                kernel: elementwise(&format!("int_{of}_{n}"), &[("x", of), ("y", of)], of, &e),
                scalars: vec![n_values as u64],
                data: vec![x, y, BufferData::zeros(of, n_values)],
                tolerance: 0.0,
            });
        }
    }
    check(cases);
}

#[test]
fn vectors_of_every_type_and_alignment() {
    let mut cases = Vec::new();
    for of in TYPES {
        for lanes in [2, 4] {
            for (row, name) in [(8, "whole"), (7, "odd")] {
                let text = format!(
                    "kernel vectors_{of}_{lanes}_{name} {{
  sym N in 1..=9
  buf x: {of}[N, {row}] read
  buf y: {of}[N, {row}] write
  phase main grid(n: N) group 4 {{
    group t: {of}[4, {row}]
    t[lane, 0 +: {lanes}] = x[n, 0 +: {lanes}]
    barrier
    if lane == 0 {{
      let v = t[3, 0 +: {lanes}]
      y[n, 0 +: {lanes}] = shuffle<{lanes}>(v, l: {lanes} - 1 - l)
      for i in {lanes}..{row} {{ y[n, i] = x[n, i] }}
    }}
  }}
}}"
                );
                cases.push(Case::random(kernel(&text), &[3], 5, 0.0));
            }
        }
    }
    check(cases);
}

#[test]
fn reductions_over_every_run_of_lanes() {
    let mut cases = Vec::new();
    for (n, (dtype, lanes, run, op)) in [
        (F32, 64, 1, "add"),
        (F32, 64, 2, "max"),
        (F32, 64, 16, "min"),
        (F32, 64, 32, "add"),
        (F32, 128, 64, "add"),
        (F32, 128, 128, "max"),
        (U32, 256, 256, "xor"),
        (I32, 32, 8, "and"),
        (I32, 16, 16, "or"),
        (U8, 64, 64, "add"),
        (I8, 64, 16, "min"),
        (I64, 64, 64, "add"),
        (BF16, 64, 64, "max"),
        (F16, 64, 32, "max"),
        (U32, 96, 32, "add"),
        (F32, 2, 2, "add"),
    ]
    .into_iter()
    .enumerate()
    {
        let text = format!(
            "kernel reduce_{n} {{
  sym N in 1..=4
  buf x: {dtype}[N, {lanes}] read
  buf y: {dtype}[N, {lanes}] write
  phase main grid(n: N) group {lanes} {{ y[n, lane] = lanes.{op}<{run}>(x[n, lane]) }}
}}"
        );
        cases.push(Case::random(kernel(&text), &[3], run, if dtype.is_float() { 1e-5 } else { 0.0 }));
    }
    let together = "kernel together {
  buf x: f32[4, 64, 4] read
  buf y: f32[4, 64, 4] write
  buf z: u32[4, 64] write
  phase main grid(g: 4) group 64 {
    let v = lanes.add<64>(x[g, lane, 0 +: 4])
    let zeroth = group.bcast(extract(x[g, lane, 0 +: 4], 1))
    let some = lanes.or<16>(extract(x[g, lane, 0 +: 4], 2) > 0.9)
    if zeroth > 0.0 { barrier }
    let u = x[g, lane, 0 +: 4]
    let m = !(u > 0.25) && u < splat<4>(f32(0.5)) || u == splat<4>(f32(2.0))
    y[g, lane, 0 +: 4] = select(m, v, max(u, -u)) + zeroth
    z[g, lane] = u32(some)
  }
}";
    cases.push(Case::random(kernel(together), &[], 4, 1e-5));
    check(cases);
}

#[test]
fn elementary_functions_and_rounding() {
    let mut cases = Vec::new();
    for f in mlxc_ir::kernel::MathFn::ALL {
        let call = match f.arity() {
            1 => format!("{}(x[i] * 0.4 + 0.5)", f.name()),
            _ => format!("{}(x[i] * 0.4 + 0.5, x[i])", f.name()),
        };
        let call = if f.name() == "acosh" { "acosh(x[i] + 2.5)".to_string() } else { call };
        let kernel = elementwise(&format!("math_{}", f.name()), &[("x", F32)], F32, &call);
        cases.push(Case::random(kernel, &[77], 2, 2e-6));
    }
    for (n, e) in
        ["sqrt(abs(x[i]))", "rint(x[i] * 3.5)", "floor(x[i]) + ceil(x[i])", "trunc(x[i] * 9.0)"].iter().enumerate()
    {
        cases.push(Case::random(elementwise(&format!("round_{n}"), &[("x", F32)], F32, e), &[77], 2, 1e-7));
    }
    check(cases);
}

#[test]
fn grids_atomics_serial_steps_and_empty_ones() {
    let line = "kernel line {
  sym A in 0..=100000
  sym B in 1..=7
  buf y: u32[A, B, 2, 3, 4] write
  phase long grid(a: A, b: B) group 4 {
    for i in 0..2 { for j in 0..3 { y[a, b, i, j, lane] = u32(a*1000 + b*100 + i*10 + j) } }
  }
}";
    let axes = "kernel axes {
  sym B in 1..=7
  buf y: u32[3, B, 2, 3, 4] write
  phase main grid(a: 3, b: B, c: 2, d: 3) group 4 { y[a, b, c, d, lane] = u32(a + b + c + d) }
}";
    let named = |text: &str, name: &str, to: &str| kernel(&text.replacen(name, to, 1));
    check(vec![
        Case::random(kernel(line), &[300, 4], 1, 0.0),
        Case::random(named(line, "line", "no_line"), &[0, 4], 1, 0.0),
        Case::random(kernel(axes), &[5], 1, 0.0),
        Case::random(elementwise("nothing", &[("x", F32)], F32, "x[i]"), &[0], 1, 0.0),
        Case::random(elementwise("clamped", &[("x", F32), ("at", I8)], F32, "x[idx(i32(at[i]), 0..N)]"), &[19], 1, 0.0),
    ]);
}

/// What stands between lanes has to: without any one barrier a kernel is refused, or its results are wrong.
#[test]
fn every_barrier_that_is_left_out_is_noticed() {
    let gate = Gate::new().unwrap_or_else(|e| panic!("{e}"));
    let small = &[("2048", "64"), ("8192", "64"), ("nb: 256", "nb: 2")];
    let prefill = &[("4096", "64"), ("4095", "63")];
    let cases = [
        Case::random(file("gate_up_silu_tiles", small), &[33], 1, 2e-5),
        Case::random(file("prefill_attention", prefill), &[40, 3], 2, 2e-4),
        Case::random(file("decode_attention_gpu", &[]), &[70], 3, 2e-5),
        Case::random(file("histogram_gpu", &[]), &[1100], 4, 0.0),
    ];
    let mut unnoticed = Vec::new();
    for case in cases {
        let legal = legal(&case.kernel);
        let modules = msl::write(&legal);
        for (m, module) in modules.iter().enumerate() {
            for (n, line) in module.text.lines().enumerate().filter(|(_, l)| l.contains("_barrier(")) {
                let kept: Vec<&str> =
                    module.text.lines().enumerate().filter(|(i, _)| *i != n).map(|(_, l)| l).collect();
                let kept = kept.join("\n");
                let text =
                    |(i, other): (usize, &'_ msl::Module)| if i == m { kept.clone() } else { other.text.clone() };
                let texts: Vec<String> = modules.iter().enumerate().map(text).collect();
                let kernels: Vec<(&str, &str)> =
                    modules.iter().zip(&texts).map(|(m, t)| (m.entry.as_str(), t.as_str())).collect();
                let library = gate.compile(&kernels, Build::Strict).unwrap_or_else(|e| panic!("{e}"));
                if held(&case, &legal, &library).is_ok() {
                    unnoticed.push(format!("{}:{}: {}", module.entry, n + 1, line.trim()));
                }
            }
        }
    }
    assert!(unnoticed.is_empty(), "{}", unnoticed.join("\n"));
}
