//! The kernels of each template, as text, from small models; each model also runs against the interpreter.
//!
//! A golden shows that a kernel changed: `INSTA_UPDATE=always` accepts it after reading.

use mlxc::nn::{Attention, AttentionConfig, Embedding, Linear, RoPE};
use mlxc::pipeline::{Options, compile};
use mlxc::trace::Quantized;
use mlxc::{Context, DType, Executable, Module, trace};
use mlxc_ir::graph::interpret::{self, Mode};
use mlxc_ir::graph::{Param, Role};
use mlxc_ir::kernel::print;
use mlxc_runtime::{Tensor, TensorView};
use mlxc_tests::compare::excess;
use mlxc_tests::kernels::arguments;
use mlxc_tests::suite::tensor;
use std::collections::BTreeMap;

/// Snapshots the kernels for two targets and runs the model at given symbol values.
fn golden(name: &str, model: impl Fn(&Context), symbols: &[&[i64]]) {
    let module = trace(name, model).unwrap_or_else(|e| panic!("{e}"));
    for target in ["x86-64-v4-bf16", "x86-64-v3"] {
        let options = Options::for_target(target).unwrap_or_else(|e| panic!("{e}"));
        let c = compile(&module, &options).unwrap_or_else(|e| panic!("{e}"));
        // Lines of this file would change with every edit of it.
        let mut kernels = c.scheduled.kernels.clone();
        kernels.iter_mut().for_each(|k| k.origin.clear());
        insta::assert_snapshot!(format!("{name}_{target}"), kernels.iter().map(print).collect::<String>());
    }
    symbols.iter().for_each(|s| runs(&module, s));
}

