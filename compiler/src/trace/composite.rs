//! Methods for products, norms and attention.

use super::array::Array;
use super::here;
use super::promote::promote;
use mlxc_ir::graph::{Activation, Op, TensorType, broadcast_shapes};
use mlxc_ir::{DType, Diagnostic, Size};

/// How attention scores its keys.
#[derive(Clone, Copy, Default)]
pub struct Scoring<'a> {
    /// Factor on the scores.
    pub scale: f64,
    /// A query sees keys up to its own position.
    pub causal: bool,
    /// Broadcasts to `[B, H, S, T]`: bool keeps where true, float is added.
    pub mask: Option<&'a Array>,
    /// Query `s` is at position `offset + s`, and keys from `offset + S` on are not read.
    pub offset: Option<&'a Array>,
    /// A query sees this many keys, itself the last; only with `causal`.
    pub window: Option<u32>,
    /// Scores become `cap * tanh(scores / cap)`, before the mask.
    pub softcap: Option<f64>,
}

impl Array {
    /// Matrix product over the last two axes; leading axes broadcast. An operand of one axis is a row on the left and
    /// a column on the right, and that axis leaves the result. MLX's `matmul`.
    #[track_caller]
    pub fn matmul(&self, other: &Array) -> Array {
        let at = here();
        let (Some(a), Some(b)) = (self.ty(), other.ty()) else { return Array::new(&self.inner, None) };
        if a.rank().min(b.rank()) == 1 {
            return self.matmul_vectors(other);
        }
        if a.rank() < 2 || b.rank() < 2 {
            let d = Diagnostic::new(130, "matmul takes arrays of one axis or more").found(format!(
                "{} and {} axes",
                a.rank(),
                b.rank()
            ));
            return self.fail(d, &at);
        }
        let dtype = promote(a.dtype, b.dtype);
        let dtype = if dtype.is_float() { dtype } else { DType::F32 };
        let (x, y) = (self.promoted(dtype, &at), other.promoted(dtype, &at));
        let product = Op::MatMul { transpose_a: false, transpose_b: false };
        if b.rank() == 2 && a.rank() > 2 {
            // Rows of every batch at once: one product with one weight.
            let (lead, k) = (&a.shape[..a.rank() - 1], a.shape[a.rank() - 1].clone());
            let rows = lead.iter().fold(Size::constant(1), |n, d| n * d.clone());
            let flat = x.make(Op::Reshape { shape: vec![rows, k] }, &[&x], &at);
            let y = flat.make(product, &[&flat, &y], &at);
            let mut shape = lead.to_vec();
            shape.push(b.shape[1].clone());
            return y.make(Op::Reshape { shape }, &[&y], &at);
        }
        let batch = broadcast_shapes(&a.shape[..a.rank() - 2], &b.shape[..b.rank() - 2]);
        let Some(batch) = batch else {
            let d = Diagnostic::new(127, "batch axes of a product do not broadcast")
                .found(format!("{:?} and {:?}", a.shape, b.shape));
            return self.fail(d, &at);
        };
        let whole = |t: &TensorType| {
            let mut s = batch.clone();
            s.extend_from_slice(&t.shape[t.rank() - 2..]);
            s
        };
        let (x, y) = (x.stretch(&whole(&a), &at), y.stretch(&whole(&b), &at));
        x.make(product, &[&x, &y], &at)
    }

    /// Softmax over the last axis.
    #[track_caller]
    pub fn softmax(&self) -> Array {
        self.make(Op::Softmax, &[self], &here())
    }

    /// `x * rsqrt(mean(x²) + eps) * weight` over the last axis, in f32.
    #[track_caller]
    pub fn rms_norm(&self, weight: Option<&Array>, eps: f64) -> Array {
        let at = here();
        let weight = weight.map(|w| w.cast_at(self.dtype(), &at));
        let mut inputs = vec![self];
        inputs.extend(weight.as_ref());
        self.make(Op::RmsNorm { eps: eps.into() }, &inputs, &at)
    }

    /// Layer norm over the last axis, in f32.
    #[track_caller]
    pub fn layer_norm(&self, weight: Option<&Array>, bias: Option<&Array>, eps: f64) -> Array {
        let at = here();
        let weight = weight.map(|w| w.cast_at(self.dtype(), &at));
        let bias = bias.map(|w| w.cast_at(self.dtype(), &at));
        let mut inputs = vec![self];
        inputs.extend(weight.as_ref());
        inputs.extend(bias.as_ref());
        self.make(Op::LayerNorm { eps: eps.into() }, &inputs, &at)
    }

    /// Rotary position embedding of `[.., S, D]` at positions `offset + s`, halves rotated (or neighbours, if
    /// `traditional`). `frequencies` replaces `base^(-2i/dims)`.
    #[track_caller]
    pub fn rope(&self, dims: u32, traditional: bool, base: f64, offset: &Array, frequencies: Option<&Array>) -> Array {
        let op = Op::Rope { dims, traditional, base: base.into(), scale: 1.0.into() };
        let mut inputs = vec![self, offset];
        inputs.extend(frequencies);
        self.make(op, &inputs, &here())
    }

    /// Scaled dot-product attention: `self` is q `[B, H, S, D]`, k and v `[B, Hkv, T, D]`.
    #[track_caller]
    pub fn scaled_dot_product_attention(&self, k: &Array, v: &Array, how: &Scoring<'_>) -> Array {
        let op = Op::Sdpa {
            scale: how.scale.into(),
            causal: how.causal,
            mask: how.mask.is_some(),
            offset: how.offset.is_some(),
            window: how.window,
            softcap: how.softcap.map(Into::into),
        };
        let mut inputs = vec![self, k, v];
        inputs.extend(how.mask);
        inputs.extend(how.offset);
        self.make(op, &inputs, &here())
    }

    /// `activation(self)`.
    #[track_caller]
    pub fn activate(&self, activation: Activation) -> Array {
        match activation {
            Activation::Silu => self.silu(),
            Activation::Gelu => self.gelu(),
            Activation::GeluApprox => self.gelu_approx(),
            Activation::Relu => self.relu(),
            Activation::Sigmoid => self.sigmoid(),
        }
    }

    /// `activation(self) * up`.
    #[track_caller]
    pub fn gated(&self, activation: Activation, up: &Array) -> Array {
        self.make(Op::Gated(activation), &[self, up], &here())
    }
}
