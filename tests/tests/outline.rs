//! Outlining: one block however deep the model, and nothing lost by it.

use mlxc_ir::graph::interpret::{Mode, Tensor, run};
use mlxc_ir::graph::verify::verify;
use mlxc_ir::graph::{
    BinaryOp, Function, FunctionBuilder, Literal, Module, Op, Role, State, TensorType, UnaryOp, ValueId, Weight,
};
use mlxc_ir::{DType, Range, Size};
use mlxc_passes::canonicalise::canonicalise_module;
use mlxc_passes::choices::Choices;
use mlxc_passes::inline::inline;
use mlxc_passes::lower::emit::home;
use mlxc_passes::outline::outline;
use mlxc_passes::{decompose::decompose, schedule, storage};
use mlxc_tests::kernels::arguments;
use mlxc_tests::llama::{self, Config, TINY};

fn c(n: i64) -> Size {
    Size::constant(n)
}

/// Outlines and checks that the result is well formed, means the same, and inlines to the same.
fn outlined(m: &Module, symbols: &[&[i64]]) -> Module {
    verify(m).unwrap_or_else(|e| panic!("{}", e[0]));
    let out = outline(m).expect("outlining");
    verify(&out).unwrap_or_else(|e| panic!("{}", e[0]));
    let back = inline(&out).expect("inlining");
    verify(&back).unwrap_or_else(|e| panic!("{}", e[0]));
    for (i, s) in symbols.iter().enumerate() {
        let args = arguments(&m.functions[i], s, 3);
        let want = results(m, &m.functions[i], &args);
        assert_eq!(want, results(&out, &out.functions[i], &args));
        assert_eq!(want, results(&back, &back.functions[i], &args));
    }
    out
}

fn results(m: &Module, f: &Function, args: &[Tensor]) -> Vec<Tensor> {
    let out = run(m, f, args, Mode::Stated).expect("the interpreter runs");
    out.results.into_iter().chain(out.updates.into_iter().map(|(_, t)| t)).collect()
}

fn calls(f: &Function) -> usize {
    f.nodes.iter().filter(|n| matches!(n.op, Op::Call { .. })).count()
}

#[test]
fn layers_become_one_block_cut_at_the_residual_stream() {
    for composites in [true, false] {
        let mut sizes = Vec::new();
        for layers in [5, 6, 8] {
            let m = canonicalise_module(&llama::module(&Config { layers, composites, ..TINY })).unwrap();
            let out = outlined(&m, &[&[5, 3], &[11]]);
            assert_eq!(out.functions.len(), 4, "a block for each entry");
            for i in 0..2 {
                let (f, block) = (&out.functions[i], &out.functions[2 + i]);
                assert!((layers - 3..=layers - 2).contains(&calls(f)), "the first and the last layer stay");
                assert!(block.is_block);
                assert_eq!((block.results.len(), block.updates.len()), (1, 2));
                assert_eq!(block.ty(block.results[0].value).shape[1], c(TINY.features));
            }
            sizes.push(out.functions[2].nodes.len());
        }
        assert_eq!(sizes[0], sizes[2], "a block does not grow with the depth");
    }
}

/// Launches of each entry and distinct kernels.
fn scheduled(m: &Module) -> (Vec<usize>, usize) {
    let profile = mlxc_codegen::profiles::by_name("x86-64-v4-bf16").expect("a known profile");
    let (m, sources) = storage::join_weights(m).expect("weights join");
    let functions = m.functions.iter().map(decompose).collect::<Result<_, _>>().expect("composites decompose");
    let m = canonicalise_module(&Module { functions, ..m }).expect("canonical form");
    let layouts = storage::layouts(&m, &profile).expect("layouts agree");
    let options = schedule::Options { fuse: true, exact: false, threads: 2, choices: Choices::FORMULAS };
    let s = schedule::schedule(&m, &sources, &layouts, &profile, options).expect("a schedule");
    (s.plan.entries.iter().map(|e| e.launches.len()).collect(), s.kernels.len())
}

