//! What `circular` and `power` compute in f64, for targets without it: in f32 and integers. Products that have to be
//! exact are of factors with few bits, so that neither contraction nor its absence changes them.

use mlxc_ir::DType;

use super::logarithm::split;
use super::{Compute, V};

/// Up to here n is below 2¹⁴, and n times 10 bits exact.
const NEAR: f32 = 25_000.0;
/// The bits of 2/π behind the point, two places further right.
const TWO_OVER_PI: [u32; 8] =
    [0, 0x28BE_60DB, 0x9391_054A, 0x7F09_D5F4, 0x7D4D_3770, 0x36D8_A566, 0x4F10_E410, 0x7F94_58EA];
/// (log(1 + f) − f + f²/2)/f³, highest power first, as in [`super::logarithm`].
const LOG: [f32; 9] = super::logarithm::LOG;
/// (2ʳ − 1)/r, as in [`super::exponential`].
const EXP2: [f32; 6] = super::exponential::EXP2;

/// π/2 in four parts of 10 bits and the rest.
fn half_pi() -> [f32; 5] {
    // What π/2 has beyond f64.
    const BEYOND: f64 = 6.123_233_995_736_766e-17;
    let mut rest = std::f64::consts::FRAC_PI_2;
    let mut parts = [0.0; 5];
    let (last, first) = parts.split_last_mut().expect("invariant: there are five parts");
    for part in first {
        *part = f32::from_bits((rest as f32).to_bits() & 0xFFFF_C000);
        rest -= f64::from(*part);
    }
    *last = (rest + BEYOND) as f32;
    parts
}

/// x = n·π/2 + r: n modulo 4 as an i32, and r (Cody and Waite; Payne and Hanek where n is large).
pub(super) fn reduce(m: &mut Compute<'_, '_>, x: V) -> (V, V) {
    let n = m.mad(x, V::F32(std::f32::consts::FRAC_2_PI), V::F32(0.5));
    let n = m.floor(n);
    let r = half_pi().into_iter().fold(x, |r, part| m.mad(n, V::F32(-part), r));
    let n = m.cast(n, DType::I32);
    let (n, r) = (m.variable(n), m.variable(r));
    let size = m.abs(x);
    let far = m.any_above(size, NEAR);
    m.when(far, |m| {
        let (far_n, far_r) = reduce_far(m, x);
        let large = m.gt(size, V::F32(NEAR));
        let finite = m.le(size, V::F32(f32::MAX));
        let is_far = m.and(large, finite);
        for (near, far) in [(n, far_n), (r, far_r)] {
            let chosen = m.select(is_far, far, near);
            m.set(near, chosen);
        }
    });
    (n, r)
}

