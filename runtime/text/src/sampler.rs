//! Choosing the next token from logits.

use crate::{Random, TextError};

/// How tokens are chosen. Filters apply in this order: temperature, top-k, top-p, min-p, exclusion of top choices.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerOptions {
    /// Logits are divided by it; 0 takes the largest logit, the lowest id on ties.
    pub temperature: f32,
    /// Keeps the tokens with the largest logits; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest most likely tokens that reach this probability together; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this fraction as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// How often the likeliest tokens are left out: all that reach `xtc_threshold` but the least likely of them (exclude top
    /// choices, by P. E. Weidmann, 2024). 0 never leaves any out.
    pub xtc_probability: f32,
    /// Probability, among the tokens kept, from which on a token is a top choice.
    pub xtc_threshold: f32,
    /// Seed of the random numbers, see [`Random`].
    pub seed: u64,
}

impl Default for SamplerOptions {
    /// Temperature 0.
    fn default() -> Self {
        SamplerOptions {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            seed: 0,
        }
    }
}

/// Chooses tokens; equal options and logits give equal tokens.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplerOptions,
    random: Random,
    /// Logits and ids, kept to be used again.
    candidates: Vec<(f32, u32)>,
    weights: Vec<f64>,
}

/// Candidates that are sorted first when only a part of the vocabulary can matter.
const FIRST_SORTED: usize = 256;

impl Sampler {
    /// A sampler at the start of its random numbers.
    ///
    /// # Errors
    /// 0756 if an option is out of range.
    pub fn new(options: SamplerOptions) -> Result<Self, TextError> {
        let check = |option, value: f32, expected, ok: bool| match ok {
            true => Ok(()),
            false => Err(TextError::Option { option, expected, found: value.to_string() }),
        };
        let (t, p, m) = (options.temperature, options.top_p, options.min_p);
        check("temperature", t, "a finite number of at least 0", t.is_finite() && t >= 0.0)?;
        check("top_p", p, "a number above 0 and at most 1", p > 0.0 && p <= 1.0)?;
        check("min_p", m, "a number in 0..=1", (0.0..=1.0).contains(&m))?;
        let (x, over) = (options.xtc_probability, options.xtc_threshold);
        check("xtc_probability", x, "a number in 0..=1", (0.0..=1.0).contains(&x))?;
        check("xtc_threshold", over, "a number above 0 and at most 1", over > 0.0 && over <= 1.0)?;
        let random = Random::new(options.seed);
        Ok(Sampler { options, random, candidates: Vec::new(), weights: Vec::new() })
    }

    /// The options it was made with.
    pub fn options(&self) -> &SamplerOptions {
        &self.options
    }

    /// Chooses a token. Draws one random number, two with XTC, none at temperature 0.
    ///
    /// # Errors
    /// 0757 if there are no logits, one is NaN, or none is finite.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, TextError> {
        let (best, largest) = argmax(logits)?;
        let temperature = f64::from(self.options.temperature);
        if temperature == 0.0 {
            return Ok(best);
        }
        let weight = |logit: f32| ((f64::from(logit) - f64::from(largest)) / temperature).exp();
        self.candidates.clear();
        self.candidates.extend(logits.iter().zip(0u32..).map(|(l, i)| (*l, i)));
        let likelier = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let top_k = match self.options.top_k {
            0 => self.candidates.len(),
            k => k.min(self.candidates.len()),
        };
        if top_k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(top_k, likelier);
            self.candidates.truncate(top_k);
        }
        let top_p = f64::from(self.options.top_p);
        // Sums go through the ids in order, so that they do not depend on how much was sorted.
        self.candidates.sort_unstable_by_key(|c| c.1);
        let total: f64 = self.candidates.iter().map(|c| weight(c.0)).sum();
        let mut sorted = FIRST_SORTED;
        loop {
            let all = self.candidates.len();
            sorted = sorted.min(all);
            if sorted < all {
                self.candidates.select_nth_unstable_by(sorted, likelier);
            }
            self.candidates[..sorted].sort_unstable_by(likelier);
            self.weights.clear();
            let (mut reached, mut complete) = (0.0, sorted == all);
            for (logit, _) in &self.candidates[..sorted] {
                let w = weight(*logit);
                if reached >= top_p * total && !self.weights.is_empty() || w < f64::from(self.options.min_p) {
                    complete = true;
                    break;
                }
                reached += w;
                self.weights.push(w);
            }
            if complete {
                break;
            }
            sorted *= 8;
        }
        if self.options.xtc_probability > 0.0 && self.random.unit() < f64::from(self.options.xtc_probability) {
            let all: f64 = self.weights.iter().sum();
            let over = f64::from(self.options.xtc_threshold) * all;
            let top = self.weights.iter().take_while(|w| **w >= over).count();
            self.weights[..top.saturating_sub(1)].fill(0.0);
        }
        let kept: f64 = self.weights.iter().sum();
        let mut left = self.random.unit() * kept;
        for (w, (_, id)) in self.weights.iter().zip(&self.candidates) {
            left -= w;
            if left < 0.0 {
                return Ok(*id);
            }
        }
        // Rounding may leave a little; the last one that has any weight takes it.
        let last = self.weights.iter().rposition(|w| *w > 0.0);
        Ok(last.map_or(best, |i| self.candidates[i].1))
    }
}

