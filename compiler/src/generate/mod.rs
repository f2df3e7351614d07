//! Writing and scoring text with a package: prefill in chunks, decode token by token.
//!
//! The key-value state of a [`TextModel`] outlives a request: what a prompt shares with the tokens processed last is not
//! processed again, so that a conversation costs only what is new in it.

mod cache;
mod score;
mod speculative;
mod write;

pub use score::Scored;
pub use speculative::Draft;
pub use write::{Prompt, Request, Written};

use crate::error::Errors;
use crate::executable::runtime_error;
use mlxc_ir::Diagnostic;
use mlxc_package::Package;
use mlxc_runtime::{EntryId, LoadOptions, Model, Session, Tensor, TensorView};
use mlxc_text::{ChatTemplate, GenerationConfig, RenderOptions, TextError, Tokenizer};
use std::sync::Arc;
use std::time::Instant;

/// A text model, loaded.
pub struct TextModel {
    session: Session,
    tokenizer: Tokenizer,
    prefill: EntryId,
    decode: EntryId,
    score: EntryId,
    chunk: usize,
    context: usize,
    package: Arc<Package>,
    load_seconds: f64,
    /// Tokens whose keys and values the state holds, from position 0 on.
    history: Vec<u32>,
    draft: Option<Draft>,
}

impl TextModel {
    /// Loads a package that has the entries and members of a text model.
    ///
    /// # Errors
    /// `MLXC0916` if it is no text model, or what the runtime and the tokenizer say.
    pub fn load(package: Arc<Package>, options: &LoadOptions) -> Result<Self, Errors> {
        let start = Instant::now();
        let no_text = |what: &str| {
            Diagnostic::new(916, "the package holds no text model").expected(what.to_string()).found("none")
        };
        let tokenizer =
            package.member("text/tokenizer.json").map_err(|_| no_text("a tokenizer.json beside the weights"))?;
        let tokenizer = Tokenizer::from_bytes(tokenizer).map_err(text_error)?;
        let model = Model::load(package.clone(), options).map_err(runtime_error)?;
        let session = model.session().map_err(runtime_error)?;
        let entry = |name: &str| session.entry(name).map_err(|_| no_text(&format!("an entry `{name}`")));
        let (prefill, decode, score) = (entry("prefill")?, entry("decode")?, entry("score")?);
        let plan = session.model().plan();
        let symbol = |name: &str| {
            let e = plan.entries.iter().find(|e| e.name == "prefill")?;
            e.symbols.iter().find(|s| s.name == name).map(|s| s.range.hi)
        };
        let chunk = symbol("S").ok_or_else(|| no_text("a size `S` of prefill"))? as usize;
        let context = symbol("position").ok_or_else(|| no_text("a scalar `position` of prefill"))? as usize + 1;
        let load_seconds = start.elapsed().as_secs_f64();
        Ok(TextModel {
            session,
            tokenizer,
            prefill,
            decode,
            score,
            chunk,
            context,
            package,
            load_seconds,
            history: Vec::new(),
            draft: None,
        })
    }

    /// Tokens the key-value state holds.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Ids of a text, with the special tokens the tokenizer adds.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Errors> {
        Ok(self.tokenizer.encode(text, true).map_err(text_error)?)
    }

    /// Ids of a prompt.
    fn tokens_of(&self, prompt: &Prompt) -> Result<Vec<u32>, Errors> {
        match prompt {
            Prompt::Text(text) => self.encode(text),
            Prompt::Tokens(tokens) => Ok(tokens.clone()),
            Prompt::Messages(messages) => {
                let template = self.template()?.ok_or_else(|| {
                    Diagnostic::new(917, "the model has no chat template")
                        .note("give the prompt as text to continue it")
                })?;
                let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
                let text = template.render(messages, &options).map_err(text_error)?;
                // The template writes the special tokens itself.
                Ok(self.tokenizer.encode(&text, false).map_err(text_error)?)
            }
        }
    }

    /// The model's chat template, if it has one.
    ///
    /// # Errors
    /// A template or a tokenizer configuration that is malformed.
    pub fn template(&self) -> Result<Option<ChatTemplate>, Errors> {
        let member = |name: &str| self.package.member(name).ok();
        let config = member("text/tokenizer_config.json");
        let template = match member("text/chat_template.jinja") {
            Some(source) => {
                let (bos, eos) = match config {
                    Some(c) => ChatTemplate::special_tokens(c).map_err(text_error)?,
                    None => Default::default(),
                };
                Some(ChatTemplate::new(&String::from_utf8_lossy(source), &bos, &eos).map_err(text_error)?)
            }
            None => match config {
                Some(c) => ChatTemplate::from_config(c).map_err(text_error)?,
                None => None,
            },
        };
        Ok(template)
    }

    /// Processes what of `tokens` the state does not hold yet, and at least the last one. Gives how many were held.
    fn prefill(&mut self, tokens: &[u32], outputs: &mut [Tensor]) -> Result<usize, Diagnostic> {
        let same = self.history.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        let held = same.min(tokens.len().saturating_sub(1));
        self.history.truncate(held);
        let ids: Vec<i32> = tokens[held..].iter().map(|t| *t as i32).collect();
        for part in ids.chunks(self.chunk) {
            step(&mut self.session, self.prefill, part, self.history.len(), outputs)?;
            self.history.extend(part.iter().map(|t| *t as u32));
        }
        Ok(held)
    }

    /// Processes one token.
    fn decode(&mut self, token: u32, outputs: &mut [Tensor]) -> Result<(), Diagnostic> {
        step(&mut self.session, self.decode, &[token as i32], self.history.len(), outputs)?;
        self.history.push(token);
        Ok(())
    }

    fn end_tokens(&self) -> Result<Vec<u32>, Errors> {
        end_tokens(&|name| self.package.member(name).ok())
    }
}

/// Tokens that end a text, by the configuration among a package's members; none if they name none.
pub(crate) fn end_tokens<'a>(member: &dyn Fn(&str) -> Option<&'a [u8]>) -> Result<Vec<u32>, Errors> {
    for name in ["text/generation_config.json", "text/config.json"] {
        if let Some(bytes) = member(name) {
            let config = GenerationConfig::from_bytes(bytes).map_err(text_error)?;
            if !config.eos.is_empty() {
                return Ok(config.eos);
            }
        }
    }
    Ok(Vec::new())
}

fn step(
    session: &mut Session,
    entry: EntryId,
    tokens: &[i32],
    position: usize,
    outputs: &mut [Tensor],
) -> Result<(), Diagnostic> {
    let (shape, at) = ([tokens.len() as u64], [position as i32]);
    let tokens = TensorView::from_slice(&shape, tokens).map_err(runtime_error)?;
    let position = TensorView::from_slice(&[], &at).map_err(runtime_error)?;
    session.step(entry, &[tokens, position], outputs).map_err(runtime_error)
}

fn logits(t: &Tensor) -> Result<&[f32], Diagnostic> {
    t.as_slice::<f32>().map_err(runtime_error)
}

pub(crate) fn text_error(e: TextError) -> Diagnostic {
    let id = e.id().trim_start_matches("MLXC").parse().unwrap_or(750);
    Diagnostic::new(id, e.to_string())
}
