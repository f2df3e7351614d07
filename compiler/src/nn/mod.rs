//! Layers, named and parameterised as Hugging Face checkpoints name them.
//!
//! A layer is a handful of handles: making one declares its weights under a prefix, calling it traces its arithmetic.

mod attention;
mod cache;
mod joined;
mod linear;
mod mlp;
mod moe;
mod norm;
mod rope;

pub use attention::{Attention, AttentionConfig};
pub use linear::{Embedding, Linear, SwitchLinear};
pub use mlp::{MLP, MLPConfig};
pub use moe::{SparseMoe, SparseMoeConfig};
pub use norm::{LayerNorm, RMSNorm};
pub use rope::RoPE;

use crate::trace::{Array, Dim};

/// The last part of a layer's name, which names its values in reports.
fn last(prefix: &str) -> String {
    prefix.rsplit('.').next().unwrap_or(prefix).to_string()
}

/// The last row of `[S, width]`, as `[1, width]`.
#[track_caller]
pub fn last_row(x: &Array) -> Array {
    let s: Dim = x.dim(0);
    x.slice(0, &s - 1, &s)
}
