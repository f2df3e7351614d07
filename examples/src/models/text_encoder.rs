//! An encoder of texts of MiniLM's shape: embeddings, post-norm blocks, the mean of all tokens as a vector of length one.
//!
//! After Wang et al., "MiniLM", 2020, and Reimers and Gurevych, "Sentence-BERT", 2019.

use mlxc::nn::{Embedding, LayerNorm, Linear};
use mlxc::trace::Scoring;
use mlxc::{Array, Context, DType};

/// Sizes.
#[derive(Clone, Copy, Debug)]
pub struct TextEncoder {
    /// Tokens of the vocabulary.
    pub vocabulary: i64,
    /// Most tokens of a text.
    pub tokens: i64,
    /// Width of the residual stream.
    pub width: i64,
    /// Heads of attention.
    pub heads: i64,
    /// Width inside the feed-forward layers.
    pub inner: i64,
    /// Blocks.
    pub layers: usize,
    /// dtype of weights and activations.
    pub dtype: DType,
}

impl TextEncoder {
    /// MiniLM-L6: 6 blocks of 384.
    pub fn mini_lm() -> Self {
        let dtype = DType::F32;
        TextEncoder { vocabulary: 30522, tokens: 512, width: 384, heads: 12, inner: 1536, layers: 6, dtype }
    }

    /// Two small blocks, for tests.
    pub fn tiny() -> Self {
        let dtype = DType::F32;
        TextEncoder { vocabulary: 50, tokens: 16, width: 64, heads: 4, inner: 96, layers: 2, dtype }
    }

    /// Traces `tokens` `[S]` to `vector` `[width]`.
    pub fn trace(&self, cx: &Context) {
        let s = cx.dim("S", 1..=self.tokens);
        let ids = cx.input("tokens", DType::I32, [&s]);
        let words = Embedding::new(cx, "words", self.vocabulary, self.width, self.dtype);
        let places = Embedding::new(cx, "positions", self.tokens, self.width, self.dtype);
        let norm = |name: &str| LayerNorm::new(cx, name, self.width, 1e-12, true, self.dtype);
        let mut x = norm("norm").forward(&(words.forward(&ids) + places.rows(&s)));
        for layer in 0..self.layers {
            x = self.block(cx, &format!("blocks.{layer}"), &x);
        }
        let mean = x.mean(0, false);
        let length = mean.square().sum(-1, true).sqrt().maximum(1e-12);
        cx.output("vector", &(&mean / &length));
    }

    fn block(&self, cx: &Context, name: &str, x: &Array) -> Array {
        let norm = |part: &str| LayerNorm::new(cx, &format!("{name}.{part}"), self.width, 1e-12, true, self.dtype);
        let linear = |part: &str, from, to| Linear::new(cx, &format!("{name}.{part}"), from, to, true, self.dtype);
        let (w, head) = (self.width, self.width / self.heads);
        let heads = |part: &str| {
            let rows = linear(part, w, w).forward(x);
            rows.reshape((1, x.dim(0), self.heads, head)).transpose([0, 2, 1, 3])
        };
        let (q, k, v) = (heads("query"), heads("key"), heads("value"));
        let scale = 1.0 / (head as f64).sqrt();
        let mixed = q.scaled_dot_product_attention(&k, &v, &Scoring { scale, ..Scoring::default() });
        let mixed = mixed.transpose([0, 2, 1, 3]).reshape((x.dim(0), w));
        let x = norm("norm1").forward(&(x + linear("output", w, w).forward(&mixed)));
        let inner = linear("up", w, self.inner).forward(&x).gelu();
        norm("norm2").forward(&(&x + linear("down", self.inner, w).forward(&inner)))
    }
}
