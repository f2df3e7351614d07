//! Canonical form: the same bits, fewer nodes.

use mlxc_ir::graph::interpret::{Data, Mode, Tensor, run};
use mlxc_ir::graph::verify::verify;
use mlxc_ir::graph::{
    BinaryOp, CompareOp, Dense, Function, FunctionBuilder, Literal, Module, Op, ReduceOp, Role, State, SymbolKind,
    TensorType, UnaryOp, ValueId, Weight,
};
use mlxc_ir::{DType, Range, Size};
use mlxc_passes::canonicalise::canonicalise;
use mlxc_tests::kernels::arguments;
use std::sync::Arc;

fn c(n: i64) -> Size {
    Size::constant(n)
}

fn full(value: f64, dtype: DType, shape: &[i64]) -> Op {
    Op::Full { value: Literal::float(value), dtype, shape: shape.iter().map(|n| c(*n)).collect() }
}

/// Results by their bits, so that -0 and 0 differ.
fn bits(t: &Tensor) -> Vec<u64> {
    match &t.data {
        Data::Float(v) => v.iter().map(|x| if x.is_nan() { u64::MAX } else { x.to_bits() }).collect(),
        Data::Int(v) => v.iter().map(|x| *x as u64).collect(),
    }
}

fn module(f: &Function) -> Module {
    let mut weights = Vec::new();
    for p in &f.params {
        if let Role::Weight(w) = p.role {
            weights.resize((w as usize + 1).max(weights.len()), Weight { name: "w".into(), ty: p.ty.clone() });
            weights[w as usize].ty = p.ty.clone();
        }
    }
    let states = f.params.iter().filter(|p| matches!(p.role, Role::State(_)));
    let states = states.map(|p| State { name: p.name.clone(), ty: p.ty.clone() }).collect();
    Module { weights, states, functions: vec![f.clone()] }
}

/// The op names of the canonical form, parameters left out; fails where a bit of the results differs.
fn ops(f: &Function) -> Vec<&'static str> {
    let g = canonicalise(f).expect("canonical form");
    verify(&module(&g)).expect("a well-formed function");
    assert_eq!(canonicalise(&g).expect("canonical form"), g, "canonical form is stable");
    let symbols: Vec<i64> = f.symbols.iter().map(|s| s.range.lo.max(3).min(s.range.hi)).collect();
    let args = arguments(f, &symbols, 5);
    let all = |f: &Function| run(&Module::default(), f, &args, Mode::Stated).expect("the interpreter runs").results;
    for (a, b) in all(f).iter().zip(all(&g)) {
        assert_eq!(a.shape, b.shape);
        assert_eq!(bits(a), bits(&b));
    }
    g.nodes.iter().filter(|n| !matches!(n.op, Op::Param(_))).map(|n| n.op.name()).collect()
}

fn one(build: impl FnOnce(&mut FunctionBuilder, ValueId) -> ValueId) -> Vec<&'static str> {
    let mut b = FunctionBuilder::new("one");
    let x = b.param("x", Role::Input, TensorType::constant(DType::F32, &[4, 6]), None);
    let y = build(&mut b, x);
    b.result("y", y);
    ops(&b.finish())
}

fn with_constant(op: BinaryOp, value: f64) -> Vec<&'static str> {
    one(|b, x| {
        let k = b.node(full(value, DType::F32, &[4, 6]), &[], None).expect("it types");
        b.node(Op::Binary(op), &[x, k], None).expect("it types")
    })
}

#[test]
fn exact_identities_apply_and_others_do_not() {
    use BinaryOp::*;
    let none: &[&str] = &[];
    assert_eq!(with_constant(Multiply, 1.0), none);
    assert_eq!(with_constant(Add, -0.0), none);
    assert_eq!(with_constant(Add, 0.0), ["full", "add"], "-0 + 0 is 0");
    assert_eq!(with_constant(Subtract, 0.0), none);
    assert_eq!(with_constant(Subtract, -0.0), ["full", "subtract"], "-0 - -0 is 0");
    assert_eq!(with_constant(Multiply, 0.0), ["full", "multiply"], "infinity times 0 is no number");
    assert_eq!(with_constant(Multiply, -1.0), ["negative"]);
    assert_eq!(with_constant(Divide, 4.0), ["full", "multiply"]);
    assert_eq!(with_constant(Divide, 3.0), ["full", "divide"]);
    assert_eq!(with_constant(Power, 2.0), ["square"]);
}

