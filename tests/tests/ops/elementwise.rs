//! Elementwise ops: every function, comparison and conversion.

use mlxc_ir::DType;
use mlxc_ir::graph::{Activation, BinaryOp, CompareOp, Literal, Op, UnaryOp};
use mlxc_tests::suite::{Fill, Suite, c};

/// Extents 0 and 1, a part of a vector, and several vectors with a tail.
const EXTENTS: [&[i64]; 4] = [&[0], &[1], &[5], &[41]];

/// Ulp allowed beside the stated mode's own rounding; the elementary functions state 2 to 4.
fn allowed(op: UnaryOp) -> f64 {
    use UnaryOp::*;
    match op {
        Negative | Abs | Sign | Square | Relu | Floor | Ceil | Round => 0.5,
        _ => 8.0,
    }
}

/// Both forms of gelu lose relative precision far from 0 by their definition: there the tensor's scale counts.
fn cancels(op: UnaryOp) -> bool {
    matches!(op, UnaryOp::Gelu | UnaryOp::GeluApprox)
}

fn unary(dtype: DType, ops: &[UnaryOp]) {
    let mut s = Suite::new(&format!("unary_{dtype}"));
    let n = s.symbol("N", 0, 64);
    for op in ops {
        let fill = if cancels(*op) { Fill::Between(-12.0, 12.0) } else { Fill::Wide };
        let x = s.input(dtype, &[n.clone(), c(3)], fill);
        match s.try_op(Op::Unary(*op), &[x]) {
            Ok(y) if cancels(*op) => s.check(op.name(), y, 4.0),
            Ok(y) => s.check_each(op.name(), y, allowed(*op)),
            Err(e) => assert_eq!(e.id, 111, "{e}"),
        }
    }
    s.run(&EXTENTS);
}

#[test]
pub(super) fn unary_f32() {
    unary(DType::F32, UnaryOp::ALL);
}

#[test]
pub(super) fn unary_halves() {
    unary(DType::BF16, UnaryOp::ALL);
    unary(DType::F16, UnaryOp::ALL);
}

/// Sines of f64 have a largest argument, and the inverse error function has a smallest distance from 1.
#[test]
pub(super) fn unary_f64() {
    use UnaryOp::*;
    let bounded = [Sin, Cos, Tan, Erfinv];
    let others: Vec<UnaryOp> = UnaryOp::ALL.iter().copied().filter(|op| !bounded.contains(op)).collect();
    unary(DType::F64, &others);
    let mut s = Suite::new("bounded_f64");
    let n = s.symbol("N", 0, 64);
    for op in bounded {
        for most in [1e-9f64, 0.999, 1e6] {
            let limit = if op == Erfinv { most.min(0.999) } else { most };
            let x = s.input(DType::F64, &[n.clone(), c(3)], Fill::Between(-limit, limit));
            let y = s.op(Op::Unary(op), &[x]);
            s.check_each(format!("{} up to {most}", op.name()), y, 8.0);
        }
    }
    s.run(&EXTENTS);
}

#[test]
pub(super) fn unary_integers_and_bool() {
    for dtype in DType::ALL.into_iter().filter(|d| !d.is_float()) {
        unary(dtype, UnaryOp::ALL);
    }
}

fn binary(dtype: DType) {
    let mut s = Suite::new(&format!("binary_{dtype}"));
    let n = s.symbol("N", 0, 64);
    for op in BinaryOp::ALL {
        let elementary = matches!(op, BinaryOp::Power | BinaryOp::LogAddExp | BinaryOp::Arctan2);
        if dtype == DType::F64 && *op == BinaryOp::Remainder {
            continue;
        }
        let shape = [n.clone(), c(3)];
        let fill = match op {
            BinaryOp::LeftShift | BinaryOp::RightShift => Fill::Between(-3.0, 70.0),
            BinaryOp::Power if dtype.is_int() => Fill::Between(-3.0, 11.0),
            _ => Fill::Wide,
        };
        let (x, y) = (s.input(dtype, &shape, Fill::Wide), s.input(dtype, &shape, fill));
        match s.try_op(Op::Binary(*op), &[x, y]) {
            Ok(z) => s.check_each(op.name(), z, if elementary { 8.0 } else { 0.5 }),
            Err(e) => assert_eq!(e.id, 111, "{e}"),
        }
    }
    s.run(&EXTENTS);
}