#[test]
fn outlining_costs_no_kernels() {
    // Wide enough that no task of a product holds a whole row, as in models people run: in a narrow one the norm after
    // a block fuses into the product before it, which a call keeps apart.
    let wide = Config { features: 512, heads: 8, head: 64, inner: 1024, ..TINY };
    let of = |layers: usize| {
        let m = llama::module(&Config { layers, ..wide });
        let m = canonicalise_module(&m).expect("canonical form");
        let blocks = scheduled(&outline(&m).expect("outlining"));
        (scheduled(&m).0, blocks.0, blocks.1)
    };
    let ((flat, blocks, kernels), (deep_flat, deep_blocks, deep_kernels)) = (of(4), of(6));
    for entry in 0..2 {
        assert_eq!(deep_flat[entry] - flat[entry], deep_blocks[entry] - blocks[entry]);
        assert_eq!(blocks[entry], flat[entry]);
    }
    assert_eq!(kernels, deep_kernels, "kernels do not grow with the depth");
}

struct B(FunctionBuilder, Module);

impl B {
    fn new() -> Self {
        B(FunctionBuilder::new("f"), Module::default())
    }

    fn op(&mut self, op: Op, x: &[ValueId]) -> ValueId {
        self.0.node(op, x, None).expect("it types")
    }

    fn weight(&mut self, name: &str, shape: &[i64]) -> ValueId {
        let ty = TensorType::constant(DType::F32, shape);
        self.1.weights.push(Weight { name: name.into(), ty: ty.clone() });
        self.0.param(name, Role::Weight(self.1.weights.len() as u32 - 1), ty, None)
    }

    fn input(&mut self, name: &str, shape: &[i64]) -> ValueId {
        self.0.param(name, Role::Input, TensorType::constant(DType::F32, shape), None)
    }

    /// `tanh(x · wᵀ * factor) + x`, eight nodes and more.
    fn layer(&mut self, x: ValueId, i: usize, factor: f64) -> ValueId {
        let w = self.weight(&format!("layers.{i}.w"), &[8, 8]);
        let y = self.op(Op::MatMul { transpose_a: false, transpose_b: true }, &[x, w]);
        let k = self.op(Op::Full { value: Literal::float(factor), dtype: DType::F32, shape: vec![c(4), c(8)] }, &[]);
        let mut y = self.op(Op::Binary(BinaryOp::Multiply), &[y, k]);
        for op in [UnaryOp::Tanh, UnaryOp::Exp, UnaryOp::Sin, UnaryOp::Abs, UnaryOp::Sqrt] {
            y = self.op(Op::Unary(op), &[y]);
        }
        self.op(Op::Binary(BinaryOp::Add), &[y, x])
    }

    fn module(mut self, y: ValueId) -> Module {
        self.0.result("y", y);
        self.1.functions = vec![self.0.finish()];
        self.1
    }
}

#[test]
fn models_without_repetition_stay_as_they_are() {
    let mut b = B::new();
    let x = b.input("x", &[4, 8]);
    let y = b.layer(x, 0, 1.5);
    let y = b.op(Op::Unary(UnaryOp::Exp), &[y]);
    let m = b.module(y);
    assert_eq!(outlined(&m, &[&[]]), m);
    // A chain without a product is one kernel, repeated or not.
    let mut b = B::new();
    let mut x = b.input("x", &[4, 8]);
    for _ in 0..40 {
        x = b.op(Op::Unary(UnaryOp::Sin), &[x]);
    }
    let m = b.module(x);
    assert_eq!(outlined(&m, &[&[]]), m);
}

#[test]
fn a_constant_that_differs_is_a_parameter() {
    for factors in [[1.0; 5], [1.0, 2.0, 3.0, 4.0, 5.0]] {
        let mut b = B::new();
        let mut x = b.input("x", &[4, 8]);
        for (i, k) in factors.into_iter().enumerate() {
            x = b.layer(x, i, k);
        }
        let m = canonicalise_module(&b.module(x)).unwrap();
        let out = outlined(&m, &[&[]]);
        assert!(calls(&out.functions[0]) >= 2);
        let params = out.functions[1].params.len();
        assert_eq!(params, if factors[0] == factors[1] { 2 } else { 3 }, "residual, weight, and the factor");
    }
}

