//! Gemma 2: norms around every layer, capped scores and logits, every other layer slides.

use crate::models::config::Architecture;
use crate::models::decoder::{Decoder, Defaults};
use crate::models::reader::Reader;
use mlxc_ir::Diagnostic;
use mlxc_ir::graph::Activation;

/// What both Gemma families take where a file does not say.
pub fn defaults(longest: i64) -> Defaults {
    Defaults {
        kv_heads: Some(4),
        head_dim: Some(256),
        longest,
        tied: true,
        activation: ("hidden_activation", Activation::GeluApprox),
        ..Defaults::default()
    }
}

/// What both Gemma families share, windows and positions aside.
pub fn shape(r: &Reader<'_>, d: &mut Decoder) -> Result<(), Diagnostic> {
    // Files of the first releases write the exact gelu under this key; the models were trained with the other one.
    r.text("hidden_act")?;
    let bias = r.flag("attention_bias", false)?;
    (d.qkv_bias, d.output_bias) = (bias, bias);
    (d.norm_shifted, d.sandwich) = (true, true);
    d.embedding_scale = (d.hidden_size as f64).sqrt();
    d.scale = r.real("query_pre_attn_scalar")?.unwrap_or(256.0).powf(-0.5);
    Ok(())
}

pub fn read(r: &Reader<'_>) -> Result<Architecture, Diagnostic> {
    let mut d = Decoder::read(r, &defaults(8192))?;
    shape(r, &mut d)?;
    // Null is no cap; a file that does not say means the family's default.
    let cap = |key: &str, default: f64| if r.has(key) { r.real(key) } else { Ok(Some(default)) };
    d.score_cap = cap("attn_logit_softcapping", 50.0)?;
    d.logit_cap = cap("final_logit_softcapping", 30.0)?;
    let window = if r.has("sliding_window") { r.int("sliding_window")? } else { Some(4096) };
    d.slide(r, window, |i| i % 2 == 0)?;
    Ok(Architecture::Decoder(d))
}
