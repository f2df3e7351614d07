//! Norms, softmax and rotary embedding.

use mlxc_ir::DType;
use mlxc_ir::graph::{Dense, Literal, Op};
use mlxc_tests::suite::{Fill, Suite, c};
use std::sync::Arc;

const ROWS: [&[i64]; 4] = [&[0], &[1], &[5], &[19]];

#[test]
pub(super) fn norms_and_softmax() {
    for dtype in super::FLOATS {
        let mut s = Suite::new(&format!("norms_{dtype}"));
        let n = s.symbol("N", 0, 24);
        for last in [1, 7, 64, 100] {
            let x = s.input(dtype, &[n.clone(), c(last)], Fill::Between(-3.0, 3.0));
            let (w, b) = (s.weight(dtype, &[last], Fill::Small), s.weight(dtype, &[last], Fill::Small));
            let rms = Op::RmsNorm { eps: 1e-5.into() };
            let layer = Op::LayerNorm { eps: 1e-5.into() };
            for (label, op, inputs) in [
                ("rms", &rms, vec![x]),
                ("rms weight", &rms, vec![x, w]),
                ("layer", &layer, vec![x]),
                ("layer weight", &layer, vec![x, w]),
                ("layer weight bias", &layer, vec![x, w, b]),
                ("softmax", &Op::Softmax, vec![x]),
            ] {
                let y = s.op(op.clone(), &inputs);
                s.check(format!("{label} of {last}"), y, 4.0);
            }
        }
        s.run(&ROWS);
    }
}

#[test]
pub(super) fn norms_and_softmax_of_a_symbolic_last_axis() {
    for dtype in super::FLOATS {
        let mut s = Suite::new(&format!("symbolic_norms_{dtype}"));
        let n = s.symbol("N", 0, 40);
        let x = s.input(dtype, &[c(3), n.clone()], Fill::Between(-3.0, 3.0));
        for (label, op) in [("rms", Op::RmsNorm { eps: 1e-5.into() }), ("layer", Op::LayerNorm { eps: 1e-5.into() })] {
            let y = s.op(op, &[x]);
            s.check(label, y, 4.0);
        }
        s.run(&[&[0], &[1], &[5], &[37]]);
        // A softmax of nothing has no largest element.
        let mut s = Suite::new(&format!("symbolic_softmax_{dtype}"));
        let n = s.symbol("N", 1, 40);
        let x = s.input(dtype, &[c(3), n.clone()], Fill::Between(-30.0, 30.0));
        let y = s.op(Op::Softmax, &[x]);
        s.check("softmax", y, 4.0);
        s.run(&[&[1], &[5], &[37]]);
    }
}

fn frequencies(n: i64) -> Op {
    let bytes = (0..n).flat_map(|i| (0.7f32 / (i + 1) as f32).to_le_bytes()).collect();
    Op::Constant(Arc::new(Dense { dtype: DType::F32, shape: vec![n], bytes }))
}

#[test]
pub(super) fn rotary_embedding() {
    for dtype in super::FLOATS {
        let mut s = Suite::new(&format!("rope_{dtype}"));
        let n = s.symbol("S", 0, 12);
        let (position, _) = s.scalar("position", 0, 50);
        let zero = s.op(Op::Full { value: Literal::Int(3), dtype: DType::I32, shape: vec![] }, &[]);
        for traditional in [false, true] {
            // The last three move whole blocks of a part of each row.
            for (d, dims) in [(32, 32), (10, 6), (34, 34), (2, 2), (128, 96), (24, 16), (80, 32)] {
                let x = s.input(dtype, &[c(1), c(2), n.clone(), c(d)], Fill::Small);
                let rope = |scale: f64| Op::Rope { dims, traditional, base: 1e4.into(), scale: scale.into() };
                let y = s.op(rope(1.0), &[x, position]);
                s.check(format!("rope {d} {dims} {traditional}"), y, 4.0);
                let y = s.op(rope(0.5), &[x, zero]);
                s.check(format!("rope {d} {dims} {traditional} scaled"), y, 4.0);
                let w = s.op(frequencies(i64::from(dims / 2)), &[]);
                let y = s.op(rope(1.0), &[x, position, w]);
                s.check(format!("rope {d} {dims} {traditional} given"), y, 4.0);
            }
        }
        s.run(&[&[0, 0], &[1, 50], &[5, 7], &[12, 33]]);
    }
}
