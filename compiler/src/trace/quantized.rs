//! Methods for quantised rows.

use super::array::Array;
use super::here;
use mlxc_ir::graph::Op;
use mlxc_ir::{DType, Scheme};

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
}
