//! The error function (msun s_erf.c), and its inverse by Newton's method on the complement.

use super::exponential::exp;
use super::logarithm::log;
use super::{Compute, V, high_word, or_itself, with_sign};

/// erf x = x + x·P/Q in x², below 0.84375.
const NEAR: ([f64; 5], [f64; 6]) = (
    [
        -2.376_301_665_665_016_3e-5,
        -0.005_770_270_296_489_442,
        -0.028_481_749_575_598_51,
        -0.325_042_107_247_001_5,
        0.128_379_167_095_512_56,
    ],
    [
        -3.960_228_278_775_368e-6,
        0.000_132_494_738_004_321_64,
        0.005_081_306_281_875_766,
        0.065_022_249_988_767_3,
        0.397_917_223_959_155_35,
        1.0,
    ],
);
/// erf x = ERX + P/Q in x − 1, from there to 1.25.
const ERX: f64 = 0.845_062_911_510_467_5;
const MIDDLE: ([f64; 7], [f64; 7]) = (
    [
        -0.002_166_375_594_868_791,
        0.035_478_304_325_618_236,
        -0.110_894_694_282_396_68,
        0.318_346_619_901_161_75,
        -0.372_207_876_035_701_3,
        0.414_856_118_683_748_33,
        -0.002_362_118_560_752_659_4,
    ],
    [
        0.011_984_499_846_799_107,
        0.013_637_083_912_029_05,
        0.126_171_219_808_761_64,
        0.071_828_654_414_196_27,
        0.540_397_917_702_171,
        0.106_420_880_400_844_23,
        1.0,
    ],
);
/// erfc x = exp(−x² − 0.5625 + P/Q)/x in 1/x², from there to 1/0.35, and beyond.
const FAR: ([f64; 8], [f64; 9]) = (
    [
        -9.814_329_344_169_145,
        -81.287_435_506_306_6,
        -184.605_092_906_711_04,
        -162.396_669_462_573_47,
        -62.375_332_450_326_006,
        -10.558_626_225_323_291,
        -0.693_858_572_707_181_8,
        -0.009_864_944_034_847_148,
    ],
    [
        -0.060_424_415_214_858_1,
        6.570_249_770_319_282,
        108.635_005_541_779_44,
        429.008_140_027_567_83,
        645.387_271_733_267_9,
        434.565_877_475_229_23,
        137.657_754_143_519_04,
        19.651_271_667_439_257,
        1.0,
    ],
);
const TAIL: ([f64; 7], [f64; 8]) = (
    [
        -483.519_191_608_651_4,
        -1_025.095_131_611_077_2,
        -637.566_443_368_389_6,
        -160.636_384_855_821_92,
        -17.757_954_917_754_752,
        -0.799_283_237_680_523,
        -0.009_864_942_924_700_1,
    ],
    [
        -22.440_952_446_585_82,
        474.528_541_206_955_37,
        2_553.050_406_433_164_4,
        3_199.858_219_508_595_5,
        1_536.729_586_084_437,
        325.792_512_996_573_9,
        30.338_060_743_482_46,
        1.0,
    ],
);

fn ratio(m: &mut Compute<'_, '_>, x: V, p: &[f64], q: &[f64]) -> V {
    let (p, q) = (m.polynomial_f64(x, p), m.polynomial_f64(x, q));
    m.div(p, q)
}

