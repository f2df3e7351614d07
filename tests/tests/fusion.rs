//! What fuses, from model code as users write it: kernel counts, and results against the interpreter.

use mlxc::pipeline::Options;
use mlxc::weights::RandomWeights;
use mlxc::{Array, Context, DType, Executable, Module, trace};
use mlxc_ir::graph::Role;
use mlxc_ir::graph::interpret::{self, Mode, Tensor as Value};
use mlxc_runtime::TensorView;
use mlxc_tests::compare::excess;
use mlxc_tests::kernels::Random;

/// Compiles, counts launches, runs and compares.
fn check(kernels: usize, model: impl Fn(&Context)) {
    let module = trace("model", |cx| model(cx)).unwrap_or_else(|e| panic!("{e}"));
    let weights = RandomWeights { seed: 5 };
    let options = Options::for_host().unwrap_or_else(|e| panic!("{e}"));
    let mut exe = Executable::with_weights(&module, &options, &weights).unwrap_or_else(|e| panic!("{e}"));
    let launches: Vec<String> = {
        let plan = &exe.compiled().scheduled.plan;
        plan.entries[0].launches.iter().map(|l| plan.kernels[l.kernel as usize].comment.clone()).collect()
    };
    assert_eq!(launches.len(), kernels, "{launches:#?}");
    for size in [1, 5, 37] {
        compare(&module, &mut exe, &weights, size);
    }
}

fn compare(module: &Module, exe: &mut Executable, weights: &RandomWeights, size: i64) {
    use mlxc::weights::Weights;
    let f = &module.functions[0];
    let symbols: Vec<i64> = f.symbols.iter().map(|s| size.clamp(s.range.lo, s.range.hi)).collect();
    let mut random = Random::new(size as u64);
    let args: Vec<Value> = f
        .params
        .iter()
        .map(|p| {
            let shape: Vec<usize> = p.ty.shape.iter().map(|d| d.eval(&symbols) as usize).collect();
            match p.role {
                Role::Weight(_) => {
                    let bytes = weights.read(&p.name, &p.ty).unwrap_or_else(|e| panic!("{e}"));
                    Value::from_bytes(p.ty.dtype, &shape, &bytes).expect("weights are whole")
                }
                _ => random.tensor(p.ty.dtype, &shape),
            }
        })
        .collect();
    let reference = interpret::run(module, f, &args, Mode::Reference).unwrap_or_else(|e| panic!("{e}"));
    let stated = interpret::run(module, f, &args, Mode::Stated).unwrap_or_else(|e| panic!("{e}"));
    let held: Vec<(String, DType, Vec<u64>, Vec<u8>)> = f
        .params
        .iter()
        .zip(&args)
        .filter(|(p, _)| p.role == Role::Input)
        .map(|(p, t)| (p.name.to_string(), t.dtype, t.shape.iter().map(|n| *n as u64).collect(), t.to_bytes()))
        .collect();
    let views: Vec<(&str, TensorView<'_>)> =
        held.iter().map(|(n, d, s, b)| (n.as_str(), TensorView::new(*d, s, b).expect("a view"))).collect();
    let got = exe.run(&views).unwrap_or_else(|e| panic!("{e}"));
    for (i, t) in got.iter().enumerate() {
        let shape: Vec<usize> = t.shape().iter().map(|n| *n as usize).collect();
        let t = Value::from_bytes(t.dtype(), &shape, t.bytes()).expect("an output is whole");
        let worst = excess(&t, &reference.results[i], &stated.results[i], 8.0);
        assert!(worst <= 1.0, "output {i} is {worst} times the allowed error");
    }
}

fn rms_norm(x: &Array, w: &Array) -> Array {
    x * (x.square().mean(-1, true) + 1e-5).rsqrt() * w
}

fn rows(cx: &Context, name: &str, dtype: DType, n: i64) -> Array {
    let s = if name == "x" { cx.dim("S", 1..=64) } else { unreachable!("one symbolic input") };
    cx.input(name, dtype, (s, n))
}

#[test]
fn rms_norm_from_primitives_is_one_kernel() {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        check(1, |cx| {
            let x = rows(cx, "x", dtype, 200);
            let w = cx.weight("w", dtype, [200]);
            cx.output("y", &rms_norm(&x, &w).silu());
        });
    }
}

