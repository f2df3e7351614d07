//! BERT and its descendants (MiniLM, BGE, E5): encoders of a text.

use crate::models::config::Architecture;
use crate::models::encoder::{Encoder, Pooling};
use crate::models::reader::Reader;
use mlxc_ir::Diagnostic;
use mlxc_ir::graph::Activation;
use serde_json::Value;

pub fn read(r: &Reader<'_>) -> Result<Architecture, Diagnostic> {
    let hidden_size = r.need("hidden_size")?;
    let heads = r.need("num_attention_heads")?;
    if hidden_size % heads != 0 {
        return Err(r.refuse("num_attention_heads", &format!("a divisor of {hidden_size}")));
    }
    if r.text("position_embedding_type")?.is_some_and(|t| t != "absolute") {
        return Err(r.refuse("position_embedding_type", "absolute"));
    }
    // Heads for tasks hold the encoder under a name; the encoder alone has none.
    let tasks = r.get("architectures").and_then(|a| a.get(0)).and_then(Value::as_str);
    let prefix = if tasks.is_none_or(|t| t == "BertModel") { "" } else { "bert." };
    // Of the head for masked words, which an embedding does not need.
    r.flag("tie_word_embeddings", true)?;
    // For tools that split a layer's work.
    r.get("chunk_size_feed_forward");
    Ok(Architecture::Encoder(Encoder {
        prefix: prefix.into(),
        hidden_size,
        intermediate_size: r.need("intermediate_size")?,
        layers: r.layers()?,
        heads,
        vocab_size: r.need("vocab_size")?,
        type_vocab_size: r.int("type_vocab_size")?.unwrap_or(2),
        max_position_embeddings: r.int("max_position_embeddings")?.unwrap_or(512),
        layer_norm_eps: r.real("layer_norm_eps")?.unwrap_or(1e-12),
        activation: r.activation("hidden_act", Activation::Gelu)?,
        pooling: Pooling::Mean,
        normalize: true,
    }))
}
