//! Windows of states, replaced in place.

use mlxc_ir::DType;
use mlxc_ir::graph::{BinaryOp, Op};
use mlxc_tests::suite::{Fill, Suite, c};

#[test]
pub(super) fn updates_in_every_dtype() {
    for dtype in DType::ALL {
        let mut s = Suite::new(&format!("state_{dtype}"));
        let n = s.symbol("S", 0, 8);
        let (position, at) = s.scalar("position", 0, 24);
        s.require(c(24) - at - n.clone());
        // Rows at a host scalar; the new version is read.
        let (p, x) = s.state(dtype, &[24, 5], Fill::Wide);
        let u = s.input(dtype, &[n.clone(), c(5)], Fill::Wide);
        let y = s.op(Op::SliceUpdate { axes: vec![0] }, &[x, u, position]);
        s.update(p, y);
        let read = s.op(Op::DynamicSlice { axes: vec![0], sizes: vec![n.clone(), c(5)] }, &[y, position]);
        s.check_each("what was written", read, 0.5);
        s.check_each("the whole state", y, 0.5);
        // Columns at a run-time position, clamped.
        let (p, x) = s.state(dtype, &[3, 20], Fill::Wide);
        let u = s.input(dtype, &[c(3), c(4)], Fill::Wide);
        let start = s.input(DType::I32, &[], Fill::Cycle(vec![40.0]));
        let y = s.op(Op::SliceUpdate { axes: vec![1] }, &[x, u, start]);
        s.update(p, y);
        // Two updates in a row: the second wins where they meet.
        let (p, x) = s.state(dtype, &[24, 2], Fill::Wide);
        let (u, v) = (s.input(dtype, &[c(2), c(2)], Fill::Wide), s.input(dtype, &[c(1), c(2)], Fill::Wide));
        let y = s.op(Op::SliceUpdate { axes: vec![0] }, &[x, u, start]);
        let z = s.op(Op::SliceUpdate { axes: vec![0] }, &[y, v, start]);
        s.update(p, z);
        s.run(&[&[0, 0], &[1, 23], &[5, 3], &[8, 16]]);
    }
}

/// What is written may be computed from what stood there.
#[test]
pub(super) fn an_update_from_the_old_contents() {
    let mut s = Suite::new("accumulate");
    let (p, x) = s.state(DType::F32, &[6, 19], Fill::Small);
    let u = s.input(DType::F32, &[c(6), c(19)], Fill::Small);
    let sum = s.op(Op::Binary(BinaryOp::Add), &[x, u]);
    let y = s.op(Op::SliceUpdate { axes: vec![] }, &[x, sum]);
    s.update(p, y);
    s.check("the new contents", y, 0.5);
    s.run(&[&[]]);
}
