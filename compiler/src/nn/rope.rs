//! Rotary positions.

use crate::trace::{Array, Context};
use mlxc_ir::DType;

/// Rotary position embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct RoPE {
    /// Rotated features.
    pub dims: u32,
    /// Rotate neighbours instead of halves.
    pub traditional: bool,
    /// Base of the frequencies.
    pub base: f64,
    /// Frequencies that replace those of the base: `dims / 2` of them, in radians a position.
    pub frequencies: Option<Vec<f32>>,
    /// Factor on the rotated features; 1 for most.
    pub magnitude: f64,
}

impl RoPE {
    /// Halves rotated by the frequencies of a base.
    pub fn new(dims: u32, base: f64) -> Self {
        RoPE { dims, traditional: false, base, frequencies: None, magnitude: 1.0 }
    }

    /// Rotates `[.., S, D]` for positions `offset + s`.
    #[track_caller]
    pub fn forward(&self, cx: &Context, x: &Array, offset: &Array) -> Array {
        let frequencies = self.frequencies.as_ref().map(|f| cx.constant(f, &[f.len() as i64]));
        let d = x.dim(-1).as_const().unwrap_or_default();
        let scaled = if self.magnitude == 1.0 {
            x.clone()
        } else if d == i64::from(self.dims) {
            x * self.magnitude
        } else {
            let factors: Vec<f32> =
                (0..d).map(|i| if i < i64::from(self.dims) { self.magnitude as f32 } else { 1.0 }).collect();
            (x.astype(DType::F32) * cx.constant(&factors, &[d])).astype(x.dtype())
        };
        scaled.rope(self.dims, self.traditional, self.base, offset, frequencies.as_ref())
    }
}
