//! Attention: masks, heads that share keys, offsets, odd extents.

use mlxc_ir::graph::Op;
use mlxc_ir::{DType, Size};
use mlxc_tests::suite::{Fill, Suite, c};

struct Case {
    heads: i64,
    shared: i64,
    d: i64,
    dv: i64,
}

const CASES: [Case; 4] = [
    Case { heads: 4, shared: 2, d: 16, dv: 16 },
    Case { heads: 3, shared: 1, d: 7, dv: 7 },
    Case { heads: 2, shared: 2, d: 64, dv: 33 },
    Case { heads: 8, shared: 2, d: 32, dv: 32 },
];

fn sdpa(d: i64, causal: bool, mask: bool, offset: bool) -> Op {
    Op::Sdpa { scale: (1.0 / (d as f64).sqrt()).into(), causal, mask, offset, window: None, softcap: None }
}

/// The same with a window and a cap.
fn limited(op: Op, window: Option<u32>, softcap: Option<f64>) -> Op {
    match op {
        Op::Sdpa { scale, causal, mask, offset, .. } => {
            Op::Sdpa { scale, causal, mask, offset, window, softcap: softcap.map(Into::into) }
        }
        other => other,
    }
}

/// S queries and T keys, all seen or all up to the query's own.
#[test]
pub(super) fn without_a_state() {
    for dtype in super::FLOATS {
        let mut s = Suite::new(&format!("attention_{dtype}"));
        let n = s.symbol("S", 0, 9);
        let t = s.symbol("T", 9, 40);
        for Case { heads, shared, d, dv } in CASES {
            for queries in [c(1), n.clone()] {
                let q = s.input(dtype, &[c(2), c(heads), queries.clone(), c(d)], Fill::Between(-2.0, 2.0));
                let k = s.input(dtype, &[c(2), c(shared), t.clone(), c(d)], Fill::Between(-2.0, 2.0));
                let v = s.input(dtype, &[c(2), c(shared), t.clone(), c(dv)], Fill::Small);
                for causal in [false, true] {
                    let y = s.op(sdpa(d, causal, false, false), &[q, k, v]);
                    s.check(format!("{heads}/{shared} {d} {dv} queries {queries} causal {causal}"), y, 8.0);
                }
            }
        }
        s.run(&[&[0, 9], &[1, 16], &[5, 17], &[9, 39]]);
    }
}

/// Keys and values of constant capacity, of which `position + S` are live.
#[test]
pub(super) fn with_an_offset() {
    for dtype in super::FLOATS {
        let mut s = Suite::new(&format!("offset_{dtype}"));
        let n = s.symbol("S", 1, 9);
        let (position, at) = s.scalar("position", 0, 36);
        s.require(c(37) - at - n.clone());
        for Case { heads, shared, d, dv } in CASES {
            for (queries, causal) in [(c(1), true), (n.clone(), true), (n.clone(), false)] {
                let q = s.input(dtype, &[c(1), c(heads), queries.clone(), c(d)], Fill::Between(-2.0, 2.0));
                let k = s.input(dtype, &[c(1), c(shared), c(37), c(d)], Fill::Between(-2.0, 2.0));
                let v = s.input(dtype, &[c(1), c(shared), c(37), c(dv)], Fill::Small);
                let y = s.op(sdpa(d, causal, false, true), &[q, k, v, position]);
                s.check(format!("{heads}/{shared} {d} {dv} queries {queries} causal {causal}"), y, 8.0);
            }
        }
        s.run(&[&[1, 0], &[1, 36], &[5, 13], &[9, 28]]);
    }
}

#[test]
pub(super) fn with_masks() {
    for dtype in super::FLOATS {
        let mut s = Suite::new(&format!("masks_{dtype}"));
        let n = s.symbol("S", 1, 9);
        let t = s.symbol("T", 9, 40);
        let shapes: [fn(Size, Size) -> Vec<Size>; 4] = [
            |s, t| vec![s, t],
            |s, t| vec![c(1), c(1), s, t],
            |_, t| vec![c(2), c(1), c(1), t],
            |s, t| vec![c(2), c(4), s, t],
        ];
        for queries in [c(1), n.clone()] {
            let q = s.input(dtype, &[c(2), c(4), queries.clone(), c(16)], Fill::Between(-2.0, 2.0));
            let k = s.input(dtype, &[c(2), c(2), t.clone(), c(16)], Fill::Between(-2.0, 2.0));
            let v = s.input(dtype, &[c(2), c(2), t.clone(), c(16)], Fill::Small);
            for (i, shape) in shapes.iter().enumerate() {
                let shape = shape(queries.clone(), t.clone());
                // One key in three stays, and every row keeps one.
                let keep = s.input(DType::Bool, &shape, Fill::Cycle(vec![1.0, 0.0, 0.0, 1.0, 0.0]));
                let y = s.op(sdpa(16, false, true, false), &[q, k, v, keep]);
                s.check(format!("bool {i} queries {queries}"), y, 8.0);
                let add = s.input(dtype, &shape, Fill::Between(-3.0, 3.0));
                for causal in [false, true] {
                    let y = s.op(sdpa(16, causal, true, false), &[q, k, v, add]);
                    s.check(format!("float {i} queries {queries} causal {causal}"), y, 8.0);
                }
            }
        }
        s.run(&[&[1, 9], &[1, 16], &[5, 17], &[9, 39]]);
    }
}

