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
    Op::Sdpa { scale: (1.0 / (d as f64).sqrt()).into(), causal, mask, offset }
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
