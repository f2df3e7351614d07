//! Quantised rows: their values, and products with them.

use mlxc_ir::graph::{Op, ValueId};
use mlxc_ir::{DType, Scheme, Size};
use mlxc_tests::suite::{Fill, Suite, c, sizes};

/// Words, scales and biases of a weight `[n, k]`.
fn weight(s: &mut Suite, scheme: Scheme, n: i64, k: i64, float: DType) -> Vec<ValueId> {
    weights(s, scheme, &[n], k, float)
}

/// Words, scales and biases of rows of `k` codes.
fn weights(s: &mut Suite, scheme: Scheme, lead: &[i64], k: i64, float: DType) -> Vec<ValueId> {
    let shape = |last: Option<i64>| [lead, &[last.expect("whole groups")]].concat();
    let (words, groups) = (shape(scheme.words(k)), shape(scheme.groups(k)));
    let mut out = vec![s.weight(DType::U32, &words, Fill::Wide)];
    if scheme.has_biases() {
        out.push(s.weight(float, &groups, Fill::Between(0.001, 0.02)));
        out.push(s.weight(float, &groups, Fill::Between(-0.2, 0.2)));
    } else {
        out.push(s.weight(DType::U8, &groups, Fill::Between(30.0, 127.0)));
    }
    out
}

const PRODUCT: Op = Op::MatMul { transpose_a: false, transpose_b: true };

fn product(s: &mut Suite, scheme: Scheme, dtype: DType, rows: Size, n: i64, k: i64, stored: DType) {
    let inputs = weight(s, scheme, n, k, stored);
    let w = s.op(Op::Dequantize { scheme, dtype }, &inputs);
    let x = s.input(dtype, &[rows.clone(), c(k)], Fill::Small);
    let y = s.op(PRODUCT, &[x, w]);
    s.check(format!("[{rows}, {k}] x [{n}, {k}] {scheme}"), y, 8.0);
}

/// Every scheme, one row and many, columns that fill no panel.
#[test]
pub(super) fn products_with_every_scheme() {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let mut s = Suite::new(&format!("quantized_{dtype}"));
        let rows = s.symbol("S", 0, 40);
        // f16 is loaded otherwise and computed as f32 is: a few schemes show it.
        for scheme in Scheme::all().into_iter().step_by(if dtype == DType::F16 { 4 } else { 1 }) {
            for (n, k) in [(64, 128), (37, 384)] {
                for m in [c(1), rows.clone()] {
                    product(&mut s, scheme, dtype, m, n, k, dtype);
                }
            }
        }
        s.run(&[&[0], &[1], &[7], &[33]]);
    }
}

/// Rows longer than a packed stretch, rows that end within one, more rows than a task has; scales of another dtype.
#[test]
pub(super) fn long_rows_and_many_rows() {
    for dtype in [DType::F32, DType::BF16] {
        let mut s = Suite::new(&format!("quantized_long_{dtype}"));
        let rows = s.symbol("S", 1, 140);
        for (bits, group, n, k) in [(4, 64, 96, 2176), (8, 128, 33, 1152), (6, 32, 64, 1056), (4, 64, 32, 64)] {
            let scheme = Scheme::affine(bits, group).expect("a known scheme");
            for m in [c(1), rows.clone()] {
                product(&mut s, scheme, dtype, m, n, k, DType::BF16);
            }
        }
        s.run(&[&[1], &[16], &[131]]);
    }
}

/// Inputs rounded to 8-bit integers: a scheme whose codes multiply with them and one whose codes do not, rows with extremes
/// and with nothing in them.
#[test]
pub(super) fn int8_activations() {
    let all: [(DType, &[&str]); 3] =
        [(DType::F32, &["4,64", "3,64"]), (DType::BF16, &["8,32"]), (DType::F16, &["2,32"])];
    for (dtype, schemes) in all {
        let mut s = Suite::new(&format!("int8_{dtype}"));
        let rows = s.symbol("S", 0, 140);
        for scheme in schemes {
            let scheme: Scheme = scheme.parse().expect("a known scheme");
            let (n, k) = (37, 384);
            let inputs = weight(&mut s, scheme, n, k, dtype);
            let w = s.op(Op::Dequantize { scheme, dtype }, &inputs);
            for m in [c(1), rows.clone()] {
                let halves = [0.0, 1e-37].repeat(32).into_iter().chain([-127.0, 0.5, 127.0, 1.5, -0.5, 2.5, 3.0]);
                for (name, fill) in [("small", Fill::Small), ("extremes", Fill::Cycle(halves.collect()))] {
                    let x = s.input(dtype, &[m.clone(), c(k)], fill);
                    let y = s.op(Op::Int8MatMul { group: scheme.group() }, &[x, w]);
                    s.check(format!("{name} [{m}, {k}] x [{n}, {k}] {scheme}"), y, 8.0);
                }
            }
        }
        // Groups that are not the weight's.
        let scheme = Scheme::affine(4, 32).expect("a known scheme");
        let inputs = weight(&mut s, scheme, 37, 384, dtype);
        let w = s.op(Op::Dequantize { scheme, dtype }, &inputs);
        let x = s.input(dtype, &[rows, c(384)], Fill::Small);
        let y = s.op(Op::Int8MatMul { group: 64 }, &[x, w]);
        s.check("other groups than the weight's".to_string(), y, 8.0);
        s.run(&[&[0], &[7], &[135]]);
    }
}

