//! Writing and scoring text with a package: prefill in chunks, decode token by token.

use crate::error::Errors;
use crate::executable::runtime_error;
use mlxc_ir::Diagnostic;
use mlxc_package::Package;
use mlxc_runtime::{EntryId, LoadOptions, Model, Session, Tensor, TensorView, peak_rss_bytes};
use mlxc_text::{
    ChatTemplate, GenerationConfig, Message, RenderOptions, Sampler, SamplerOptions, TextError, Tokenizer,
};
use serde::Serialize;
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
}

/// What to write.
#[derive(Clone, Debug)]
pub struct Request {
    /// Text to continue.
    pub prompt: String,
    /// Put the prompt through the chat template.
    pub chat: bool,
    /// Tokens to write, at most.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampler: SamplerOptions,
    /// Go on past the end-of-text token.
    pub ignore_eos: bool,
}

/// What was written, and how fast.
#[derive(Clone, Debug, Serialize)]
pub struct Written {
    /// Ids of the prompt.
    pub prompt_tokens: Vec<u32>,
    /// Ids written, the end-of-text token not among them.
    pub tokens: Vec<u32>,
    /// Text written.
    pub text: String,
    /// `eos`, `length` or `context`.
    pub stopped_by: &'static str,
    /// Prompt tokens a second.
    pub prefill_tokens_per_second: f64,
    /// Written tokens a second, the first one not counted.
    pub decode_tokens_per_second: f64,
    /// Largest resident memory of the process so far, in bytes; 0 where the system does not say.
    pub peak_rss_bytes: u64,
    /// Time to open and load the package, in seconds.
    pub load_seconds: f64,
}

/// The score of a text.
#[derive(Clone, Debug, Serialize)]
pub struct Scored {
    /// Mean negative log-likelihood of a target, in nats.
    pub mean_nll: f64,
    /// `exp(mean_nll)`.
    pub perplexity: f64,
    /// Number of targets.
    pub targets: u64,
    /// Targets a second.
    pub tokens_per_second: f64,
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
        let plan = package.plan();
        let symbol = |name: &str| {
            let e = plan.entries.iter().find(|e| e.name == "prefill")?;
            e.symbols.iter().find(|s| s.name == name).map(|s| s.range.hi)
        };
        let chunk = symbol("S").ok_or_else(|| no_text("a size `S` of prefill"))? as usize;
        let context = symbol("position").ok_or_else(|| no_text("a scalar `position` of prefill"))? as usize + 1;
        let load_seconds = start.elapsed().as_secs_f64();
        Ok(TextModel { session, tokenizer, prefill, decode, score, chunk, context, package, load_seconds })
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

    fn prompt(&self, request: &Request) -> Result<Vec<u32>, Errors> {
        if !request.chat {
            return self.encode(&request.prompt);
        }
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
        let template = template.ok_or_else(|| {
            Diagnostic::new(917, "the model has no chat template")
                .note("give the prompt without --chat to continue it as text")
        })?;
        let messages = [Message::new("user", request.prompt.clone())];
        let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
        let text = template.render(&messages, &options).map_err(text_error)?;
        // The template writes the special tokens itself.
        Ok(self.tokenizer.encode(&text, false).map_err(text_error)?)
    }

    fn end_tokens(&self) -> Result<Vec<u32>, Errors> {
        for name in ["text/generation_config.json", "text/config.json"] {
            if let Ok(bytes) = self.package.member(name) {
                let config = GenerationConfig::from_bytes(bytes).map_err(text_error)?;
                if !config.eos.is_empty() {
                    return Ok(config.eos);
                }
            }
        }
        Ok(Vec::new())
    }

