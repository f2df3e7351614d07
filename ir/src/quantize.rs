//! Quantised weights: the schemes, their bit layout, and the arithmetic that makes and reads them.
//!
//! The layout and the arithmetic are MLX's, bit for bit, so that its checkpoints load as they are: a row of codes is one
//! little-endian stream of bits in u32 words, and every `group` codes share a scale. Affine groups have a bias as well:
//! `value = scale * code + bias`. The microscaling formats (OCP MX specification 1.0; NVFP4) have small floats as codes and
//! a power of two (E8M0) or an E4M3 float as scale.

use mlxc_package::DType;
use std::fmt;
use std::str::FromStr;

/// What codes and scales mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QuantMode {
    /// Unsigned integers with a float scale and bias.
    Affine,
    /// E2M1 floats with a power of two for every 32.
    Mxfp4,
    /// E4M3 floats with a power of two for every 32.
    Mxfp8,
    /// E2M1 floats with an E4M3 scale for every 16.
    Nvfp4,
}

impl QuantMode {
    /// Every mode.
    pub const ALL: [QuantMode; 4] = [QuantMode::Affine, QuantMode::Mxfp4, QuantMode::Mxfp8, QuantMode::Nvfp4];

    /// MLX's name.
    pub const fn name(self) -> &'static str {
        match self {
            QuantMode::Affine => "affine",
            QuantMode::Mxfp4 => "mxfp4",
            QuantMode::Mxfp8 => "mxfp8",
            QuantMode::Nvfp4 => "nvfp4",
        }
    }

    /// The mode of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name)
    }
}

/// How a weight is quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scheme {
    mode: QuantMode,
    bits: u8,
    group: u16,
}

impl Scheme {
    /// A scheme: affine with 2, 3, 4, 5, 6 or 8 bits and groups of 32, 64 or 128; `mxfp4` (4, 32), `mxfp8` (8, 32) or `nvfp4`
    /// (4, 16). `None` for any other.
    pub fn new(mode: QuantMode, bits: u32, group: u32) -> Option<Self> {
        let known = match mode {
            QuantMode::Affine => matches!(bits, 2..=6 | 8) && matches!(group, 32 | 64 | 128),
            QuantMode::Mxfp4 => (bits, group) == (4, 32),
            QuantMode::Mxfp8 => (bits, group) == (8, 32),
            QuantMode::Nvfp4 => (bits, group) == (4, 16),
        };
        known.then_some(Scheme { mode, bits: bits as u8, group: group as u16 })
    }

    /// An affine scheme.
    pub fn affine(bits: u32, group: u32) -> Option<Self> {
        Self::new(QuantMode::Affine, bits, group)
    }

    /// The bits and group that a mode has unless told otherwise, as in MLX.
    pub fn default_of(mode: QuantMode) -> Self {
        let (bits, group) = match mode {
            QuantMode::Affine => (4, 64),
            QuantMode::Mxfp4 => (4, 32),
            QuantMode::Mxfp8 => (8, 32),
            QuantMode::Nvfp4 => (4, 16),
        };
        Scheme { mode, bits, group }
    }

    /// Every scheme, affine ones first.
    pub fn all() -> Vec<Scheme> {
        let affine = [2, 3, 4, 5, 6, 8].into_iter().flat_map(|b| [32, 64, 128].map(|g| Scheme::affine(b, g)));
        let others = [QuantMode::Mxfp4, QuantMode::Mxfp8, QuantMode::Nvfp4].map(|m| Some(Scheme::default_of(m)));
        affine.chain(others).flatten().collect()
    }

    /// What codes and scales mean.
    pub const fn mode(self) -> QuantMode {
        self.mode
    }

    /// Bits of a code.
    pub const fn bits(self) -> u32 {
        self.bits as u32
    }

    /// Codes that share a scale.
    pub const fn group(self) -> u32 {
        self.group as u32
    }

    /// True if groups have a bias beside their scale.
    pub const fn has_biases(self) -> bool {
        matches!(self.mode, QuantMode::Affine)
    }

