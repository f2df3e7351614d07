//! Rotary positions of a config: base, rotated share and scaling.
//!
//! Frequencies follow the published definitions: linear interpolation; Llama 3's blend by wavelength; YaRN (Peng et al.,
//! 2023); LongRoPE (Ding et al., 2024), whose factors are chosen once, by the context a model is compiled for.

use super::reader::Reader;
use crate::nn::RoPE;
use mlxc_ir::Diagnostic;
use std::f64::consts::TAU;

/// Rotary positions, before the context is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// Rotated features.
    pub dims: i64,
    /// Base of the frequencies.
    pub theta: f64,
    /// How frequencies are changed.
    pub scaling: Scaling,
}

/// How rotary frequencies are changed for longer contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    Default,
    /// Divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Not at all, up to the trained length.
    Dynamic {
        /// The trained length.
        trained: i64,
    },
    /// Long wavelengths divided by a factor, short ones kept.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Turns in the trained length below which a wavelength is long.
        low: f64,
        /// Turns above which it is short.
        high: f64,
        /// The trained length.
        trained: f64,
    },
    /// The same with a ramp over features, and larger scores.
    Yarn {
        /// The factor.
        factor: f64,
        /// First and last feature of the ramp.
        ramp: (f64, f64),
        /// Factor on rotated features.
        magnitude: f64,
    },
    /// Divided by a factor for each frequency.
    LongRope {
        /// Factors within the trained length.
        short: Vec<f64>,
        /// Factors past it.
        long: Vec<f64>,
        /// The trained length.
        trained: i64,
        /// Factor on rotated features.
        magnitude: f64,
    },
}

/// Reads `rope_parameters`, or `rope_theta` and `rope_scaling` of older files.
pub(super) fn read(r: &Reader<'_>, head_dim: i64, theta: f64, longest: i64) -> Result<Rotary, Diagnostic> {
    let share = r.real("partial_rotary_factor")?;
    let older = r.real("rope_theta")?.unwrap_or(theta);
    let scaling = r.object("rope_scaling")?;
    let parameters = r.object("rope_parameters")?;
    if scaling.is_some() && parameters.is_some() {
        return Err(r.refuse("rope_scaling", "one of `rope_scaling` and `rope_parameters`"));
    }
    let trained = r.int("original_max_position_embeddings")?;
    match parameters.or(scaling) {
        Some(p) => object(p, head_dim, older, share, longest, trained),
        None => plain(r, head_dim, older, share),
    }
}

/// Most rotated features: each has a frequency, written out where frequencies are scaled.
const MOST_DIMS: i64 = 1 << 16;

/// Positions without scaling.
pub(super) fn plain(r: &Reader<'_>, head_dim: i64, theta: f64, share: Option<f64>) -> Result<Rotary, Diagnostic> {
    let dims = (head_dim as f64 * share.unwrap_or(1.0)) as i64;
    if dims < 2 || dims % 2 != 0 || dims > head_dim.min(MOST_DIMS) {
        let key = if share.is_some() { "partial_rotary_factor" } else { "head_dim" };
        let expected = format!("an even number of rotated features, at most a head's and at most {MOST_DIMS}");
        return Err(r.refuse(key, &expected));
    }
    Ok(Rotary { dims, theta, scaling: Scaling::Default })
}

/// Reads one object of rotary parameters; `theta`, `share` and `trained` stand where it does not say.
pub(super) fn object(
    p: Reader<'_>,
    head_dim: i64,
    theta: f64,
    share: Option<f64>,
    longest: i64,
    trained: Option<i64>,
) -> Result<Rotary, Diagnostic> {
    let theta = p.real("rope_theta")?.unwrap_or(theta);
    let share = p.real("partial_rotary_factor")?.or(share);
    let mut out = plain(&p, head_dim, theta, share)?;
    let (new, old) = (p.text("rope_type")?, p.text("type")?);
    let key = if new.is_some() { "rope_type" } else { "type" };
    let original = |p: &Reader<'_>| p.int("original_max_position_embeddings");
    out.scaling = match new.or(old).unwrap_or("default") {
        "default" => Scaling::Default,
        "linear" => Scaling::Linear { factor: p.need_real("factor")? },
        "dynamic" => {
            p.need_real("factor")?;
            Scaling::Dynamic { trained: original(&p)?.or(trained).unwrap_or(longest) }
        }
        "llama3" => {
            let (low, high) = (p.need_real("low_freq_factor")?, p.need_real("high_freq_factor")?);
            if high <= low {
                return Err(p.refuse("high_freq_factor", "a number above `low_freq_factor`"));
            }
            let trained = p.need_real("original_max_position_embeddings")?;
            Scaling::Llama3 { factor: p.need_real("factor")?, low, high, trained }
        }
        "yarn" => yarn(&p, out.dims, theta, trained)?,
        "longrope" | "su" => {
            let (short, long) = (p.reals("short_factor")?, p.reals("long_factor")?);
            for (key, list) in [("short_factor", &short), ("long_factor", &long)] {
                if list.len() as i64 != out.dims / 2 {
                    return Err(p.refuse(key, &format!("{} numbers", out.dims / 2)));
                }
            }
            let trained = original(&p)?.or(trained).unwrap_or(longest);
            let factor = p.real("factor")?.unwrap_or(longest as f64 / trained as f64);
            let own = p.real("attention_factor")?;
            let spread = || if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (trained as f64).ln()).sqrt() };
            Scaling::LongRope { short, long, trained, magnitude: own.unwrap_or_else(spread) }
        }
        _ => return Err(p.refuse(key, "default, linear, dynamic, llama3, yarn or longrope")),
    };
    p.finish()?;
    Ok(out)
}

