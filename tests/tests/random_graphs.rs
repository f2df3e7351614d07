//! Random graphs through the whole pipeline, in every mode, against the interpreter.

use mlxc::pipeline::{Level, Options};
use mlxc::{Errors, Executable};
use mlxc_ir::graph::interpret::{self, Mode, Tensor};
use mlxc_ir::graph::{
    BinaryOp, CompareOp, Dense, Function, FunctionBuilder, Literal, Module, Op, ReduceOp, Role, ScanOp, ScatterOp,
    SymbolKind, TensorType, UnaryOp, ValueId, Weight, text,
};
use mlxc_ir::{DType, Range, Size};
use mlxc_runtime::{LoadOptions, TensorView};
use mlxc_tests::compare::excess;
use mlxc_tests::kernels::Random;
use mlxc_tests::suite::{c, tensor};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One step of a graph: which op, on which of the values so far, with which attribute. Numbers are taken modulo what
/// there is, so that every list of steps is a graph and shrinking a list shrinks the graph.
#[derive(Clone, Debug)]
struct Step {
    op: u8,
    a: u8,
    b: u8,
    attribute: u8,
}

fn step() -> impl Strategy<Value = Step> {
    let numbers = (any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>());
    // A smaller number is no smaller graph: only steps are left out.
    numbers.prop_map(|(op, a, b, attribute)| Step { op, a, b, attribute }).no_shrink()
}

/// Largest value of the symbol.
const MOST: i64 = 9;
/// Elements after which a value grows no further.
const LARGEST: i64 = 4096;

fn build(steps: &[Step], outputs: u8) -> Module {
    let mut b = FunctionBuilder::new("random");
    let s = Size::symbol(b.symbol("S", Range::new(1, MOST), 1, SymbolKind::Size));
    let mut weights = Vec::new();
    let mut values = Vec::new();
    let shapes = [vec![s.clone(), c(20)], vec![s.clone(), c(20)], vec![c(20), c(20)], vec![s, c(4), c(5)]];
    for (i, shape) in shapes.into_iter().enumerate() {
        let ty = TensorType { dtype: if i == 1 { DType::BF16 } else { DType::F32 }, shape };
        let name = format!("x{i}");
        let role = if i == 2 {
            weights.push(Weight { name: name.as_str().into(), ty: ty.clone() });
            Role::Weight(0)
        } else {
            Role::Input
        };
        values.push(b.param(&name, role, ty, None));
    }
    let parameters = values.len();
    for step in steps {
        if let Some(v) = append(&mut b, &values, step) {
            values.push(v);
        }
    }
    let made = &values[parameters.min(values.len() - 1)..];
    for i in 0..=usize::from(outputs % 4) {
        // The last value, and others further back.
        let at = made.len() - 1 - (i * 3) % made.len();
        b.result(format!("y{i}"), made[at]);
    }
    Module { weights, states: Vec::new(), functions: vec![b.finish()] }
}

