//! What cannot be compiled is refused with an id and the user's op.

use mlxc_ir::graph::{ArgOp, Literal, Op, ReduceOp, ScanOp, ScatterOp, UnaryOp};
use mlxc_ir::{DType, Scheme};
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

/// Indices over several axes need elements too, and an axis each.
#[test]
fn indices_and_windows_that_do_not_fit() {
    let mut s = Suite::new("indices");
    let n = s.symbol("N", 0, 9);
    let x = s.input(DType::F32, &[n.clone(), c(4)], Fill::Small);
    let full = s.input(DType::F32, &[c(5), c(4)], Fill::Small);
    let i = s.input(DType::I32, &[c(3)], Fill::Small);
    let u = s.input(DType::F32, &[c(3), c(4)], Fill::Small);
    let windows = |size: i64, stride: i64| Op::Windows {
        axes: vec![0],
        sizes: vec![size],
        strides: vec![stride],
        dilations: vec![2],
    };
    let add = |axes: &[u32]| Op::Scatter { axes: axes.to_vec(), reduce: ScatterOp::Add };
    for (id, op, inputs) in [
        (112, Op::GatherNd { axes: vec![0] }, vec![x, i]),
        (113, Op::GatherNd { axes: vec![1, 0] }, vec![full, i, i]),
        (110, Op::GatherNd { axes: vec![0, 1] }, vec![full, i]),
        (112, add(&[0]), vec![x, u, i]),
        (112, add(&[1]), vec![full, u, i]),
        (111, add(&[0]), vec![full, u, u]),
        (111, Op::ScatterAlong { axis: 0, reduce: ScatterOp::Set }, vec![full, i, i]),
        (112, windows(4, 1), vec![full]),
        (112, windows(1, 1), vec![x]),
        (113, windows(2, 0), vec![full]),
        (113, Op::ArgSort { axis: 2 }, vec![full]),
        (113, Op::Scan { op: ScanOp::Sum, axis: 2, reverse: false, exclusive: false }, vec![full]),
        (111, Op::Scan { op: ScanOp::LogAddExp, axis: 0, reverse: false, exclusive: false }, vec![i]),
        (111, Op::Bitcast(DType::F64), vec![full]),
        (111, Op::Bitcast(DType::Bool), vec![full]),
        (111, Op::RandomBits { shape: vec![c(4)], width: 4 }, vec![i]),
    ] {
        let e = s.try_op(op, &inputs).expect_err("it does not fit");
        assert_eq!(e.id, id, "{e}");
    }
}

/// Sizes past every limit are refused before anything counts with them.
#[test]
fn too_large() {
    let mut s = Suite::new("large");
    let x = s.input(DType::F32, &[c(4), c(6)], Fill::Small);
    let pad = Op::Pad { low: vec![i64::MAX, 0], high: vec![i64::MAX, 0], value: Literal::float(0.0) };
    let y = s.op(pad, &[x]);
    s.check("padded", y, 0.0);
    s.refused(219, "too large");
    let mut s = Suite::new("large_words");
    let scheme = Scheme::affine(4, 64).expect("a known scheme");
    let words = s.input(DType::U32, &[c(i64::MAX)], Fill::Small);
    let scales = s.input(DType::F32, &[c(2)], Fill::Small);
    let e = s.try_op(Op::Dequantize { scheme, dtype: DType::F32 }, &[words, scales, scales]).expect_err("too many");
    assert_eq!(e.id, 112, "{e}");
    let mut s = Suite::new("large_input");
    let x = s.input(DType::F32, &[c(i64::MAX), c(i64::MAX)], Fill::Small);
    let y = s.op(Op::Unary(UnaryOp::Negative), &[x]);
    s.check("negated", y, 0.0);
    s.refused(219, "x0");
    // Every position an offset may take has a row of a table.
    let mut s = Suite::new("large_table");
    let x = s.input(DType::F32, &[c(1), c(4), c(16)], Fill::Small);
    let (position, _) = s.scalar("position", 0, i64::from(i32::MAX));
    let rope = Op::Rope { dims: 16, traditional: false, base: 1e4.into(), scale: 1.0.into() };
    let y = s.op(rope, &[x, position]);
    s.check("turned", y, 0.0);
    s.refused(301, "table");
}
