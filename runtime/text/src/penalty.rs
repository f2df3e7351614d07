//! Changing logits by what was written before.

use crate::TextError;
use std::collections::HashMap;

/// How logits are changed before a token is chosen from them. The order is: bias, repetition, presence and frequency.
#[derive(Clone, Debug, PartialEq)]
pub struct PenaltyOptions {
    /// Tokens of the past that repetition, presence and frequency look at; 0 looks at all.
    pub last: usize,
    /// Positive logits of seen tokens are divided by it and negative ones multiplied (Keskar et al., CTRL, 2019); 1 changes
    /// nothing.
    pub repetition: f32,
    /// Subtracted from the logit of each seen token.
    pub presence: f32,
    /// Subtracted from the logit of each seen token, as often as it was seen.
    pub frequency: f32,
    /// Added to the logits of single tokens; minus infinity forbids one.
    pub bias: Vec<(u32, f32)>,
}

impl Default for PenaltyOptions {
    /// Nothing is changed.
    fn default() -> Self {
        PenaltyOptions { last: 64, repetition: 1.0, presence: 0.0, frequency: 0.0, bias: Vec::new() }
    }
}

/// The penalties of one text: the tokens seen so far, and what they do to logits.
#[derive(Clone, Debug)]
pub struct Penalties {
    options: PenaltyOptions,
    seen: Vec<u32>,
    changed: Vec<f32>,
}

impl Penalties {
    /// Penalties of a text that begins with `prompt`.
    ///
    /// # Errors
    /// 0756 if an option is out of range.
    pub fn new(options: PenaltyOptions, prompt: &[u32]) -> Result<Self, TextError> {
        let check = |option, value: f32, expected, ok: bool| match ok {
            true => Ok(()),
            false => Err(TextError::Option { option, expected, found: value.to_string() }),
        };
        let (r, p, f) = (options.repetition, options.presence, options.frequency);
        check("repetition", r, "a finite number above 0", r.is_finite() && r > 0.0)?;
        check("presence", p, "a finite number", p.is_finite())?;
        check("frequency", f, "a finite number", f.is_finite())?;
        for (_, b) in &options.bias {
            check("bias", *b, "a number below infinity", !b.is_nan() && *b < f32::INFINITY)?;
        }
        Ok(Penalties { options, seen: prompt.to_vec(), changed: Vec::new() })
    }

    /// Remembers a token that was written.
    pub fn push(&mut self, token: u32) {
        self.seen.push(token);
    }

    /// The logits as they are to be chosen from.
    ///
    /// # Errors
    /// 0758 a biased token that the vocabulary does not have.
    pub fn apply<'a>(&'a mut self, logits: &'a [f32]) -> Result<&'a [f32], TextError> {
        let o = &self.options;
        let looks_back = o.repetition != 1.0 || o.presence != 0.0 || o.frequency != 0.0;
        if !looks_back && o.bias.is_empty() {
            return Ok(logits);
        }
        self.changed.clear();
        self.changed.extend_from_slice(logits);
        for (token, bias) in &o.bias {
            let logit = self.changed.get_mut(*token as usize);
            *logit.ok_or(TextError::UnknownToken { token: *token, vocabulary: logits.len() })? += bias;
        }
        if looks_back {
            let start = if o.last == 0 { 0 } else { self.seen.len().saturating_sub(o.last) };
            let mut counts: HashMap<u32, u32> = HashMap::new();
            self.seen[start..].iter().for_each(|t| *counts.entry(*t).or_default() += 1);
            for (token, count) in counts {
                // A prompt may hold tokens that the head does not write.
                let Some(logit) = self.changed.get_mut(token as usize) else { continue };
                *logit = if *logit < 0.0 { *logit * o.repetition } else { *logit / o.repetition };
                *logit -= o.presence + o.frequency * count as f32;
            }
        }
        Ok(&self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(options: PenaltyOptions, seen: &[u32], logits: &[f32]) -> Vec<f32> {
        Penalties::new(options, seen).unwrap().apply(logits).unwrap().to_vec()
    }

    #[test]
    fn each_penalty_does_what_it_says() {
        let d = PenaltyOptions::default();
        let logits = [2.0, -2.0, 1.0, 0.5];
        assert_eq!(apply(d.clone(), &[0, 1], &logits), logits);
        let r = PenaltyOptions { repetition: 2.0, ..d.clone() };
        assert_eq!(apply(r, &[0, 1, 0], &logits), [1.0, -4.0, 1.0, 0.5]);
        let p = PenaltyOptions { presence: 0.5, frequency: 0.25, ..d.clone() };
        assert_eq!(apply(p, &[0, 2, 0], &logits), [1.0, -2.0, 0.25, 0.5]);
        let b = PenaltyOptions { bias: vec![(3, 10.0), (0, f32::NEG_INFINITY)], ..d.clone() };
        assert_eq!(apply(b, &[], &logits), [f32::NEG_INFINITY, -2.0, 1.0, 10.5]);
        let short = PenaltyOptions { last: 1, presence: 1.0, ..d };
        assert_eq!(apply(short, &[0, 2], &logits), [2.0, -2.0, 0.0, 0.5]);
    }

    #[test]
    fn options_out_of_range_are_refused() {
        let d = PenaltyOptions::default();
        for o in [
            PenaltyOptions { repetition: 0.0, ..d.clone() },
            PenaltyOptions { presence: f32::NAN, ..d.clone() },
            PenaltyOptions { bias: vec![(0, f32::INFINITY)], ..d.clone() },
        ] {
            assert_eq!(Penalties::new(o, &[]).unwrap_err().id(), "MLXC0756");
        }
        let far = PenaltyOptions { bias: vec![(9, 1.0)], ..d };
        assert_eq!(Penalties::new(far, &[]).unwrap().apply(&[0.0]).unwrap_err().id(), "MLXC0758");
    }
}
