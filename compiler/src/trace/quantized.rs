//! Methods for quantised rows.

use super::array::{Array, Operand};
use super::here;
use super::shape::Dim;
use mlxc_ir::graph::{Dense, Op};
use mlxc_ir::{DType, Diagnostic, Scheme};
use std::sync::Arc;

/// A matrix of quantised rows: what MLX's `quantize` gives.
#[derive(Clone)]
pub struct Quantized {
    /// Codes, u32 `[.., K * bits / 32]`.
    pub words: Array,
    /// Scales `[.., K / group]`: floats for affine schemes, else u8.
    pub scales: Array,
    /// Biases, as the scales; only of affine schemes.
    pub biases: Option<Array>,
    /// How rows are quantised.
    pub scheme: Scheme,
}

impl Quantized {
    /// The values `[.., K]`, of a float dtype: MLX's `dequantize`. Affine: `scale * code + bias`.
    #[track_caller]
    pub fn dequantize(&self, dtype: DType) -> Array {
        let mut inputs = vec![&self.words, &self.scales];
        inputs.extend(&self.biases);
        self.words.make(Op::Dequantize { scheme: self.scheme, dtype }, &inputs, &here())
    }

    /// Rows (or matrices) by index along the first axis.
    #[track_caller]
    pub fn take(&self, indices: &Array) -> Quantized {
        Quantized {
            words: self.words.take(indices, 0),
            scales: self.scales.take(indices, 0),
            biases: self.biases.as_ref().map(|b| b.take(indices, 0)),
            scheme: self.scheme,
        }
    }
}

impl Array {
    /// `self @ w.T` with quantised rows `w [.., N, K]` (or `self @ w` with `w [.., K, N]` where not `transpose`): MLX's
    /// `quantized_matmul`. Activations are exact; the result has this array's dtype.
    #[track_caller]
    pub fn quantized_matmul(&self, w: &Quantized, transpose: bool) -> Array {
        let values = w.dequantize(self.dtype());
        self.matmul(&if transpose { values.swapaxes(-1, -2) } else { values })
    }

    /// Rows `[P, K]`, row `p` times the matrix `w[experts[p]]` of `w [E, K, N]`, to `[P, N]`: MLX's `gather_mm` with its
    /// right-hand indices (and its `gather_qmm`, where the matrices are dequantised).
    #[track_caller]
    pub fn gather_mm(&self, w: &Array, experts: &Array) -> Array {
        let rows = self.expand_dims(-2);
        rows.matmul(&w.take(experts, 0)).squeeze(-2)
    }

    /// Quantises rows of whole groups along the last axis, with the arithmetic of MLX's `quantize`. Values are computed in
    /// f32; scales and biases have this array's dtype.
    ///
    /// Reports `MLXC0140` for rows that are no whole number of groups and for the small-float schemes, whose weights are
    /// quantised when a package is made.
    #[track_caller]
    pub fn quantize(&self, scheme: Scheme) -> Quantized {
        let at = here();
        let group = i64::from(scheme.group());
        let k = self.dim(-1).as_const();
        let Some(k) = k.filter(|k| scheme.has_biases() && self.ndim() > 0 && k % group == 0) else {
            let d = Diagnostic::new(140, "the array cannot be quantised at run time")
                .expected("an affine scheme, and a last axis of whole groups")
                .found(format!("{scheme} and {} elements", k.map_or("symbolic".into(), |k| k.to_string())));
            let none = self.fail(d, &at);
            return Quantized { words: none.clone(), scales: none.clone(), biases: None, scheme };
        };
        let mut lead = self.shape();
        lead.pop();
        let with =
            |tail: &[i64]| -> Vec<Dim> { lead.iter().cloned().chain(tail.iter().map(|n| Dim::from(*n))).collect() };
        let x = self.astype(DType::F32).reshape(with(&[k / group, group]));
        let (lo, hi) = (x.min(-1, true), x.max(-1, true));
        let most = f64::from((1u32 << scheme.bits()) - 1);
        let low_edge = lo.abs().greater(hi.abs());
        let step = ((&hi - &lo) / most).maximum(1e-7f32 as f64);
        let scale = low_edge.choose(&step, step.negative());
        let edge = low_edge.choose(&lo, &hi);
        let ratio = (&edge / &scale).round();
        let flat = ratio.equal(0.0);
        // Where the edge rounds to code 0 its quotient is not used: divide by something else than 0.
        let scale = flat.choose(&scale, &(&edge / flat.choose(&scale, &ratio)));
        let bias = flat.choose(&edge * 0.0, &edge);
        let codes = ((&x - &bias) / &scale).round().maximum(0.0).minimum(most).astype(DType::U32);
        let per_group = |a: &Array| a.squeeze(-1).astype(self.dtype());
        let words = codes.pack(scheme, &with);
        Quantized { words, scales: per_group(&scale), biases: Some(per_group(&bias)), scheme }
    }

    /// Codes as one little-endian stream of bits a row.
    #[track_caller]
    fn pack(&self, scheme: Scheme, with: &dyn Fn(&[i64]) -> Vec<Dim>) -> Array {
        let (codes, words) = scheme.block();
        let bits = i64::from(scheme.bits());
        let groups = self.dim(-2).as_const().unwrap_or(0);
        let blocks = groups * i64::from(scheme.group()) / i64::from(codes);
        // Code i of a block reaches word j by a shift to the left or, where it began in the word before, to the right. Shifts
        // by 32 and more give 0.
        let shift = |right: bool| {
            let amounts = (0..i64::from(words)).flat_map(|j| {
                (0..i64::from(codes)).map(move |i| {
                    let to = if right { 32 * j - i * bits } else { i * bits - 32 * j };
                    if to < i64::from(right) || to >= 32 { 32 } else { to as u32 }
                })
            });
            let bytes = amounts.flat_map(u32::to_le_bytes).collect();
            let dense = Dense { dtype: DType::U32, shape: vec![words.into(), codes.into()], bytes };
            self.make(Op::Constant(Arc::new(dense)), &[], &here())
        };
        let spread = self.reshape(with(&[blocks, 1, codes.into()]));
        let left = spread.left_shift(Operand::from(shift(false)));
        let right = spread.right_shift(Operand::from(shift(true)));
        left.bitwise_or(right).sum(-1, false).reshape(with(&[blocks * i64::from(words)]))
    }
}
