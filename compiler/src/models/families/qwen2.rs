//! Qwen 2 and 2.5: bias on q, k and v; upper layers may slide.

use crate::models::config::Architecture;
use crate::models::decoder::{Decoder, Defaults};
use crate::models::reader::Reader;
use mlxc_ir::Diagnostic;

pub fn read(r: &Reader<'_>) -> Result<Architecture, Diagnostic> {
    let mut d = Decoder::read(r, &Defaults { longest: 32768, ..Defaults::default() })?;
    d.qkv_bias = true;
    windows(r, &mut d)?;
    Ok(Architecture::Decoder(d))
}

/// Windows of both Qwen families: of layers from `max_window_layers` on, if they are switched on.
pub fn windows(r: &Reader<'_>, d: &mut Decoder) -> Result<(), Diagnostic> {
    let on = r.flag("use_sliding_window", false)?;
    let size = if r.has("sliding_window") { r.int("sliding_window")? } else { Some(4096) };
    let first = match r.get("max_window_layers") {
        None => 28,
        Some(v) => v.as_u64().ok_or_else(|| r.refuse("max_window_layers", "a whole number"))?,
    };
    let window = size.filter(|_| on);
    d.slide(r, window, |i| window.is_some() && i as u64 >= first)
}
