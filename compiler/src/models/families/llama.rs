//! Llama 1 to 3, and what was trained in its shape.

use crate::models::config::Architecture;
use crate::models::decoder::{Decoder, Defaults};
use crate::models::reader::Reader;
use mlxc_ir::Diagnostic;

pub fn read(r: &Reader<'_>) -> Result<Architecture, Diagnostic> {
    let mut d = Decoder::read(r, &Defaults::default())?;
    let bias = r.flag("attention_bias", false)?;
    (d.qkv_bias, d.output_bias, d.mlp_bias) = (bias, bias, r.flag("mlp_bias", false)?);
    Ok(Architecture::Decoder(d))
}