/// A node for a step, if one of that kind types here.
fn append(b: &mut FunctionBuilder, values: &[ValueId], step: &Step) -> Option<ValueId> {
    // Counted from the last value, so that leaving a step out moves few others.
    let x = values[values.len() - 1 - usize::from(step.a) % values.len()];
    let ty = b.function().ty(x).clone();
    let ranges = b.function().ranges();
    let elements = |shape: &[Size]| shape.iter().map(|d| d.bounds(&ranges).hi.max(1)).product::<i64>();
    let same: Vec<ValueId> = values.iter().copied().filter(|v| *b.function().ty(*v) == ty).collect();
    let y = same[usize::from(step.b) % same.len()];
    let (rank, n) = (ty.rank(), usize::from(step.attribute));
    let axis = n % rank.max(1);
    let some_axis = || (rank > 0).then_some(axis as u32);
    let (op, inputs) = match step.op % 24 {
        0 | 1 => {
            use UnaryOp::*;
            let ops = [Negative, Abs, Square, Exp, Sin, Sigmoid, Tanh, Relu, Silu, Rsqrt, Erf, Floor];
            // What grows without bound is bounded first, so that sums stay finite.
            let op = ops[n % ops.len()];
            let x = if matches!(op, Exp | Square) { b.node(Op::Unary(Tanh), &[x], None).ok()? } else { x };
            let x = if op == Rsqrt {
                let square = b.node(Op::Unary(Square), &[x], None).ok()?;
                let one = Op::Full { value: Literal::float(1.0), dtype: ty.dtype, shape: ty.shape.clone() };
                let one = b.node(one, &[], None).ok()?;
                b.node(Op::Binary(BinaryOp::Add), &[square, one], None).ok()?
            } else {
                x
            };
            (Op::Unary(op), vec![x])
        }
        2..=4 => {
            use BinaryOp::*;
            let ops = [Add, Subtract, Multiply, Maximum, Minimum];
            (Op::Binary(ops[n % ops.len()]), vec![x, y])
        }
        5 => {
            let value = Literal::float([0.5, -1.0, 2.0, 0.0][n % 4]);
            let k = b.node(Op::Full { value, dtype: ty.dtype, shape: ty.shape.clone() }, &[], None).ok()?;
            (Op::Binary([BinaryOp::Multiply, BinaryOp::Add][n / 4 % 2]), vec![x, k])
        }
        6 => {
            // A choice between two values by the size of the first against a constant that no rounding reaches.
            let value = Literal::float(1e6);
            let k = b.node(Op::Full { value, dtype: ty.dtype, shape: ty.shape.clone() }, &[], None).ok()?;
            let op = Op::Compare([CompareOp::Less, CompareOp::Greater][n % 2]);
            let p = b.node(op, &[x, k], None).ok()?;
            (Op::Select, vec![p, x, y])
        }
        7 => (Op::Cast([DType::F32, DType::BF16, DType::F16][n % 3]), vec![x]),
        8 => {
            let mut shape = ty.shape.clone();
            if rank < 4 {
                shape.insert(0, c([1, 2, 3][n % 3]));
            }
            (Op::Broadcast { shape }, vec![x])
        }
        9 => {
            // Merge two axes, or split one of 20.
            let mut shape = ty.shape.clone();
            match shape.iter().position(|d| *d == c(20)) {
                Some(at) if n % 2 == 0 => {
                    shape.splice(at..=at, [c(4), c(5)]);
                }
                _ if rank > 1 => {
                    let at = n % (rank - 1);
                    let merged = shape[at].clone() * shape[at + 1].clone();
                    shape.splice(at..=at + 1, [merged]);
                }
                _ => return None,
            }
            (Op::Reshape { shape }, vec![x])
        }
        10 => {
            let mut perm: Vec<u32> = (0..rank as u32).collect();
            perm.rotate_left(axis);
            (Op::Transpose { perm }, vec![x])
        }
        11 => {
            let last = ty.shape.get(axis)?.as_const().filter(|d| *d > 2)?;
            let mut start = vec![c(0); rank];
            let mut stop = ty.shape.clone();
            let mut by = vec![1; rank];
            (start[axis], stop[axis], by[axis]) = (c(1), c(last), 1 + n as i64 % 2);
            (Op::Slice { start, stop, step: by }, vec![x])
        }
        12 => (Op::Reverse { axes: vec![some_axis()?] }, vec![x]),
        13 => (Op::Concat { axis: some_axis()? }, vec![x, y]),
        14 => {
            let (mut low, mut high) = (vec![0; rank], vec![0; rank]);
            (*low.get_mut(axis)?, *high.get_mut(axis)?) = (n as i64 % 3, n as i64 % 2);
            (Op::Pad { low, high, value: Literal::float(0.25) }, vec![x])
        }
        15 | 16 => {
            let op = [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min][n % 3];
            (Op::Reduce { op, axes: vec![some_axis()?], keepdims: n % 2 == 0 }, vec![x])
        }
        17 => {
            let whole = ty.shape.get(axis)?.as_const().filter(|d| *d > 2)?;
            let (sizes, strides) = (vec![whole.min(1 + n as i64 % 3)], vec![1 + n as i64 / 4 % 2]);
            (Op::Windows { axes: vec![some_axis()?], sizes, strides, dilations: vec![1] }, vec![x])
        }
        18 => {
            // Sums of a whole line at most.
            let op = [ScanOp::Sum, ScanOp::Max, ScanOp::Min][n % 3];
            let (reverse, exclusive) = (n / 4 % 2 == 1, op == ScanOp::Sum && n / 8 % 2 == 1);
            (Op::Scan { op, axis: some_axis()?, reverse, exclusive }, vec![x])
        }
        19 => {
            let axis = some_axis()?;
            let order = b.node(Op::ArgSort { axis }, &[x], None).ok()?;
            (Op::TakeAlong { axis }, vec![x, order])
        }
        20 => {
            let i = b.node(indices(n, 3), &[], None).ok()?;
            (Op::GatherNd { axes: vec![some_axis()?] }, vec![x, i])
        }
        21 => {
            let i = b.node(indices(n, 3), &[], None).ok()?;
            let axis = some_axis()?;
            let updates = b.node(Op::GatherNd { axes: vec![axis] }, &[y, i], None).ok()?;
            let reduce = [ScatterOp::Set, ScatterOp::Add, ScatterOp::Max][n % 3];
            (Op::Scatter { axes: vec![axis], reduce }, vec![x, updates, i])
        }
        22 => {
            let bits = [(DType::F32, DType::I32), (DType::F16, DType::U16), (DType::BF16, DType::I16)];
            let (_, word) = bits.into_iter().find(|(d, _)| *d == ty.dtype)?;
            // There and back, through memory or not.
            let there = b.node(Op::Bitcast(word), &[x], None).ok()?;
            (Op::Bitcast(ty.dtype), vec![there])
        }
        _ => {
            let fits = |v: &&ValueId| {
                let t = b.function().ty(**v);
                t.dtype == ty.dtype && t.rank() == 2 && rank == 2 && t.shape[0] == ty.shape[1]
            };
            let factors: Vec<ValueId> = values.iter().filter(fits).copied().collect();
            let w = *factors.get(usize::from(step.b) % factors.len().max(1))?;
            (Op::MatMul { transpose_a: false, transpose_b: false }, vec![x, w])
        }
    };
    let operands: Vec<&TensorType> = inputs.iter().map(|v| b.function().ty(*v)).collect();
    let made = mlxc_ir::graph::infer(&op, &operands, &b.function().symbols).ok()?;
    if elements(&made[0].shape) > LARGEST || made[0].rank() > 4 {
        return None;
    }
    b.node(op, &inputs, None).ok()
}

