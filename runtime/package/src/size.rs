//! Sizes: integer polynomials over named symbols, with floor division, minimum and maximum by
//! constants, kept in a normal form so that equal sizes compare equal.
//!
//! Shapes of the Graph IR, launch grids and byte counts of the plan are all [`Size`]s.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A symbol of the enclosing function or entry, by position in its symbol list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SymId(pub u32);

/// An inclusive range of integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Range {
    /// Smallest value.
    pub lo: i64,
    /// Largest value.
    pub hi: i64,
}

impl Range {
    /// `lo..=hi`.
    pub const fn new(lo: i64, hi: i64) -> Self {
        Range { lo, hi }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
enum Atom {
    Sym(SymId),
    /// Floor division; the divisor is at least 2.
    Div(Box<Size>, i64),
    Min(Box<Size>, i64),
    Max(Box<Size>, i64),
}

/// An integer polynomial in normal form. Arithmetic saturates: a size that leaves `i64` compares as
/// `i64::MAX` or `i64::MIN`, which every limit check refuses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Size {
    /// Sorted by atoms, coefficients non-zero; the constant term has no atoms and comes first.
    terms: Vec<(Vec<Atom>, i64)>,
}

impl Size {
    /// A constant.
    pub fn constant(value: i64) -> Self {
        Size { terms: if value == 0 { Vec::new() } else { vec![(Vec::new(), value)] } }
    }

    /// A symbol.
    pub fn symbol(id: SymId) -> Self {
        Size { terms: vec![(vec![Atom::Sym(id)], 1)] }
    }

    fn atom(atom: Atom) -> Self {
        Size { terms: vec![(vec![atom], 1)] }
    }

    fn normal(mut terms: Vec<(Vec<Atom>, i64)>) -> Self {
        terms.sort();
        let mut out: Vec<(Vec<Atom>, i64)> = Vec::with_capacity(terms.len());
        for (atoms, c) in terms {
            match out.last_mut() {
                Some((last, k)) if *last == atoms => *k = k.saturating_add(c),
                _ => out.push((atoms, c)),
            }
        }
        out.retain(|(_, c)| *c != 0);
        Size { terms: out }
    }

    /// The value, if it depends on no symbol.
    pub fn as_const(&self) -> Option<i64> {
        match self.terms.as_slice() {
            [] => Some(0),
            [(atoms, c)] if atoms.is_empty() => Some(*c),
            _ => None,
        }
    }

    /// The symbol, if this is exactly one symbol.
    pub fn as_symbol(&self) -> Option<SymId> {
        match self.terms.as_slice() {
            [(atoms, 1)] => match atoms.as_slice() {
                [Atom::Sym(id)] => Some(*id),
                _ => None,
            },
            _ => None,
        }
    }

    /// `self / divisor`, rounded towards minus infinity.
    ///
    /// # Panics
    /// If `divisor` is less than 1, which no caller constructs.
    pub fn floor_div(&self, divisor: i64) -> Self {
        assert!(divisor >= 1, "size divisors are at least 1");
        if divisor == 1 {
            return self.clone();
        }
        let (mut whole, mut rest) = (Vec::new(), Vec::new());
        for (atoms, c) in &self.terms {
            let q = c.div_euclid(divisor);
            let r = c.rem_euclid(divisor);
            if r == 0 || atoms.is_empty() {
                whole.push((atoms.clone(), q));
                rest.push((atoms.clone(), r));
            } else {
                rest.push((atoms.clone(), *c));
            }
        }
        let (whole, rest) = (Size::normal(whole), Size::normal(rest));
        match rest.as_const() {
            Some(r) => whole + Size::constant(r.div_euclid(divisor)),
            None => {
                // floor(floor(a / m) / n) = floor(a / (m n))
                if let [(atoms, 1)] = rest.terms.as_slice()
                    && let [Atom::Div(inner, m)] = atoms.as_slice()
                    && let Some(product) = m.checked_mul(divisor)
                {
                    return whole + Size::atom(Atom::Div(inner.clone(), product));
                }
                whole + Size::atom(Atom::Div(Box::new(rest), divisor))
            }
        }
    }

    /// `self / divisor`, rounded up.
    pub fn ceil_div(&self, divisor: i64) -> Self {
        (self.clone() + Size::constant(divisor - 1)).floor_div(divisor)
    }