fn runs(module: &Module, symbols: &[i64]) {
    let f = &module.functions[0];
    let args = arguments(f, symbols, 3);
    let run = |mode| interpret::run(module, f, &args, mode).unwrap_or_else(|e| panic!("{e}"));
    let (reference, stated) = (run(Mode::Reference), run(Mode::Stated));
    let held: Vec<(&Param, Tensor)> = f
        .params
        .iter()
        .zip(&args)
        .map(|(p, t)| {
            let shape: Vec<u64> = t.shape.iter().map(|n| *n as u64).collect();
            (p, Tensor::from_bytes(t.dtype, &shape, &t.to_bytes()).expect("memory"))
        })
        .collect();
    let of = |kind: fn(Role) -> bool| held.iter().filter(move |(p, _)| kind(p.role));
    let weights: BTreeMap<String, Vec<u8>> =
        of(|r| matches!(r, Role::Weight(_))).map(|(p, t)| (p.name.to_string(), t.bytes().to_vec())).collect();
    let options = Options::for_host().unwrap_or_else(|e| panic!("{e}"));
    let mut exe = Executable::with_weights(module, &options, &weights).unwrap_or_else(|e| panic!("{e}"));
    for (p, t) in of(|r| matches!(r, Role::State(_))) {
        exe.session().set_state(&p.name, t.view()).unwrap_or_else(|e| panic!("{e}"));
    }
    let inputs: Vec<(&str, TensorView<'_>)> =
        of(|r| matches!(r, Role::Input | Role::Scalar(_))).map(|(p, t)| (&*p.name, t.view())).collect();
    let got = exe.run(&inputs).unwrap_or_else(|e| panic!("{e}"));
    for (i, t) in got.iter().enumerate() {
        let worst = excess(&tensor(t), &reference.results[i], &stated.results[i], 16.0);
        assert!(worst <= 1.0, "`{}`: result {i} is {worst} times the allowed error", f.name);
    }
    for (k, (p, want)) in reference.updates.iter().enumerate() {
        let t = exe.session().state(&f.params[*p as usize].name).unwrap_or_else(|e| panic!("{e}"));
        let worst = excess(&tensor(&t), want, &stated.updates[k].1, 16.0);
        assert!(worst <= 1.0, "`{}`: state {k} is {worst} times the allowed error", f.name);
    }
}

#[test]
fn elementwise_chain() {
    let model = |cx: &Context| {
        let n = cx.dim("N", 1..=4096);
        let (x, y) = (cx.input("x", DType::F32, (&n, 100)), cx.input("y", DType::F32, (&n, 100)));
        let mixed = (&x * 0.5 + &y).named("mixed");
        cx.output("out", &(mixed.tanh() * &x).named("gated"));
    };
    golden("elementwise", model, &[&[1], &[7]]);
}

#[test]
fn rms_norm_with_a_residual() {
    let model = |cx: &Context| {
        let s = cx.dim("S", 1..=512);
        let (x, r) = (cx.input("x", DType::BF16, (&s, 96)), cx.input("residual", DType::BF16, (&s, 96)));
        let w = cx.weight("norm.weight", DType::BF16, [96]);
        let sum = (&x + &r).named("sum");
        let wide = sum.astype(DType::F32);
        let scale = (wide.square().mean(-1, true) + 1e-5).rsqrt().named("scale");
        cx.output("sum", &sum);
        cx.output("normed", &((wide * scale).astype(DType::BF16) * &w).named("normed"));
    };
    golden("rms_norm", model, &[&[1], &[5]]);
}

#[test]
fn softmax_and_layer_norm() {
    let model = |cx: &Context| {
        let s = cx.dim("S", 1..=512);
        let x = cx.input("x", DType::F32, (&s, 77));
        cx.output("out", &x.softmax().named("probabilities"));
    };
    golden("softmax", model, &[&[1], &[5]]);
    let model = |cx: &Context| {
        let s = cx.dim("S", 1..=512);
        let x = cx.input("x", DType::F32, (&s, 64));
        let (w, b) = (cx.weight("w", DType::F32, [64]), cx.weight("b", DType::F32, [64]));
        cx.output("out", &x.layer_norm(Some(&w), Some(&b), 1e-5).named("normed"));
    };
    golden("layer_norm", model, &[&[1], &[5]]);
}

#[test]
fn product_with_bias_and_silu() {
    let model = |cx: &Context| {
        let s = cx.dim("S", 1..=64);
        let x = cx.input("x", DType::BF16, (&s, 64));
        let y = Linear::new(cx, "up", 64, 96, true, DType::BF16).forward(&x);
        cx.output("out", &y.silu().named("activated"));
    };
    golden("linear_silu", model, &[&[1], &[17]]);
}

/// Rows quantised to 4 bits: one row of inputs, and many.
#[test]
fn quantised_product() {
    for many in [false, true] {
        let model = |cx: &Context| {
            let s = if many { cx.dim("S", 1..=64) } else { 1.into() };
            let x = cx.input("x", DType::BF16, (s, 192));
            let w = Quantized {
                words: cx.weight("up.weight", DType::U32, [96, 24]),
                scales: cx.weight("up.scales", DType::BF16, [96, 3]),
                biases: Some(cx.weight("up.biases", DType::BF16, [96, 3])),
                scheme: "4,64".parse().expect("a scheme"),
            };
            cx.output("out", &x.quantized_matmul(&w, true).silu().named("activated"));
        };
        let (name, symbols): (_, &[&[i64]]) =
            if many { ("quantized_rows", &[&[1], &[17]]) } else { ("quantized_row", &[&[]]) };
        golden(name, model, symbols);
    }
}

#[test]
fn rows_of_a_table() {
    let model = |cx: &Context| {
        let s = cx.dim("S", 1..=64);
        let ids = cx.input("ids", DType::I32, [&s]);
        let rows = Embedding::new(cx, "table", 50, 40, DType::BF16).forward(&ids);
        cx.output("out", &rows.named("rows"));
    };
    golden("gather", model, &[&[1], &[9]]);
}

/// Merged projections with rotary embedding and cache writes, and attention over the caches.
fn attention(cx: &Context, many: bool) {
    let config = AttentionConfig::new(64, 4, 2, 32, RoPE::new(32, 10000.0), 48);
    let s = if many { cx.dim("S", 1..=16) } else { 1.into() };
    let position = cx.scalar("position", 0..=47);
    let x = cx.input("x", DType::BF16, (s, 64));
    let y = Attention::new(cx, "attention", &config, DType::BF16).forward(cx, &x, &position);
    cx.output("out", &y.named("projected"));
}

#[test]
fn attention_of_one_query() {
    golden("attention_decode", |cx| attention(cx, false), &[&[0], &[31]]);
}

#[test]
fn attention_of_many_queries() {
    golden("attention_prefill", |cx| attention(cx, true), &[&[1, 0], &[9, 20], &[16, 32]]);
}
