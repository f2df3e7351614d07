//! What cannot be compiled is refused with an id and the user's op.

use mlxc_ir::DType;
use mlxc_ir::graph::{ArgOp, BinaryOp, Op, ReduceOp, UnaryOp};
use mlxc_tests::suite::{Fill, Suite, c};

/// Clamped indices need an element, and extremes need one to start from.
#[test]
fn nothing_to_take_or_compare() {
    let mut s = Suite::new("nothing");
    let n = s.symbol("N", 0, 9);
    for x in [s.input(DType::F32, &[n.clone(), c(2)], Fill::Small), s.input(DType::F32, &[c(0), c(2)], Fill::Small)] {
        let i = s.input(DType::I32, &[c(3)], Fill::Small);
        let j = s.input(DType::I32, &[c(3), c(2)], Fill::Small);
        for (op, inputs) in [
            (Op::Gather { axis: 0 }, vec![x, i]),
            (Op::TakeAlong { axis: 0 }, vec![x, j]),
            (Op::Reduce { op: ReduceOp::Max, axes: vec![0], keepdims: false }, vec![x]),
            (Op::ArgReduce { op: ArgOp::Min, axis: 0, keepdims: false }, vec![x]),
        ] {
            let e = s.try_op(op, &inputs).expect_err("there may be nothing");
            assert_eq!(e.id, 112, "{e}");
        }
    }
}

/// Elementary functions have no f64 form on CPUs.
#[test]
fn elementary_functions_of_f64() {
    use UnaryOp::*;
    for op in [
        Exp, Expm1, Log, Log2, Log10, Log1p, Sin, Cos, Tan, Arcsin, Arccos, Arctan, Sinh, Cosh, Tanh, Arcsinh, Arccosh,
        Arctanh, Erf, Erfinv, Sigmoid, Silu, Gelu, GeluApprox, Softplus,
    ] {
        let mut s = Suite::new("f64");
        let x = s.input(DType::F64, &[c(4)], Fill::Small);
        let y = s.op(Op::Unary(op), &[x]);
        s.check(op.name(), y, 1.0);
        s.refused(545, op.name());
        s.refused(545, "cases.py:1");
    }
    for op in [BinaryOp::Power, BinaryOp::LogAddExp, BinaryOp::Arctan2] {
        let mut s = Suite::new("f64");
        let x = s.input(DType::F64, &[c(4)], Fill::Small);
        let y = s.op(Op::Binary(op), &[x, x]);
        s.check(op.name(), y, 1.0);
        s.refused(545, op.name());
    }
}
