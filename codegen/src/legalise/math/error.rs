//! The error function and its inverse.

use super::exponential::exp_scaled;
use super::logarithm::log;
use super::{Compute, V};

/// (erf x − x)/x in x², |x| ≤ 0.9375; relative error 2⁻²⁹·⁹.
const NEAR: [f32; 7] =
    [7.999_918e-5, -8.050_333e-4, 5.192_442_3e-3, -2.685_573_7e-2, 1.128_362_6e-1, -3.761_263e-1, 1.283_791_7e-1];
/// (log erfc x + x)/x, 0.92 ≤ x ≤ 4; error of erf 2⁻²⁹·⁹.
const FAR: [f32; 7] =
    [-1.124_427_4e-5, 3.229_084_3e-4, -3.642_809_6e-3, 2.376_267_1e-2, -1.062_374_56e-1, -6.351_51e-1, -1.286_485_5e-1];
/// M. Giles, "Approximating the erfinv function", GPU Computing Gems 2 (2011), table 1: in w − 2.5 and √w − 3.
const CENTRE: [f32; 9] = [
    2.810_226_4e-8,
    3.432_739_4e-7,
    -3.523_387_7e-6,
    -4.391_506_5e-6,
    2.185_808_7e-4,
    -1.253_725e-3,
    -4.177_681_6e-3,
    2.466_407_3e-1,
    1.501_409_4,
];
const EDGE: [f32; 9] = [
    -2.002_142_6e-4,
    1.009_505_6e-4,
    1.349_343_2e-3,
    -3.673_428_4e-3,
    5.739_507_7e-3,
    -7.622_461_3e-3,
    9.438_870_5e-3,
    1.001_674,
    2.832_976_8,
];

pub(super) fn erf(m: &mut Compute<'_, '_>, x: V) -> V {
    let square = m.mul(x, x);
    let p = m.polynomial(square, &NEAR);
    let small = m.mad(p, x, x);
    let size = m.abs(x);
    // erf 4 rounds to 1.
    let inside = m.min(size, V::F32(4.0));
    let p = m.polynomial(inside, &FAR);
    let opposite = m.neg(inside);
    let log = m.mad(p, inside, opposite);
    let complement = exp_scaled(m, log, 0);
    let large = m.sub(V::F32(1.0), complement);
    let large = m.with_sign(large, x);
    let far = m.gt(size, V::F32(0.927_734_4));
    m.select(far, large, small)
}

pub(super) fn erfinv(m: &mut Compute<'_, '_>, x: V) -> V {
    // Either factor is exact where their product is small, unlike 1 − x².
    let (left, right) = (m.sub(V::F32(1.0), x), m.add(x, V::F32(1.0)));
    let product = m.mul(left, right);
    let w = log(m, product);
    let w = m.neg(w);
    let centre = m.sub(w, V::F32(2.5));
    let edge = m.sqrt(w);
    let edge = m.sub(edge, V::F32(3.0));
    let (centre, edge) = (m.polynomial(centre, &CENTRE), m.polynomial(edge, &EDGE));
    let central = m.lt(w, V::F32(5.0));
    let factor = m.select(central, centre, edge);
    let usual = m.mul(factor, x);
    let size = m.abs(x);
    let end = m.eq(size, V::F32(1.0));
    let infinite = m.mul(x, V::F32(f32::INFINITY));
    m.select(end, infinite, usual)
}
