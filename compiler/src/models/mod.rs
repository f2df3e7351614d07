//! Model families: from a checkpoint's config.json to a traced module.

mod config;
mod llama;

pub use config::Config;
pub use llama::{EntryOptions, trace_llama};
