//! Quantising at run time, in primitives.

use super::array::{Array, Operand};
use super::here;
use super::quantized::Quantized;
use super::shape::Dim;
use mlxc_ir::graph::{Dense, Op};
use mlxc_ir::{DType, Diagnostic, QuantMode, Scheme};
use std::sync::Arc;

/// Codes of every group, its scale, and its bias where the scheme has them.
type Parts = (Array, Array, Option<Array>);

impl Array {
    /// Quantises rows of whole groups along the last axis, with the arithmetic of MLX's `quantize`. Affine schemes compute in
    /// f32 and give scales and biases of this array's dtype.
    ///
    /// Reports `MLXC0140` for rows that are no whole number of groups.
    #[track_caller]
    pub fn quantize(&self, scheme: Scheme) -> Quantized {
        let at = here();
        let group = i64::from(scheme.group());
        let k = self.dim(-1).as_const();
        let Some(k) = k.filter(|k| self.ndim() > 0 && self.dtype().is_float() && k % group == 0) else {
            let d = Diagnostic::new(140, "the array cannot be quantised")
                .expected(format!("floats, and a last axis of whole groups of {group}"))
                .found(format!("{} and {} elements", self.dtype(), k.map_or("symbolic".into(), |k| k.to_string())));
            let none = self.fail(d, &at);
            return Quantized { words: none.clone(), scales: none.clone(), biases: None, scheme };
        };
        let mut lead = self.shape();
        lead.pop();
        let with =
            |tail: &[i64]| -> Vec<Dim> { lead.iter().cloned().chain(tail.iter().map(|n| Dim::from(*n))).collect() };
        let x = self.reshape(with(&[k / group, group]));
        let (codes, scales, biases) = match scheme.mode() {
            QuantMode::Affine => x.affine_codes(scheme),
            _ => x.small_float_codes(scheme),
        };
        let words = codes.pack(scheme, &with);
        Quantized { words, scales: scales.squeeze(-1), biases: biases.map(|b| b.squeeze(-1)), scheme }
    }

    /// Groups `[.., groups, group]` as integers between the extremes; the extreme of larger magnitude is hit exactly.
    #[track_caller]
    fn affine_codes(&self, scheme: Scheme) -> Parts {
        let x = self.astype(DType::F32);
        let (lo, hi) = (x.min(-1, true), x.max(-1, true));
        let most = f64::from((1u32 << scheme.bits()) - 1);
        let low_edge = lo.abs().greater(hi.abs());
        let step = ((&hi - &lo) / most).maximum(f64::from(1e-7f32));
        let scale = low_edge.choose(&step, step.negative());
        let edge = low_edge.choose(&lo, &hi);
        let ratio = (&edge / &scale).round();
        let flat = ratio.equal(0.0);
        // Where the edge rounds to code 0 its quotient is not used: divide by something else than 0.
        let scale = flat.choose(&scale, &edge / flat.choose(&scale, &ratio));
        let bias = flat.choose(&edge * 0.0, &edge);
        let codes = ((&x - &bias) / &scale).round().maximum(0.0).minimum(most).astype(DType::U32);
        (codes, scale.astype(self.dtype()), Some(bias.astype(self.dtype())))
    }