#[test]
fn equal_values_are_computed_once_under_the_users_name() {
    let mut b = FunctionBuilder::new("cse");
    let x = b.param("x", Role::Input, TensorType::constant(DType::F32, &[4]), None);
    let y = b.param("y", Role::Input, TensorType::constant(DType::F32, &[4]), None);
    let s = b.node(Op::Binary(BinaryOp::Add), &[x, y], None).unwrap();
    let t = b.node(Op::Binary(BinaryOp::Add), &[y, x], None).unwrap();
    b.name(t, "total");
    let r = b.node(Op::Binary(BinaryOp::Multiply), &[s, t], None).unwrap();
    b.result("r", r);
    let f = b.finish();
    assert_eq!(ops(&f), ["add", "square"]);
    let g = canonicalise(&f).unwrap();
    assert!(g.nodes.iter().any(|n| n.op.name() == "add" && n.name.as_deref() == Some("total")));
}

#[test]
fn views_collapse() {
    let none: &[&str] = &[];
    let transpose = |p: [u32; 2]| Op::Transpose { perm: p.to_vec() };
    assert_eq!(
        one(|b, x| {
            let y = b.node(transpose([1, 0]), &[x], None).unwrap();
            b.node(transpose([1, 0]), &[y], None).unwrap()
        }),
        none
    );
    assert_eq!(
        one(|b, x| {
            let y = b.node(Op::Reshape { shape: vec![c(24)] }, &[x], None).unwrap();
            b.node(Op::Reshape { shape: vec![c(2), c(12)] }, &[y], None).unwrap()
        }),
        ["reshape"]
    );
    assert_eq!(
        one(|b, x| {
            let cut =
                |lo: i64, hi: i64| Op::Slice { start: vec![c(0), c(lo)], stop: vec![c(4), c(hi)], step: vec![1, 1] };
            let l = b.node(cut(0, 2), &[x], None).unwrap();
            let r = b.node(cut(2, 6), &[x], None).unwrap();
            b.node(Op::Concat { axis: 1 }, &[l, r], None).unwrap()
        }),
        none
    );
    assert_eq!(
        one(|b, x| {
            let y = b.node(Op::Reduce { op: ReduceOp::Sum, axes: vec![1], keepdims: false }, &[x], None).unwrap();
            b.node(Op::Reshape { shape: vec![c(4), c(1)] }, &[y], None).unwrap()
        }),
        ["sum"]
    );
}

#[test]
fn products_absorb_transposes_and_shared_factors() {
    let mut b = FunctionBuilder::new("products");
    let x = b.param("x", Role::Input, TensorType::constant(DType::F32, &[2, 3, 4]), None);
    let w = b.param("w", Role::Weight(0), TensorType::constant(DType::F32, &[5, 4]), None);
    let t = b.node(Op::Transpose { perm: vec![1, 0] }, &[w], None).unwrap();
    let t = b.node(Op::Broadcast { shape: vec![c(2), c(4), c(5)] }, &[t], None).unwrap();
    let y = b.node(Op::MatMul { transpose_a: false, transpose_b: false }, &[x, t], None).unwrap();
    b.result("y", y);
    let f = b.finish();
    assert_eq!(ops(&f), ["reshape", "matmul", "reshape"]);
    let g = canonicalise(&f).unwrap();
    let product = Op::MatMul { transpose_a: false, transpose_b: true };
    assert!(g.nodes.iter().any(|n| n.op == product && n.inputs[1] == ValueId::of(1)), "{g:#?}");
}