    /// dtype of the scales: `float` for affine schemes, else u8.
    pub const fn scale_dtype(self, float: DType) -> DType {
        if self.has_biases() { float } else { DType::U8 }
    }

    /// u32 words of a row of `k` codes, if `k` is a whole number of groups.
    pub fn words(self, k: i64) -> Option<i64> {
        (k % i64::from(self.group) == 0).then(|| k * i64::from(self.bits) / 32)
    }

    /// Groups of a row of `k` codes, if `k` is a whole number of them.
    pub fn groups(self, k: i64) -> Option<i64> {
        (k % i64::from(self.group) == 0).then(|| k / i64::from(self.group))
    }

    /// Fewest codes that fill whole words, and the words they fill.
    pub const fn block(self) -> (u32, u32) {
        match self.bits {
            3 => (32, 3),
            5 => (32, 5),
            6 => (16, 3),
            b => (32 / b as u32, 1),
        }
    }

    /// The value of a code before its scale; exact in bf16.
    pub fn code(self, code: u32) -> f32 {
        match self.mode {
            QuantMode::Affine => code as f32,
            QuantMode::Mxfp4 | QuantMode::Nvfp4 => E2M1[code as usize & 15],
            QuantMode::Mxfp8 => from_e4m3(code as u8),
        }
    }

    /// The value of a stored u8 scale of the modes without biases.
    pub fn scale(self, scale: u8) -> f32 {
        match self.mode {
            QuantMode::Nvfp4 => from_e4m3(scale),
            // The smallest power of two is a subnormal of f32.
            _ => f32::from_bits(if scale == 0 { 0x0040_0000 } else { u32::from(scale) << 23 }),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.bits, self.group, self.mode.name())
    }
}

/// A text that is no scheme.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no quantisation: BITS,GROUP[,MODE] with affine 2, 3, 4, 5, 6 or 8 bits and groups of 32, 64 or 128, or mxfp4, mxfp8, nvfp4"
)]
pub struct UnknownScheme(pub String);

impl FromStr for Scheme {
    type Err = UnknownScheme;

    /// Reads `4,64`, `4,64,affine`, `4` (group of the mode) or a mode's name.
    fn from_str(text: &str) -> Result<Self, UnknownScheme> {
        let unknown = || UnknownScheme(text.to_string());
        if let Some(mode) = QuantMode::from_name(text) {
            return Ok(Scheme::default_of(mode));
        }
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let number = |s: &str| s.parse::<u32>().map_err(|_| unknown());
        let (bits, group, mode) = match parts.as_slice() {
            [b] => (number(b)?, 64, QuantMode::Affine),
            [b, g] => (number(b)?, number(g)?, QuantMode::Affine),
            [b, g, m] => (number(b)?, number(g)?, QuantMode::from_name(m).ok_or_else(unknown)?),
            _ => return Err(unknown()),
        };
        Scheme::new(mode, bits, group).ok_or_else(unknown)
    }
}

/// The largest of the 8-bit integers that activations are rounded to: the smallest is its opposite.
pub const INT8_LARGEST: f32 = 127.0;
/// Activations of a group whose largest magnitude is below this are rounded to 0: 2^-100.
pub const INT8_LEAST: f32 = f32::from_bits((127 - 100) << 23);

/// Rounds values that share a scale to 8-bit integers times it, as symmetric dynamic quantisation does: the scale is their
/// largest magnitude / 127, integers are the nearest, ties to even. In f32; a largest magnitude that is not finite makes
/// the values NaN or infinite. Each value is off by at most half the scale.
pub fn round_int8(values: &mut [f64]) {
    let largest = values.iter().fold(0.0f32, |m, v| {
        let v = (*v as f32).abs();
        if v > m || v.is_nan() { v } else { m }
    });
    let (per, scale) =
        if largest < INT8_LEAST { (0.0, 0.0) } else { (INT8_LARGEST / largest, largest * (1.0 / INT8_LARGEST)) };
    for v in values {
        let code = (*v as f32 * per).round_ties_even();
        *v = f64::from(code) * f64::from(scale);
    }
}

