//! Model families: from a checkpoint's config.json to a traced module.

mod config;
mod decoder;
mod encoder;
mod entries;
mod families;
mod reader;
mod rope;

pub(crate) use config::object;
pub use config::{Architecture, Config};
pub use decoder::{Decoder, DecoderLayer, Experts};
pub use encoder::{Encoder, Pooling};
pub use entries::{EntryOptions, trace_model};
pub use reader::{Unread, is_inert};
pub use rope::{Rotary, Scaling};
