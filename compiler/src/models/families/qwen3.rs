//! Qwen 3: queries and keys are normed head by head.

use super::qwen2::windows;
use crate::models::config::Architecture;
use crate::models::decoder::{Decoder, Defaults};
use crate::models::reader::Reader;
use mlxc_ir::Diagnostic;

pub fn read(r: &Reader<'_>) -> Result<Architecture, Diagnostic> {
    let mut d = Decoder::read(r, &Defaults { head_dim: Some(128), longest: 32768, ..Defaults::default() })?;
    let bias = r.flag("attention_bias", false)?;
    (d.qkv_bias, d.output_bias, d.qk_norm) = (bias, bias, true);
    windows(r, &mut d)?;
    Ok(Architecture::Decoder(d))
}