#[test]
fn casts_fold_only_where_the_middle_holds_every_value() {
    let chain = |from: DType, middle: DType, to: DType| {
        let mut b = FunctionBuilder::new("casts");
        let x = b.param("x", Role::Input, TensorType::constant(from, &[8]), None);
        let y = b.node(Op::Cast(middle), &[x], None).unwrap();
        let y = b.node(Op::Cast(to), &[y], None).unwrap();
        b.result("y", y);
        ops(&b.finish()).len()
    };
    assert_eq!(chain(DType::BF16, DType::F32, DType::BF16), 0);
    assert_eq!(chain(DType::BF16, DType::F32, DType::F16), 1);
    assert_eq!(chain(DType::F32, DType::BF16, DType::F32), 2);
    assert_eq!(chain(DType::F16, DType::BF16, DType::F32), 2);
    assert_eq!(chain(DType::U8, DType::BF16, DType::I32), 1);
    assert_eq!(chain(DType::I32, DType::F32, DType::I32), 2);
    assert_eq!(chain(DType::I8, DType::U16, DType::I32), 2);
}

#[test]
fn conditions_and_comparisons() {
    let pick = |value: f64| {
        one(|b, x| {
            let yes = b.node(full(value, DType::Bool, &[4, 6]), &[], None).unwrap();
            let y = b.node(Op::Unary(UnaryOp::Exp), &[x], None).unwrap();
            b.node(Op::Select, &[yes, x, y], None).unwrap()
        })
    };
    assert!(pick(1.0).is_empty());
    assert_eq!(pick(0.0), ["exp"]);
    // Not less is not greater-or-equal where one side is no number.
    assert_eq!(
        one(|b, x| {
            let k = b.node(full(0.5, DType::F32, &[4, 6]), &[], None).unwrap();
            let y = b.node(Op::Compare(CompareOp::Less), &[x, k], None).unwrap();
            b.node(Op::Unary(UnaryOp::LogicalNot), &[y], None).unwrap()
        }),
        ["full", "less", "logical_not"]
    );
}

#[test]
fn small_constants_fold_and_iotas_stay() {
    assert_eq!(
        one(|b, x| {
            let k = b.node(full(3.0, DType::F32, &[4, 6]), &[], None).unwrap();
            let k = b.node(Op::Unary(UnaryOp::Exp), &[k], None).unwrap();
            b.node(Op::Binary(BinaryOp::Multiply), &[x, k], None).unwrap()
        }),
        ["full", "multiply"]
    );
    assert_eq!(
        one(|b, x| {
            let i = b.node(Op::Iota { dtype: DType::F32, shape: vec![c(4), c(6)], axis: 0 }, &[], None).unwrap();
            b.node(Op::Binary(BinaryOp::Multiply), &[x, i], None).unwrap()
        }),
        ["iota", "multiply"]
    );
}

#[test]
fn what_depends_on_a_symbol_does_not_fold() {
    let mut b = FunctionBuilder::new("symbols");
    let s = Size::symbol(b.symbol("S", Range::new(1, 8), 1, SymbolKind::Size));
    let x = b.param("x", Role::Input, TensorType { dtype: DType::F32, shape: vec![s.clone(), c(4)] }, None);
    let bytes: Vec<u8> = (0..16).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let k = Op::Constant(Arc::new(Dense { dtype: DType::F32, shape: vec![16], bytes }));
    let k = b.node(k, &[], None).unwrap();
    let cut = Op::Slice { start: vec![s.clone()], stop: vec![s.clone() + c(4)], step: vec![1] };
    let cut = b.node(cut, &[k], None).unwrap();
    let first = Op::Slice { start: vec![c(0)], stop: vec![c(4)], step: vec![1] };
    let first = b.node(first, &[k], None).unwrap();
    let shape = vec![s, c(4)];
    let cut = b.node(Op::Broadcast { shape: shape.clone() }, &[cut], None).unwrap();
    let first = b.node(Op::Broadcast { shape }, &[first], None).unwrap();
    let y = b.node(Op::Binary(BinaryOp::Multiply), &[x, cut], None).unwrap();
    let y = b.node(Op::Binary(BinaryOp::Add), &[y, first], None).unwrap();
    b.result("y", y);
    let left = ops(&b.finish());
    assert_eq!(left.iter().filter(|n| **n == "slice").count(), 1, "{left:?}");
}

