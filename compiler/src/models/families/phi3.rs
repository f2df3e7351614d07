//! Phi 3 and 4: fused projections, positions with a factor for each frequency, partly rotated heads.

use crate::models::config::Architecture;
use crate::models::decoder::{Decoder, Defaults};
use crate::models::reader::Reader;
use mlxc_ir::Diagnostic;

pub fn read(r: &Reader<'_>) -> Result<Architecture, Diagnostic> {
    let mut d = Decoder::read(r, &Defaults { eps: 1e-5, longest: 4096, ..Defaults::default() })?;
    d.fused = true;
    if r.flag("attention_bias", false)? {
        return Err(r.refuse("attention_bias", "false"));
    }
    let window = r.int("sliding_window")?;
    d.layers.iter_mut().for_each(|l| l.window = window.map(|w| w as u32));
    Ok(Architecture::Decoder(d))
}
