//! Every legalise pass leaves a kernel that means the same: the interpreter runs it before and after.

#![allow(clippy::unwrap_used)]

mod run;

use mlxc_codegen::legalise::{CPU_PASSES, legalise};
use mlxc_codegen::profiles;
use mlxc_ir::DType::{self, *};
use mlxc_ir::kernel::{self, BufferData, ExprKind, Kernel, Options, Scalar, Stmt};
use run::{Random, elements, kernel};

const PROFILES: [&str; 6] = ["x86-64-v4-fp16", "x86-64-v4-bf16", "x86-64-v4", "x86-64-v3", "x86-64-v2", "aarch64-neon"];

fn outputs(kernel: &Kernel, data: &[BufferData]) -> Vec<BufferData> {
    let mut data = data.to_vec();
    let scalars: Vec<(&str, Scalar)> =
        kernel.symbols.iter().map(|s| (kernel.var_name(s.var), Scalar::Int(5))).collect();
    kernel::run(kernel, &mut data, &scalars, &Options::default())
        .unwrap_or_else(|d| panic!("{d}\n{}", kernel::print(kernel)));
    data
}

fn data(kernel: &Kernel) -> Vec<BufferData> {
    let mut random = Random::new(9);
    let sizes: Vec<u64> = kernel.symbols.iter().map(|_| 5).collect();
    (0..kernel.buffers.len())
        .map(|b| {
            let (n, d) = (elements(kernel, b, &sizes), run::dtype(kernel, b));
            let scale = if d.is_float() { 3.0 } else { 100.0 };
            BufferData::of(d, (0..n).map(|_| f64::from(random.unit()) * scale))
        })
        .collect()
}

/// Runs before and after each pass, for every profile. `inexact` passes may change the last places.
fn unchanged(text: &str, inexact: &[&str]) {
    check(kernel(text), inexact);
}

fn check(original: Kernel, inexact: &[&str]) {
    let data = data(&original);
    for name in PROFILES {
        let profile = profiles::by_name(name).unwrap();
        let mut kernel = original.clone();
        let mut before = outputs(&kernel, &data);
        for (pass, run) in CPU_PASSES {
            run(&mut kernel, &profile).unwrap();
            kernel::verify(&kernel).unwrap_or_else(|d| panic!("{pass}: {}", d[0]));
            let after = outputs(&kernel, &data);
            for ((b, want), got) in original.buffers.iter().zip(&before).zip(&after) {
                for (i, (w, g)) in want.values().into_iter().zip(got.values()).enumerate() {
                    let exact = w == g || w.is_nan() && g.is_nan();
                    let ulp = match b.dtype {
                        BF16 => 0.008,
                        F16 => 0.001,
                        _ => 4e-6,
                    };
                    let close = inexact.contains(pass) && (w - g).abs() <= ulp * w.abs().max(1.0);
                    assert!(exact || close, "{name} {pass}: {}[{i}] is {g}, not {w}", b.name);
                }
            }
            before = after;
        }
        assert!(legalise(&original, &profile).is_ok());
    }
}

fn one(d: DType, body: &str) -> String {
    format!(
        "kernel one {{
           sym N in 1..=64
           buf x: {d}[N, 3, 16] read
           buf y: {d}[N, 16] write
           phase main grid(n: N) {{
             let a = x[n, 0, 0 +: 16]
             let b = x[n, 1, 0 +: 16]
             let c = x[n, 2, 0 +: 16]
             {body}
           }}
         }}"
    )
}

#[test]
fn half_types() {
    for d in [F16, BF16] {
        for e in
            ["a + b", "a * b - c", "fma(a, b, c)", "-a", "abs(a)", "sqrt(abs(a))", "max(a, b)", "select(a < b, b, c)"]
        {
            unchanged(&one(d, &format!("y[n, 0 +: 16] = {e}")), &[]);
        }
        unchanged(&one(d, &format!("y[n, 0 +: 16] = {d}(i32(f64(a) * 1000.0)) + {d}(f64(b) / 3.0)")), &[]);
        unchanged(&one(d, "y[n, 0 +: 16] = splat<16>(hsum(a) + hmax(b))"), &[]);
        unchanged(&one(d, &format!("y[n, 0 +: 16] = splat<16>({d}(n + 300))")), &[]);
        unchanged(&one(d, "y[n, 0 +: 16] = exp(a)"), &["half", "math"]);
    }
}

/// The same quotients to the last bit.
#[test]
fn quotients_by_one_number() {
    unchanged(&one(F32, "y[n, 0 +: 16] = a / splat<16>(extract(b, 0))"), &[]);
    unchanged(&one(F32, "let s = hsum(c)\n y[n, 0 +: 16] = (a - b) / splat<16>(s) + b / splat<16>(s)"), &[]);
}

