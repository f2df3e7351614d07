//! Reductions over every set of axes.

use mlxc_ir::DType;
use mlxc_ir::graph::{ArgOp, Op, ReduceOp};
use mlxc_tests::suite::{Fill, Suite, c};

fn subsets(rank: u32) -> Vec<Vec<u32>> {
    (0..1u32 << rank).map(|m| (0..rank).filter(|a| m >> a & 1 == 1).collect()).collect()
}

fn reduce(dtype: DType, op: ReduceOp, fill: &Fill, lo: i64) {
    let mut s = Suite::new(&format!("{}_{dtype}", op.name()));
    let n = s.symbol("N", lo, 40);
    let x = s.input(dtype, &[n.clone(), c(3), c(21)], fill.clone());
    for axes in subsets(3) {
        let keepdims = axes.len() % 2 == 0;
        let y = s.op(Op::Reduce { op, axes: axes.clone(), keepdims }, &[x]);
        s.check(format!("{} over {axes:?}", op.name()), y, if dtype == DType::F64 { 64.0 } else { 16.0 });
    }
    // A symbolic last axis, and another number of axes kept.
    let z = s.input(dtype, &[c(5), n.clone()], fill.clone());
    for (axes, keepdims) in [(vec![1], true), (vec![0], false), (vec![0, 1], true)] {
        let y = s.op(Op::Reduce { op, axes: axes.clone(), keepdims }, &[z]);
        s.check(format!("{} over {axes:?} of two", op.name()), y, if dtype == DType::F64 { 64.0 } else { 16.0 });
    }
    let extents: Vec<&[i64]> = [&[0i64] as &[i64], &[1], &[5], &[37]].into_iter().filter(|e| e[0] >= lo).collect();
    s.run(&extents);
}

#[test]
pub(super) fn sums_and_extremes_of_floats() {
    for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64] {
        reduce(dtype, ReduceOp::Sum, &Fill::Small, 0);
        reduce(dtype, ReduceOp::Prod, &Fill::Between(0.9, 1.1), 0);
        reduce(dtype, ReduceOp::Max, &Fill::Wide, 1);
        reduce(dtype, ReduceOp::Min, &Fill::Wide, 1);
    }
}

#[test]
pub(super) fn sums_and_extremes_of_integers() {
    for dtype in DType::ALL.into_iter().filter(|d| d.is_int()) {
        reduce(dtype, ReduceOp::Sum, &Fill::Wide, 0);
        reduce(dtype, ReduceOp::Prod, &Fill::Wide, 0);
        reduce(dtype, ReduceOp::Max, &Fill::Wide, 1);
        reduce(dtype, ReduceOp::Min, &Fill::Wide, 1);
    }
}

#[test]
pub(super) fn reductions_of_bools() {
    let rare = Fill::Cycle([vec![1.0], vec![0.0; 90]].concat());
    let most = Fill::Cycle([vec![0.0], vec![1.0; 90]].concat());
    reduce(DType::Bool, ReduceOp::Any, &rare, 0);
    reduce(DType::Bool, ReduceOp::All, &most, 0);
    reduce(DType::Bool, ReduceOp::Sum, &Fill::Small, 0);
    reduce(DType::Bool, ReduceOp::Prod, &most, 0);
    reduce(DType::Bool, ReduceOp::Max, &rare, 1);
    reduce(DType::Bool, ReduceOp::Min, &most, 1);
}

/// Of equal elements the first wins; NaN wins over everything.
#[test]
pub(super) fn positions_of_extremes() {
    for dtype in DType::ALL {
        let mut s = Suite::new(&format!("arg_{dtype}"));
        let n = s.symbol("N", 1, 40);
        let ties = Fill::Cycle(vec![3.0, 1.0, 3.0, 0.0, 0.0, 2.0]);
        for (label, fill) in [("ties", ties), ("wide", Fill::Wide)] {
            let x = s.input(dtype, &[n.clone(), c(3), c(21)], fill);
            for op in [ArgOp::Max, ArgOp::Min] {
                for axis in 0..3 {
                    let y = s.op(Op::ArgReduce { op, axis, keepdims: axis == 1 }, &[x]);
                    s.check(format!("{} {axis} {label}", op.name()), y, 0.0);
                }
            }
        }
        s.run(&[&[1], &[5], &[37]]);
    }
}
