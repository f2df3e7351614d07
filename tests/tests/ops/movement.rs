//! Ops that move elements, in every dtype.

use mlxc_ir::DType;
use mlxc_ir::graph::{Literal, Op};
use mlxc_tests::suite::{Fill, Suite, c, sizes};

const EXTENTS: [&[i64]; 4] = [&[0], &[1], &[6], &[23]];

fn slice(start: Vec<mlxc_ir::Size>, stop: Vec<mlxc_ir::Size>, step: &[i64]) -> Op {
    Op::Slice { start, stop, step: step.to_vec() }
}

#[test]
pub(super) fn views() {
    for dtype in DType::ALL {
        let mut s = Suite::new(&format!("views_{dtype}"));
        let n = s.symbol("N", 0, 32);
        let x = s.input(dtype, &[n.clone(), c(3), c(20)], Fill::Wide);
        let check = |s: &mut Suite, label: &str, op: Op| {
            let y = s.op(op, &[x]);
            s.check_each(label, y, 0.5);
        };
        check(&mut s, "broadcast", Op::Broadcast { shape: vec![c(2), n.clone(), c(3), c(20)] });
        check(&mut s, "reshape", Op::Reshape { shape: vec![n.clone() * c(3), c(4), c(5)] });
        check(&mut s, "flatten", Op::Reshape { shape: vec![n.clone() * c(60)] });
        for perm in [[0, 2, 1], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
            check(&mut s, &format!("transpose {perm:?}"), Op::Transpose { perm: perm.to_vec() });
        }
        check(&mut s, "slice", slice(sizes(&[0, 1, 3]), vec![n.clone(), c(3), c(20)], &[1, 1, 1]));
        check(&mut s, "slice steps", slice(sizes(&[0, 0, 1]), vec![n.clone(), c(3), c(18)], &[3, 2, 5]));
        check(&mut s, "slice of nothing", slice(sizes(&[0, 1, 0]), vec![n.clone(), c(1), c(20)], &[1, 1, 1]));
        for axes in [vec![0], vec![2], vec![0, 1, 2], vec![]] {
            check(&mut s, &format!("reverse {axes:?}"), Op::Reverse { axes });
        }
        let value = Literal::Int(1);
        check(&mut s, "pad", Op::Pad { low: vec![1, 0, 3], high: vec![0, 2, 14], value });
        check(&mut s, "pad of nothing", Op::Pad { low: vec![0; 3], high: vec![0; 3], value });
        s.run(&EXTENTS);
    }
}

#[test]
pub(super) fn views_of_views() {
    let mut s = Suite::new("views_of_views");
    let n = s.symbol("N", 0, 32);
    let x = s.input(DType::F32, &[n.clone(), c(6), c(8)], Fill::Small);
    let t = s.op(Op::Transpose { perm: vec![1, 2, 0] }, &[x]);
    let r = s.op(Op::Reverse { axes: vec![0] }, &[t]);
    let m = s.op(Op::Reshape { shape: vec![c(48), n.clone()] }, &[r]);
    let p = s.op(Op::Pad { low: vec![0, 1], high: vec![3, 2], value: Literal::float(f64::NEG_INFINITY) }, &[m]);
    let q = s.op(slice(sizes(&[1, 0]), vec![c(51), n.clone() + c(2)], &[7, 2]), &[p]);
    let k = s.op(Op::Concat { axis: 1 }, &[q, q]);
    s.check_each("transpose, reverse, reshape", m, 0.5);
    s.check_each("and pad", p, 0.5);
    s.check_each("and slice", q, 0.5);
    s.check_each("and concat", k, 0.5);
    s.run(&EXTENTS);
}

#[test]
pub(super) fn joins() {
    for dtype in DType::ALL {
        let mut s = Suite::new(&format!("joins_{dtype}"));
        let n = s.symbol("N", 0, 32);
        let a = s.input(dtype, &[n.clone(), c(3), c(5)], Fill::Wide);
        let b = s.input(dtype, &[c(2), c(3), c(5)], Fill::Wide);
        let d = s.input(dtype, &[n.clone(), c(3), c(18)], Fill::Wide);
        let e = s.input(dtype, &[n.clone(), c(0), c(5)], Fill::Wide);
        for (label, axis, parts) in [
            ("first", 0, vec![a, b, a]),
            ("middle", 1, vec![a, a]),
            ("last", 2, vec![a, d]),
            ("one", 1, vec![a]),
            ("nothing", 1, vec![a, e]),
        ] {
            let y = s.op(Op::Concat { axis }, &parts);
            s.check_each(format!("concat {label}"), y, 0.5);
        }
        s.run(&EXTENTS);
    }
}