    /// `self - divisor * floor(self / divisor)`.
    pub fn modulo(&self, divisor: i64) -> Self {
        self.clone() - self.floor_div(divisor) * Size::constant(divisor)
    }

    /// The smaller of `self` and a constant.
    pub fn at_most(&self, bound: i64) -> Self {
        match self.as_const() {
            Some(c) => Size::constant(c.min(bound)),
            None => Size::atom(Atom::Min(Box::new(self.clone()), bound)),
        }
    }

    /// The larger of `self` and a constant.
    pub fn at_least(&self, bound: i64) -> Self {
        match self.as_const() {
            Some(c) => Size::constant(c.max(bound)),
            None => Size::atom(Atom::Max(Box::new(self.clone()), bound)),
        }
    }

    /// `self / other` where the quotient is exact for every value of the symbols and can be seen to be so.
    pub fn exact_div(&self, other: &Size) -> Option<Size> {
        let [(atoms, c)] = other.terms.as_slice() else { return None };
        let mut out = Vec::new();
        for (mine, k) in &self.terms {
            if k % c != 0 {
                return None;
            }
            let mut rest = mine.clone();
            for a in atoms {
                let at = rest.iter().position(|b| b == a)?;
                rest.remove(at);
            }
            out.push((rest, k / c));
        }
        Some(Size::normal(out))
    }

    /// The largest constant that is seen to divide the size for every value of the symbols, where
    /// `multiples[i]` divides symbol `i`. 0 for the constant 0.
    pub fn known_divisor(&self, multiples: &[i64]) -> i64 {
        let of = |atom: &Atom| match atom {
            Atom::Sym(id) => multiples.get(id.0 as usize).copied().unwrap_or(1),
            _ => 1,
        };
        self.terms
            .iter()
            .fold(0, |g, (atoms, c)| gcd(g, atoms.iter().fold(c.saturating_abs(), |p, a| p.saturating_mul(of(a)))))
    }

    /// The value for given symbol values. Symbols beyond the slice count as 0.
    pub fn eval(&self, symbols: &[i64]) -> i64 {
        self.terms.iter().fold(0i64, |sum, (atoms, c)| {
            sum.saturating_add(atoms.iter().fold(*c, |p, a| {
                p.saturating_mul(match a {
                    Atom::Sym(id) => symbols.get(id.0 as usize).copied().unwrap_or(0),
                    Atom::Div(e, m) => e.eval(symbols).div_euclid(*m),
                    Atom::Min(e, b) => e.eval(symbols).min(*b),
                    Atom::Max(e, b) => e.eval(symbols).max(*b),
                })
            }))
        })
    }

    /// An interval that holds every value, given an interval for each symbol.
    pub fn bounds(&self, symbols: &[Range]) -> Range {
        let mut sum = Range::new(0, 0);
        for (atoms, c) in &self.terms {
            let mut p = Range::new(*c, *c);
            for a in atoms {
                let r = match a {
                    Atom::Sym(id) => symbols.get(id.0 as usize).copied().unwrap_or(Range::new(i64::MIN, i64::MAX)),
                    Atom::Div(e, m) => {
                        let r = e.bounds(symbols);
                        Range::new(r.lo.div_euclid(*m), r.hi.div_euclid(*m))
                    }
                    Atom::Min(e, b) => {
                        let r = e.bounds(symbols);
                        Range::new(r.lo.min(*b), r.hi.min(*b))
                    }
                    Atom::Max(e, b) => {
                        let r = e.bounds(symbols);
                        Range::new(r.lo.max(*b), r.hi.max(*b))
                    }
                };
                let ends = [
                    p.lo.saturating_mul(r.lo),
                    p.lo.saturating_mul(r.hi),
                    p.hi.saturating_mul(r.lo),
                    p.hi.saturating_mul(r.hi),
                ];
                p = Range::new(ends.into_iter().fold(i64::MAX, i64::min), ends.into_iter().fold(i64::MIN, i64::max));
            }
            sum = Range::new(sum.lo.saturating_add(p.lo), sum.hi.saturating_add(p.hi));
        }
        sum
    }