    /// Groups as small floats of a common scale.
    #[track_caller]
    fn small_float_codes(&self, scheme: Scheme) -> Parts {
        let wide = |a: &Array| a.astype(DType::F32);
        let largest = if scheme.mode() == QuantMode::Mxfp8 { 448.0 } else { 6.0 };
        let most = wide(&self.abs().max(-1, true)) / largest;
        let (stored, divisor) = if scheme.mode() == QuantMode::Nvfp4 {
            let code = wide(&most.astype(self.dtype())).e4m3();
            // Scales are not negative: the code's bits at f32's place, and a factor for the other exponent bias.
            let value = code.left_shift(20).view(DType::F32) * f64::from(120.0f32.exp2());
            (code, value)
        } else {
            // The next power of two: the exponent's bits, one more where there is a mantissa.
            let bits = most.view(DType::U32);
            let exponent = bits.right_shift(23) + bits.bitwise_and(0x007f_ffff).not_equal(0).astype(DType::U32);
            // A group of zeros has exponent 0, which is stored as 127.
            let zero = wide(&most.astype(self.dtype())).equal(0.0);
            let exponent = zero.choose(exponent.full_like(127.0), &exponent);
            let smallest = exponent.equal(0);
            let power =
                smallest.choose(exponent.full_like(f64::from(0x0040_0000)), exponent.left_shift(23)).view(DType::F32);
            (exponent, power)
        };
        let y = wide(&(wide(self) / divisor).astype(self.dtype()));
        let codes = if scheme.mode() == QuantMode::Mxfp8 { y.e4m3() } else { y.e2m1() };
        (codes, stored.astype(DType::U8), None)
    }

    /// The E2M1 codes nearest to f32 values: the smaller of two as near, and +0 for what rounds to zero.
    #[track_caller]
    fn e2m1(&self) -> Array {
        let magnitude = self.abs();
        let above = |t: f64| magnitude.greater(t).astype(DType::U32);
        let code = [0.75, 1.25, 1.75, 2.5, 3.5, 5.0].into_iter().fold(above(0.25), |n, t| n + above(t));
        let negative = self.less(0.0).logical_and(code.greater(0));
        code + negative.astype(DType::U32) * 8
    }

    /// The E4M3 codes nearest to f32 values, ties to even, saturating at 448.
    #[track_caller]
    fn e4m3(&self) -> Array {
        let all = self.view(DType::U32);
        let sign = all.right_shift(24).bitwise_and(0x80);
        let bits = all.bitwise_and(0x7fff_ffff);
        // Adding this power of two rounds to the subnormals' spacing.
        let magic = 141i64 << 23;
        let low = (bits.view(DType::F32) + f64::from(f32::from_bits(magic as u32))).view(DType::U32) - magic;
        let odd = bits.right_shift(20).bitwise_and(1);
        let high = (&bits - (120i64 << 23) + odd + 0x7_ffff).right_shift(20);
        let code = bits.less(121i64 << 23).choose(&low, &high);
        let code = bits.greater_equal(543i64 << 21).choose(code.full_like(f64::from(0x7e)), &code);
        code.bitwise_or(sign)
    }

    /// Codes as one little-endian stream of bits a row.
    #[track_caller]
    fn pack(&self, scheme: Scheme, with: &dyn Fn(&[i64]) -> Vec<Dim>) -> Array {
        let (codes, words) = scheme.block();
        let bits = i64::from(scheme.bits());
        let groups = self.dim(-2).as_const().unwrap_or(0);
        let blocks = groups * i64::from(scheme.group()) / i64::from(codes);
        // Code i of a block reaches word j by a shift to the left or, where it began in the word before, to the right. Shifts
        // by 32 and more give 0.
        let shift = |right: bool| {
            let amounts = (0..i64::from(words)).flat_map(|j| {
                (0..i64::from(codes)).map(move |i| {
                    let to = if right { 32 * j - i * bits } else { i * bits - 32 * j };
                    if to < i64::from(right) || to >= 32 { 32 } else { to as u32 }
                })
            });
            let bytes = amounts.flat_map(u32::to_le_bytes).collect();
            let dense = Dense { dtype: DType::U32, shape: vec![words.into(), codes.into()], bytes };
            self.make(Op::Constant(Arc::new(dense)), &[], &here())
        };
        let spread = self.reshape(with(&[blocks, 1, codes.into()]));
        let left = spread.left_shift(Operand::from(shift(false)));
        let right = spread.right_shift(Operand::from(shift(true)));
        left.bitwise_or(right).sum(-1, false).reshape(with(&[blocks * i64::from(words)]))
    }
}
