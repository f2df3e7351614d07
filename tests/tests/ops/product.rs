//! Matrix products in every orientation, on weights and on values.

use mlxc_ir::graph::{BinaryOp, Op, UnaryOp};
use mlxc_ir::{DType, Size};
use mlxc_tests::suite::{Fill, Suite, c};

/// [rows, columns] of a factor, stored turned or not.
fn stored(rows: i64, columns: i64, turned: bool) -> [i64; 2] {
    if turned { [columns, rows] } else { [rows, columns] }
}

const FLOATS: [DType; 4] = [DType::F32, DType::BF16, DType::F16, DType::F64];

/// f64 sums in another order have no wider type to hide in.
fn allowed(dtype: DType) -> f64 {
    if dtype == DType::F64 { 64.0 } else { 8.0 }
}

/// Panels: the right factor is a weight [N, K]. One row, few rows, many rows.
#[test]
pub(super) fn with_weights() {
    for dtype in FLOATS {
        let mut s = Suite::new(&format!("weights_{dtype}"));
        let n = s.symbol("S", 0, 70);
        for (columns, k) in [(64, 32), (37, 5), (1, 16), (96, 33), (130, 1)] {
            for (transpose_a, transpose_b) in [(false, true), (false, false), (true, true), (true, false)] {
                let w = s.weight(dtype, &stored(k, columns, transpose_b), Fill::Small);
                for rows in [c(1), n.clone()] {
                    let shape = if transpose_a { [c(k), rows] } else { [rows, c(k)] };
                    let x = s.input(dtype, &shape, Fill::Small);
                    let y = s.op(Op::MatMul { transpose_a, transpose_b }, &[x, w]);
                    let form = format!("{transpose_a} {transpose_b}");
                    s.check(format!("[{}, {k}] x [{k}, {columns}] {form}", shape[0]), y, allowed(dtype));
                }
            }
        }
        s.run(&[&[0], &[1], &[7], &[65]]);
    }
}

#[test]
pub(super) fn without_weights() {
    for dtype in FLOATS {
        let mut s = Suite::new(&format!("values_{dtype}"));
        let n = s.symbol("S", 0, 40);
        for (m, k, columns) in [(n.clone(), c(20), c(35)), (c(3), n.clone(), c(16)), (c(17), c(1), n.clone())] {
            for (transpose_a, transpose_b) in [(false, true), (false, false), (true, true), (true, false)] {
                for batch in [vec![], vec![c(2), c(3)]] {
                    let turn = |a: &mlxc_ir::Size, b: &mlxc_ir::Size, flip: bool| {
                        let pair = if flip { [b.clone(), a.clone()] } else { [a.clone(), b.clone()] };
                        [batch.clone(), pair.to_vec()].concat()
                    };
                    let x = s.input(dtype, &turn(&m, &k, transpose_a), Fill::Small);
                    let y = s.input(dtype, &turn(&k, &columns, transpose_b), Fill::Small);
                    let z = s.op(Op::MatMul { transpose_a, transpose_b }, &[x, y]);
                    let form = format!("{transpose_a} {transpose_b} batch {}", batch.len());
                    s.check(format!("[{m}, {k}] x [{k}, {columns}] {form}"), z, allowed(dtype));
                }
            }
        }
        s.run(&[&[0], &[1], &[7], &[33]]);
    }
}

/// Products of computed factors in blocks: every transposition, extents around the blocks' and tiles', and what is
/// fused before and after.
#[test]
pub(super) fn blocks() {
    for dtype in super::NARROW {
        let mut s = Suite::new(&format!("blocks_{dtype}"));
        let m = s.symbol("M", 0, 140);
        let n = s.symbol("N", 0, 150);
        let k = s.symbol("K", 0, 300);
        for (transpose_a, transpose_b) in [(false, false), (false, true), (true, false), (true, true)] {
            let flip =
                |x: &Size, y: &Size, t: bool| if t { vec![y.clone(), x.clone()] } else { vec![x.clone(), y.clone()] };
            let a = s.input(dtype, &flip(&m, &k, transpose_a), Fill::Small);
            let b = s.input(dtype, &flip(&k, &n, transpose_b), Fill::Small);
            let y = s.op(Op::MatMul { transpose_a, transpose_b }, &[a, b]);
            s.check(format!("{transpose_a} {transpose_b}"), y, 16.0);
            // Elementwise nodes before and after, and a view between.
            let x = s.op(Op::Unary(UnaryOp::Square), &[a]);
            let wide = s.op(Op::Binary(BinaryOp::Add), &[x, a]);
            let z = s.op(Op::MatMul { transpose_a, transpose_b }, &[wide, b]);
            let c = s.input(dtype, &[m.clone(), n.clone()], Fill::Small);
            let z = s.op(Op::Binary(BinaryOp::Add), &[z, c]);
            let z = s.op(Op::Unary(UnaryOp::Relu), &[z]);
            s.check(format!("{transpose_a} {transpose_b} fused"), z, 16.0);
        }
        let a = s.input(dtype, &[c(3), m.clone(), c(40)], Fill::Small);
        let b = s.input(dtype, &[c(3), c(40), c(33)], Fill::Small);
        let y = s.op(Op::MatMul { transpose_a: false, transpose_b: false }, &[a, b]);
        s.check("batches", y, 16.0);
        s.run(&[&[0, 9, 5], &[1, 1, 1], &[13, 33, 0], &[97, 129, 257], &[140, 150, 300]]);
    }
}
