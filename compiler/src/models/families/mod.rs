//! One file a family: its keys, its defaults, and what differs from a plain decoder.

pub(super) mod bert;
pub(super) mod gemma2;
pub(super) mod gemma3;
pub(super) mod llama;
pub(super) mod mistral;
pub(super) mod mixtral;
pub(super) mod phi3;
pub(super) mod qwen2;
pub(super) mod qwen3;
pub(super) mod qwen3_moe;