#[test]
fn reads_of_a_state_stay_before_its_update() {
    let mut b = FunctionBuilder::new("states");
    let x = b.param("x", Role::Input, TensorType::constant(DType::F32, &[1, 4]), None);
    let s = b.param("s", Role::State(0), TensorType::constant(DType::F32, &[3, 4]), None);
    let (at, _) = b.scalar("at", Range::new(0, 2), None);
    let old = b.node(Op::Transpose { perm: vec![1, 0] }, &[s], None).unwrap();
    let new = b.node(Op::SliceUpdate { axes: vec![0] }, &[s, x, at], None).unwrap();
    // A second transpose must not become a direct read of the replaced version.
    let again = b.node(Op::Transpose { perm: vec![1, 0] }, &[old], None).unwrap();
    b.result("y", again);
    b.update(1, new);
    let f = b.finish();
    let g = canonicalise(&f).unwrap();
    verify(&module(&g)).unwrap();
    assert_eq!(g.updates, [(1, ValueId { node: 4, index: 0 })]);
}

#[test]
fn random_functions_keep_every_bit() {
    let mut before = 0;
    let mut after = 0;
    for seed in 0..400 {
        let f = mlxc_tests::random::function(seed, 24);
        before += f.nodes.len();
        after += ops(&f).len();
    }
    assert!(after * 2 < before, "{after} of {before} nodes are left");
}

/// A gather of matrices comes before their transposition, which the product absorbs.
#[test]
fn products_see_transposes_behind_gathers() {
    let mut b = FunctionBuilder::new("experts");
    let x = b.param("x", Role::Input, TensorType::constant(DType::F32, &[3, 1, 4]), None);
    let w = b.param("w", Role::Weight(0), TensorType::constant(DType::F32, &[7, 5, 4]), None);
    let at = b.param("at", Role::Input, TensorType::constant(DType::I32, &[3]), None);
    let t = b.node(Op::Transpose { perm: vec![0, 2, 1] }, &[w], None).unwrap();
    let t = b.node(Op::Gather { axis: 0 }, &[t, at], None).unwrap();
    let y = b.node(Op::MatMul { transpose_a: false, transpose_b: false }, &[x, t], None).unwrap();
    b.result("y", y);
    let f = b.finish();
    assert_eq!(ops(&f), ["take", "matmul"]);
    let g = canonicalise(&f).unwrap();
    assert!(g.nodes.iter().any(|n| n.op == Op::MatMul { transpose_a: false, transpose_b: true }), "{g:#?}");
}

/// Indices of any rank, on either side of the axes that move; an axis that itself moves is left alone.
#[test]
fn gathers_of_transposes_keep_their_elements() {
    let check = |perm: Vec<u32>, axis: u32, indices: &[i64], expected: &[&str]| {
        let mut b = FunctionBuilder::new("gather");
        let x = b.param("x", Role::Input, TensorType::constant(DType::F32, &[2, 3, 4, 5]), None);
        let at = b.param("at", Role::Input, TensorType::constant(DType::I32, indices), None);
        let t = b.node(Op::Transpose { perm }, &[x], None).unwrap();
        let y = b.node(Op::Gather { axis }, &[t, at], None).unwrap();
        b.result("y", y);
        // The harness compares both sides in the interpreter.
        assert_eq!(ops(&b.finish()), expected);
    };
    check(vec![0, 1, 3, 2], 1, &[6], &["take", "transpose"]);
    check(vec![1, 0, 2, 3], 2, &[2, 3], &["take", "transpose"]);
    check(vec![1, 0, 2, 3], 3, &[], &["take", "transpose"]);
    check(vec![0, 1, 3, 2], 2, &[4], &["transpose", "take"]);
    check(vec![2, 1, 0, 3], 1, &[4], &["transpose", "take"]);
}