/// Values of the E2M1 codes.
const E2M1: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// The value of an E4M3 code; the NaN pattern reads as 480, as in MLX.
pub fn from_e4m3(code: u8) -> f32 {
    let magnitude = f32::from_bits(u32::from(code & 0x7f) << 20) * f32::from_bits(0x7b80_0000);
    if code & 0x80 != 0 { -magnitude } else { magnitude }
}

/// The E4M3 code nearest to a value, ties to even, saturating at 448.
pub fn to_e4m3(x: f32) -> u8 {
    let sign = (x.to_bits() >> 24) as u8 & 0x80;
    let bits = x.to_bits() & 0x7fff_ffff;
    let code = if bits >= 543 << 21 {
        0x7e
    } else if bits < 121 << 23 {
        // Adding this power of two rounds to the subnormals' spacing.
        let magic = 141 << 23;
        (f32::from_bits(bits) + f32::from_bits(magic)).to_bits().wrapping_sub(magic) as u8
    } else {
        let odd = (bits >> 20) & 1;
        (bits.wrapping_sub(120 << 23).wrapping_add(0x7_ffff + odd) >> 20) as u8
    };
    code | sign
}

/// A quantised matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quantized {
    /// Codes, `k * bits / 32` words a row.
    pub words: Vec<u32>,
    /// Affine scales, one a group; the values are representable in the weight's dtype.
    pub scales: Vec<f32>,
    /// Scales of the other modes, one a group.
    pub small_scales: Vec<u8>,
    /// Affine biases, one a group.
    pub biases: Vec<f32>,
}

/// Quantises the rows of a matrix, bit for bit as MLX's `quantize` on a CPU. `values` are elements of `dtype` (f32, f16 or
/// bf16) widened to f32, a whole number of groups.
pub fn quantize(scheme: Scheme, values: &[f32], dtype: DType) -> Quantized {
    let mut out = Quantized::default();
    let mut bits = BitWriter { words: &mut out.words, held: 0, filled: 0 };
    for group in values.chunks_exact(scheme.group() as usize) {
        match scheme.mode {
            QuantMode::Affine => {
                let (scale, bias) = affine_group(group, scheme.bits());
                let most = ((1u32 << scheme.bits()) - 1) as f32;
                for x in group {
                    let code = ((x - bias) / scale).round_ties_even().max(0.0).min(most);
                    bits.push(code as u32, scheme.bits());
                }
                out.scales.push(round(scale, dtype));
                out.biases.push(round(bias, dtype));
            }
            mode => {
                let (scale, codes) = small_float_group(mode, group, dtype);
                codes.for_each(|c| bits.push(c, scheme.bits()));
                out.small_scales.push(scale);
            }
        }
    }
    out
}

/// Scale and bias of an affine group: the extreme of larger magnitude is hit exactly.
fn affine_group(group: &[f32], bits: u32) -> (f32, f32) {
    let most = ((1u32 << bits) - 1) as f32;
    let hi = group.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    let lo = group.iter().fold(f32::INFINITY, |m, x| m.min(*x));
    let low_edge = lo.abs() > hi.abs();
    let step = ((hi - lo) / most).max(1e-7);
    let scale = if low_edge { step } else { -step };
    let edge = if low_edge { lo } else { hi };
    let at = (edge / scale).round_ties_even();
    if at == 0.0 { (scale, 0.0) } else { (edge / at, edge) }
}