/// The 32-bit mantissa of x times the 96 bits of 2/π that matter, modulo 4, as an integer and a fraction in 62 bits.
fn reduce_far(m: &mut Compute<'_, '_>, x: V) -> (V, V) {
    let bits = m.bits(x, DType::U32);
    let mantissa = m.shl(bits, V::U32(8));
    let mantissa = m.or(mantissa, V::U32(0x8000_0000));
    let exponent = m.shr(bits, V::U32(23));
    let exponent = m.and(exponent, V::U32(0xFF));
    // |x| is above 1 where the result is used; elsewhere any shift will do.
    let exponent = m.sub(exponent, V::U32(126));
    let exponent = m.and(exponent, V::U32(0xFF));
    let word = m.shr(exponent, V::U32(5));
    let by = m.and(exponent, V::U32(31));
    let back = m.sub(V::U32(31), by);
    let words: [V; 4] = std::array::from_fn(|offset| {
        let mut chosen = V::U32(TWO_OVER_PI[offset]);
        for w in 1..=4u32 {
            let is_word = m.eq(word, V::U32(w));
            chosen = m.select(is_word, V::U32(TWO_OVER_PI[offset + w as usize]), chosen);
        }
        chosen
    });
    let mut window = [V::U32(0); 3];
    for (at, pair) in words.windows(2).enumerate() {
        let left = m.shl(pair[0], by);
        // A shift by 32 in two parts.
        let right = m.shr(pair[1], V::U32(1));
        let right = m.shr(right, back);
        window[at] = m.or(left, right);
    }
    let [high, middle, low] = window;
    let carry = high_product(m, mantissa, low);
    let middle_low = m.mul(mantissa, middle);
    let middle_high = high_product(m, mantissa, middle);
    let p_low = m.add(middle_low, carry);
    let over = m.lt(p_low, carry);
    let over = m.select(over, V::U32(1), V::U32(0));
    let p_high = m.mul(mantissa, high);
    let p_high = m.add(p_high, middle_high);
    let p_high = m.add(p_high, over);

    // The nearest integer, and what is left as a signed fraction of 62 bits.
    let round = m.shr(p_high, V::U32(29));
    let round = m.and(round, V::U32(1));
    let quadrant = m.shr(p_high, V::U32(30));
    let quadrant = m.add(quadrant, round);
    let fraction = m.shl(p_high, V::U32(2));
    let below = m.shr(p_low, V::U32(30));
    let fraction = m.or(fraction, below);
    let rest = m.shl(p_low, V::U32(2));
    // Negated where it was rounded up, so that its bits count from the top.
    let up = m.ne(round, V::U32(0));
    let (inverse, inverse_rest) = (m.not(fraction), m.not(rest));
    let fraction = m.select(up, inverse, fraction);
    let rest = m.select(up, inverse_rest, rest);
    let high = m.and(fraction, V::U32(0xFFFF_0000));
    let low = m.and(fraction, V::U32(0xFFFF));
    let parts = [(high, 2f32.powi(-32)), (low, 2f32.powi(-32)), (rest, 2f32.powi(-64))];
    let [high, low, rest] = parts.map(|(part, unit)| {
        let part = m.cast(part, DType::F32);
        m.mul(part, V::F32(unit))
    });
    let low = m.add(low, rest);
    let sum = m.add(high, low);
    let r = m.mul(sum, V::F32(std::f32::consts::FRAC_PI_2));
    let negative = m.neg(r);
    let r = m.select(up, negative, r);

    let below_zero = m.lt(x, V::F32(0.0));
    let (opposite, other) = (m.neg(r), m.sub(V::U32(0), quadrant));
    let r = m.select(below_zero, opposite, r);
    let quadrant = m.select(below_zero, other, quadrant);
    (m.bits(quadrant, DType::I32), r)
}

/// The upper 32 bits of a product.
fn high_product(m: &mut Compute<'_, '_>, a: V, b: V) -> V {
    let [(a_high, a_low), (b_high, b_low)] = [a, b].map(|v| {
        let high = m.shr(v, V::U32(16));
        (high, m.and(v, V::U32(0xFFFF)))
    });
    let low = m.mul(a_low, b_low);
    let low = m.shr(low, V::U32(16));
    let cross = m.mul(a_high, b_low);
    let cross = m.add(cross, low);
    let (carry, cross) = (m.shr(cross, V::U32(16)), m.and(cross, V::U32(0xFFFF)));
    let other = m.mul(a_low, b_high);
    let other = m.add(other, cross);
    let other = m.shr(other, V::U32(16));
    let high = m.mul(a_high, b_high);
    let high = m.add(high, carry);
    m.add(high, other)
}

/// The upper 12 bits of the significand, and the rest.
fn halves(m: &mut Compute<'_, '_>, x: V) -> (V, V) {
    let bits = m.bits(x, DType::U32);
    let high = m.and(bits, V::U32(0xFFFF_F000));
    let high = m.bits(high, DType::F32);
    (high, m.sub(x, high))
}