/// erf and 1 − erf of a ≥ 0.
fn both(m: &mut Compute<'_, '_>, a: V) -> (V, V) {
    let square = m.mul(a, a);
    let y = ratio(m, square, &NEAR.0, &NEAR.1);
    let near = m.mad(a, y, a);
    let near_rest = m.sub(V::F64(1.0), near);
    let s = m.sub(a, V::F64(1.0));
    let y = ratio(m, s, &MIDDLE.0, &MIDDLE.1);
    let middle = m.add(y, V::F64(ERX));
    let middle_rest = m.sub(V::F64(1.0 - ERX), y);
    // exp(-28²) is 0.
    let inside = m.min(a, V::F64(28.0));
    let inside = m.max(inside, V::F64(1.0));
    let square = m.mul(inside, inside);
    let s = m.div(V::F64(1.0), square);
    let (first, second) = (ratio(m, s, &FAR.0, &FAR.1), ratio(m, s, &TAIL.0, &TAIL.1));
    let is_first = m.lt(a, V::F64(1.0 / 0.35));
    let r = m.select(is_first, first, second);
    // x² with what rounding its square loses.
    let z = high_word(m, inside);
    let high = m.mul(z, z);
    let high = m.neg(high);
    let high = m.sub(high, V::F64(0.5625));
    let (less, more) = (m.sub(z, inside), m.add(z, inside));
    let low = m.mad(less, more, r);
    let (e, f) = (exp(m, high), exp(m, low));
    let product = m.mul(e, f);
    let far_rest = m.div(product, inside);
    let far = m.sub(V::F64(1.0), far_rest);
    let (is_near, is_middle) = (m.lt(a, V::F64(0.84375)), m.lt(a, V::F64(1.25)));
    let value = m.select(is_middle, middle, far);
    let rest = m.select(is_middle, middle_rest, far_rest);
    (m.select(is_near, near, value), m.select(is_near, near_rest, rest))
}

pub(super) fn erf(m: &mut Compute<'_, '_>, x: V) -> V {
    let a = m.abs(x);
    let (value, _) = both(m, a);
    let result = with_sign(m, value, x);
    or_itself_scaled(m, x, result)
}

/// As `or_itself`, with erf's slope at 0.
fn or_itself_scaled(m: &mut Compute<'_, '_>, x: V, result: V) -> V {
    let line = m.mul(x, V::F64(std::f64::consts::FRAC_2_SQRT_PI));
    let square = m.mul(x, x);
    let usual = m.gt(square, V::F64(0.0));
    m.select(usual, result, line)
}

/// From Winitzki's estimate (2008), Newton's steps on erf below ½ and on 1 − erf beyond, where 1 − |x| is exact.
pub(super) fn erfinv(m: &mut Compute<'_, '_>, x: V) -> V {
    let a = m.abs(x);
    let rest = m.sub(V::F64(1.0), a);
    let more = m.add(a, V::F64(1.0));
    let product = m.mul(rest, more);
    let l = log(m, product);
    let half = m.mul(l, V::F64(0.5));
    let t = m.add(half, V::F64(2.0 / (std::f64::consts::PI * 0.147)));
    let square = m.mul(t, t);
    let scaled = m.mul(l, V::F64(1.0 / 0.147));
    let root = m.sub(square, scaled);
    let root = m.sqrt(root);
    let start = m.sub(root, t);
    let start = m.max(start, V::F64(0.0));
    let start = m.sqrt(start);
    let low = m.lt(a, V::F64(0.5));
    let line = m.mul(a, V::F64(1.0 / std::f64::consts::FRAC_2_SQRT_PI));
    let mut y = m.select(low, line, start);
    for _ in 0..4 {
        let (value, complement) = both(m, y);
        let (below, beyond) = (m.sub(value, a), m.sub(rest, complement));
        let off = m.select(low, below, beyond);
        let square = m.mul(y, y);
        let inverse = exp(m, square);
        let step = m.mul(off, V::F64(1.0 / std::f64::consts::FRAC_2_SQRT_PI));
        let step = m.mul(step, inverse);
        // Halley's correction: the second derivative is −2y of the first.
        let bend = m.mad(y, step, V::F64(1.0));
        let step = m.div(step, bend);
        y = m.sub(y, step);
    }
    let end = m.eq(a, V::F64(1.0));
    let y = m.select(end, V::F64(f64::INFINITY), y);
    let valid = m.le(a, V::F64(1.0));
    let y = m.select(valid, y, V::F64(f64::NAN));
    let result = with_sign(m, y, x);
    or_itself(m, x, result)
}