/// A few indices of any sign.
fn indices(n: usize, count: usize) -> Op {
    let bytes = (0..count).flat_map(|i| ((n * 7 + i * 5) as i32 % 9 - 4).to_le_bytes()).collect();
    Op::Constant(Arc::new(Dense { dtype: DType::I32, shape: vec![count as i64], bytes }))
}

struct Held {
    args: Vec<Tensor>,
    reference: Vec<Tensor>,
    stated: Vec<Tensor>,
}

fn interpreted(m: &Module, s: i64) -> Held {
    let f = &m.functions[0];
    let mut random = Random::new(17 + s as u64);
    let args: Vec<Tensor> = f
        .params
        .iter()
        .map(|p| {
            let shape: Vec<usize> = p.ty.shape.iter().map(|d| d.eval(&[s]) as usize).collect();
            let mut own = Random::new(5);
            if matches!(p.role, Role::Weight(_)) { &mut own } else { &mut random }.tensor(p.ty.dtype, &shape)
        })
        .collect();
    let run = |mode| interpret::run(m, f, &args, mode).expect("the interpreter runs").results;
    let (reference, stated) = (run(Mode::Reference), run(Mode::Stated));
    Held { args, reference, stated }
}

fn run(exe: &mut Executable, f: &Function, held: &Held) -> Result<Vec<Tensor>, Errors> {
    let inputs: Vec<(&str, mlxc_runtime::Tensor)> = f
        .params
        .iter()
        .zip(&held.args)
        .filter(|(p, _)| p.role == Role::Input)
        .map(|(p, t)| {
            let shape: Vec<u64> = t.shape.iter().map(|n| *n as u64).collect();
            (&*p.name, mlxc_runtime::Tensor::from_bytes(t.dtype, &shape, &t.to_bytes()).expect("a whole tensor"))
        })
        .collect();
    let views: Vec<(&str, TensorView<'_>)> = inputs.iter().map(|(n, t)| (*n, t.view())).collect();
    Ok(exe.run(&views)?.iter().map(tensor).collect())
}

/// Every mode of the pipeline, with the threads it runs on.
fn modes() -> Vec<(&'static str, Options, usize)> {
    let base = Options::for_host().unwrap_or_else(|e| panic!("{e}"));
    let with = |change: &dyn Fn(&mut Options)| {
        let mut o = base.clone();
        change(&mut o);
        o
    };
    vec![
        ("fused", with(&|_| {}), 2),
        ("one op a kernel", with(&|o| o.fuse = false), 1),
        ("exact", with(&|o| o.level = Level::Exact), 2),
        ("not outlined", with(&|o| o.outline = false), 1),
    ]
}

/// Runs a graph in every mode; a failure or panic comes back with the graph's text.
fn check(m: &Module) -> Result<(), TestCaseError> {
    let failed = |what: String| TestCaseError::fail(format!("{what}\n{}", text::print(m)));
    match std::panic::catch_unwind(|| compare(m)) {
        Ok(outcome) => outcome.map_err(failed),
        Err(cause) => {
            let text = cause.downcast_ref::<String>().cloned();
            let text = text.or_else(|| cause.downcast_ref::<&str>().map(|s| s.to_string()));
            Err(failed(format!("panic: {}", text.unwrap_or_default())))
        }
    }
}

fn compare(m: &Module) -> Result<(), String> {
    mlxc_ir::graph::verify::verify(m).map_err(|e| e[0].to_string())?;
    let f = &m.functions[0];
    let held: Vec<Held> = [1, 4, MOST].into_iter().map(|s| interpreted(m, s)).collect();
    let weights: BTreeMap<String, Vec<u8>> = f
        .params
        .iter()
        .zip(&held[0].args)
        .filter(|(p, _)| matches!(p.role, Role::Weight(_)))
        .map(|(p, t)| (p.name.to_string(), t.to_bytes()))
        .collect();
    for (mode, options, threads) in modes() {
        let load = LoadOptions { threads: Some(threads), poison: true, ..LoadOptions::default() };
        let mut exe = Executable::load(m, &options, &weights, &load).map_err(|e| format!("{mode}: {e}"))?;
        for h in &held {
            let got = run(&mut exe, f, h).map_err(|e| format!("{mode}: {e}"))?;
            for (i, t) in got.iter().enumerate() {
                let worst = excess(t, &h.reference[i], &h.stated[i], 32.0);
                if worst > 1.0 || worst.is_nan() {
                    let show = |t: &Tensor| format!("{:?}", &t.to_floats()[..t.len().min(12)]);
                    let (got, want) = (show(t), show(&h.reference[i]));
                    let what = format!("{mode}: result {i} is {worst} times the allowed error");
                    return Err(format!("{what}\n got {got}\nwant {want}"));
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(200),
        failure_persistence: None,
        max_shrink_iters: 600,
        rng_algorithm: proptest::test_runner::RngAlgorithm::ChaCha,
        rng_seed: proptest::test_runner::RngSeed::Fixed(20),
        ..ProptestConfig::default()
    })]

    #[test]
    fn compiled_graphs_mean_what_the_interpreter_says(
        steps in proptest::collection::vec(step(), 1..24),
        outputs in any::<u8>(),
    ) {
        check(&build(&steps, outputs))?;
    }
}