#[test]
fn softmax_and_log_softmax_from_primitives_are_one_kernel() {
    check(1, |cx| {
        let x = rows(cx, "x", DType::F32, 100);
        let e = (&x - x.max(-1, true)).exp();
        cx.output("y", &(&e / e.sum(-1, true)));
    });
    check(1, |cx| {
        let x = rows(cx, "x", DType::F32, 77) * 2.0;
        let shifted = &x - x.max(-1, true);
        cx.output("y", &(&shifted - shifted.exp().sum(-1, true).log()));
    });
}

#[test]
fn layer_norm_from_primitives_is_one_kernel() {
    check(1, |cx| {
        let x = rows(cx, "x", DType::F32, 129);
        let w = cx.weight("w", DType::F32, [129]);
        let b = cx.weight("b", DType::F32, [129]);
        let centred = &x - x.mean(-1, true);
        let y = &centred * (centred.square().mean(-1, true) + 1e-5).rsqrt() * &w + &b;
        cx.output("y", &y);
    });
}

#[test]
fn a_residual_joins_the_norm_after_it() {
    check(1, |cx| {
        let x = rows(cx, "x", DType::BF16, 96);
        let r = cx.weight("r", DType::BF16, [96]);
        let w = cx.weight("w", DType::BF16, [96]);
        let sum = &x + &r;
        cx.output("sum", &sum);
        cx.output("y", &rms_norm(&sum, &w));
    });
}

#[test]
fn a_product_takes_its_bias_activation_and_residual() {
    for dtype in [DType::F32, DType::BF16] {
        check(1, |cx| {
            let x = rows(cx, "x", dtype, 64);
            let w = cx.weight("w", dtype, [64, 64]);
            let b = cx.weight("b", dtype, [64]);
            let y = (x.matmul(&w.t()) + &b).gelu() + &x;
            cx.output("y", &y);
        });
    }
}

#[test]
fn gate_and_up_are_one_product_with_the_activation() {
    check(1, |cx| {
        let x = rows(cx, "x", DType::BF16, 64);
        let gate = cx.weight("gate", DType::BF16, [96, 64]);
        let up = cx.weight("up", DType::BF16, [96, 64]);
        let (g, u) = (x.matmul(&gate.t()), x.matmul(&up.t()));
        cx.output("y", &(g.silu() * u));
    });
}

#[test]
fn reductions_take_what_is_before_and_after() {
    check(1, |cx| {
        let x = rows(cx, "x", DType::F32, 50);
        cx.output("y", &(x * 2.0).exp().sum(-1, false).sqrt());
    });
    // Variance and mean of one read.
    check(1, |cx| {
        let x = rows(cx, "x", DType::F32, 50);
        cx.output("mean", &x.mean(-1, false));
        cx.output("var", &x.var(-1, false, 0));
    });
}

#[test]
fn a_mistake_is_reported_where_it_is() {
    let e = trace("bad", |cx| {
        let x = cx.input("x", DType::F32, [3, 4]);
        let y = cx.input("y", DType::F32, [5, 4]);
        let line = &x + &y; // the mistake
        cx.output("z", &line.exp());
    })
    .expect_err("shapes do not broadcast");
    assert_eq!(e.0.len(), 1);
    assert_eq!(e.0[0].id, 127);
    let at = e.0[0].at.clone().expect("a place");
    assert!(at.file.ends_with("fusion.rs"));
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fusion.rs")).expect("this file");
    assert!(text.lines().nth(at.line as usize - 1).expect("a line").contains("the mistake"));
}

#[test]
fn a_state_read_after_its_update_names_both_places() {
    let e = trace("stale", |cx| {
        let at = cx.scalar("at", 0..=3);
        let x = cx.input("x", DType::F32, [1, 8]);
        let state = cx.state("k", DType::F32, [4, 8]);
        let old = state.read();
        let new = state.update(&x, &at, 0);
        cx.output("y", &(new + old));
    })
    .expect_err("the old version is read");
    assert_eq!(e.0[0].id, 121);
    assert!(e.0[0].expected.is_some() && e.0[0].found.is_some());
}
