//! Compiled code against the interpreter: every operation on every type at several widths, random expressions, and
//! the kernel files.

#![allow(clippy::unwrap_used)]

mod run;

use mlxc_ir::DType::{self, *};
use mlxc_ir::kernel::{self, ArgKind, BufferData, Kernel, Options, Scalar};
use proptest::prelude::*;
use run::{Memory, Random, compiled, elements, execute, kernel, runnable};

fn words(kernel: &Kernel, scalars: &[Scalar]) -> Vec<u64> {
    let symbols = kernel.symbols.len();
    scalars
        .iter()
        .enumerate()
        .map(|(i, s)| {
            let argument = i.checked_sub(symbols).map(|a| &kernel.args[a].kind);
            match (s, argument) {
                (Scalar::Int(v), _) => *v as u64,
                (Scalar::Float(v), Some(ArgKind::Scalar(d))) => BufferData::of(*d, [*v]).bits[0],
                (Scalar::Float(_), _) => panic!("an index is an integer"),
            }
        })
        .collect()
}

/// What the interpreter makes of the buffers, and what the compiled code does.
fn both(kernel: &Kernel, profile: &str, scalars: &[Scalar], data: &[BufferData]) -> (Vec<BufferData>, Vec<BufferData>) {
    let names: Vec<String> = kernel
        .symbols
        .iter()
        .map(|s| kernel.var_name(s.var).to_string())
        .chain(kernel.args.iter().map(|a| a.name.to_string()))
        .collect();
    let named: Vec<(&str, Scalar)> = names.iter().map(String::as_str).zip(scalars.iter().copied()).collect();
    let mut expected = data.to_vec();
    kernel::run(kernel, &mut expected, &named, &Options::default()).unwrap_or_else(|d| panic!("{d}"));

    let mut memory: Vec<Memory> = data.iter().map(|d| Memory::from(&d.to_bytes())).collect();
    execute(kernel, &compiled(kernel, profile), &words(kernel, scalars), &mut memory);
    let got = memory.iter().zip(data).map(|(m, d)| BufferData::from_bytes(d.dtype, m.bytes())).collect();
    (expected, got)
}

fn is_nan(dtype: DType, bits: u64) -> bool {
    dtype.is_float() && BufferData { dtype, bits: vec![bits] }.values()[0].is_nan()
}

/// The same bits, or both NaN, or a subnormal bf16 that an instruction flushed.
fn same(dtype: DType, profile: &str, want: u64, got: u64) -> bool {
    let flushed = matches!(profile, "x86-64-v4-fp16" | "x86-64-v4-bf16")
        && dtype == BF16
        && want & 0x7F80 == 0
        && got & 0x7FFF == 0;
    want == got || flushed || is_nan(dtype, want) && is_nan(dtype, got)
}

/// Values that are special, and random bits.
fn inputs(dtype: DType, n: usize, random: &mut Random) -> BufferData {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        2.5,
        -3.5,
        127.0,
        -128.0,
        255.0,
        65504.0,
        1e-7,
        f64::from(f32::MAX),
        f64::from(f32::MIN_POSITIVE),
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        4294967295.0,
        -9.3e18,
    ];
    let mut data = BufferData::of(dtype, (0..n).map(|i| special[(i * 7 + i / special.len()) % special.len()]));
    let mask = u64::MAX >> (64 - dtype.bytes() * 8);
    for (i, bits) in data.bits.iter_mut().enumerate() {
        match i % 4 {
            1 => *bits = random.bits() & mask,
            2 => *bits = BufferData::of(dtype, [f64::from(random.unit()) * 100.0]).bits[0],
            _ => {}
        }
    }
    data
}

struct Case {
    expression: String,
    result: DType,
}

fn cases(d: DType) -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |result: DType, expression: &str| all.push(Case { expression: expression.into(), result });
    for op in ["a + b", "a - b", "a * b", "min(a, b)", "max(a, b)", "-a", "abs(a)", "select(a < b, b, c)"] {
        if op.starts_with('-') && d.is_int() && !d.is_signed_int() {
            continue;
        }
        add(d, op);
    }
    for by in ["==", "!=", "<", "<=", ">", ">="] {
        add(U8, &format!("u8(a {by} b)"));
    }
    add(U8, "u8(a < b && !(b < c) || a == c)");
    if d.is_float() {
        for op in ["a / b", "sqrt(a)", "floor(a)", "ceil(a)", "trunc(a)", "rint(a)"] {
            add(d, op);
        }
        if d != F64 {
            add(d, "fma(a, b, c)");
        }
    } else {
        for op in [
            "a / (b | 1)",
            "a % (b | 1)",
            "a / 7",
            "a % 3",
            "a & b",
            "a | b",
            "a ^ b",
            "!a",
            "a << (b & 7)",
            "a >> (b & 7)",
        ] {
            add(d, op);
        }
    }
    for to in DType::ALL.into_iter().filter(|t| *t != Bool) {
        add(to, &format!("{to}(a)"));
    }
    all
}