    /// Replaces every symbol by what `with` gives for it.
    pub fn substitute(&self, with: &dyn Fn(SymId) -> Size) -> Size {
        let mut sum = Size::constant(0);
        for (atoms, c) in &self.terms {
            let mut p = Size::constant(*c);
            for a in atoms {
                p = p * match a {
                    Atom::Sym(id) => with(*id),
                    Atom::Div(e, m) => e.substitute(with).floor_div(*m),
                    Atom::Min(e, b) => e.substitute(with).at_most(*b),
                    Atom::Max(e, b) => e.substitute(with).at_least(*b),
                };
            }
            sum = sum + p;
        }
        sum
    }

    /// Calls `visit` for every symbol that occurs, with repetitions.
    pub fn symbols(&self, visit: &mut dyn FnMut(SymId)) {
        for (atoms, _) in &self.terms {
            for a in atoms {
                match a {
                    Atom::Sym(id) => visit(*id),
                    Atom::Div(e, _) | Atom::Min(e, _) | Atom::Max(e, _) => e.symbols(visit),
                }
            }
        }
    }

    /// True if division, minimum or maximum constants and nesting are what this crate itself would
    /// write; a reader of untrusted plans calls this before it evaluates anything.
    pub fn is_well_formed(&self, symbols: usize, depth: u32) -> bool {
        depth > 0
            && self.terms.iter().all(|(atoms, _)| {
                atoms.len() <= 16
                    && atoms.iter().all(|a| match a {
                        Atom::Sym(id) => (id.0 as usize) < symbols,
                        Atom::Div(e, m) => *m >= 2 && e.is_well_formed(symbols, depth - 1),
                        Atom::Min(e, _) | Atom::Max(e, _) => e.is_well_formed(symbols, depth - 1),
                    })
            })
    }

    /// The linear form: constant, coefficients by symbol, if the size has no other atoms.
    pub fn as_affine(&self) -> Option<(i64, Vec<(SymId, i64)>)> {
        let (mut constant, mut linear) = (0, Vec::new());
        for (atoms, c) in &self.terms {
            match atoms.as_slice() {
                [] => constant = *c,
                [Atom::Sym(id)] => linear.push((*id, *c)),
                _ => return None,
            }
        }
        Some((constant, linear))
    }

    /// Folds the size bottom-up into another representation (a Kernel IR index, for one).
    pub fn fold<T>(&self, f: &mut dyn SizeFold<T>) -> T {
        let mut sum: Option<T> = None;
        for (atoms, c) in &self.terms {
            let mut p: Option<T> = None;
            for a in atoms {
                let v = match a {
                    Atom::Sym(id) => f.symbol(*id),
                    Atom::Div(e, m) => {
                        let e = e.fold(f);
                        f.floor_div(e, *m)
                    }
                    Atom::Min(e, b) => {
                        let e = e.fold(f);
                        f.min(e, *b)
                    }
                    Atom::Max(e, b) => {
                        let e = e.fold(f);
                        f.max(e, *b)
                    }
                };
                p = Some(match p {
                    None => v,
                    Some(p) => f.mul(p, v),
                });
            }
            let term = match p {
                None => f.constant(*c),
                Some(p) if *c == 1 => p,
                Some(p) => f.scale(p, *c),
            };
            sum = Some(match sum {
                None => term,
                Some(s) => f.add(s, term),
            });
        }
        sum.unwrap_or_else(|| f.constant(0))
    }