#[test]
fn multiply_and_add() {
    unchanged(&one(F32, "y[n, 0 +: 16] = fma(a, b, c)"), &[]);
    unchanged(&one(F32, "y[n, 0 +: 16] = mad(a, b, c)"), &["mad"]);
    unchanged(&one(F32, "y[n, 0 +: 16] = fma(a, fma(b, c, a), mad(a, a, b))"), &["mad"]);
}

#[test]
fn elementary_functions_in_every_position() {
    let math = ["math", "mad"];
    unchanged(&one(F32, "y[n, 0 +: 16] = exp(a) * tanh(b + exp(c))"), &math);
    unchanged(&one(F32, "y[n, 0 +: 16] = rsqrt(abs(a) + 1.0)"), &math);
    unchanged(
        &one(
            F32,
            "var s: f32x16 = sin(a)
             for i in 0..3 { s = s * 0.5 + cos(s) }
             if exp(extract(b, 0)) > 0.0 { s = log(abs(s) + 1.0) }
             for i in 0..2 unroll { s = s + erf(c) }
             y[n, 0 +: 16] = s",
        ),
        &math,
    );
    unchanged(&one(F32, "for l in 0..16 unroll { y[n, l] = pow(abs(extract(a, l)), extract(b, l)) }"), &math);
}

#[test]
fn data_dependent_indices() {
    let text = "kernel gather {
      sym N in 1..=64
      buf x: f32[N] read
      buf t: f32[32] read
      buf y: f32[N] write
      phase main grid(n: N) {
        let i = idx(i32(floor(exp(x[n]) * 4.0)), 0..32)
        y[n] = t[i] + t[idx(i32(x[n] * x[n]), 0..32)] + t[idx(i32(x[n] * x[n]), 0..32)]
      }
    }";
    unchanged(text, &["math", "mad"]);
}

#[test]
fn an_index_shared_by_statements_is_computed_in_each() {
    use mlxc_ir::kernel::{Access, KernelBuilder, Subgroup};
    let k = KernelBuilder::new("shared");
    let n = k.sym("N", 1..=64, 1);
    let x = k.buffer("x", F32, &[n], Access::Read);
    let t = k.buffer("t", F32, &[k.int(32)], Access::Read);
    let y = k.buffer("y", F32, &[n, k.int(2)], Access::Write);
    k.phase("main", &[("n", n)], 1, Subgroup::None, |axes| {
        let at = x.at([axes[0]]).load().exp().cast(I32).clamp_index(k.int(0), k.int(32));
        let positive = x.at([axes[0]]).load().gt(k.constant(0.0, F32));
        k.if_else(
            positive,
            || y.at([axes[0], k.int(0)]).store(t.at([at]).load()),
            || y.at([axes[0], k.int(0)]).store(-t.at([at]).load()),
        );
        y.at([axes[0], k.int(1)]).store(t.at([at]).load());
    });
    check(k.finish(), &[]);
}

#[test]
fn tables() {
    for (d, map) in
        [(U16, "l % 16"), (U16, "7*l + 3"), (BF16, "l % 16"), (BF16, "l%8*2 + 1"), (F32, "l + 1"), (I8, "l % 4")]
    {
        let text = format!(
            "kernel table {{
               sym N in 1..=64
               buf x: u16[N, 32] read
               buf y: {d}[N, 32] write
               phase main grid(n: N) {{
                 let table = vec<{d}x32>(l: {map})
                 y[n, 0 +: 32] = lut(table, x[n, 0 +: 32])
                 y[n, 0 +: 32] = lut(vec<{d}x32>(l: l%16*3 - l%16/2), x[n, 0 +: 32])
                 y[n, 0 +: 32] = lut(table, x[n, 0 +: 32])
               }}
             }}"
        );
        unchanged(&text, &[]);
    }
}

#[test]
fn dots() {
    let text = "kernel dots {
      sym N in 1..=64
      buf a: bf16[N, 32] read
      buf h: f16[N, 32] read
      buf p: i8[N, 32] read
      buf y: f32[N, 16] write
      buf z: f32[N, 16] write
      buf w: i32[N, 8] write
      phase main grid(n: N) {
        y[n, 0 +: 16] = dot2(splat<16>(0.0), a[n, 0 +: 32], a[n, 0 +: 32])
        z[n, 0 +: 16] = dot2(splat<16>(0.0), h[n, 0 +: 32], h[n, 0 +: 32])
        w[n, 0 +: 8] = dot4(splat<8>(i32(1)), p[n, 0 +: 32], p[n, 0 +: 32])
      }
    }";
    unchanged(text, &["collective", "half", "lut", "math", "dot", "mad", "convert"]);
}

