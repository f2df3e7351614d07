//! A vision transformer: patches as a convolution, a class token, encoder blocks, a linear head.
//!
//! After Dosovitskiy et al., "An Image is Worth 16x16 Words", 2020.

use mlxc::nn::{LayerNorm, Linear};
use mlxc::trace::Scoring;
use mlxc::{Array, Context, DType};

/// Sizes.
#[derive(Clone, Copy, Debug)]
pub struct ViT {
    /// Side of the square image, in pixels.
    pub image: i64,
    /// Side of a patch, in pixels.
    pub patch: i64,
    /// Width of the residual stream.
    pub width: i64,
    /// Heads of attention.
    pub heads: i64,
    /// Width inside the feed-forward layers.
    pub inner: i64,
    /// Blocks.
    pub layers: usize,
    /// Classes.
    pub classes: i64,
    /// dtype of weights and activations.
    pub dtype: DType,
}

impl ViT {
    /// ViT-B/16 at 224 pixels.
    pub fn base() -> Self {
        ViT { image: 224, patch: 16, width: 768, heads: 12, inner: 3072, layers: 12, classes: 1000, dtype: DType::F32 }
    }

    /// Two small blocks, for tests.
    pub fn tiny() -> Self {
        ViT { image: 32, patch: 8, width: 64, heads: 4, inner: 96, layers: 2, classes: 10, dtype: DType::F32 }
    }

    /// Traces `image` `[1, H, W, 3]` to `logits` `[1, classes]`.
    pub fn trace(&self, cx: &Context) {
        let image = cx.input("image", self.dtype, [1, self.image, self.image, 3]);
        let kernel = cx.weight("patches.weight", self.dtype, [self.width, self.patch, self.patch, 3]);
        let bias = cx.weight("patches.bias", self.dtype, [self.width]);
        let side = self.image / self.patch;
        let step = [self.patch, self.patch];
        let patches = image.conv2d(&kernel, step, [0, 0], [1, 1], 1) + bias;
        let patches = patches.reshape([side * side, self.width]).named("patches");
        let class = cx.weight("class", self.dtype, [1, self.width]);
        let positions = cx.weight("positions", self.dtype, [side * side + 1, self.width]);
        let mut x = Array::concatenate(&[&class, &patches], 0) + positions;
        for layer in 0..self.layers {
            x = self.block(cx, &format!("blocks.{layer}"), &x);
        }
        let class = x.slice(0, 0, 1);
        let normed = LayerNorm::new(cx, "norm", self.width, 1e-6, true, self.dtype).forward(&class);
        cx.output("logits", &Linear::new(cx, "head", self.width, self.classes, true, self.dtype).forward(&normed));
    }

    fn block(&self, cx: &Context, name: &str, x: &Array) -> Array {
        let norm = |part: &str| LayerNorm::new(cx, &format!("{name}.{part}"), self.width, 1e-6, true, self.dtype);
        let linear = |part: &str, from, to| Linear::new(cx, &format!("{name}.{part}"), from, to, true, self.dtype);
        let (w, head) = (self.width, self.width / self.heads);
        let n = norm("norm1").forward(x);
        let heads = |part: &str| {
            let rows = linear(part, w, w).forward(&n);
            rows.reshape((1, x.dim(0), self.heads, head)).transpose([0, 2, 1, 3])
        };
        let (q, k, v) = (heads("query"), heads("key"), heads("value"));
        let scale = 1.0 / (head as f64).sqrt();
        let mixed = q.scaled_dot_product_attention(&k, &v, &Scoring { scale, ..Scoring::default() });
        let mixed = mixed.transpose([0, 2, 1, 3]).reshape((x.dim(0), w));
        let x = x + linear("output", w, w).forward(&mixed);
        let inner = linear("up", w, self.inner).forward(&norm("norm2").forward(&x)).gelu();
        x + linear("down", self.inner, w).forward(&inner)
    }
}
