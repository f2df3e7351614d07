//! Sums and products with what rounding lost (Dekker 1971, Knuth's two-sum).

use super::{Compute, V};

/// A value in two parts, the second far smaller.
#[derive(Clone, Copy)]
pub(super) struct Pair {
    pub(super) high: V,
    pub(super) low: V,
}

/// a + b exactly.
pub(super) fn sum(m: &mut Compute<'_, '_>, a: V, b: V) -> Pair {
    let high = m.add(a, b);
    let part = m.sub(high, a);
    let rest = m.sub(high, part);
    let (x, y) = (m.sub(a, rest), m.sub(b, part));
    Pair { high, low: m.add(x, y) }
}

/// a + b exactly, for |a| ≥ |b|.
pub(super) fn quick_sum(m: &mut Compute<'_, '_>, a: V, b: V) -> Pair {
    let high = m.add(a, b);
    let part = m.sub(high, a);
    Pair { high, low: m.sub(b, part) }
}

/// x in halves of 26 bits; of less than 2⁹⁹⁵.
fn halves(m: &mut Compute<'_, '_>, x: V) -> (V, V) {
    let t = m.mul(x, V::F64(134_217_729.0));
    let far = m.sub(t, x);
    let high = m.sub(t, far);
    (high, m.sub(x, high))
}

/// a · b exactly.
pub(super) fn product(m: &mut Compute<'_, '_>, a: V, b: V) -> Pair {
    let high = m.mul(a, b);
    let ((p, q), (r, s)) = (halves(m, a), halves(m, b));
    let pr = m.mul(p, r);
    let error = m.sub(pr, high);
    let ps = m.mul(p, s);
    let error = m.add(error, ps);
    let qr = m.mul(q, r);
    let error = m.add(error, qr);
    let qs = m.mul(q, s);
    Pair { high, low: m.add(error, qs) }
}

/// `a + b` of pairs, to about 104 bits.
pub(super) fn add(m: &mut Compute<'_, '_>, a: Pair, b: Pair) -> Pair {
    let s = sum(m, a.high, b.high);
    let low = m.add(a.low, b.low);
    let low = m.add(s.low, low);
    quick_sum(m, s.high, low)
}

/// `a · b` of pairs, to about 102 bits.
pub(super) fn mul(m: &mut Compute<'_, '_>, a: Pair, b: Pair) -> Pair {
    let p = product(m, a.high, b.high);
    let (x, y) = (m.mul(a.high, b.low), m.mul(a.low, b.high));
    let low = m.add(x, y);
    let low = m.add(p.low, low);
    quick_sum(m, p.high, low)
}
