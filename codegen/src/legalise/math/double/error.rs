//! The error function (msun s_erf.c), and its inverse by Newton's method on the complement.

use super::exponential::exp;
use super::logarithm::log;
use super::{Compute, V, high_word, or_itself, with_sign};

/// erf x = x + x·P/Q in x², below 0.84375.
const NEAR: ([f64; 5], [f64; 6]) = (
    [
        -2.376_301_665_665_016_260_84e-5,
        -5.770_270_296_489_441_591_57e-3,
        -2.848_174_957_559_851_047_66e-2,
        -3.250_421_072_470_014_993_70e-1,
        1.283_791_670_955_125_585_61e-1,
    ],
    [
        -3.960_228_278_775_368_123_20e-6,
        1.324_947_380_043_216_445_26e-4,
        5.081_306_281_875_765_627_76e-3,
        6.502_224_998_876_729_444_85e-2,
        3.979_172_239_591_553_528_19e-1,
        1.0,
    ],
);
/// erf x = ERX + P/Q in x − 1, from there to 1.25.
const ERX: f64 = 8.450_629_115_104_675_292_97e-1;
const MIDDLE: ([f64; 7], [f64; 7]) = (
    [
        -2.166_375_594_868_790_843_00e-3,
        3.547_830_432_561_823_593_71e-2,
        -1.108_946_942_823_966_774_76e-1,
        3.183_466_199_011_617_536_74e-1,
        -3.722_078_760_357_013_238_47e-1,
        4.148_561_186_837_483_316_66e-1,
        -2.362_118_560_752_659_440_77e-3,
    ],
    [
        1.198_449_984_679_910_741_70e-2,
        1.363_708_391_202_905_073_62e-2,
        1.261_712_198_087_616_421_12e-1,
        7.182_865_441_419_626_628_68e-2,
        5.403_979_177_021_710_489_37e-1,
        1.064_208_804_008_442_282_86e-1,
        1.0,
    ],
);
/// erfc x = exp(−x² − 0.5625 + P/Q)/x in 1/x², from there to 1/0.35, and beyond.
const FAR: ([f64; 8], [f64; 9]) = (
    [
        -9.814_329_344_169_145_485_92,
        -8.128_743_550_630_659_342_46e1,
        -1.846_050_929_067_110_359_94e2,
        -1.623_966_694_625_734_703_55e2,
        -6.237_533_245_032_600_603_96e1,
        -1.055_862_622_532_329_098_14e1,
        -6.938_585_727_071_817_643_72e-1,
        -9.864_944_034_847_148_227_05e-3,
    ],
    [
        -6.042_441_521_485_809_874_38e-2,
        6.570_249_770_319_281_701_35,
        1.086_350_055_417_794_351_34e2,
        4.290_081_400_275_678_333_86e2,
        6.453_872_717_332_678_803_36e2,
        4.345_658_774_752_292_288_21e2,
        1.376_577_541_435_190_426_00e2,
        1.965_127_166_743_925_712_92e1,
        1.0,
    ],
);
const TAIL: ([f64; 7], [f64; 8]) = (
    [
        -4.835_191_916_086_513_970_19e2,
        -1.025_095_131_611_077_249_54e3,
        -6.375_664_433_683_896_277_22e2,
        -1.606_363_848_558_219_160_62e2,
        -1.775_795_491_775_475_198_89e1,
        -7.992_832_376_805_230_065_74e-1,
        -9.864_942_924_700_099_285_97e-3,
    ],
    [
        -2.244_095_244_658_581_833_62e1,
        4.745_285_412_069_553_672_15e2,
        2.553_050_406_433_164_425_83e3,
        3.199_858_219_508_595_539_08e3,
        1.536_729_586_084_436_959_94e3,
        3.257_925_129_965_739_188_26e2,
        3.033_806_074_348_245_829_24e1,
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