/// In range, negative from the end, and out of range on both sides.
fn indices() -> Fill {
    Fill::Cycle(vec![0.0, 6.0, -1.0, -7.0, 3.0, 7.0, -8.0, 100.0, -100.0, 5.0])
}

#[test]
pub(super) fn gathers() {
    for dtype in DType::ALL {
        let mut s = Suite::new(&format!("gathers_{dtype}"));
        let n = s.symbol("N", 0, 32);
        let x = s.input(dtype, &[c(7), c(7), c(19)], Fill::Wide);
        let w = s.weight(dtype, &[7, 33], Fill::Small);
        let i = s.input(DType::I32, &[n.clone(), c(2)], indices());
        for axis in 0..3 {
            let y = s.op(Op::Gather { axis }, &[x, i]);
            s.check_each(format!("take {axis}"), y, 0.5);
        }
        let y = s.op(Op::Gather { axis: 0 }, &[w, i]);
        s.check_each("take of a weight", y, 0.5);
        let one = s.input(DType::I32, &[], Fill::Cycle(vec![-2.0]));
        let y = s.op(Op::Gather { axis: 1 }, &[x, one]);
        s.check_each("take of one", y, 0.5);
        let i = s.input(DType::I32, &[n.clone(), c(7), c(19)], indices());
        let y = s.op(Op::TakeAlong { axis: 0 }, &[x, i]);
        s.check_each("take_along 0", y, 0.5);
        let i = s.input(DType::I32, &[c(7), c(7), n.clone()], indices());
        let y = s.op(Op::TakeAlong { axis: 2 }, &[x, i]);
        s.check_each("take_along 2", y, 0.5);
        s.run(&EXTENTS);
    }
}

#[test]
pub(super) fn indices_of_every_integer_type() {
    let mut s = Suite::new("indices");
    let n = s.symbol("N", 0, 32);
    let x = s.input(DType::F32, &[c(7), c(5)], Fill::Small);
    for dtype in DType::ALL.into_iter().filter(|d| d.is_int()) {
        // Wide: what does not fit the index type of the machine is out of range as well.
        for (label, fill) in [("near", indices()), ("any", Fill::Wide)] {
            let i = s.input(dtype, &[n.clone()], fill);
            let y = s.op(Op::Gather { axis: 0 }, &[x, i]);
            s.check_each(format!("take {label} {dtype}"), y, 0.5);
        }
    }
    s.run(&EXTENTS);
}

#[test]
pub(super) fn windows() {
    for dtype in DType::ALL {
        let mut s = Suite::new(&format!("windows_{dtype}"));
        let n = s.symbol("N", 0, 8);
        let x = s.input(dtype, &[c(9), c(20)], Fill::Wide);
        let extent = s.input(DType::U8, &[n.clone()], Fill::Small);
        let y = s.op(Op::Cast(DType::F32), &[extent]);
        s.check_each("extent", y, 0.5);
        let (host, _) = s.scalar("position", 0, 12);
        // Given at run time, also out of range on both sides: clamped.
        for value in [0.0, 3.0, -5.0, 50.0] {
            let at = s.input(DType::I32, &[], Fill::Cycle(vec![value]));
            let y = s.op(Op::DynamicSlice { axes: vec![0], sizes: vec![n.clone(), c(20)] }, &[x, at]);
            s.check_each(format!("rows from {value}"), y, 0.5);
            let y = s.op(Op::DynamicSlice { axes: vec![0, 1], sizes: sizes(&[4, 17]) }, &[x, at, at]);
            s.check_each(format!("window from {value}"), y, 0.5);
            let update = s.input(dtype, &[n.clone(), c(3)], Fill::Wide);
            let y = s.op(Op::SliceUpdate { axes: vec![0, 1] }, &[x, update, at, at]);
            s.check_each(format!("update at {value}"), y, 0.5);
        }
        let y = s.op(Op::DynamicSlice { axes: vec![1], sizes: sizes(&[9, 8]) }, &[x, host]);
        s.check_each("columns from a host scalar", y, 0.5);
        let update = s.input(dtype, &[c(9), c(4)], Fill::Wide);
        let y = s.op(Op::SliceUpdate { axes: vec![1] }, &[x, update, host]);
        s.check_each("update at a host scalar", y, 0.5);
        s.run(&[&[0, 0], &[1, 12], &[5, 3], &[8, 7]]);
    }
}