/// Scale and codes of a group of small floats. Powers of two are found in f32 and rounded up; the other steps round to the
/// weight's dtype, as in MLX 0.32.
fn small_float_group(mode: QuantMode, group: &[f32], dtype: DType) -> (u8, impl Iterator<Item = u32> + '_) {
    let largest = if mode == QuantMode::Mxfp8 { 448.0 } else { 6.0 };
    let most = group.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let scale = round(most / largest, dtype);
    let (stored, divisor) = if mode == QuantMode::Nvfp4 {
        let code = to_e4m3(scale);
        (code, from_e4m3(code))
    } else {
        let exponent = if scale == 0.0 { 0.0 } else { (most / largest).log2().ceil() };
        ((exponent as i32 + 127) as u8, round(exponent.exp2(), dtype))
    };
    let codes = group.iter().map(move |x| {
        let y = round(x / divisor, dtype);
        if mode == QuantMode::Mxfp8 {
            return u32::from(to_e4m3(y));
        }
        // The first nearest value; NVFP4 differences are taken in f32.
        let away = |v: f32| if mode == QuantMode::Nvfp4 { (y - v).abs() } else { round(y - v, dtype).abs() };
        let mut best = 0;
        for (i, v) in E2M1.iter().enumerate() {
            if away(*v) < away(E2M1[best]) {
                best = i;
            }
        }
        best as u32
    });
    (stored, codes)
}

fn round(x: f32, dtype: DType) -> f32 {
    match dtype {
        DType::F16 => half::f16::from_f32(x).to_f32(),
        DType::BF16 => half::bf16::from_f32(x).to_f32(),
        _ => x,
    }
}

struct BitWriter<'a> {
    words: &'a mut Vec<u32>,
    held: u64,
    filled: u32,
}

impl BitWriter<'_> {
    fn push(&mut self, code: u32, bits: u32) {
        self.held |= u64::from(code) << self.filled;
        self.filled += bits;
        if self.filled >= 32 {
            self.words.push(self.held as u32);
            self.held >>= 32;
            self.filled -= 32;
        }
    }
}

/// Code `i` of a row of words.
pub fn code_at(words: &[u32], i: usize, bits: u32) -> u32 {
    let first = i * bits as usize;
    let (word, shift) = (first / 32, first % 32);
    let low = words[word] >> shift;
    let high = if shift + bits as usize > 32 { words[word + 1] << (32 - shift) } else { 0 };
    (low | high) & ((1 << bits) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_schemes() {
        assert_eq!("4,64".parse(), Ok(Scheme::affine(4, 64).unwrap()));
        assert_eq!("8".parse(), Ok(Scheme::affine(8, 64).unwrap()));
        assert_eq!("mxfp4".parse(), Ok(Scheme::default_of(QuantMode::Mxfp4)));
        assert!("7,64".parse::<Scheme>().is_err());
        assert!("4,64,mxfp4".parse::<Scheme>().is_err());
        for s in Scheme::all() {
            assert_eq!(s.to_string().parse(), Ok(s));
        }
    }

    #[test]
    fn small_floats_round_trip_and_round_to_even() {
        for code in 0..=255u8 {
            if code & 0x7f != 0x7f {
                assert_eq!(to_e4m3(from_e4m3(code)), code, "{code}");
            }
        }
        assert_eq!(from_e4m3(0x7e), 448.0);
        assert_eq!(to_e4m3(1e9), 0x7e);
        // Halfway between 16 and 18 goes to the even mantissa.
        assert_eq!(from_e4m3(to_e4m3(17.0)), 16.0);
        assert_eq!(from_e4m3(to_e4m3(19.0)), 20.0);
    }

    #[test]
    fn codes_are_one_stream_of_bits() {
        for s in Scheme::all() {
            let values: Vec<f32> = (0..2 * s.group()).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
            let q = quantize(s, &values, DType::F32);
            assert_eq!(q.words.len() as i64, s.words(values.len() as i64).unwrap());
            let worst = values.iter().enumerate().map(|(i, x)| {
                let code = s.code(code_at(&q.words, i, s.bits()));
                let g = i / s.group() as usize;
                let y = match s.mode() {
                    QuantMode::Affine => code * q.scales[g] + q.biases[g],
                    _ => code * s.scale(q.small_scales[g]),
                };
                (x - y).abs()
            });
            let step = 15.0 / ((1u32 << s.bits()) - 1) as f32;
            assert!(worst.fold(0.0, f32::max) <= step.max(1.7), "{s}");
        }
    }
}
