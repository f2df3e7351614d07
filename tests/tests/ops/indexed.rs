//! Windows, scans, sorts, gathers and scatters over several axes, bitcasts and random bits.

use mlxc_ir::graph::{Op, ReduceOp, ScanOp, ScatterOp};
use mlxc_ir::{DType, Size};
use mlxc_tests::suite::{Fill, Suite, c, sizes};

const EXTENTS: [&[i64]; 4] = [&[0], &[1], &[6], &[23]];

#[test]
pub(super) fn sliding_windows() {
    for dtype in DType::ALL {
        let mut s = Suite::new(&format!("sliding_{dtype}"));
        let n = s.symbol("N", 5, 32);
        let x = s.input(dtype, &[n.clone(), c(9), c(20)], Fill::Wide);
        let windows = |axes: &[u32], sizes: &[i64], strides: &[i64], dilations: &[i64]| Op::Windows {
            axes: axes.to_vec(),
            sizes: sizes.to_vec(),
            strides: strides.to_vec(),
            dilations: dilations.to_vec(),
        };
        for (label, op) in [
            ("first", windows(&[0], &[3], &[1], &[2])),
            ("last", windows(&[2], &[17], &[1], &[1])),
            ("whole", windows(&[1], &[9], &[4], &[1])),
            ("two", windows(&[0, 1], &[2, 3], &[2, 3], &[1, 2])),
            ("three", windows(&[0, 1, 2], &[1, 2, 2], &[3, 1, 2], &[1, 1, 5])),
            ("none", windows(&[], &[], &[], &[])),
        ] {
            let y = s.op(op, &[x]);
            s.check_each(format!("windows {label}"), y, 0.5);
        }
        if dtype.is_float() {
            let w = s.op(windows(&[0, 1], &[2, 3], &[2, 1], &[1, 1]), &[x]);
            let y = s.op(Op::Reduce { op: ReduceOp::Max, axes: vec![3, 4], keepdims: false }, &[w]);
            s.check_each("largest of a window", y, 0.5);
        }
        s.run(&[&[5], &[6], &[23], &[32]]);
    }
}

#[test]
pub(super) fn scans() {
    for dtype in DType::ALL {
        let mut s = Suite::new(&format!("scans_{dtype}"));
        let n = s.symbol("N", 0, 32);
        let shapes: [Vec<Size>; 4] =
            [vec![n.clone(), c(19)], vec![c(3), n.clone()], vec![c(2), n.clone(), c(16)], vec![c(2), c(5), n.clone()]];
        for (i, shape) in shapes.iter().enumerate() {
            let x = s.input(dtype, shape, Fill::Between(-2.0, 2.0));
            for op in ScanOp::ALL {
                for axis in 0..shape.len() as u32 {
                    for (reverse, exclusive) in [(false, false), (true, false), (false, true), (true, true)] {
                        let op = Op::Scan { op: *op, axis, reverse, exclusive };
                        match s.try_op(op.clone(), &[x]) {
                            Ok(y) => s.check(format!("{} {i} {axis} {reverse} {exclusive}", op.name()), y, 8.0),
                            Err(e) => assert_eq!(e.id, 111, "{e}"),
                        }
                    }
                }
            }
        }
        s.run(&EXTENTS);
    }
}

/// Infinities and NaN go through extremes and sums as they do one by one.
#[test]
pub(super) fn scans_of_every_magnitude() {
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64, DType::U64, DType::I8] {
        let mut s = Suite::new(&format!("wide_scans_{dtype}"));
        let n = s.symbol("N", 0, 32);
        let x = s.input(dtype, &[n.clone(), c(19)], Fill::Wide);
        for op in [ScanOp::Max, ScanOp::Min] {
            for axis in 0..2 {
                let y = s.op(Op::Scan { op, axis, reverse: axis == 1, exclusive: false }, &[x]);
                s.check_each(format!("{} {axis}", op.name()), y, 0.5);
            }
        }
        s.run(&EXTENTS);
    }
}