/// xʸ for x ≥ 0, 0 and ∞ included: 2 to the y·log₂ x, both in two parts.
pub(super) fn positive(m: &mut Compute<'_, '_>, x: V, y: V) -> V {
    let (exponent, mantissa) = split(m, x);
    let f = m.sub(mantissa, V::F32(1.0));
    let (log_high, log_low) = log2_of_1_plus(m, f);

    // Far beyond what overflows or vanishes for every x but 1.
    let bound = 2f32.powi(40);
    let limited = m.max(y, V::F32(-bound));
    let limited = m.min(limited, V::F32(bound));
    let (y_high, y_low) = halves(m, limited);
    let whole = m.mul(y_high, exponent);
    let fraction = m.mul(y_high, log_high);
    let rest = m.mul(y_low, exponent);
    let rest = m.mad(y_low, log_high, rest);
    let rest = m.mad(limited, log_low, rest);
    let t = m.add(whole, fraction);
    let t = m.add(t, rest);
    let t = m.max(t, V::F32(-200.0));
    let t = m.min(t, V::F32(200.0));
    let n = m.add(t, V::F32(0.5));
    let n = m.floor(n);
    let r = m.sub(whole, n);
    let r = m.add(r, fraction);
    let r = m.add(r, rest);
    let r = m.max(r, V::F32(-1.0));
    let r = m.min(r, V::F32(1.0));
    let p = m.polynomial(r, &EXP2);
    let p = m.mad(p, r, V::F32(1.0));
    // In two steps, so that neither power leaves the range.
    let n = m.cast(n, DType::I32);
    let first = m.shr(n, V::I32(1));
    let second = m.sub(n, first);
    let result = [first, second].into_iter().fold(p, |value, power| {
        let field = m.add(power, V::I32(127));
        let field = m.shl(field, V::I32(23));
        let factor = m.bits(field, DType::F32);
        m.mul(value, factor)
    });

    let rises = m.gt(y, V::F32(0.0));
    let of_zero = m.select(rises, V::F32(0.0), V::F32(f32::INFINITY));
    let of_infinity = m.select(rises, V::F32(f32::INFINITY), V::F32(0.0));
    let is_zero = m.eq(x, V::F32(0.0));
    let result = m.select(is_zero, of_zero, result);
    let infinite = m.gt(x, V::F32(f32::MAX));
    m.select(infinite, of_infinity, result)
}

/// log₂(1 + f) in two parts, the first of 12 bits: log₂e·(f − f²/2 + f³·P(f)), where f and f² are taken exactly.
fn log2_of_1_plus(m: &mut Compute<'_, '_>, f: V) -> (V, V) {
    let log2_e = std::f64::consts::LOG2_E;
    let high = f32::from_bits((log2_e as f32).to_bits() & 0xFFFF_F000);
    let low = (log2_e - f64::from(high)) as f32;
    let all = log2_e as f32;

    let (f_high, f_low) = halves(m, f);
    let square = m.mul(f_high, f_high);
    let (square_high, square_low) = halves(m, square);
    let both = m.add(f, f_high);
    let square_low = m.mad(f_low, both, square_low);
    let p = m.polynomial(f, &LOG);
    let full = m.mul(f, f);
    let cube = m.mul(f, full);
    let p = m.mul(p, cube);

    let first = m.mul(f_high, V::F32(high));
    let second = m.mul(square_high, V::F32(-0.5 * high));
    let sum = m.add(first, second);
    let kept = m.sub(sum, first);
    let error = m.sub(second, kept);
    let rest = m.mul(f_high, V::F32(low));
    let rest = m.mad(square_high, V::F32(-0.5 * low), rest);
    let rest = m.mad(f_low, V::F32(all), rest);
    let rest = m.mad(square_low, V::F32(-0.5 * all), rest);
    let rest = m.add(rest, error);
    let rest = m.mad(p, V::F32(all), rest);
    let total = m.add(sum, rest);
    let (log, _) = halves(m, total);
    let moved = m.sub(log, sum);
    (log, m.sub(rest, moved))
}
