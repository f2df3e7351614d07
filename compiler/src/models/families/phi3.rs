//! Phi 3 and 4: fused projections, positions with a factor for each frequency, partly rotated heads.

use crate::models::config::Architecture;
use crate::models::decoder::{Decoder, Defaults};
use crate::models::reader::Reader;
use mlxc_ir::Diagnostic;

pub fn read(r: &Reader<'_>) -> Result<Architecture, Diagnostic> {
    let mut d = Decoder::read(r, &Defaults { eps: 1e-5, longest: 4096, ..Defaults::default() })?;
    d.fused = true;
    // Switches of the published code that its weights leave off.
    for key in ["attention_bias", "mlp_bias", "lm_head_bias"] {
        if r.flag(key, false)? {
            return Err(r.refuse(key, "false"));
        }
    }
    for key in ["full_attn_mod", "interpolate_factor"] {
        if r.int(key)?.is_some_and(|n| n != 1) {
            return Err(r.refuse(key, "1"));
        }
    }
    let window = r.int("sliding_window")?;
    d.layers.iter_mut().for_each(|l| l.window = window.map(|w| w as u32));
    Ok(Architecture::Decoder(d))
}