#[test]
fn a_layer_unlike_the_others_stays_outside() {
    let mut b = B::new();
    let mut x = b.input("x", &[4, 8]);
    for i in 0..8 {
        x = b.layer(x, i, 0.5);
        if i == 1 {
            x = b.op(Op::Unary(UnaryOp::Cos), &[x]);
        }
    }
    let m = b.module(x);
    let out = outlined(&m, &[&[]]);
    assert!(calls(&out.functions[0]) >= 3);
}

#[test]
fn one_state_passes_through_every_call() {
    let mut b = B::new();
    let mut x = b.input("x", &[4, 8]);
    let ty = TensorType::constant(DType::F32, &[5, 4, 8]);
    b.1.states.push(State { name: "all".into(), ty: ty.clone() });
    let mut s = b.0.param("all", Role::State(0), ty, None);
    let (at, _) = b.0.scalar("at", Range::new(0, 2), None);
    let state = 1;
    for i in 0..5 {
        x = b.layer(x, i, 0.5);
        let row = b.op(Op::Reshape { shape: vec![c(1), c(4), c(8)] }, &[x]);
        let old = b.op(Op::DynamicSlice { axes: vec![0], sizes: vec![c(1), c(4), c(8)] }, &[s, at]);
        let old = b.op(Op::Reshape { shape: vec![c(4), c(8)] }, &[old]);
        let k = Op::Full { value: Literal::Int(i as i64), dtype: DType::I32, shape: vec![] };
        let k = b.op(k, &[]);
        s = b.op(Op::SliceUpdate { axes: vec![0] }, &[s, row, k]);
        x = b.op(Op::Binary(BinaryOp::Add), &[x, old]);
    }
    b.0.update(state, s);
    let m = b.module(x);
    let out = outlined(&m, &[&[1]]);
    let (f, block) = (&out.functions[0], &out.functions[1]);
    assert!(calls(f) >= 2);
    assert_eq!((block.results.len(), block.updates.len()), (1, 1));
    // Every version lives in the state's own memory.
    let versions = f.nodes.iter().filter(|n| matches!(n.op, Op::Call { .. }));
    let versions = versions.map(|n| n.inputs[block.updates[0].0 as usize]);
    for v in versions.chain(f.updates.iter().map(|(_, v)| *v)) {
        assert_eq!(f.param_of(home(f, v)).map(|p| p.role), Some(Role::State(0)));
    }
}

#[test]
fn what_the_first_layer_computes_for_all_does_not_set_it_apart() {
    let mut b = B::new();
    let mut x = b.input("x", &[4, 8]);
    let angles = b.input("angles", &[4, 8]);
    let mut shared = None;
    for i in 0..6 {
        x = b.layer(x, i, 0.5);
        let s = *shared.get_or_insert_with(|| b.0.node(Op::Unary(UnaryOp::Cos), &[angles], None).unwrap());
        x = b.op(Op::Binary(BinaryOp::Multiply), &[x, s]);
    }
    let m = b.module(x);
    let out = outlined(&m, &[&[]]);
    assert!(calls(&out.functions[0]) >= 2);
}

#[test]
fn a_value_that_every_block_reads_is_not_taken_for_the_one_before() {
    let mut b = B::new();
    let mut x = b.input("x", &[4, 8]);
    let mut kept = None;
    for i in 0..6 {
        x = b.layer(x, i, 0.5);
        // What the first layer gives is added after each one.
        let first = *kept.get_or_insert(x);
        x = b.op(Op::Binary(BinaryOp::Add), &[x, first]);
    }
    let m = b.module(x);
    outlined(&m, &[&[]]);
    // The same, where the kept value is what the first called block takes.
    let mut b = B::new();
    let mut x = b.input("x", &[4, 8]);
    let mut kept = None;
    for i in 0..6 {
        let y = b.layer(x, i, 0.5);
        x = b.op(Op::Binary(BinaryOp::Subtract), &[y, kept.unwrap_or(x)]);
        kept.get_or_insert(x);
    }
    let m = b.module(x);
    outlined(&m, &[&[]]);
}
