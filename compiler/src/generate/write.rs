//! Writing text.

use super::{TextModel, logits, text_error};
use crate::error::Errors;
use mlxc_ir::Diagnostic;
use mlxc_runtime::{Tensor, peak_rss_bytes};
use mlxc_text::{DecodeStream, Message, Penalties, PenaltyOptions, Sampler, SamplerOptions, StopStrings};
use serde::Serialize;
use std::time::Instant;

/// What is to be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// A text, as it is.
    Text(String),
    /// A conversation, which the model's chat template turns into text.
    Messages(Vec<Message>),
    /// Ids.
    Tokens(Vec<u32>),
}

/// What to write.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is to be continued.
    pub prompt: Prompt,
    /// Tokens to write, at most.
    pub max_tokens: usize,
    /// How logits are changed by what was written.
    pub penalties: PenaltyOptions,
    /// How tokens are chosen.
    pub sampler: SamplerOptions,
    /// The text ends before the first of these strings.
    pub stop: Vec<String>,
    /// Go on past the end-of-text token.
    pub ignore_eos: bool,
}

impl Request {
    /// The likeliest continuation of a prompt, of at most so many tokens.
    pub fn new(prompt: Prompt, max_tokens: usize) -> Self {
        Request {
            prompt,
            max_tokens,
            penalties: PenaltyOptions::default(),
            sampler: SamplerOptions::default(),
            stop: Vec::new(),
            ignore_eos: false,
        }
    }

    /// Checks the options that do not depend on a model: before anything is shown or processed.
    ///
    /// # Errors
    /// `MLXC0756` an option out of range.
    pub fn check(&self) -> Result<(), Errors> {
        Penalties::new(self.penalties.clone(), &[]).map_err(text_error)?;
        Sampler::new(self.sampler.clone()).map_err(text_error)?;
        Ok(())
    }
}

/// What was written, and how fast.
#[derive(Clone, Debug, Serialize)]
pub struct Written {
    /// Ids of the prompt.
    pub prompt_tokens: Vec<u32>,
    /// How many of them the state held already.
    pub reused_tokens: usize,
    /// Ids written, the end-of-text token not among them.
    pub tokens: Vec<u32>,
    /// Text written, up to a stop string.
    pub text: String,
    /// `eos`, `stop` or `length`.
    pub stopped_by: &'static str,
    /// Tokens the draft model proposed.
    pub drafted_tokens: usize,
    /// How many of them were accepted.
    pub accepted_tokens: usize,
    /// Prompt tokens processed a second.
    pub prefill_tokens_per_second: f64,
    /// Written tokens a second, the first one not counted.
    pub decode_tokens_per_second: f64,
    /// Largest resident memory of the process so far, in bytes; 0 where the system does not say.
    pub peak_rss_bytes: u64,
    /// Time to open and load the package, in seconds.
    pub load_seconds: f64,
}

/// Chooses tokens and makes text of them, until the text ends.
struct Writer<'a, 't> {
    penalties: Penalties,
    sampler: Sampler,
    stops: StopStrings,
    stream: DecodeStream<'t>,
    end: Vec<u32>,
    most: usize,
    tokens: Vec<u32>,
    text: String,
    stopped_by: Option<&'static str>,
    piece: &'a mut dyn FnMut(&str),
}

impl Writer<'_, '_> {
    /// Chooses the next token and writes it; `None` where the text ends.
    fn next(&mut self, logits: &[f32]) -> Result<Option<u32>, Errors> {
        let changed = self.penalties.apply(logits).map_err(text_error)?;
        let token = self.sampler.sample(changed).map_err(text_error)?;
        if self.end.contains(&token) {
            self.stopped_by = Some("eos");
            return Ok(None);
        }
        self.penalties.push(token);
        self.tokens.push(token);
        let piece = self.stream.push(token).map_err(text_error)?;
        self.show(&piece);
        if self.stopped_by.is_none() && self.tokens.len() >= self.most {
            self.stopped_by = Some("length");
        }
        Ok(self.stopped_by.is_none().then_some(token))
    }

    fn show(&mut self, piece: &str) {
        let certain = self.stops.push(piece);
        if certain.stopped {
            self.stopped_by = Some("stop");
        }
        self.emit(&certain.text);
    }

    fn emit(&mut self, text: &str) {
        if !text.is_empty() {
            (self.piece)(text);
            self.text.push_str(text);
        }
    }

    /// Writes what was held back.
    fn finish(&mut self) -> Result<(), Errors> {
        if self.stopped_by == Some("stop") {
            return Ok(());
        }
        let rest = self.stream.finish().map_err(text_error)?;
        self.show(&rest);
        if self.stopped_by != Some("stop") {
            let held = self.stops.finish();
            self.emit(&held);
        }
        Ok(())
    }
}

