//! Constant extents of 0: what has no elements, and folds of nothing.

use mlxc_ir::DType;
use mlxc_ir::graph::{Activation, Literal, Op, ReduceOp, ScatterOp, UnaryOp};
use mlxc_tests::suite::{Fill, Suite, c, sizes};

#[test]
pub(super) fn values_without_elements() {
    let mut s = Suite::new("empty");
    let n = s.symbol("N", 0, 9);
    let x = s.input(DType::F32, &[n.clone(), c(0), c(5)], Fill::Small);
    let mut values = vec![("input", x)];
    for (label, op) in [
        ("exp", Op::Unary(UnaryOp::Exp)),
        ("cast", Op::Cast(DType::BF16)),
        ("transpose", Op::Transpose { perm: vec![2, 0, 1] }),
        ("reshape", Op::Reshape { shape: vec![c(0)] }),
        ("broadcast", Op::Broadcast { shape: vec![c(2), n.clone(), c(0), c(5)] }),
        ("reverse", Op::Reverse { axes: vec![1] }),
        ("softmax", Op::Softmax),
        ("norm", Op::RmsNorm { eps: 1e-5.into() }),
        ("reduce", Op::Reduce { op: ReduceOp::Sum, axes: vec![2], keepdims: false }),
    ] {
        values.push((label, s.op(op, &[x])));
    }
    values.push(("gated", s.op(Op::Gated(Activation::Silu), &[x, x])));
    values.push(("concat", s.op(Op::Concat { axis: 0 }, &[x, x])));
    for (label, v) in values {
        s.check(label, v, 0.0);
    }
    s.run(&[&[0], &[3]]);
}

#[test]
pub(super) fn folds_of_nothing() {
    let mut s = Suite::new("folds");
    let n = s.symbol("N", 0, 9);
    let x = s.input(DType::F32, &[n.clone(), c(0)], Fill::Small);
    let b = s.input(DType::Bool, &[n.clone(), c(0)], Fill::Small);
    for (op, v) in [(ReduceOp::Sum, x), (ReduceOp::Prod, x), (ReduceOp::Any, b), (ReduceOp::All, b)] {
        for axes in [vec![1], vec![0, 1]] {
            let y = s.op(Op::Reduce { op, axes, keepdims: false }, &[v]);
            s.check(op.name(), y, 0.0);
        }
    }
    let y = s.op(Op::Pad { low: vec![0, 2], high: vec![1, 3], value: Literal::float(7.0) }, &[x]);
    s.check("pad", y, 0.0);
    let z = s.input(DType::F32, &[n.clone(), c(4)], Fill::Small);
    let y = s.op(Op::Concat { axis: 1 }, &[x, z, x]);
    s.check("concat", y, 0.0);
    let q = s.input(DType::F32, &sizes(&[1, 2, 3, 8]), Fill::Small);
    let k = s.input(DType::F32, &sizes(&[1, 1, 0, 8]), Fill::Small);
    let y = s.op(
        Op::Sdpa { scale: 1.0.into(), causal: false, mask: false, offset: false, window: None, softcap: None },
        &[q, k, k],
    );
    s.check("attention over no keys", y, 0.0);
    s.run(&[&[0], &[3]]);
}

/// Nothing to sum gives zeros; nothing to compute gives nothing.
#[test]
pub(super) fn products() {
    let mut s = Suite::new("products");
    let product = Op::MatMul { transpose_a: false, transpose_b: false };
    for (m, k, n) in [(3, 0, 4), (0, 3, 4), (3, 4, 0)] {
        let x = s.input(DType::F32, &[c(m), c(k)], Fill::Small);
        let y = s.input(DType::F32, &[c(k), c(n)], Fill::Small);
        let z = s.op(product.clone(), &[x, y]);
        s.check(format!("{m} {k} {n}"), z, 0.0);
        if k > 0 {
            let w = s.weight(DType::F32, &[k, n], Fill::Small);
            let z = s.op(product.clone(), &[x, w]);
            s.check(format!("{m} {k} {n} of a weight"), z, 0.0);
        }
    }
    s.run(&[&[]]);
}

/// A scatter of no updates, at every size and at size 0 of a symbol.
#[test]
fn scatters_of_nothing() {
    let mut s = Suite::new("scatters");
    let n = s.symbol("N", 0, 3);
    for count in [c(0), n] {
        let x = s.input(DType::F32, &sizes(&[4, 6]), Fill::Small);
        let i = s.input(DType::I32, std::slice::from_ref(&count), Fill::Between(-4.0, 3.0));
        let u = s.input(DType::F32, &[count.clone(), c(6)], Fill::Small);
        let y = s.op(Op::Scatter { axes: vec![0], reduce: ScatterOp::Add }, &[x, u, i]);
        s.check(format!("{count} rows"), y, 1.0);
        let i = s.input(DType::I32, &[c(4), count.clone()], Fill::Between(-6.0, 5.0));
        let u = s.input(DType::F32, &[c(4), count.clone()], Fill::Small);
        let y = s.op(Op::ScatterAlong { axis: 1, reduce: ScatterOp::Max }, &[x, i, u]);
        s.check(format!("{count} along"), y, 1.0);
    }
    s.run(&[&[0], &[3]]);
}

#[test]
pub(super) fn updates_of_nothing() {
    let mut s = Suite::new("updates");
    let (p, x) = s.state(DType::F32, &[4, 3], Fill::Small);
    let (position, _) = s.scalar("position", 0, 4);
    let u = s.input(DType::F32, &[c(0), c(3)], Fill::Small);
    let y = s.op(Op::SliceUpdate { axes: vec![0] }, &[x, u, position]);
    s.update(p, y);
    s.check("the state", y, 0.0);
    s.run(&[&[0], &[4]]);
}