fn elementwise(d: DType, width: usize, cases: &[Case]) -> Kernel {
    let mut text = String::from("kernel elementwise {\n  sym N in 1..=4096\n");
    for name in ["x0", "x1", "x2"] {
        text.push_str(&format!("  buf {name}: {d}[N, {width}] read\n"));
    }
    for (i, case) in cases.iter().enumerate() {
        text.push_str(&format!("  buf y{i}: {}[N, {width}] write\n", case.result));
    }
    let at = if width == 1 { "[n, 0]".to_string() } else { format!("[n, 0 +: {width}]") };
    text.push_str("  phase main grid(n: N) {\n");
    for (name, from) in [("a", "x0"), ("b", "x1"), ("c", "x2")] {
        text.push_str(&format!("    let {name} = {from}{at}\n"));
    }
    for (i, case) in cases.iter().enumerate() {
        let expression = &case.expression;
        text.push_str(&format!("    y{i}{at} = {expression}\n"));
    }
    text.push_str("  }\n}\n");
    kernel(&text)
}

fn compare_all(d: DType, width: usize) {
    let cases = cases(d);
    let kernel = elementwise(d, width, &cases);
    let rows = 1 + 400 / width;
    let mut random = Random::new(width as u64 + 100 * d as u64);
    let n = rows * width;
    let mut data: Vec<BufferData> = (0..3).map(|_| inputs(d, n, &mut random)).collect();
    data.extend(cases.iter().map(|c| BufferData::zeros(c.result, n)));
    for profile in runnable() {
        let (expected, got) = both(&kernel, profile, &[Scalar::Int(rows as i64)], &data);
        for (k, case) in cases.iter().enumerate() {
            for i in 0..n {
                let (want, got) = (expected[3 + k].bits[i], got[3 + k].bits[i]);
                let operands: Vec<String> =
                    (0..3).map(|o| format!("{:#x} ({})", data[o].bits[i], data[o].values()[i])).collect();
                assert!(
                    same(case.result, profile, want, got),
                    "{d}x{width} {profile}: {} of {operands:?} is {got:#x}, not {want:#x}",
                    case.expression
                );
            }
        }
    }
}

#[test]
fn every_operation_on_floats() {
    for d in [F32, F64] {
        for width in [1, 2, 4, 16, 64] {
            compare_all(d, width);
        }
    }
}

#[test]
fn every_operation_on_half_types() {
    for d in [F16, BF16] {
        for width in [1, 4, 16, 32] {
            compare_all(d, width);
        }
    }
}

#[test]
fn every_operation_on_unsigned_integers() {
    for d in [U8, U16, U32, U64] {
        for width in [1, 8, 32] {
            compare_all(d, width);
        }
    }
}

#[test]
fn every_operation_on_signed_integers() {
    for d in [I8, I16, I32, I64] {
        for width in [1, 8, 32] {
            compare_all(d, width);
        }
    }
}

/// Division by one number is corrected multiplication: the same bits but for subnormal quotients and those of dividends below
/// 2^-100 (the divisor near 1), which may be one off.
#[test]
fn quotients_by_one_number() {
    let kernel = kernel(
        "kernel quotients {
      buf x: f32[256, 64] read
      buf d: f32[256] read
      buf y: f32[256, 64] write
      phase main grid(n: 256) {
        let s = d[n]
        for c in 0..64 step 16 {
          y[n, c +: 16] = x[n, c +: 16] / splat<16>(s)
        }
      }
    }",
    );
    let mut random = Random::new(5);
    let mut data = vec![inputs(F32, 256 * 64, &mut random), inputs(F32, 256, &mut random)];
    data.push(BufferData::of(F32, (0..256 * 64).map(|_| 0.0)));
    for profile in runnable() {
        let (expected, got) = both(&kernel, profile, &[], &data);
        for (i, (want, got)) in expected[2].bits.iter().zip(&got[2].bits).enumerate() {
            let [x, d] = [data[0].bits[i], data[1].bits[i / 64]].map(|b| f32::from_bits(b as u32));
            let large = 2f32.powi(64);
            let scale = [(d.abs() < 1.0 / large, large), (d.abs() > large, 1.0 / large)];
            let scaled = x * scale.into_iter().find(|(at, _)| *at).map_or(1.0, |(_, by)| by);
            let tiny = scaled.abs() < 2f32.powi(-100) || (want & 0x7FFF_FFFF) <= 0x0080_0000;
            assert!(
                same(F32, profile, *want, *got) || tiny && want.abs_diff(*got) <= 1,
                "{profile}: {x:e} / {d:e}: {want:x} not {got:x}"
            );
        }
    }
}

