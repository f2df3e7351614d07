//! Mistral: a Llama whose layers may all slide.

use crate::models::config::Architecture;
use crate::models::decoder::{Decoder, Defaults};
use crate::models::reader::Reader;
use mlxc_ir::Diagnostic;

pub fn read(r: &Reader<'_>) -> Result<Architecture, Diagnostic> {
    let mut d = Decoder::read(r, &Defaults { kv_heads: Some(8), longest: 1 << 17, ..Defaults::default() })?;
    // Null is no window; a file that does not say means the family's default.
    let window = if r.has("sliding_window") { r.int("sliding_window")? } else { Some(4096) };
    d.layers.iter_mut().for_each(|l| l.window = window.map(|w| w as u32));
    Ok(Architecture::Decoder(d))
}