#[test]
pub(super) fn sorts() {
    for dtype in DType::ALL {
        let mut s = Suite::new(&format!("sorts_{dtype}"));
        let n = s.symbol("N", 0, 40);
        for (i, fill) in [Fill::Wide, Fill::Between(-3.0, 3.0)].into_iter().enumerate() {
            for shape in [vec![n.clone()], vec![n.clone(), c(7)], vec![c(2), n.clone(), c(3)], vec![c(3), c(70)]] {
                let x = s.input(dtype, &shape, fill.clone());
                for axis in 0..shape.len() as u32 {
                    let order = s.op(Op::ArgSort { axis }, &[x]);
                    s.check(format!("argsort {i} {} {axis}", shape.len()), order, 0.0);
                    let indexed = shape[axis as usize].as_const().is_some();
                    if indexed {
                        let y = s.op(Op::TakeAlong { axis }, &[x, order]);
                        s.check_each(format!("sort {i} {} {axis}", shape.len()), y, 0.5);
                    }
                }
            }
        }
        s.run(&[&[0], &[1], &[2], &[3], &[17], &[40]]);
    }
}

/// In range, negative from the end, and out of range on both sides.
fn indices() -> Fill {
    Fill::Cycle(vec![0.0, 4.0, -1.0, -5.0, 3.0, 3.0, 7.0, -8.0, 100.0, -100.0, 2.0])
}

fn others() -> Fill {
    Fill::Cycle(vec![1.0, -2.0, 0.0, 0.0, 5.0, 1.0, 1.0])
}

#[test]
pub(super) fn gathers_over_axes() {
    for dtype in DType::ALL {
        let mut s = Suite::new(&format!("gather_nd_{dtype}"));
        let n = s.symbol("N", 0, 32);
        let x = s.input(dtype, &[c(5), c(4), c(19)], Fill::Wide);
        let i = s.input(DType::I32, &[n.clone(), c(2)], indices());
        let j = s.input(DType::I32, &[n.clone(), c(2)], others());
        for (axes, inputs) in [
            (vec![0, 1], vec![x, i, j]),
            (vec![0, 2], vec![x, i, j]),
            (vec![1, 2], vec![x, i, j]),
            (vec![0, 1, 2], vec![x, i, j, i]),
            (vec![1], vec![x, j]),
        ] {
            let y = s.op(Op::GatherNd { axes: axes.clone() }, &inputs);
            s.check_each(format!("gather {axes:?}"), y, 0.5);
        }
        s.run(&EXTENTS);
    }
}

#[test]
pub(super) fn scatters() {
    for dtype in DType::ALL {
        let mut s = Suite::new(&format!("scatter_{dtype}"));
        let n = s.symbol("N", 0, 32);
        let x = s.input(dtype, &[c(5), c(4), c(19)], Fill::Between(-2.0, 2.0));
        let long = s.input(dtype, &[c(1100)], Fill::Between(-2.0, 2.0));
        let far = s.input(DType::I32, &[n.clone(), c(2)], Fill::Between(-1200.0, 1200.0));
        let i = s.input(DType::I32, &[n.clone(), c(2)], indices());
        let j = s.input(DType::U8, &[n.clone(), c(2)], others());
        for reduce in ScatterOp::ALL {
            let kinds = [
                (vec![0], vec![c(4), c(19)], vec![i]),
                (vec![0, 1], vec![c(19)], vec![i, j]),
                (vec![0, 2], vec![c(4)], vec![i, j]),
                (vec![1, 2], vec![c(5)], vec![j, i]),
                (vec![0, 1, 2], vec![], vec![i, j, i]),
            ];
            for (axes, rest, indices) in kinds {
                let shape: Vec<Size> = [n.clone(), c(2)].into_iter().chain(rest).collect();
                let u = s.input(dtype, &shape, Fill::Between(-2.0, 2.0));
                let inputs: Vec<_> = [x, u].into_iter().chain(indices).collect();
                let y = s.op(Op::Scatter { axes: axes.clone(), reduce: *reduce }, &inputs);
                s.check(format!("scatter {} {axes:?}", reduce.name()), y, 1.0);
            }
            let u = s.input(dtype, &[n.clone(), c(2)], Fill::Between(-2.0, 2.0));
            let y = s.op(Op::Scatter { axes: vec![0], reduce: *reduce }, &[long, u, far]);
            s.check(format!("scatter {} into a long axis", reduce.name()), y, 1.0);
        }
        s.run(&EXTENTS);
    }
}