#[test]
fn moving_lanes_about() {
    let text = "kernel moves {
      buf x: u16[8, 32] read
      buf t: u16[32] read
      buf f: f32[8, 16] read
      buf y: u16[8, 32] write
      buf z: u16[8, 32] write
      buf w: u16[8, 32] write
      buf v: u16[8, 32] write
      buf u: u32[8, 16] write
      buf s: f32[8, 4] write
      buf e: f32[8, 16] write
      phase main grid(n: 8) {
        let a = x[n, 0 +: 32]
        y[n, 0 +: 32] = shuffle<32>(a, l: 31 - l)
        let table = vec<u16x32>(l: 3*l + 5)
        z[n, 0 +: 32] = lut(table, a)
        w[n, 0 +: 32] = lut(vec<u16x32>(l: l%16/3*5 + min(l%16, 7)), a)
        v[n, 0 +: 32] = lut(t[0 +: 32], a)
        u[n, 0 +: 16] = as<u32x16>(a)
        let b = f[n, 0 +: 16]
        s[n, 0] = hsum(b)
        s[n, 1] = hmin(b)
        s[n, 2] = hmax(b)
        s[n, 3] = extract(b, 5)
        e[n, 0 +: 16] = splat<16>(extract(b, 3)) + as<f32x16>(as<u32x16>(b))
      }
    }";
    let kernel = kernel(text);
    let mut random = Random::new(21);
    let data: Vec<BufferData> = (0..kernel.buffers.len())
        .map(|b| {
            let n = elements(&kernel, b, &[]);
            match run::dtype(&kernel, b) {
                F32 => BufferData::of(F32, (0..n).map(|_| f64::from(random.unit()))),
                d => BufferData { dtype: d, bits: (0..n).map(|_| random.bits() & 0xFFFF).collect() },
            }
        })
        .collect();
    for profile in runnable() {
        let (expected, got) = both(&kernel, profile, &[], &data);
        assert!(expected == got, "{profile}");
    }
}

#[test]
fn dot_products_of_exact_sums() {
    // Integers small enough that no order of the sums rounds.
    let text = "kernel dots {
      buf a: bf16[16, 32] read
      buf b: bf16[16, 32] read
      buf h: f16[16, 32] read
      buf p: i8[16, 64] read
      buf q: u8[16, 64] read
      buf y: f32[16, 16] write
      buf z: f32[16, 16] write
      buf w: i32[16, 16] write
      buf v: f32[16, 2] write
      buf u: i32[16, 1] write
      phase main grid(n: 16) {
        y[n, 0 +: 16] = dot2(splat<16>(1.0), a[n, 0 +: 32], b[n, 0 +: 32])
        z[n, 0 +: 16] = dot2(splat<16>(2.0), h[n, 0 +: 32], h[n, 0 +: 32])
        w[n, 0 +: 16] = dot4(splat<16>(i32(3)), q[n, 0 +: 64], p[n, 0 +: 64])
        v[n, 0 +: 2] = dot2(splat<2>(0.0), a[n, 0 +: 4], b[n, 0 +: 4])
        u[n, 0] = dot4(i32(4), p[n, 0 +: 4], p[n, 0 +: 4])
      }
    }";
    let kernel = kernel(text);
    let mut random = Random::new(2);
    let data: Vec<BufferData> = (0..kernel.buffers.len())
        .map(|b| {
            let n = elements(&kernel, b, &[]);
            BufferData::of(run::dtype(&kernel, b), (0..n).map(|_| f64::from((random.unit() * 60.0).round())))
        })
        .collect();
    for profile in runnable() {
        let (expected, got) = both(&kernel, profile, &[], &data);
        assert!(expected == got, "{profile}");
    }
}