/// Windows of one key, of a part of a vector, of all keys and more; caps that bend and that do not.
#[test]
fn with_windows_and_caps() {
    let limits = [(Some(1), None), (Some(6), Some(0.7)), (Some(100), Some(30.0)), (None, Some(0.7))];
    let cases = [(4, 2, 64), (2, 1, 80), (2, 1, 96), (1, 1, 128), (2, 1, 256), (3, 1, 5)];
    for dtype in super::NARROW {
        let mut s = Suite::new(&format!("limits_{dtype}"));
        let n = s.symbol("S", 1, 9);
        let (position, at) = s.scalar("position", 0, 36);
        s.require(c(37) - at - n.clone());
        for (i, (heads, shared, d)) in cases.into_iter().enumerate() {
            let (window, softcap) = limits[i % limits.len()];
            for queries in [c(1), n.clone()] {
                let q = s.input(dtype, &[c(1), c(heads), queries.clone(), c(d)], Fill::Between(-2.0, 2.0));
                let k = s.input(dtype, &[c(1), c(shared), c(37), c(d)], Fill::Between(-2.0, 2.0));
                let v = s.input(dtype, &[c(1), c(shared), c(37), c(d)], Fill::Small);
                let y = s.op(limited(sdpa(d, true, false, true), window, softcap), &[q, k, v, position]);
                s.check(format!("{heads}/{shared} {d} queries {queries} {window:?} {softcap:?}"), y, 8.0);
                // Without an offset the last query stands at the last key.
                let y = s.op(limited(sdpa(d, true, false, false), window, softcap), &[q, k, v]);
                s.check(format!("{heads}/{shared} {d} queries {queries} {window:?} {softcap:?} aligned"), y, 8.0);
            }
        }
        s.run(&[&[1, 0], &[1, 36], &[5, 13], &[9, 28]]);
    }
}

/// More keys than a chunk, so that whole chunks lie before the window; and a mask inside it.
#[test]
fn with_windows_past_whole_chunks() {
    for dtype in super::NARROW {
        let mut s = Suite::new(&format!("far_{dtype}"));
        let n = s.symbol("S", 1, 40);
        let (position, at) = s.scalar("position", 0, 1099);
        s.require(c(1100) - at - n.clone());
        for window in [3, 256, 300] {
            for queries in [c(1), n.clone()] {
                let q = s.input(dtype, &[c(1), c(2), queries.clone(), c(16)], Fill::Between(-2.0, 2.0));
                let k = s.input(dtype, &[c(1), c(1), c(1100), c(16)], Fill::Between(-2.0, 2.0));
                let v = s.input(dtype, &[c(1), c(1), c(1100), c(16)], Fill::Small);
                let y = s.op(limited(sdpa(16, true, false, true), Some(window), None), &[q, k, v, position]);
                s.check(format!("queries {queries} window {window}"), y, 8.0);
                let mask = s.input(dtype, &[queries.clone(), c(1100)], Fill::Between(-3.0, 3.0));
                let y = s.op(limited(sdpa(16, true, true, true), Some(window), Some(5.0)), &[q, k, v, mask, position]);
                s.check(format!("queries {queries} window {window}, masked"), y, 8.0);
            }
        }
        s.run(&[&[1, 0], &[1, 1099], &[40, 0], &[40, 249], &[33, 1050]]);
    }
}

#[test]
fn limits_of_no_use_are_refused() {
    use mlxc_ir::graph::{TensorType, infer};
    let t = TensorType::constant(DType::F32, &[1, 1, 2, 4]);
    for (causal, window, softcap) in [(true, Some(0), None), (false, Some(4), None), (true, None, Some(0.0))] {
        let op = limited(sdpa(4, causal, false, false), window, softcap);
        assert_eq!(infer(&op, &[&t, &t, &t], &[]).expect_err("refused").id, 113);
    }
}

/// Rotated queries whose halves are no whole vectors.
#[test]
fn of_rotated_queries() {
    for dtype in super::NARROW {
        let mut s = Suite::new(&format!("rotated_{dtype}"));
        let n = s.symbol("S", 1, 9);
        let (position, at) = s.scalar("position", 0, 28);
        s.require(c(37) - at - n.clone());
        for d in [6, 24, 48, 80, 96] {
            for queries in [c(1), n.clone()] {
                let q = s.input(dtype, &[c(1), c(2), queries.clone(), c(d)], Fill::Between(-2.0, 2.0));
                let k = s.input(dtype, &[c(1), c(1), c(37), c(d)], Fill::Between(-2.0, 2.0));
                let rope = Op::Rope { dims: d as u32, traditional: false, base: 100.0.into(), scale: 1.0.into() };
                let q = s.op(rope, &[q, position]);
                let y = s.op(sdpa(d, true, false, true), &[q, k, k, position]);
                s.check(format!("{d} features, queries {queries}"), y, 8.0);
            }
        }
        s.run(&[&[1, 0], &[1, 28], &[5, 13], &[9, 28]]);
    }
}
