//! Mixtral: a Mistral whose feed-forward layers are mixtures of experts.

use crate::models::config::Architecture;
use crate::models::decoder::{Decoder, Defaults, Experts};
use crate::models::reader::Reader;
use mlxc_ir::Diagnostic;

pub fn read(r: &Reader<'_>) -> Result<Architecture, Diagnostic> {
    let defaults = Defaults { kv_heads: Some(8), theta: 1e6, eps: 1e-5, longest: 1 << 17, ..Defaults::default() };
    let mut d = Decoder::read(r, &defaults)?;
    let window = r.int("sliding_window")?;
    let experts = Experts::new(
        r,
        "block_sparse_moe",
        ("num_local_experts", r.int("num_local_experts")?.unwrap_or(8)),
        r.int("num_experts_per_tok")?.unwrap_or(2),
        d.intermediate_size,
        true,
    )?;
    for layer in &mut d.layers {
        layer.window = window.map(|w| w as u32);
        layer.experts = Some(experts);
    }
    Ok(Architecture::Decoder(d))
}
