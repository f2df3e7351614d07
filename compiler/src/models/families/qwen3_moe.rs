//! Qwen 3 with mixtures of experts in all layers or some.

use crate::models::config::Architecture;
use crate::models::decoder::{Decoder, Defaults, Experts};
use crate::models::reader::Reader;
use mlxc_ir::Diagnostic;
use serde_json::Value;

pub fn read(r: &Reader<'_>) -> Result<Architecture, Diagnostic> {
    let mut d = Decoder::read(r, &Defaults { kv_heads: Some(4), longest: 32768, ..Defaults::default() })?;
    let bias = r.flag("attention_bias", false)?;
    (d.qkv_bias, d.output_bias, d.qk_norm) = (bias, bias, true);
    // Here a window is one of all layers, whatever `max_window_layers` says.
    let on = r.flag("use_sliding_window", false)?;
    let size = if r.has("sliding_window") { r.int("sliding_window")? } else { Some(4096) };
    r.get("max_window_layers");
    // Two spellings of one key.
    let (own, other) = (r.int("num_experts")?, r.int("num_local_experts")?);
    let experts = Experts::new(
        r,
        "mlp",
        ("num_experts", own.or(other).unwrap_or(128)),
        r.int("num_experts_per_tok")?.unwrap_or(8),
        r.int("moe_intermediate_size")?.unwrap_or(768),
        r.flag("norm_topk_prob", false)?,
    )?;
    let step = r.int("decoder_sparse_step")?.unwrap_or(1) as usize;
    let wrong = || r.refuse("mlp_only_layers", "a list of layer numbers");
    let dense: Vec<u64> = match r.get("mlp_only_layers") {
        None => Vec::new(),
        Some(v) => {
            let list = v.as_array().ok_or_else(wrong)?;
            list.iter().map(Value::as_u64).collect::<Option<_>>().ok_or_else(wrong)?
        }
    };
    for (i, layer) in d.layers.iter_mut().enumerate() {
        layer.window = size.filter(|_| on).map(|w| w as u32);
        layer.experts = ((i + 1) % step == 0 && !dense.contains(&(i as u64))).then_some(experts);
    }
    Ok(Architecture::Decoder(d))
}