fn yarn(p: &Reader<'_>, dims: i64, theta: f64, trained: Option<i64>) -> Result<Scaling, Diagnostic> {
    let trained = p.int("original_max_position_embeddings")?.or(trained);
    let trained = trained.ok_or_else(|| p.refuse("original_max_position_embeddings", "the trained length"))? as f64;
    let factor = p.need_real("factor")?;
    let grown = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
    let magnitude = match (p.real("attention_factor")?, p.real("mscale")?, p.real("mscale_all_dim")?) {
        (Some(own), ..) => own,
        (None, Some(m), Some(all)) => grown(m) / grown(all),
        _ => grown(1.0),
    };
    let feature = |turns: f64| dims as f64 * (trained / (turns * TAU)).ln() / (2.0 * theta.ln());
    let first = feature(p.real("beta_fast")?.unwrap_or(32.0));
    let last = feature(p.real("beta_slow")?.unwrap_or(1.0));
    let (first, last) = if p.flag("truncate", true)? { (first.floor(), last.ceil()) } else { (first, last) };
    let (first, last) = (first.max(0.0), last.min(dims as f64 - 1.0));
    // A ramp of no length would divide by nothing.
    let last = if first == last { last + 0.001 } else { last };
    Ok(Scaling::Yarn { factor, ramp: (first, last), magnitude })
}

impl Rotary {
    /// The layer for a context of so many tokens.
    ///
    /// # Errors
    /// `MLXC0930` for dynamic scaling past the trained length: its frequencies change with every token, which keys
    /// that are kept cannot follow.
    pub fn layer(&self, context: i64) -> Result<RoPE, Diagnostic> {
        let half = self.dims / 2;
        let plain = |i: i64| 1.0 / self.theta.powf(2.0 * i as f64 / self.dims as f64);
        let each = |f: &dyn Fn(usize, f64) -> f64| -> Option<Vec<f32>> {
            Some((0..half).map(|i| f(i as usize, plain(i)) as f32).collect())
        };
        let (frequencies, magnitude) = match &self.scaling {
            Scaling::Default => (None, 1.0),
            Scaling::Dynamic { trained } if context <= *trained => (None, 1.0),
            Scaling::Dynamic { trained } => {
                return Err(Diagnostic::new(930, "dynamic rotary scaling changes with the length of the text")
                    .expected(format!("a context of at most {trained} tokens, within which it has no effect"))
                    .found(format!("{context} tokens"))
                    .note("compile with a smaller --context"));
            }
            Scaling::Linear { factor } => (each(&|_, w| w / factor), 1.0),
            Scaling::Llama3 { factor, low, high, trained } => {
                let blended = |_: usize, w: f64| {
                    let kept = ((trained * w / TAU - low) / (high - low)).clamp(0.0, 1.0);
                    w / factor * (1.0 - kept) + w * kept
                };
                (each(&blended), 1.0)
            }
            Scaling::Yarn { factor, ramp: (first, last), magnitude } => {
                let ramped = |i: usize, w: f64| {
                    let kept = 1.0 - ((i as f64 - first) / (last - first)).clamp(0.0, 1.0);
                    w / factor * (1.0 - kept) + w * kept
                };
                (each(&ramped), *magnitude)
            }
            Scaling::LongRope { short, long, trained, magnitude } => {
                let factors = if context > *trained { long } else { short };
                (each(&|i, w| w / factors[i]), *magnitude)
            }
        };
        Ok(RoPE { dims: self.dims as u32, traditional: false, base: self.theta, frequencies, magnitude })
    }
}
