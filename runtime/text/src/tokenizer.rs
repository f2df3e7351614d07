//! Text to tokens and back, by a Hugging Face `tokenizer.json`.

use crate::TextError;

/// A tokenizer.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The decoder puts runs of tokens such as `<0xE4>` together to characters.
    byte_fallback: bool,
}

impl Tokenizer {
    /// Reads the bytes of a `tokenizer.json`. Padding and truncation that it asks for, for batches in training, are left
    /// out: a text is all its tokens and no others.
    ///
    /// # Errors
    /// 0751 if they are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TextError> {
        let refuse = |found: String| TextError::Tokenizer { found };
        let json: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| refuse(e.to_string()))?;
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| refuse(e.to_string()))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| refuse(e.to_string()))?;
        Ok(Tokenizer { inner, byte_fallback: names_byte_fallback(&json["decoder"]) })
    }

    /// Tokens of a text; with `special`, those that the tokenizer puts around it (such as a beginning of text) too.
    /// Special tokens spelled out in the text are recognised either way.
    ///
    /// # Errors
    /// 0752 if the tokenizer refuses the text.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TextError> {
        match self.inner.encode_fast(text, special) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(e) => Err(TextError::Tokens { doing: "encode a text", found: e.to_string() }),
        }
    }

    /// Text of tokens; without `special`, special tokens are left out. Bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// 0752 if the tokenizer refuses the tokens.
    pub fn decode(&self, tokens: &[u32], special: bool) -> Result<String, TextError> {
        self.inner
            .decode(tokens, !special)
            .map_err(|e| TextError::Tokens { doing: "decode tokens", found: e.to_string() })
    }

    /// Decodes tokens as they come.
    pub fn stream(&self, special: bool) -> DecodeStream<'_> {
        DecodeStream { tokenizer: self, special, window: Vec::new(), emitted: 0, prefix: String::new() }
    }

    /// Number of tokens, added ones included.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The number of a token.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// A token as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    fn may_join_later(&self, token: u32) -> bool {
        self.byte_fallback
            && self.token(token).is_some_and(|t| t.len() == 6 && t.starts_with("<0x") && t.ends_with('>'))
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocabulary_size", &self.vocabulary_size()).finish()
    }
}

fn names_byte_fallback(decoder: &serde_json::Value) -> bool {
    decoder["type"] == "ByteFallback"
        || decoder["decoders"].as_array().is_some_and(|all| all.iter().any(names_byte_fallback))
}

/// Decodes tokens as they come: all pieces together are exactly the text of all tokens decoded at once, and none ends
/// within a character.
#[derive(Clone, Debug)]
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    special: bool,
    /// The tokens last emitted, then those held back. It begins where a character does.
    window: Vec<u32>,
    /// How many of the window are emitted.
    emitted: usize,
    /// Their text, which decoders may need as context (SentencePiece drops a space at the very beginning).
    prefix: String,
}

impl DecodeStream<'_> {
    /// Adds a token and gives what is certain by now; empty while a character is incomplete.
    ///
    /// # Errors
    /// 0752 if the tokenizer refuses the token.
    pub fn push(&mut self, token: u32) -> Result<String, TextError> {
        self.window.push(token);
        if self.tokenizer.may_join_later(token) {
            return Ok(String::new());
        }
        let text = self.tokenizer.decode(&self.window, self.special)?;
        if text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        let new = self.beyond_prefix(&text)?;
        if !new.is_empty() {
            // Context is needed for a token that shows; one that does not (a special one) is none.
            self.window.drain(..self.emitted);
            self.emitted = self.window.len();
            self.prefix = self.tokenizer.decode(&self.window, self.special)?;
        }
        Ok(new)
    }

    /// The rest of the text, incomplete characters as U+FFFD; afterwards the stream begins anew.
    ///
    /// # Errors
    /// 0752 if the tokenizer refuses the tokens.
    pub fn finish(&mut self) -> Result<String, TextError> {
        let text = self.tokenizer.decode(&self.window, self.special)?;
        let rest = self.beyond_prefix(&text)?;
        self.window.clear();
        self.prefix.clear();
        self.emitted = 0;
        Ok(rest)
    }

    fn beyond_prefix(&self, text: &str) -> Result<String, TextError> {
        match text.strip_prefix(&self.prefix) {
            Some(new) => Ok(new.to_string()),
            None => Err(TextError::Tokens {
                doing: "decode tokens",
                found: format!("later tokens turn `{}` into `{text}`", self.prefix),
            }),
        }
    }
}