#[test]
fn loops_branches_registers_and_masks() {
    let text = "kernel flow {
      sym S in 1..=64
      sym T in 1..=256
      arg base: index in 0..=7
      arg scale: f32
      buf x: i32[S, T] read
      buf y: i32[S, T] write
      buf z: i32[S, 8] update
      buf m: u8[S, T] write
      phase main grid(s: S) {
        group g: i32[8]
        reg r: i32[2, 4] = 0
        var n: i32 = 0
        for i in 0..8 { g[i] = i32(i + base) }
        for c in 0..T {
          let v = x[s, c]
          if v > 0 && c >= base { n = n + 1 } else { if v < -50 { n = n - 2 } }
          y[s, c] = v * n + g[idx(v, 0..8)]
        }
        for i in 0..2 unroll { for j in 0..4 unroll { r[i, j] = r[i, j] + i32(4*i + j) * n } }
        for i in 0..2 unroll { for j in 0..4 unroll { if base > j { z[s, 4*i + j] = r[i, j] + z[s, 4*i + j] } } }
        for c in 0..T step 8 {
          let k = min(8, T - c)
          let v = x[s, c +: 8 first k else 7]
          m[s, c +: 8 first k] = u8(f32(v) * scale > 0.5)
        }
      }
    }";
    let kernel = kernel(text);
    for profile in runnable() {
        for (s, t, base) in [(1, 1, 0), (3, 8, 2), (5, 29, 7)] {
            let mut random = Random::new(s * 1000 + t);
            let scalars = [Scalar::Int(s as i64), Scalar::Int(t as i64), Scalar::Int(base), Scalar::Float(0.25)];
            let sizes = words(&kernel, &scalars);
            let data: Vec<BufferData> = (0..kernel.buffers.len())
                .map(|b| {
                    let n = elements(&kernel, b, &sizes);
                    BufferData::of(run::dtype(&kernel, b), (0..n).map(|_| f64::from((random.unit() * 99.0).round())))
                })
                .collect();
            let (expected, got) = both(&kernel, profile, &scalars, &data);
            assert!(expected == got, "{profile} {s} {t} {base}");
        }
    }
}

#[test]
fn atomics_and_scalar_arguments() {
    let text = "kernel histogram {
      sym N in 1..=4096
      arg shift: u32
      arg offset: f16
      buf x: u32[N] read
      buf h: atomic u32[16] update
      buf m: atomic i32[2] update
      buf y: f16[N] write
      phase count grid(n: N) {
        let v = x[n] >> (shift & 31)
        atomic.add h[idx(v, 0..16)], u32(1)
        atomic.min m[0], i32(v)
        atomic.max m[1], i32(v)
        y[n] = offset * f16(n)
      }
    }";
    let kernel = kernel(text);
    let mut random = Random::new(4);
    let data = [
        BufferData { dtype: U32, bits: (0..300).map(|_| random.bits() & 0xFFFF_FFFF).collect() },
        BufferData::zeros(U32, 16),
        BufferData::zeros(I32, 2),
        BufferData::zeros(F16, 300),
    ];
    for profile in runnable() {
        let scalars = [Scalar::Int(300), Scalar::Int(28), Scalar::Float(1.5)];
        let (expected, got) = both(&kernel, profile, &scalars, &data);
        assert!(expected == got, "{profile}");
    }
}

/// A kernel file of the Kernel IR's own tests, with sizes replaced.
fn file(name: &str, replace: &[(&str, &str)]) -> Kernel {
    let path = format!("{}/../ir/tests/kernels/{name}.kir", env!("CARGO_MANIFEST_DIR"));
    let mut text = std::fs::read_to_string(path).unwrap();
    for (from, to) in replace {
        assert!(text.contains(from), "{name}: no {from}");
        text = text.replace(from, to);
    }
    kernel(&text)
}

/// Runs a kernel file and compares every buffer it stores, relative to the largest element.
fn check_file(kernel: &Kernel, scalars: &[Scalar], tolerance: f64) {
    let sizes = words(kernel, scalars);
    let mut random = Random::new(77);
    let data: Vec<BufferData> = (0..kernel.buffers.len())
        .map(|b| {
            let (n, d) = (elements(kernel, b, &sizes), run::dtype(kernel, b));
            let scale = if d.is_float() { 1.0 } else { 1000.0 };
            BufferData::of(d, (0..n).map(|_| f64::from(random.unit()) * scale))
        })
        .collect();
    for profile in runnable() {
        let (expected, got) = both(kernel, profile, scalars, &data);
        for ((b, want), got) in kernel.buffers.iter().zip(&expected).zip(&got) {
            if matches!(b.access, kernel::Access::Read | kernel::Access::Scratch) {
                continue;
            }
            let top = want.values().iter().fold(1e-9, |m: f64, v| m.max(v.abs()));
            for (i, (w, g)) in want.values().iter().zip(got.values()).enumerate() {
                let close = (w - g).abs() <= tolerance * top;
                assert!(close, "{} {profile}: {}[{i}] is {g}, not {w}", kernel.name, b.name);
            }
        }
    }
}

