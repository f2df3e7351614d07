//! Linear layers and embeddings: the layers whose weights are matrices.

use super::last;
use crate::trace::{Array, Context, Dim};
use mlxc_ir::DType;

/// `x @ weight.T + bias`; weight is `[outputs, inputs]`.
#[derive(Clone)]
pub struct Linear {
    /// `[outputs, inputs]`.
    pub weight: Array,
    /// `[outputs]`.
    pub bias: Option<Array>,
    name: String,
}

impl Linear {
    /// Declares `prefix.weight` and, if wanted, `prefix.bias`.
    #[track_caller]
    pub fn new(cx: &Context, prefix: &str, inputs: i64, outputs: i64, bias: bool, dtype: DType) -> Self {
        let weight = cx.weight(&format!("{prefix}.weight"), dtype, [outputs, inputs]);
        let bias = bias.then(|| cx.weight(&format!("{prefix}.bias"), dtype, [outputs]));
        Linear { weight, bias, name: last(prefix) }
    }

    /// `[.., inputs]` to `[.., outputs]`.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        let y = x.matmul(&self.weight.t()).named(&self.name);
        match &self.bias {
            Some(b) => y + b,
            None => y,
        }
    }
}

/// Rows of a table by token id.
#[derive(Clone)]
pub struct Embedding {
    /// `[vocabulary, width]`.
    pub weight: Array,
}

impl Embedding {
    /// Declares `prefix.weight`.
    #[track_caller]
    pub fn new(cx: &Context, prefix: &str, vocabulary: i64, width: i64, dtype: DType) -> Self {
        Embedding { weight: cx.weight(&format!("{prefix}.weight"), dtype, [vocabulary, width]) }
    }

    /// Integer ids `[..]` to `[.., width]`.
    #[track_caller]
    pub fn forward(&self, ids: &Array) -> Array {
        self.weight.take(ids, 0).named("embedding")
    }

    /// The first `n` rows, `[n, width]`.
    #[track_caller]
    pub fn rows(&self, n: &Dim) -> Array {
        self.weight.slice(0, 0, n).named("embedding")
    }

    /// `[.., width]` to `[.., vocabulary]`: the tied output head.
    #[track_caller]
    pub fn as_linear(&self, x: &Array) -> Array {
        x.matmul(&self.weight.t()).named("head")
    }
}