impl TextModel {
    /// Writes; `piece` gets the text as it comes, whole characters only.
    ///
    /// # Errors
    /// `MLXC0918` an empty prompt or one longer than the context, `MLXC0919` a context that is full, or what the runtime and
    /// the sampler say.
    pub fn generate(&mut self, request: &Request, piece: &mut dyn FnMut(&str)) -> Result<Written, Errors> {
        let prompt = self.tokens_of(&request.prompt)?;
        if prompt.is_empty() || prompt.len() > self.context {
            return Err(Diagnostic::new(918, "the prompt does not fit the context")
                .expected(format!("1 to {} tokens", self.context))
                .found(format!("{} tokens", prompt.len()))
                .into());
        }
        let tokenizer = self.tokenizer.clone();
        let mut writer = Writer {
            penalties: Penalties::new(request.penalties.clone(), &prompt).map_err(text_error)?,
            sampler: Sampler::new(request.sampler.clone()).map_err(text_error)?,
            stops: StopStrings::new(request.stop.iter().cloned()),
            stream: tokenizer.stream(false),
            end: if request.ignore_eos { Vec::new() } else { self.end_tokens()? },
            most: request.max_tokens,
            tokens: Vec::new(),
            text: String::new(),
            stopped_by: (request.max_tokens == 0).then_some("length"),
            piece,
        };
        let start = Instant::now();
        let mut first = self.session.outputs(self.prefill);
        let reused = self.prefill(&prompt, &mut first)?;
        let prefill_seconds = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let (mut drafted, mut accepted) = (0, 0);
        if writer.stopped_by.is_none()
            && let Some(token) = writer.next(logits(&first[0])?)?
        {
            self.go_on(&mut writer, token, &mut drafted, &mut accepted)?;
        }
        writer.finish()?;
        let decode_seconds = start.elapsed().as_secs_f64();
        let rate = |n: usize, s: f64| if s > 0.0 { n as f64 / s } else { 0.0 };
        let (tokens, text, stopped_by) = (writer.tokens, writer.text, writer.stopped_by);
        Ok(Written {
            prefill_tokens_per_second: rate(prompt.len() - reused, prefill_seconds),
            decode_tokens_per_second: rate(tokens.len().saturating_sub(1), decode_seconds),
            prompt_tokens: prompt,
            reused_tokens: reused,
            tokens,
            text,
            stopped_by: stopped_by.unwrap_or("length"),
            drafted_tokens: drafted,
            accepted_tokens: accepted,
            peak_rss_bytes: peak_rss_bytes().unwrap_or(0),
            load_seconds: self.load_seconds,
        })
    }

    /// Processes a token and those chosen after it, until the text ends.
    fn go_on(
        &mut self,
        writer: &mut Writer<'_, '_>,
        mut token: u32,
        drafted: &mut usize,
        accepted: &mut usize,
    ) -> Result<(), Errors> {
        let mut one = self.session.outputs(self.decode);
        let mut several = self.session.outputs(self.score);
        loop {
            let room = self.context - self.history.len();
            if room == 0 {
                writer.finish()?;
                return Err(Diagnostic::new(919, "the key-value state is full")
                    .expected(format!("a prompt and at most {} tokens in all", self.context))
                    .found(format!("{} tokens, {} of them written", self.history.len(), writer.tokens.len()))
                    .note("compile with a larger --context, or ask for fewer --max-tokens")
                    .into());
            }
            let most = (room - 1).min(self.chunk - 1).min(writer.most - writer.tokens.len() - 1);
            let proposals = self.propose(token, most)?;
            if proposals.is_empty() {
                self.decode(token, &mut one)?;
                match writer.next(logits(&one[0])?)? {
                    Some(next) => token = next,
                    None => return Ok(()),
                }
                continue;
            }
            *drafted += proposals.len();
            self.check(token, &proposals, &mut several)?;
            match agree(writer, &proposals, &several[0], accepted)? {
                Some((next, processed)) => {
                    // Rejected proposals leave the history; their keys and values are written over.
                    let all = self.history.len() - proposals.len() + processed;
                    self.history.truncate(all);
                    token = next;
                }
                None => return Ok(()),
            }
        }
    }
}

/// Chooses tokens from the rows of logits as long as they are what was proposed. Gives the first one that was not processed
/// and how many proposals stay; `None` where the text ends.
fn agree(
    writer: &mut Writer<'_, '_>,
    proposals: &[u32],
    rows: &Tensor,
    accepted: &mut usize,
) -> Result<Option<(u32, usize)>, Errors> {
    let all = logits(rows)?;
    let width = all.len() / (proposals.len() + 1);
    for (i, row) in all.chunks_exact(width).enumerate() {
        let Some(next) = writer.next(row)? else { return Ok(None) };
        if proposals.get(i) != Some(&next) {
            return Ok(Some((next, i)));
        }
        *accepted += 1;
    }
    unreachable!("the row after the last proposal has none to agree with")
}