#[test]
pub(super) fn binary_floats() {
    for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64] {
        binary(dtype);
    }
}

/// Of f64 the remainder is rounded where the quotient is long.
#[test]
pub(super) fn remainder_of_f64() {
    let mut s = Suite::new("remainder_f64");
    let n = s.symbol("N", 0, 64);
    let x = s.input(DType::F64, &[n.clone()], Fill::Between(-100.0, 100.0));
    for (lo, hi) in [(0.5, 3.0), (-3.0, -0.5), (f64::INFINITY, f64::INFINITY)] {
        let fill = if lo == hi { Fill::Cycle(vec![lo, -lo]) } else { Fill::Between(lo, hi) };
        let y = s.input(DType::F64, &[n.clone()], fill);
        let z = s.op(Op::Binary(BinaryOp::Remainder), &[x, y]);
        s.check(format!("remainder by {lo}"), z, 128.0);
    }
    s.run(&EXTENTS);
}

#[test]
pub(super) fn binary_integers_and_bool() {
    for dtype in DType::ALL.into_iter().filter(|d| !d.is_float()) {
        binary(dtype);
    }
}

#[test]
pub(super) fn comparisons_and_selects() {
    let mut s = Suite::new("compare");
    let n = s.symbol("N", 0, 64);
    for dtype in DType::ALL {
        let shape = [n.clone(), c(3)];
        let (a, b) = (s.input(dtype, &shape, Fill::Wide), s.input(dtype, &shape, Fill::Wide));
        for op in CompareOp::ALL {
            if let Ok(y) = s.try_op(Op::Compare(*op), &[a, b]) {
                s.check(format!("{} {dtype}", op.name()), y, 0.0);
                // Equal operands: every comparison has both answers.
                let z = s.op(Op::Compare(*op), &[a, a]);
                s.check(format!("{} {dtype} of itself", op.name()), z, 0.0);
            }
        }
        let p = s.input(DType::Bool, &shape, Fill::Small);
        let y = s.op(Op::Select, &[p, a, b]);
        s.check_each(format!("select {dtype}"), y, 0.5);
    }
    s.run(&EXTENTS);
}

#[test]
pub(super) fn casts_between_all_dtypes() {
    for from in DType::ALL {
        let mut s = Suite::new(&format!("cast_{from}"));
        let n = s.symbol("N", 0, 64);
        let x = s.input(from, &[n.clone(), c(3)], Fill::Wide);
        for to in DType::ALL {
            let y = s.op(Op::Cast(to), &[x]);
            s.check_each(format!("{from} to {to}"), y, 0.5);
        }
        s.run(&EXTENTS);
    }
}

#[test]
pub(super) fn literals_and_sizes_in_every_dtype() {
    let mut s = Suite::new("literals");
    let n = s.symbol("N", 0, 64);
    s.input(DType::F32, &[n.clone()], Fill::Small);
    for dtype in DType::ALL {
        for (i, value) in [Literal::Int(3), Literal::float(-2.5), Literal::Int(0)].into_iter().enumerate() {
            let y = s.op(Op::Full { value, dtype, shape: vec![n.clone(), c(5)] }, &[]);
            s.check_each(format!("full {dtype} {i}"), y, 0.5);
        }
        for axis in [0, 1] {
            let y = s.op(Op::Iota { dtype, shape: vec![n.clone(), c(19)], axis }, &[]);
            s.check_each(format!("iota {dtype} {axis}"), y, 0.5);
        }
        let size = n.clone() * c(3) + c(1);
        let y = s.op(Op::FromSize { size, dtype }, &[]);
        s.check_each(format!("from_size {dtype}"), y, 0.5);
    }
    s.run(&EXTENTS);
}

#[test]
pub(super) fn gated_products() {
    use Activation::*;
    for dtype in super::FLOATS {
        let mut s = Suite::new(&format!("gated_{dtype}"));
        let n = s.symbol("N", 0, 64);
        for a in [Silu, Gelu, GeluApprox, Relu, Sigmoid] {
            let shape = [n.clone(), c(17)];
            let (gate, up) = (s.input(dtype, &shape, Fill::Between(-8.0, 8.0)), s.input(dtype, &shape, Fill::Small));
            let y = s.op(Op::Gated(a), &[gate, up]);
            s.check(format!("gated {}", a.unary().name()), y, 4.0);
        }
        s.run(&EXTENTS);
    }
}
