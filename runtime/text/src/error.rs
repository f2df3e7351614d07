//! What can go wrong between tokens and text.

/// Why text could not be encoded, decoded, rendered or sampled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A tokenizer file is no tokenizer this crate knows.
    #[error("tokenizer.json: expected a tokenizer, found {found}")]
    Tokenizer {
        /// What was wrong with it.
        found: String,
    },
    /// The tokenizer refused a text or tokens.
    #[error("the tokenizer cannot {doing}: {found}")]
    Tokens {
        /// `encode a text` or `decode tokens`.
        doing: &'static str,
        /// Its reason.
        found: String,
    },
    /// A configuration file is malformed.
    #[error("{file}: expected {expected}, found {found}")]
    Config {
        /// The file.
        file: &'static str,
        /// What it should hold.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// A chat template does not parse.
    #[error("the chat template does not parse: {found}")]
    Template {
        /// What and where.
        found: String,
    },
    /// A chat template failed, or refused the messages by `raise_exception`.
    #[error("the chat template refused the messages: {found}")]
    Render {
        /// Its reason.
        found: String,
    },
    /// A sampling option is out of range.
    #[error("sampling option `{option}`: expected {expected}, found {found}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its range.
        expected: &'static str,
        /// What was given.
        found: String,
    },
    /// Logits from which no token can be chosen.
    #[error("expected logits with a finite largest value, found {found}")]
    Logits {
        /// What they are.
        found: String,
    },
    /// A token that is not in the vocabulary.
    #[error("expected a token below {vocabulary}, found {token}")]
    UnknownToken {
        /// The token.
        token: u32,
        /// Tokens of the vocabulary.
        vocabulary: usize,
    },
}

impl TextError {
    /// The stable id, as in `MLXC0751`.
    pub fn id(&self) -> &'static str {
        match self {
            TextError::Tokenizer { .. } => "MLXC0751",
            TextError::Tokens { .. } => "MLXC0752",
            TextError::Config { .. } => "MLXC0753",
            TextError::Template { .. } => "MLXC0754",
            TextError::Render { .. } => "MLXC0755",
            TextError::Option { .. } => "MLXC0756",
            TextError::Logits { .. } => "MLXC0757",
            TextError::UnknownToken { .. } => "MLXC0758",
        }
    }
}