#[test]
pub(super) fn scatters_along() {
    for dtype in DType::ALL {
        let mut s = Suite::new(&format!("scatter_along_{dtype}"));
        let n = s.symbol("N", 0, 32);
        let x = s.input(dtype, &[c(5), c(4), c(6)], Fill::Between(-2.0, 2.0));
        for reduce in ScatterOp::ALL {
            for axis in 0..3u32 {
                let mut shape = sizes(&[5, 4, 6]);
                shape[axis as usize] = n.clone();
                let i = s.input(DType::I32, &shape, indices());
                let u = s.input(dtype, &shape, Fill::Between(-2.0, 2.0));
                let y = s.op(Op::ScatterAlong { axis, reduce: *reduce }, &[x, i, u]);
                s.check(format!("scatter_along {} {axis}", reduce.name()), y, 1.0);
            }
        }
        s.run(&EXTENTS);
    }
}

#[test]
pub(super) fn bitcasts() {
    let mut s = Suite::new("bitcasts");
    let n = s.symbol("N", 0, 32);
    for from in DType::ALL {
        // A NaN keeps its bits only where nothing computes with it, and bf16 has no subnormals on some machines.
        let fill = if from.is_float() { Fill::Between(-100.0, 100.0) } else { Fill::Between(0.0, 90.0) };
        let x = s.input(from, &[n.clone(), c(3)], fill);
        for to in DType::ALL {
            match s.try_op(Op::Bitcast(to), &[x]) {
                Ok(y) if to == DType::BF16 && !from.is_float() => {
                    // Small integers are subnormals of bf16.
                    let back = s.op(Op::Cast(DType::F32), &[y]);
                    s.check(format!("{from} as {to}"), back, 1.0);
                }
                Ok(y) => s.check_each(format!("{from} as {to}"), y, 0.0),
                Err(e) => assert_eq!(e.id, 111, "{e}"),
            }
        }
    }
    s.run(&EXTENTS);
}

#[test]
pub(super) fn random_bits() {
    let mut s = Suite::new("random_bits");
    let n = s.symbol("N", 0, 32);
    let m = s.symbol("M", 0, 32);
    s.input(DType::Bool, &[m.clone()], Fill::Small);
    let key = s.input(DType::U32, &[c(2)], Fill::Wide);
    let keys = s.input(DType::U32, &[n.clone(), c(3), c(2)], Fill::Wide);
    for width in [1, 2, 4] {
        let shapes: [Vec<Size>; 6] = [
            vec![n.clone()],
            vec![n.clone(), c(3)],
            vec![c(7), n.clone()],
            vec![n.clone(), m.clone()],
            vec![],
            vec![c(33)],
        ];
        for (i, shape) in shapes.into_iter().enumerate() {
            let y = s.op(Op::RandomBits { shape: shape.clone(), width }, &[key]);
            s.check(format!("bits {width} {i}"), y, 0.0);
            let y = s.op(Op::RandomBits { shape, width }, &[keys]);
            s.check(format!("bits {width} {i} of several keys"), y, 0.0);
        }
    }
    s.run(&[&[0, 3], &[1, 1], &[6, 19], &[23, 32]]);
}
