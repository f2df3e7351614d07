//! Gemma 3, text: normed queries and keys; layers that slide have a rotary base of their own.

use super::gemma2::{defaults, shape};
use crate::models::config::Architecture;
use crate::models::decoder::Decoder;
use crate::models::reader::Reader;
use crate::models::rope;
use mlxc_ir::Diagnostic;

pub fn read(r: &Reader<'_>) -> Result<Architecture, Diagnostic> {
    let mut d = Decoder::read_sizes(r, &defaults(1 << 17))?;
    shape(r, &mut d)?;
    d.qk_norm = true;
    d.score_cap = r.real("attn_logit_softcapping")?;
    d.logit_cap = r.real("final_logit_softcapping")?;
    let window = if r.has("sliding_window") { r.int("sliding_window")? } else { Some(4096) };
    let (new, old) = (r.int("sliding_window_pattern")?, r.int("_sliding_window_pattern")?);
    let period = new.or(old).unwrap_or(6) as usize;
    d.slide(r, window, |i| (i + 1) % period != 0)?;
    let (head, longest) = (d.head_dim, d.max_position_embeddings);
    let global = r.real("rope_theta")?.unwrap_or(1e6);
    let local = r.real("rope_local_base_freq")?.unwrap_or(1e4);
    let (full, sliding) = match (r.object("rope_parameters")?, r.object("rope_scaling")?) {
        (Some(_), Some(_)) => return Err(r.refuse("rope_scaling", "one of `rope_scaling` and `rope_parameters`")),
        (Some(p), None) => {
            let parts = (p.object("full_attention")?, p.object("sliding_attention")?);
            p.finish()?;
            parts
        }
        // Older files scale the layers that see everything, and only those.
        (None, scaling) => (scaling, None),
    };
    let read = |part: Option<Reader<'_>>, theta: f64| match part {
        Some(p) => rope::object(p, head, theta, None, longest, None),
        None => rope::plain(r, head, theta, None),
    };
    let (full, sliding) = (read(full, global)?, read(sliding, local)?);
    for layer in &mut d.layers {
        layer.rotary = if layer.window.is_some() { sliding.clone() } else { full.clone() };
    }
    Ok(Architecture::Decoder(d))
}
