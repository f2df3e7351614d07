//! The kernels of each template, as text, from small models; each model also runs against the interpreter.
//!
//! A golden shows that a kernel changed: `INSTA_UPDATE=always` accepts it after reading.

use mlxc::code::{Legalised, modules};
use mlxc::nn::{Attention, AttentionConfig, Embedding, Linear, RoPE};
use mlxc::pipeline::{Options, compile};
use mlxc::trace::Quantized;
use mlxc::{Context, DType, Executable, Module, trace};
use mlxc_codegen::gpu_profiles::ShaderLanguage;
use mlxc_codegen::wgsl::Header;
use mlxc_ir::graph::interpret::{self, Mode, Outcome};
use mlxc_ir::graph::{Param, Role};
use mlxc_ir::kernel::print;
use mlxc_msl_gate::{Build, Gate, GateSession, Order};
use mlxc_runtime::{Device, LoadOptions, Tensor, TensorView};
use mlxc_tests::compare::excess;
use mlxc_tests::kernels::arguments;
use mlxc_tests::suite::tensor;
use std::collections::BTreeMap;

/// Snapshots the kernels for CPUs, and the shaders for GPUs, and runs the model at given symbol values: on the CPU, on
/// the Vulkan device, and in MSL under the gate in both of its builds.
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
    for (target, language) in [("apple7", ShaderLanguage::Msl), ("webgpu", ShaderLanguage::Wgsl)] {
        let options = Options::for_target(target).unwrap_or_else(|e| panic!("{e}"));
        let c = compile(&module, &options).unwrap_or_else(|e| panic!("{e}"));
        let Legalised::Gpu(legal) = &c.legal else { panic!("{target} is a GPU") };
        let text: String = modules(legal, language, Header::Browser).into_iter().map(|m| m.text).collect();
        insta::assert_snapshot!(format!("{name}_{target}"), text);
    }
    let gate = Gate::new().unwrap_or_else(|e| panic!("{e}"));
    for s in symbols {
        let case = Case::new(&module, s);
        case.runs("cpu", Device::Cpu);
        case.runs("vulkan", Device::Gpu(None));
        case.runs("webgpu", Device::Gpu(None));
        case.runs_under(&gate, Build::Strict, Order::Reverse);
        case.runs_under(&gate, Build::Checked, Order::Random(2));
    }
}

/// A module, its arguments, and what the interpreter makes of them.
struct Case<'m> {
    module: &'m Module,
    symbols: &'m [i64],
    held: Vec<(&'m Param, Tensor)>,
    reference: Outcome,
    stated: Outcome,
}

impl<'m> Case<'m> {
    fn new(module: &'m Module, symbols: &'m [i64]) -> Self {
        let f = &module.functions[0];
        let args = arguments(f, symbols, 3);
        let run = |mode| interpret::run(module, f, &args, mode).unwrap_or_else(|e| panic!("{e}"));
        let held = f.params.iter().zip(&args).map(|(p, t)| {
            let shape: Vec<u64> = t.shape.iter().map(|n| *n as u64).collect();
            (p, Tensor::from_bytes(t.dtype, &shape, &t.to_bytes()).expect("memory"))
        });
        Case { module, symbols, held: held.collect(), reference: run(Mode::Reference), stated: run(Mode::Stated) }
    }

    fn of(&self, kind: fn(Role) -> bool) -> impl Iterator<Item = &(&'m Param, Tensor)> {
        self.held.iter().filter(move |(p, _)| kind(p.role))
    }

    fn weights(&self) -> BTreeMap<String, Vec<u8>> {
        let weights = self.of(|r| matches!(r, Role::Weight(_)));
        weights.map(|(p, t)| (p.name.to_string(), t.bytes().to_vec())).collect()
    }