fn argmax(logits: &[f32]) -> Result<(u32, f32), TextError> {
    let mut best = (0, f32::NEG_INFINITY);
    for (logit, i) in logits.iter().zip(0u32..) {
        if logit.is_nan() {
            return Err(TextError::Logits { found: format!("NaN for token {i}") });
        }
        if *logit > best.1 {
            best = (i, *logit);
        }
    }
    match best.1.is_finite() {
        true => Ok(best),
        false => Err(TextError::Logits { found: format!("{} among {} logits", best.1, logits.len()) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sampler(options: SamplerOptions) -> Sampler {
        Sampler::new(options).unwrap()
    }

    #[test]
    fn temperature_zero_takes_the_lowest_id_of_the_largest() {
        let mut s = sampler(SamplerOptions::default());
        assert_eq!(s.sample(&[1.0, 3.0, -1.0, 3.0]).unwrap(), 1);
        assert_eq!(s.sample(&[f32::NEG_INFINITY, -5.0]).unwrap(), 1);
        for bad in [&[][..], &[f32::NAN, 1.0], &[f32::INFINITY], &[f32::NEG_INFINITY]] {
            assert_eq!(s.sample(bad).unwrap_err().id(), "MLXC0757");
        }
    }

    #[test]
    fn options_out_of_range_are_refused() {
        let d = SamplerOptions::default();
        for options in [
            SamplerOptions { temperature: -1.0, ..d.clone() },
            SamplerOptions { temperature: f32::NAN, ..d.clone() },
            SamplerOptions { top_p: 0.0, ..d.clone() },
            SamplerOptions { top_p: 1.1, ..d.clone() },
            SamplerOptions { min_p: -0.1, ..d.clone() },
        ] {
            assert_eq!(Sampler::new(options).unwrap_err().id(), "MLXC0756");
        }
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let logits = [0.0f32, 1.0, 2.0, -1.0];
        let mut s = sampler(SamplerOptions { temperature: 0.7, seed: 5, ..SamplerOptions::default() });
        let mut counts = [0f64; 4];
        let n = 200_000;
        (0..n).for_each(|_| counts[s.sample(&logits).unwrap() as usize] += 1.0);
        let total: f64 = logits.iter().map(|l| (f64::from(*l) / 0.7).exp()).sum();
        for (c, l) in counts.iter().zip(logits) {
            let p = (f64::from(l) / 0.7).exp() / total;
            assert!((c / f64::from(n) - p).abs() < 5.0 * (p / f64::from(n)).sqrt(), "{c} {p}");
        }
    }

    #[test]
    fn filters_keep_what_they_say() {
        // Probabilities 0.5, 0.25, 0.125, 0.125.
        let logits: Vec<f32> = [0.125f32, 0.5, 0.125, 0.25].iter().map(|p| p.ln()).collect();
        let seen = |options: SamplerOptions| {
            let mut s = sampler(SamplerOptions { temperature: 1.0, ..options });
            let mut seen = [false; 4];
            (0..2000).for_each(|_| seen[s.sample(&logits).unwrap() as usize] = true);
            seen
        };
        let d = SamplerOptions::default();
        assert_eq!(seen(d.clone()), [true; 4]);
        assert_eq!(seen(SamplerOptions { top_k: 1, ..d.clone() }), [false, true, false, false]);
        assert_eq!(seen(SamplerOptions { top_k: 3, ..d.clone() }), [true, true, false, true]);
        assert_eq!(seen(SamplerOptions { top_p: 0.6, ..d.clone() }), [false, true, false, true]);
        assert_eq!(seen(SamplerOptions { top_p: 1e-9, ..d.clone() }), [false, true, false, false]);
        assert_eq!(seen(SamplerOptions { min_p: 0.4, ..d.clone() }), [false, true, false, true]);
        // Of the two that reach 0.2, the likelier is left out; all remain where only one reaches the threshold.
        let xtc = SamplerOptions { xtc_probability: 1.0, xtc_threshold: 0.2, ..d.clone() };
        assert_eq!(seen(xtc), [true, false, true, true]);
        assert_eq!(seen(SamplerOptions { xtc_probability: 1.0, xtc_threshold: 0.4, ..d }), [true; 4]);
    }

    proptest! {
        /// Sorting only the head of a large vocabulary changes nothing.
        #[test]
        fn equal_to_the_plain_definition(
            logits in prop::collection::vec(-8f32..8.0, 1..3000),
            top_k in 0usize..600,
            top_p in 0.05f32..=1.0,
            min_p in 0f32..0.2,
            seed in any::<u64>(),
        ) {
            let mut s = sampler(SamplerOptions { temperature: 0.8, top_k, top_p, min_p, seed, ..SamplerOptions::default() });
            let got = s.sample(&logits).unwrap();
            let mut all: Vec<(f32, u32)> = logits.iter().copied().zip(0..).collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            if top_k > 0 {
                all.truncate(top_k);
            }
            let largest = f64::from(all[0].0);
            let t = f64::from(0.8f32);
            let weight = |l: f32| ((f64::from(l) - largest) / t).exp();
            let mut by_id = all.clone();
            by_id.sort_by_key(|c| c.1);
            let total: f64 = by_id.iter().map(|c| weight(c.0)).sum();
            let mut kept: Vec<(f64, u32)> = Vec::new();
            let mut reached = 0.0;
            for (l, id) in all {
                if !kept.is_empty() && reached >= f64::from(top_p) * total || weight(l) < f64::from(min_p) {
                    break;
                }
                reached += weight(l);
                kept.push((weight(l), id));
            }
            let mut left = Random::new(seed).unit() * kept.iter().map(|k| k.0).sum::<f64>();
            let want = kept.iter().find(|(w, _)| { left -= w; left < 0.0 }).or(kept.last()).unwrap().1;
            prop_assert_eq!(got, want);
        }
    }
}
