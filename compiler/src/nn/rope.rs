//! Rotary positions.

use crate::trace::{Array, Context};

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
}

impl RoPE {
    /// Rotates `[.., S, D]` for positions `offset + s`.
    #[track_caller]
    pub fn forward(&self, cx: &Context, x: &Array, offset: &Array) -> Array {
        let frequencies = self.frequencies.as_ref().map(|f| cx.constant(f, &[f.len() as i64]));
        x.rope(self.dims, self.traditional, self.base, offset, frequencies.as_ref())
    }
}
