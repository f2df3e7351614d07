//! Scoring a text.

use super::{TextModel, logits, step, text_error};
use crate::error::Errors;
use mlxc_ir::Diagnostic;
use serde::Serialize;
use std::time::Instant;

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
        self.history.clear();
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