#[test]
fn kernel_files() {
    let int = Scalar::Int;
    check_file(&file("silu_scale_cpu", &[]), &[int(3), int(37)], 1e-6);
    check_file(&file("add_rms_norm_cpu", &[]), &[int(3)], 4e-3);
    check_file(&file("softmax_cpu", &[]), &[int(3), int(45)], 4e-3);
    check_file(&file("gather_rows_cpu", &[]), &[int(5), int(9), Scalar::Float(1.5)], 0.0);
    check_file(&file("prefix_serial_cpu", &[]), &[], 0.0);
    check_file(
        &file(
            "qmv4_cpu",
            &[("2048, 256", "64, 256"), ("2048, 32", "64, 32"), ("y: bf16[2048]", "y: bf16[64]"), ("n: 2048", "n: 64")],
        ),
        &[],
        4e-3,
    );
    check_file(&file("decode_attention_cpu", &[]), &[int(37)], 4e-3);
    check_file(&file("decode_attention_cpu", &[]), &[int(300)], 4e-3);
    check_file(&file("rope_cache_cpu", &[]), &[int(3), int(17)], 4e-3);
}

/// A random expression of f32 vectors a, b, c and of what is below it.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("a".to_string()),
        Just("b".to_string()),
        Just("c".to_string()),
        (-8i32..8).prop_map(|v| format!("splat<8>({}.5)", v)),
    ];
    leaf.prop_recursive(6, 40, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        let three = (inner.clone(), inner.clone(), inner.clone());
        prop_oneof![
            (two.clone(), prop::sample::select(vec!["+", "-", "*", "/"]))
                .prop_map(|((x, y), op)| format!("({x} {op} {y})")),
            (two.clone(), prop::sample::select(vec!["min", "max"])).prop_map(|((x, y), f)| format!("{f}({x}, {y})")),
            (inner.clone(), prop::sample::select(vec!["abs", "sqrt", "floor", "ceil", "trunc", "rint"]))
                .prop_map(|(x, f)| format!("{f}({x})")),
            inner.clone().prop_map(|x| format!("(-{x})")),
            three.clone().prop_map(|(x, y, z)| format!("fma({x}, {y}, {z})")),
            three.prop_map(|(x, y, z)| format!("select({x} <= {y}, {z}, {x})")),
            inner.clone().prop_map(|x| format!("f32(bf16({x}))")),
            inner.clone().prop_map(|x| format!("f32(f16({x}))")),
            inner.clone().prop_map(|x| format!("f32(i32({x}))")),
            inner.clone().prop_map(|x| format!("f32(u8({x}))")),
            inner.clone().prop_map(|x| format!("f32(f64({x}))")),
            inner.clone().prop_map(|x| format!("shuffle<8>({x}, l: 7 - l)")),
            inner.prop_map(|x| format!("splat<8>(hmax({x}))")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_expressions(text in expression(), seed in 0u64..1000) {
        let kernel = kernel(&format!(
            "kernel random {{
               buf x: f32[4, 3, 8] read
               buf y: f32[4, 8] write
               phase main grid(n: 4) {{
                 let a = x[n, 0, 0 +: 8]
                 let b = x[n, 1, 0 +: 8]
                 let c = x[n, 2, 0 +: 8]
                 y[n, 0 +: 8] = {text}
               }}
             }}"
        ));
        let mut random = Random::new(seed + 1);
        // Nothing so small that a bf16 of it is subnormal, which one profile flushes.
        let data = [
            BufferData::of(F32, (0..96).map(|_| f64::from(random.unit()) * 300.0)),
            BufferData::zeros(F32, 32),
        ];
        for profile in runnable() {
            let (expected, got) = both(&kernel, profile, &[], &data);
            for (i, (want, got)) in expected[1].bits.iter().zip(&got[1].bits).enumerate() {
                prop_assert!(same(F32, profile, *want, *got), "{} at {}: {:#x}, not {:#x}", profile, i, got, want);
            }
        }
    }
}