    /// Prints with the given symbol names.
    pub fn display<'a>(&'a self, names: &'a dyn Fn(SymId) -> String) -> impl fmt::Display + 'a {
        Named { size: self, names }
    }
}

/// What [`Size::fold`] builds with.
pub trait SizeFold<T> {
    /// A constant.
    fn constant(&mut self, value: i64) -> T;
    /// A symbol.
    fn symbol(&mut self, id: SymId) -> T;
    /// A sum.
    fn add(&mut self, a: T, b: T) -> T;
    /// A product of two non-constants.
    fn mul(&mut self, a: T, b: T) -> T;
    /// A product with a constant.
    fn scale(&mut self, a: T, by: i64) -> T;
    /// A floor division by a constant of at least 2.
    fn floor_div(&mut self, a: T, by: i64) -> T;
    /// A minimum with a constant.
    fn min(&mut self, a: T, with: i64) -> T;
    /// A maximum with a constant.
    fn max(&mut self, a: T, with: i64) -> T;
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

struct Named<'a> {
    size: &'a Size,
    names: &'a dyn Fn(SymId) -> String,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.size.terms.is_empty() {
            return f.write_str("0");
        }
        // Printed with the constant last, as people write it.
        let (constant, rest): (Vec<_>, Vec<_>) = self.size.terms.iter().partition(|(a, _)| a.is_empty());
        for (i, (atoms, c)) in rest.into_iter().chain(constant).enumerate() {
            let sign = if *c < 0 { "-" } else { "+" };
            match (i, *c < 0) {
                (0, false) => {}
                (0, true) => f.write_str("-")?,
                _ => write!(f, " {sign} ")?,
            }
            let k = c.unsigned_abs();
            if atoms.is_empty() {
                write!(f, "{k}")?;
                continue;
            }
            for (j, a) in atoms.iter().enumerate() {
                if j > 0 {
                    f.write_str("*")?;
                }
                match a {
                    Atom::Sym(id) => f.write_str(&(self.names)(*id))?,
                    Atom::Div(e, m) => write!(f, "(({})/{m})", Named { size: e, names: self.names })?,
                    Atom::Min(e, b) => write!(f, "min({}, {b})", Named { size: e, names: self.names })?,
                    Atom::Max(e, b) => write!(f, "max({}, {b})", Named { size: e, names: self.names })?,
                }
            }
            if k != 1 {
                write!(f, "*{k}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Named { size: self, names: &|id| format!("s{}", id.0) }.fmt(f)
    }
}

impl From<i64> for Size {
    fn from(value: i64) -> Self {
        Size::constant(value)
    }
}

impl std::ops::Add for Size {
    type Output = Size;

    fn add(self, other: Size) -> Size {
        let mut terms = self.terms;
        terms.extend(other.terms);
        Size::normal(terms)
    }
}

impl std::ops::Sub for Size {
    type Output = Size;

    fn sub(self, other: Size) -> Size {
        self + other * Size::constant(-1)
    }
}

impl std::ops::Mul for Size {
    type Output = Size;

    fn mul(self, other: Size) -> Size {
        let mut terms = Vec::with_capacity(self.terms.len() * other.terms.len());
        for (a, c) in &self.terms {
            for (b, k) in &other.terms {
                let mut atoms = a.clone();
                atoms.extend(b.iter().cloned());
                atoms.sort();
                terms.push((atoms, c.saturating_mul(*k)));
            }
        }
        Size::normal(terms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s() -> Size {
        Size::symbol(SymId(0))
    }

    fn c(v: i64) -> Size {
        Size::constant(v)
    }

    #[test]
    fn equal_polynomials_are_equal_values() {
        assert_eq!((s() + c(1)) * (s() - c(1)), s() * s() - c(1));
        assert_eq!((s() * c(6) + c(9)).floor_div(3), s() * c(2) + c(3));
        assert_eq!((s() * c(4)).modulo(4), c(0));
        assert_eq!((s() * s() * c(6)).exact_div(&(s() * c(3))), Some(s() * c(2)));
        assert_eq!((s() + c(1)).exact_div(&s()), None);
    }

    #[test]
    fn evaluation_and_bounds_agree() {
        let e = (s() * c(3) - c(7)).floor_div(4) + s().at_most(5) * c(-2) + s().ceil_div(8).at_least(1);
        let r = e.bounds(&[Range::new(1, 40)]);
        for v in 1..=40 {
            let x = e.eval(&[v]);
            let plain = (3 * v - 7).div_euclid(4) - 2 * v.min(5) + ((v + 7) / 8).max(1);
            assert_eq!(x, plain);
            assert!(r.lo <= x && x <= r.hi);
        }
        assert_eq!(e.substitute(&|_| c(9)), c(e.eval(&[9])));
    }

    #[test]
    fn printing_reads_like_source() {
        let names = |_: SymId| "S".to_string();
        assert_eq!((s() * c(2) + c(1)).display(&names).to_string(), "S*2 + 1");
        assert_eq!(s().ceil_div(4).display(&names).to_string(), "((S + 3)/4)");
        assert_eq!(c(0).to_string(), "0");
    }

    #[test]
    fn arithmetic_saturates() {
        let big = c(i64::MAX) * c(4);
        assert_eq!(big.as_const(), Some(i64::MAX));
        assert_eq!((s() * s()).eval(&[i64::MAX]), i64::MAX);
    }
}
