//! Speculative decoding: a small model proposes tokens, and one step of the large one checks them.
//!
//! A proposal is accepted where the large model's own choice is the same token, so what is written is always what the
//! large model chooses, whatever the draft proposes (Leviathan et al., 2023, with exact matching). In half precision a step
//! of several tokens may round differently from a step of one.

use super::{TextModel, logits, step};
use crate::error::Errors;
use mlxc_ir::Diagnostic;
use mlxc_runtime::Tensor;

/// A draft model.
pub struct Draft {
    /// The model.
    model: Box<TextModel>,
    /// Tokens proposed at a time.
    tokens: usize,
}

impl TextModel {
    /// Lets a small model propose `tokens` tokens at a time.
    ///
    /// # Errors
    /// `MLXC0943` a draft of another vocabulary, or no tokens.
    pub fn with_draft(mut self, model: TextModel, tokens: usize) -> Result<Self, Errors> {
        let (mine, other) = (&self.tokenizer, &model.tokenizer);
        let words = 0..mine.vocabulary_size() as u32;
        let same = mine.vocabulary_size() == other.vocabulary_size()
            && words.into_iter().all(|t| mine.token(t) == other.token(t));
        if tokens == 0 || !same {
            return Err(Diagnostic::new(943, "the draft model does not fit")
                .expected("the model's own vocabulary, and at least one token at a time")
                .found(if tokens == 0 { "no tokens" } else { "another vocabulary" })
                .into());
        }
        self.draft = Some(Draft { model: Box::new(model), tokens });
        Ok(self)
    }

    /// What the draft model, if there is one, expects after `token`; at most `most` tokens.
    pub(super) fn propose(&mut self, token: u32, most: usize) -> Result<Vec<u32>, Errors> {
        let Some(draft) = &mut self.draft else { return Ok(Vec::new()) };
        let model = &mut draft.model;
        let mut text = self.history.clone();
        text.push(token);
        let mut out = Vec::new();
        let mut outputs = model.session.outputs(model.prefill);
        while out.len() < draft.tokens.min(most) && text.len() <= model.context {
            model.prefill(&text, &mut outputs)?;
            let row = logits(&outputs[0])?;
            let likelier = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1).then(b.0.cmp(&a.0));
            let Some((best, _)) = row.iter().enumerate().max_by(likelier) else { break };
            out.push(best as u32);
            text.push(best as u32);
        }
        Ok(out)
    }

    /// Processes a token and the proposals after it; `outputs` get a row of logits for each.
    pub(super) fn check(&mut self, token: u32, proposals: &[u32], outputs: &mut [Tensor]) -> Result<(), Errors> {
        let tokens: Vec<i32> = std::iter::once(&token).chain(proposals).map(|t| *t as i32).collect();
        step(&mut self.session, self.score, &tokens, self.history.len(), outputs)?;
        self.history.push(token);
        self.history.extend_from_slice(proposals);
        Ok(())
    }
}
