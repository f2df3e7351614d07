//! A U-Net that predicts the noise in an image: residual blocks of group norm, SiLU and 3x3 convolutions, told the time step,
//! with attention where the image is small and skips from the way down to the way up.
//!
//! After Ho et al., "Denoising Diffusion Probabilistic Models", 2020, and Ronneberger et al., "U-Net", 2015.

use mlxc::nn::Linear;
use mlxc::trace::Scoring;
use mlxc::{Array, Context, DType};

/// Sizes.
#[derive(Clone, Debug)]
pub struct UNet {
    /// Side of the square image, in pixels.
    pub image: i64,
    /// Channels of the image.
    pub channels: i64,
    /// Channels of each level; every level halves the image.
    pub widths: Vec<i64>,
    /// Residual blocks of a level.
    pub blocks: usize,
    /// Groups of a norm.
    pub groups: i64,
    /// Side at which attention is used.
    pub attention_at: i64,
    /// dtype of weights and activations.
    pub dtype: DType,
}

impl UNet {
    /// A latent of 64x64x4, channels 128 to 512.
    pub fn base() -> Self {
        let widths = vec![128, 256, 512];
        UNet { image: 64, channels: 4, widths, blocks: 2, groups: 32, attention_at: 16, dtype: DType::F32 }
    }

    /// Two small levels, for tests.
    pub fn tiny() -> Self {
        UNet { image: 8, channels: 3, widths: vec![16, 32], blocks: 1, groups: 4, attention_at: 4, dtype: DType::F32 }
    }

    /// Traces `image` `[1, H, W, C]` and `time` `[1]` to `noise` `[1, H, W, C]`.
    pub fn trace(&self, cx: &Context) {
        let image = cx.input("image", self.dtype, [1, self.image, self.image, self.channels]);
        let time = cx.input("time", self.dtype, [1]);
        let first = self.widths[0];
        let told = self.told(cx, &time, first);
        let mut x = self.convolution(cx, "in", &image, self.channels, first);
        let mut skips = vec![(x.clone(), first)];
        let mut width = first;
        for (level, to) in self.widths.iter().copied().enumerate() {
            for block in 0..self.blocks {
                x = self.level(cx, &format!("down.{level}.{block}"), &x, &told, width, to, self.image >> level);
                width = to;
                skips.push((x.clone(), width));
            }
            if level + 1 < self.widths.len() {
                let kernel = cx.weight(&format!("down.{level}.halve.weight"), self.dtype, [width, 3, 3, width]);
                x = x.conv2d(&kernel, [2, 2], [1, 1], [1, 1], 1);
                skips.push((x.clone(), width));
            }
        }
        let side = self.image >> (self.widths.len() - 1);
        x = self.level(cx, "middle", &x, &told, width, width, side);
        for (level, to) in self.widths.iter().copied().enumerate().rev() {
            for block in 0..=self.blocks {
                let (skip, more) = skips.pop().expect("a skip for every block");
                let joined = Array::concatenate(&[&x, &skip], -1);
                let name = format!("up.{level}.{block}");
                x = self.level(cx, &name, &joined, &told, width + more, to, self.image >> level);
                width = to;
            }
            if level > 0 {
                let doubled = x.repeat(2, 1).repeat(2, 2);
                x = self.convolution(cx, &format!("up.{level}.double"), &doubled, width, width);
            }
        }
        let x = self.norm(cx, "out.norm", &x, width).silu();
        cx.output("noise", &self.convolution(cx, "out", &x, width, self.channels));
    }

    /// The time step as a vector: sines and cosines, then two layers.
    fn told(&self, cx: &Context, time: &Array, width: i64) -> Array {
        let half = width / 2;
        let rates = (cx.arange(half, DType::F32) * (-(10000f64.ln()) / half as f64)).exp().astype(self.dtype);
        let angles = time.reshape([1, 1]) * rates;
        let waves = Array::concatenate(&[&angles.cos(), &angles.sin()], -1);
        let wide = 4 * width;
        let hidden = Linear::new(cx, "time.1", width, wide, true, self.dtype).forward(&waves).silu();
        Linear::new(cx, "time.2", wide, wide, true, self.dtype).forward(&hidden).silu().named("told")
    }

    fn level(&self, cx: &Context, name: &str, x: &Array, told: &Array, from: i64, to: i64, side: i64) -> Array {
        let x = self.residual(cx, name, x, told, from, to);
        if side == self.attention_at { self.attention(cx, &format!("{name}.attention"), &x, to, side) } else { x }
    }

    fn residual(&self, cx: &Context, name: &str, x: &Array, told: &Array, from: i64, to: i64) -> Array {
        let at = |part: &str| format!("{name}.{part}");
        let h = self.norm(cx, &at("norm1"), x, from).silu();
        let h = self.convolution(cx, &at("conv1"), &h, from, to);
        let shift = Linear::new(cx, &at("time"), 4 * self.widths[0], to, true, self.dtype).forward(told);
        let h = self.norm(cx, &at("norm2"), &(h + shift.reshape([1, 1, 1, to])), to).silu();
        let h = self.convolution(cx, &at("conv2"), &h, to, to);
        if from == to {
            return x + h;
        }
        let kernel = cx.weight(&at("skip.weight"), self.dtype, [to, 1, 1, from]);
        x.conv2d(&kernel, [1, 1], [0, 0], [1, 1], 1) + h
    }

    fn attention(&self, cx: &Context, name: &str, x: &Array, width: i64, side: i64) -> Array {
        let tokens = side * side;
        let linear = |part: &str| Linear::new(cx, &format!("{name}.{part}"), width, width, true, self.dtype);
        let rows = self.norm(cx, &format!("{name}.norm"), x, width).reshape([tokens, width]);
        let head = |part: &str| linear(part).forward(&rows).reshape([1, 1, tokens, width]);
        let (q, k, v) = (head("query"), head("key"), head("value"));
        let scale = 1.0 / (width as f64).sqrt();
        let mixed = q.scaled_dot_product_attention(&k, &v, &Scoring { scale, ..Scoring::default() });
        let out = linear("output").forward(&mixed.reshape([tokens, width]));
        x + out.reshape([1, side, side, width])
    }

    fn convolution(&self, cx: &Context, name: &str, x: &Array, from: i64, to: i64) -> Array {
        let kernel = cx.weight(&format!("{name}.weight"), self.dtype, [to, 3, 3, from]);
        let bias = cx.weight(&format!("{name}.bias"), self.dtype, [to]);
        x.conv2d(&kernel, [1, 1], [1, 1], [1, 1], 1) + bias
    }

    /// Group norm: mean and variance over the pixels and channels of each group.
    fn norm(&self, cx: &Context, name: &str, x: &Array, width: i64) -> Array {
        let shape = x.shape();
        let pixels = &shape[1] * &shape[2];
        let groups = x.reshape((pixels, self.groups, width / self.groups));
        let centred = &groups - groups.mean([0, 2], true);
        let normed = &centred * (centred.square().mean([0, 2], true) + 1e-5).rsqrt();
        let normed = normed.reshape(shape);
        let scale = cx.weight(&format!("{name}.weight"), self.dtype, [width]);
        let shift = cx.weight(&format!("{name}.bias"), self.dtype, [width]);
        normed * scale + shift
    }
}
