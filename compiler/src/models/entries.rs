//! The entries a model is compiled to, and the sizes that are the user's choice.

use super::config::{Architecture, Config};
use crate::error::Errors;
use crate::quantization::Quantization;
use crate::trace::trace_module;
use mlxc_ir::graph::Module;
use mlxc_ir::{DType, Diagnostic};

/// Sizes that are the user's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryOptions {
    /// dtype of weights, activations and state.
    pub dtype: DType,
    /// Tokens of one prefill or score step, at most.
    pub chunk: i64,
    /// Tokens the key-value state holds; of an encoder, tokens of a text, at most.
    pub context: i64,
    /// Keep keys and values in 8-bit codes.
    pub coded_states: bool,
}

impl EntryOptions {
    /// Keys and values in the model's dtype.
    pub fn new(dtype: DType, chunk: i64, context: i64) -> Self {
        EntryOptions { dtype, chunk, context, coded_states: false }
    }
}

/// Traces the entries of a model; `quantization` says which layers have quantised weights.
///
/// Those of a decoder take `tokens i32[S]` and `position i32[]`, the position of the first token. `prefill` and `decode`
/// (`S = 1`) give `logits f32[vocabulary]` of the last token; `score` gives `logits f32[S, vocabulary]`.
///
/// An encoder has one entry, `embed`: it takes `tokens i32[S]` and gives `embedding f32[width]`.
///
/// # Errors
/// `MLXC0913` for a chunk or context of no use, `MLXC0930` for a context past what the model's positions reach, and what
/// tracing says.
pub fn trace_model(config: &Config, options: EntryOptions, quantization: &Quantization) -> Result<Module, Errors> {
    if options.chunk < 1 || options.context < 1 || options.context > 1 << 24 {
        return Err(Diagnostic::new(913, "the context or chunk size is out of range")
            .expected("a chunk of at least 1 and a context of 1 to 2^24 tokens")
            .found(format!("chunk {}, context {}", options.chunk, options.context))
            .into());
    }
    let options = EntryOptions { chunk: options.chunk.min(options.context), ..options };
    let mut outcome = Ok(());
    let module = trace_module(|m| {
        m.quantize(quantization);
        if options.coded_states {
            m.code_states();
        }
        outcome = match &config.architecture {
            Architecture::Decoder(d) => d.trace(m, options),
            Architecture::Encoder(e) => e.trace(m, options),
        };
    });
    outcome?;
    module
}
