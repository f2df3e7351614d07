//! What turns tokens into text and back, without a compiler: tokenizer, chat template and sampling.

mod chat;
mod clock;
mod error;
mod generation;
mod penalty;
mod random;
mod sampler;
mod stop;
mod tokenizer;

pub use chat::{ChatTemplate, Message, RenderOptions};
pub use error::TextError;
pub use generation::GenerationConfig;
pub use penalty::{Penalties, PenaltyOptions};
pub use random::Random;
pub use sampler::{Sampler, SamplerOptions};
pub use stop::{Piece, StopStrings};
pub use tokenizer::{DecodeStream, Tokenizer};
