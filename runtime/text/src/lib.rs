//! What turns tokens into text and back, without a compiler: tokenizer, chat template and sampling.

mod chat;
mod clock;
mod error;
mod generation;
mod random;
mod sampler;
mod tokenizer;

pub use chat::{ChatTemplate, Message, RenderOptions};
pub use error::TextError;
pub use generation::GenerationConfig;
pub use random::Random;
pub use sampler::{Sampler, SamplerOptions};
pub use tokenizer::{DecodeStream, Tokenizer};