    fn runs(&self, target: &str, device: Device) {
        let options = Options::for_target(target).unwrap_or_else(|e| panic!("{e}"));
        let load = LoadOptions { device, ..LoadOptions::default() };
        let exe = Executable::load(self.module, &options, &self.weights(), &load);
        let mut exe = exe.unwrap_or_else(|e| panic!("{e}"));
        for (p, t) in self.of(|r| matches!(r, Role::State(_))) {
            exe.session().set_state(&p.name, t.view()).unwrap_or_else(|e| panic!("{e}"));
        }
        let inputs: Vec<(&str, TensorView<'_>)> =
            self.of(|r| matches!(r, Role::Input | Role::Scalar(_))).map(|(p, t)| (&*p.name, t.view())).collect();
        let got = exe.run(&inputs).unwrap_or_else(|e| panic!("{e}"));
        let results = got.iter().map(tensor).collect();
        let f = &self.module.functions[0];
        let state =
            |p: &u32| tensor(&exe.session().state(&f.params[*p as usize].name).unwrap_or_else(|e| panic!("{e}")));
        let states = self.reference.updates.iter().map(|(p, _)| p).map(state).collect();
        self.compare(target, results, states);
    }

    fn runs_under(&self, gate: &Gate, build: Build, order: Order) {
        let options = Options::for_target("apple7").unwrap_or_else(|e| panic!("{e}"));
        let compiled = compile(self.module, &options).unwrap_or_else(|e| panic!("{e}"));
        let package = compiled.package(&self.weights(), &Vec::new()).unwrap_or_else(|e| panic!("{e}"));
        let mut s = GateSession::new(gate, &package, build, order).unwrap_or_else(|e| panic!("{e}"));
        for (p, t) in self.of(|r| matches!(r, Role::State(_))) {
            s.set_state(&p.name, t.bytes()).unwrap_or_else(|e| panic!("{e}"));
        }
        let inputs: Vec<(&str, &[u8])> =
            self.of(|r| matches!(r, Role::Input | Role::Scalar(_))).map(|(p, t)| (&*p.name, t.bytes())).collect();
        let f = &self.module.functions[0];
        let got = s.run(&f.name, self.symbols, &inputs).unwrap_or_else(|e| panic!("{e}"));
        let results = got.iter().zip(&self.reference.results).map(|((_, bytes), like)| of_bytes(bytes, like)).collect();
        let mut states = Vec::new();
        for (p, like) in &self.reference.updates {
            let bytes = s.state(&f.params[*p as usize].name).unwrap_or_else(|e| panic!("{e}"));
            states.push(of_bytes(&bytes, like));
        }
        self.compare("the gate", results, states);
    }

    fn compare(&self, on: &str, results: Vec<interpret::Tensor>, states: Vec<interpret::Tensor>) {
        let name = &self.module.functions[0].name;
        for (i, t) in results.iter().enumerate() {
            let worst = excess(t, &self.reference.results[i], &self.stated.results[i], 16.0);
            assert!(worst <= 1.0, "`{name}` on {on}: result {i} is {worst} times the allowed error");
        }
        for (i, t) in states.iter().enumerate() {
            let worst = excess(t, &self.reference.updates[i].1, &self.stated.updates[i].1, 16.0);
            assert!(worst <= 1.0, "`{name}` on {on}: state {i} is {worst} times the allowed error");
        }
    }
}

fn of_bytes(bytes: &[u8], like: &interpret::Tensor) -> interpret::Tensor {
    interpret::Tensor::from_bytes(like.dtype, &like.shape, bytes).expect("an output holds its elements")
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

/// The keys of one query over a long cache are split over groups of a GPU.
#[test]
fn attention_over_a_long_cache() {
    let model = |cx: &Context| {
        let config = AttentionConfig::new(32, 2, 1, 16, RoPE::new(16, 10000.0), 600);
        let position = cx.scalar("position", 0..=599);
        let x = cx.input("x", DType::F32, (1, 32));
        let y = Attention::new(cx, "attention", &config, DType::F32).forward(cx, &x, &position);
        cx.output("out", &y.named("projected"));
    };
    golden("attention_split", model, &[&[0], &[255], &[256], &[599]]);
}

#[test]
fn reductions_scans_and_sorts() {
    let model = |cx: &Context| {
        let s = cx.dim("S", 1..=16);
        let x = cx.input("x", DType::F32, (&s, 300));
        cx.output("largest", &x.argmax(-1, false).named("largest"));
        cx.output("running", &x.cumsum(-1, false, true).named("running"));
        cx.output("order", &x.argsort(-1).named("order"));
    };
    golden("lines", model, &[&[1], &[5]]);
}

#[test]
fn products_of_computed_factors() {
    let model = |cx: &Context| {
        let s = cx.dim("S", 16..=64);
        let (x, y) = (cx.input("x", DType::F32, (&s, 48)), cx.input("y", DType::F32, (48, 40)));
        cx.output("out", &(x.exp().matmul(&y)).named("product"));
    };
    golden("computed", model, &[&[16], &[37]]);
}

#[test]
fn scatters_and_random_bits() {
    let model = |cx: &Context| {
        let x = cx.input("x", DType::F32, (40, 24));
        let ids = cx.input("ids", DType::I32, [7]);
        let updates = cx.input("updates", DType::F32, (7, 24));
        cx.output("added", &x.scatter(&[&ids], 0, &updates, mlxc::ScatterOp::Add).named("added"));
        let key = cx.input("key", DType::U32, [2]);
        cx.output("noise", &mlxc::random::uniform(&key, 0, 1, (40, 24), DType::F32).named("noise"));
    };
    golden("scatter", model, &[&[]]);
}