/// Values, whole, of single rows and along other axes.
#[test]
pub(super) fn values_of_every_scheme() {
    for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64] {
        let mut s = Suite::new(&format!("dequantize_{dtype}"));
        let rows = s.symbol("S", 0, 20);
        for scheme in Scheme::all() {
            let inputs = weight(&mut s, scheme, 24, 128, DType::F32);
            let w = s.op(Op::Dequantize { scheme, dtype }, &inputs);
            s.check(format!("values {scheme}"), w, 2.0);
            let at = s.input(DType::I32, std::slice::from_ref(&rows), Fill::Between(-24.0, 24.0));
            let picked = s.op(Op::Gather { axis: 0 }, &[w, at]);
            s.check(format!("rows {scheme}"), picked, 2.0);
            let turned = s.op(Op::Transpose { perm: vec![1, 0] }, &[w]);
            s.check(format!("turned {scheme}"), turned, 2.0);
            let part = Op::Slice { start: sizes(&[1, 3]), stop: sizes(&[20, 120]), step: vec![2, 5] };
            let part = s.op(part, &[w]);
            s.check(format!("slice {scheme}"), part, 2.0);
        }
        s.run(&[&[0], &[1], &[13]]);
    }
}

/// Products that the template does not take: another orientation, a factor made at run time, batches.
#[test]
pub(super) fn other_products() {
    let mut s = Suite::new("quantized_other");
    let scheme = Scheme::affine(4, 32).expect("a known scheme");
    let rows = s.symbol("S", 1, 9);
    let inputs = weight(&mut s, scheme, 32, 64, DType::F32);
    let w = s.op(Op::Dequantize { scheme, dtype: DType::F32 }, &inputs);
    let x = s.input(DType::F32, &[rows.clone(), c(32)], Fill::Small);
    let y = s.op(Op::MatMul { transpose_a: false, transpose_b: false }, &[x, w]);
    s.check("not turned".to_string(), y, 8.0);
    let words = s.input(DType::U32, &[rows.clone(), c(8)], Fill::Wide);
    let scales = s.input(DType::F32, &[rows.clone(), c(2)], Fill::Between(0.01, 0.02));
    let biases = s.input(DType::F32, &[rows.clone(), c(2)], Fill::Between(-0.2, 0.2));
    let made = s.op(Op::Dequantize { scheme, dtype: DType::F32 }, &[words, scales, biases]);
    let z = s.input(DType::F32, &[c(3), c(64)], Fill::Small);
    let y = s.op(PRODUCT, &[z, made]);
    s.check("made at run time".to_string(), y, 8.0);
    s.run(&[&[1], &[9]]);
}

/// Rows through matrices chosen by index, dense and quantised.
#[test]
pub(super) fn gathered_matrices() {
    for dtype in [DType::F32, DType::BF16] {
        let mut s = Suite::new(&format!("gathered_{dtype}"));
        let rows = s.symbol("P", 0, 12);
        for scheme in [None, Scheme::affine(4, 64), Scheme::affine(3, 32), Scheme::affine(8, 64)] {
            let (experts, n, k) = (5, 37, 128);
            let w = match scheme {
                None => s.weight(dtype, &[experts, n, k], Fill::Small),
                Some(scheme) if scheme.bits() == 8 => {
                    let flat = weight(&mut s, scheme, experts * n, k, dtype);
                    let values = s.op(Op::Dequantize { scheme, dtype }, &flat);
                    s.op(Op::Reshape { shape: sizes(&[experts, n, k]) }, &[values])
                }
                Some(scheme) => {
                    let parts = weights(&mut s, scheme, &[experts, n], k, dtype);
                    s.op(Op::Dequantize { scheme, dtype }, &parts)
                }
            };
            for m in [c(1), rows.clone()] {
                // Indices count from the end where they are negative.
                let at = s.input(DType::I32, std::slice::from_ref(&m), Fill::Between(-5.0, 4.0));
                let picked = s.op(Op::Gather { axis: 0 }, &[w, at]);
                let x = s.input(dtype, &[m.clone(), c(1), c(k)], Fill::Small);
                let y = s.op(PRODUCT, &[x, picked]);
                s.check(format!("{m} rows, {scheme:?}"), y, 8.0);
                let z = s.input(dtype, &[m.clone(), c(1), c(n)], Fill::Small);
                let y = s.op(Op::Gated(mlxc_ir::graph::Activation::Silu), &[y, z]);
                let y = s.op(Op::Reshape { shape: vec![m.clone(), c(n)] }, &[y]);
                s.check(format!("{m} rows, {scheme:?}, gated"), y, 16.0);
            }
        }
        s.run(&[&[0], &[1], &[11]]);
    }
}
