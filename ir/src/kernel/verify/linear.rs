//! Linear forms over atoms with integer coefficients.

use smallvec::SmallVec;

/// Number of an atom; later atoms are younger.
pub(super) type AtomId = u32;

/// Σ cᵢ·aᵢ + k, terms by ascending atom, no coefficient 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Linear {
    pub(super) terms: SmallVec<[(AtomId, i64); 4]>,
    pub(super) k: i64,
}

pub(super) fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    i64::try_from(a).unwrap_or(1)
}

impl Linear {
    pub(super) fn constant(k: i64) -> Self {
        Linear { terms: SmallVec::new(), k }
    }

    pub(super) fn atom(a: AtomId) -> Self {
        Linear { terms: SmallVec::from_slice(&[(a, 1)]), k: 0 }
    }

    pub(super) fn as_const(&self) -> Option<i64> {
        self.terms.is_empty().then_some(self.k)
    }

    pub(super) fn youngest(&self) -> Option<(AtomId, i64)> {
        self.terms.last().copied()
    }

    pub(super) fn coefficient(&self, a: AtomId) -> i64 {
        self.terms.iter().find(|(b, _)| *b == a).map_or(0, |(_, c)| *c)
    }

    /// `self·p + other·q`; `None` on overflow.
    pub(super) fn combine(&self, p: i64, other: &Linear, q: i64) -> Option<Linear> {
        let mut terms = SmallVec::new();
        let (mut i, mut j) = (0, 0);
        loop {
            let (a, c) = match (self.terms.get(i), other.terms.get(j)) {
                (None, None) => break,
                (Some((a, c)), None) => {
                    i += 1;
                    (*a, c.checked_mul(p)?)
                }
                (None, Some((b, d))) => {
                    j += 1;
                    (*b, d.checked_mul(q)?)
                }
                (Some((a, c)), Some((b, d))) => {
                    let (left, right) = (a <= b, b <= a);
                    i += usize::from(left);
                    j += usize::from(right);
                    let c = if left { c.checked_mul(p)? } else { 0 };
                    let d = if right { d.checked_mul(q)? } else { 0 };
                    (*a.min(b), c.checked_add(d)?)
                }
            };
            // Without the one value that has no opposite, signs can be changed freely.
            if c == i64::MIN {
                return None;
            }
            if c != 0 {
                terms.push((a, c));
            }
        }
        Some(Linear { terms, k: self.k.checked_mul(p)?.checked_add(other.k.checked_mul(q)?)? })
    }

    pub(super) fn plus(&self, k: i64) -> Option<Linear> {
        Some(Linear { terms: self.terms.clone(), k: self.k.checked_add(k)? })
    }

    /// Greatest common divisor of the coefficients, 0 for a constant.
    pub(super) fn content(&self) -> i64 {
        self.terms.iter().fold(0, |g, (_, c)| gcd(g, *c))
    }

    /// The strongest equivalent of `self >= 0` on integers: divided by what divides every coefficient.
    pub(super) fn tightened(mut self) -> Linear {
        let g = self.content();
        if g > 1 {
            for (_, c) in &mut self.terms {
                *c /= g;
            }
            self.k = self.k.div_euclid(g);
        }
        self
    }
}