#[test]
fn collectives_of_one_lane() {
    let text = "kernel one_lane {
      sym N in 1..=64
      buf x: f32[N] read
      buf y: f32[N] write
      phase main grid(n: N) {
        group g: f32[1]
        g[lane] = x[n]
        barrier
        y[n] = lanes.add<1>(g[lane]) + lanes.max<1>(x[n])
      }
    }";
    unchanged(text, &[]);
}

fn statements(block: &[Stmt], visit: &mut dyn FnMut(&Stmt)) {
    for stmt in block {
        visit(stmt);
        match stmt {
            Stmt::For { body, .. } => statements(body, visit),
            Stmt::If { then, otherwise, .. } => {
                statements(then, visit);
                statements(otherwise, visit);
            }
            _ => {}
        }
    }
}

#[test]
fn nontemporal_hints_stay_only_on_aligned_vectors() {
    let text = |multiple: &str| {
        format!(
            "kernel stream {{
               sym T in 16..=65536 {multiple}
               buf x: f32[8, T] read
               buf y: f32[8, T] update
               phase main grid(s: 8) {{
                 for c in 0..T/16*16 step 16 {{ nt y[s, c +: 16] = x[s, c +: 16] }}
                 nt y[s, 3] = x[s, 3]
               }}
             }}"
        )
    };
    for (multiple, expected) in [("", [false, false]), ("mult 16", [true, false])] {
        let legal = run::legal(&kernel(&text(multiple)), "x86-64-v4");
        let mut hints = Vec::new();
        statements(&legal.kernel().phases()[0].body, &mut |s| {
            if let Stmt::Store { nontemporal, .. } = s {
                hints.push(*nontemporal);
            }
        });
        assert_eq!(hints, expected);
    }
}

#[test]
fn what_a_target_lacks_is_refused() {
    let refused = |text: &str, profile: &str| {
        legalise(&kernel(text), &profiles::by_name(profile).unwrap()).err().map(|d| d[0].id)
    };
    assert_eq!(refused(&one(F64, "y[n, 0 +: 16] = exp(a)"), "x86-64-v4"), None);
    assert_eq!(refused(&one(F64, "y[n, 0 +: 16] = fma(a, b, c)"), "x86-64-v2"), Some(545));
    assert_eq!(refused(&one(F64, "y[n, 0 +: 16] = fma(a, b, c)"), "x86-64-v3"), None);
    let lanes = "kernel lanes_64 { buf y: f32[64] write; phase main grid(n: 1) group 64 { y[lane] = 0.0 } }";
    assert_eq!(refused(lanes, "x86-64-v4"), Some(542));
    let mut gpu = profiles::by_name("x86-64-v4").unwrap();
    gpu.kind = mlxc_ir::profile::TargetKind::Gpu;
    assert_eq!(legalise(&kernel(&one(F32, "y[n, 0 +: 16] = a")), &gpu).err().map(|d| d[0].id), Some(544));
}

#[test]
fn native_dots_and_tables_stay() {
    let count = |profile: &str, wanted: fn(&ExprKind) -> bool| {
        let text = std::fs::read_to_string(format!("{}/../ir/tests/kernels/qmv4_cpu.kir", env!("CARGO_MANIFEST_DIR")));
        let legal = run::legal(&kernel(&text.unwrap()), profile);
        let mut found = 0;
        statements(&legal.kernel().phases()[1].body, &mut |s| {
            if let Stmt::Set(_, _, e) | Stmt::Let(_, e) = s {
                count_in(legal.kernel(), *e, wanted, &mut found);
            }
        });
        found
    };
    assert_eq!(count("x86-64-v4-bf16", |k| matches!(k, ExprKind::Dot { .. })), 1);
    assert_eq!(count("x86-64-v4-bf16", |k| matches!(k, ExprKind::Lut(..))), 1);
    assert_eq!(count("x86-64-v4", |k| matches!(k, ExprKind::Dot { .. })), 0);
    assert_eq!(count("x86-64-v4", |k| matches!(k, ExprKind::Lut(..))), 1);
    assert_eq!(count("x86-64-v3", |k| matches!(k, ExprKind::Lut(..))), 0);
}

fn count_in(kernel: &Kernel, e: kernel::ExprId, wanted: fn(&ExprKind) -> bool, found: &mut usize) {
    let kind = &kernel.expr(e).kind;
    *found += usize::from(wanted(kind));
    kind.operands(&mut |x| count_in(kernel, x, wanted, found));
}