    /// Writes; `piece` gets the text as it comes, whole characters only.
    ///
    /// # Errors
    /// `MLXC0918` an empty prompt or one longer than the context, or what the runtime and the sampler say.
    pub fn generate(&mut self, request: &Request, piece: &mut dyn FnMut(&str)) -> Result<Written, Errors> {
        let prompt = self.prompt(request)?;
        if prompt.is_empty() || prompt.len() > self.context {
            return Err(Diagnostic::new(918, "the prompt does not fit the context")
                .expected(format!("1 to {} tokens", self.context))
                .found(format!("{} tokens", prompt.len()))
                .into());
        }
        let end = if request.ignore_eos { Vec::new() } else { self.end_tokens()? };
        let mut sampler = Sampler::new(request.sampler.clone()).map_err(text_error)?;
        let start = Instant::now();
        let ids: Vec<i32> = prompt.iter().map(|t| *t as i32).collect();
        let mut outputs = self.session.outputs(self.prefill);
        for (i, part) in ids.chunks(self.chunk).enumerate() {
            step(&mut self.session, self.prefill, part, i * self.chunk, &mut outputs)?;
        }
        let prefill_seconds = start.elapsed().as_secs_f64();
        let mut tokens: Vec<u32> = Vec::new();
        let tokenizer = self.tokenizer.clone();
        let mut stream = tokenizer.stream(false);
        let mut text = String::new();
        let mut stopped_by = "length";
        let start = Instant::now();
        while tokens.len() < request.max_tokens {
            let next = sampler.sample(logits(&outputs[0])?).map_err(text_error)?;
            if end.contains(&next) {
                stopped_by = "eos";
                break;
            }
            tokens.push(next);
            let s = stream.push(next).map_err(text_error)?;
            piece(&s);
            text.push_str(&s);
            if tokens.len() == request.max_tokens {
                break;
            }
            let position = prompt.len() + tokens.len() - 1;
            if position >= self.context {
                stopped_by = "context";
                break;
            }
            step(&mut self.session, self.decode, &[next as i32], position, &mut outputs)?;
        }
        let decode_seconds = start.elapsed().as_secs_f64();
        let s = stream.finish().map_err(text_error)?;
        piece(&s);
        text.push_str(&s);
        if stopped_by == "context" {
            return Err(Diagnostic::new(919, "the key-value state is full")
                .expected(format!("a prompt and at most {} tokens in all", self.context))
                .found(format!("{} prompt tokens and {} written", prompt.len(), tokens.len()))
                .note("compile with a larger --context, or ask for fewer --max-tokens")
                .into());
        }
        let rate = |n: usize, s: f64| if s > 0.0 { n as f64 / s } else { 0.0 };
        Ok(Written {
            prefill_tokens_per_second: rate(prompt.len(), prefill_seconds),
            decode_tokens_per_second: rate(tokens.len().saturating_sub(1), decode_seconds),
            prompt_tokens: prompt,
            tokens,
            text,
            stopped_by,
            peak_rss_bytes: peak_rss_bytes().unwrap_or(0),
            load_seconds: self.load_seconds,
        })
    }

    /// Scores a text: windows of `window` targets that follow each other, each from an empty context.
    ///
    /// # Errors
    /// `MLXC0918` a window of no use or a text of less than two tokens, or what the runtime says.
    pub fn perplexity(&mut self, text: &str, window: usize, done: &mut dyn FnMut(u64, u64)) -> Result<Scored, Errors> {
        if window == 0 || window > self.context {
            return Err(Diagnostic::new(918, "the window does not fit the context")
                .expected(format!("1 to {} tokens", self.context))
                .found(format!("{window} tokens"))
                .into());
        }
        // As raw tokens: no beginning-of-text is added.
        let ids: Vec<i32> = self.tokenizer.encode(text, false).map_err(text_error)?.iter().map(|t| *t as i32).collect();
        if ids.len() < 2 {
            return Err(Diagnostic::new(918, "the text is too short")
                .expected("at least 2 tokens")
                .found(format!("{} tokens", ids.len()))
                .into());
        }
        let targets = (ids.len() - 1) / window * window;
        // A text shorter than one window is one window.
        let targets = if targets == 0 { ids.len() - 1 } else { targets };
        let start = Instant::now();
        let mut outputs = self.session.outputs(self.score);
        let (mut sum, mut count) = (0.0, 0u64);
        for first in (0..targets).step_by(window) {
            let inside = window.min(targets - first);
            for offset in (0..inside).step_by(self.chunk) {
                let n = self.chunk.min(inside - offset);
                let at = first + offset;
                step(&mut self.session, self.score, &ids[at..at + n], offset, &mut outputs)?;
                let all = logits(&outputs[0])?;
                let width = all.len() / n;
                for (i, row) in all.chunks_exact(width).enumerate() {
                    sum += nll(row, ids[at + i + 1] as usize);
                    count += 1;
                }
            }
            done(count, targets as u64);
        }
        let mean_nll = sum / count as f64;
        let tokens_per_second = count as f64 / start.elapsed().as_secs_f64();
        Ok(Scored { mean_nll, perplexity: mean_nll.exp(), targets: count, tokens_per_second })
    }
}

fn nll(row: &[f32], target: usize) -> f64 {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|x| f64::from(x - most).exp()).sum();
    let own = row.get(target).copied().unwrap_or(f32::NEG_INFINITY);
    sum.ln() - f64::from(own - most)
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
