//! Coordinates: affine index expressions over atoms of known range, simplified as they are built.
//!
//! Lowering pulls coordinates of a result back through views to the coordinates of the operands. Division and
//! remainder (reshapes) vanish where ranges and multiples prove it; where they do not, an opaque atom is made
//! and the split that would have removed it is recorded, so that the caller can refine its loops and pull again.

use mlxc_package::{Range, Size, SymId, size::SizeFold};
use std::collections::HashMap;

/// An atom of a coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AtomId(pub u32);

/// What an atom stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Atom {
    /// A symbol of the function.
    Symbol(SymId),
    /// A loop variable, grid axis or data-dependent index of the kernel, by the caller's number.
    Loop(u32),
    /// The lane of a vector access: 0..width.
    Lane,
    /// Floor division.
    Div(Coord, i64),
    /// Remainder.
    Mod(Coord, i64),
    /// A smaller of two.
    Min(Coord, i64),
    /// A larger of two.
    Max(Coord, i64),
}

/// An affine combination of atoms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Coord {
    /// Sorted by atom, coefficients non-zero.
    pub terms: Vec<(AtomId, i64)>,
    /// Added to the terms.
    pub constant: i64,
}

impl Coord {
    /// A constant.
    pub fn constant(value: i64) -> Self {
        Coord { terms: Vec::new(), constant: value }
    }

    /// One atom.
    pub fn atom(id: AtomId) -> Self {
        Coord { terms: vec![(id, 1)], constant: 0 }
    }

    /// The value, if it has no atoms.
    pub fn as_const(&self) -> Option<i64> {
        self.terms.is_empty().then_some(self.constant)
    }

    /// The coefficient of an atom.
    pub fn coefficient(&self, id: AtomId) -> i64 {
        self.terms.iter().find(|(a, _)| *a == id).map_or(0, |(_, c)| *c)
    }

    /// `self + other * by`.
    pub fn plus(&self, other: &Coord, by: i64) -> Coord {
        let mut terms = Vec::with_capacity(self.terms.len() + other.terms.len());
        let (mut i, mut j) = (0, 0);
        while i < self.terms.len() || j < other.terms.len() {
            let left = self.terms.get(i);
            let right = other.terms.get(j);
            let (atom, c) = match (left, right) {
                (Some((a, c)), Some((b, d))) if a == b => {
                    i += 1;
                    j += 1;
                    (*a, c + d * by)
                }
                (Some((a, c)), Some((b, _))) if a < b => {
                    i += 1;
                    (*a, *c)
                }
                (Some((a, c)), None) => {
                    i += 1;
                    (*a, *c)
                }
                (_, Some((b, d))) => {
                    j += 1;
                    (*b, d * by)
                }
                (None, None) => unreachable!("the loop condition holds one side"),
            };
            if c != 0 {
                terms.push((atom, c));
            }
        }
        Coord { terms, constant: self.constant + other.constant * by }
    }

    /// `self + value`.
    pub fn offset(&self, value: i64) -> Coord {
        Coord { terms: self.terms.clone(), constant: self.constant + value }
    }

    /// `self * by`.
    pub fn scale(&self, by: i64) -> Coord {
        Coord::default().plus(self, by)
    }
}

struct AtomInfo {
    atom: Atom,
    range: Range,
    multiple: i64,
}

/// Where atoms live, with their ranges.
#[derive(Default)]
pub struct Space {
    atoms: Vec<AtomInfo>,
    ids: HashMap<Atom, AtomId>,
    /// Splits that would have removed an opaque quotient: (loop atom, factor).
    wanted: Vec<(AtomId, i64)>,
    /// Quotients that no range made vanish.
    opaque: u32,
}

impl Space {
    /// The atom's id; the first mention fixes its range and known divisor.
    pub fn intern(&mut self, atom: Atom, range: Range, multiple: i64) -> AtomId {
        if let Some(id) = self.ids.get(&atom) {
            return *id;
        }
        let id = AtomId(self.atoms.len() as u32);
        self.atoms.push(AtomInfo { atom: atom.clone(), range, multiple: multiple.max(1) });
        self.ids.insert(atom, id);
        id
    }

    /// What an atom stands for.
    pub fn get(&self, id: AtomId) -> &Atom {
        &self.atoms[id.0 as usize].atom
    }

    /// An interval that holds every value of the coordinate.
    pub fn range(&self, c: &Coord) -> Range {
        c.terms.iter().fold(Range::new(c.constant, c.constant), |r, (a, k)| {
            let x = self.atoms[a.0 as usize].range;
            let (p, q) = (x.lo.saturating_mul(*k), x.hi.saturating_mul(*k));
            Range::new(r.lo.saturating_add(p.min(q)), r.hi.saturating_add(p.max(q)))
        })
    }

    fn divisor(&self, id: AtomId, k: i64) -> i64 {
        k.abs().saturating_mul(self.atoms[id.0 as usize].multiple)
    }

    /// Splits a coordinate into a part divisible by `m` and a rest.
    fn part(&self, c: &Coord, m: i64) -> (Coord, Coord) {
        let (mut whole, mut rest) = (Coord::default(), Coord::default());
        for (a, k) in &c.terms {
            if self.divisor(*a, *k) % m == 0 { &mut whole } else { &mut rest }.terms.push((*a, *k));
        }
        whole.constant = c.constant.div_euclid(m) * m;
        rest.constant = c.constant.rem_euclid(m);
        (whole, rest)
    }

    /// `c / m` rounded towards minus infinity, and what is left.
    pub fn div_rem(&mut self, c: &Coord, m: i64) -> (Coord, Coord) {
        if m == 1 {
            return (c.clone(), Coord::constant(0));
        }
        let (whole, rest) = self.part(c, m);
        let exact = whole.terms.iter().all(|(_, k)| k % m == 0);
        let r = self.range(&rest);
        let fits = r.lo >= 0 && r.hi < m || self.low_part_fits(&rest, m);
        let quotient = |whole: &Coord| Coord {
            terms: whole.terms.iter().map(|(a, k)| (*a, k / m)).collect(),
            constant: whole.constant / m,
        };
        if exact && fits {
            return (quotient(&whole), rest);
        }
        // Only what is never negative is divided.
        if exact && r.lo >= 0 {
            let (q, w) = self.opaque(&rest, m);
            return (quotient(&whole).plus(&q, 1), w);
        }
        if fits {
            // A multiple of m whose coefficients do not show it, such as a loop in steps of m: nothing is left over.
            // A split of the loop would make the quotient vanish as well, unless it cut the steps themselves.
            self.want(&whole, m, true);
            let r = self.range(&whole);
            let quotient = Range::new(r.lo.div_euclid(m), r.hi.div_euclid(m));
            let q = self.intern(Atom::Div(whole, m), quotient, 1);
            return (Coord::atom(q), rest);
        }
        self.opaque(c, m)
    }

    /// True if `rest` is `X + low` with X a multiple of g, g dividing m, and 0 <= X <= m - g, 0 <= low < g.
    fn low_part_fits(&self, rest: &Coord, m: i64) -> bool {
        let mut g = m;
        for (a, k) in &rest.terms {
            let d = gcd(self.divisor(*a, *k), m);
            let (high, low) = self.part(rest, d);
            let (h, l) = (self.range(&high), self.range(&low));
            g = g.min(d);
            if l.lo >= 0 && l.hi < d && h.lo >= 0 && h.hi <= m - d {
                return true;
            }
        }
        false
    }

    /// Number of quotients that did not vanish: whether their indices stay in range is for the verifier to prove.
    pub fn opaque_quotients(&self) -> u32 {
        self.opaque
    }

    fn opaque(&mut self, c: &Coord, m: i64) -> (Coord, Coord) {
        self.opaque += 1;
        self.want(c, m, false);
        let r = self.range(c);
        let q = self.intern(Atom::Div(c.clone(), m), Range::new(r.lo.div_euclid(m), r.hi.div_euclid(m)), 1);
        let w = self.intern(Atom::Mod(c.clone(), m), Range::new(0, m - 1), 1);
        (Coord::atom(q), Coord::atom(w))
    }

    /// Asks for the loop splits that make a quotient by `m` vanish; of whole steps only, if `stepwise`.
    fn want(&mut self, c: &Coord, m: i64, stepwise: bool) {
        for (a, k) in &c.terms {
            let info = &self.atoms[a.0 as usize];
            if matches!(info.atom, Atom::Loop(_)) && k % m != 0 {
                let factor = m / gcd(m, k.abs());
                if factor > 1 && (!stepwise || factor % info.multiple == 0) {
                    self.wanted.push((*a, factor));
                }
            }
        }
    }

    /// `c` with `m * (e / m) + e % m` written as `e`, as often as that stands in it.
    pub fn rejoined(&self, mut c: Coord) -> Coord {
        loop {
            let found = c.terms.iter().find_map(|(rest, k)| {
                let Atom::Mod(e, m) = self.get(*rest) else { return None };
                let part = self.ids.get(&Atom::Div(e.clone(), *m))?;
                (c.coefficient(*part) == k * m).then(|| (*rest, *part, e.clone(), *k))
            });
            let Some((rest, part, e, k)) = found else { return c };
            c.terms.retain(|(a, _)| *a != rest && *a != part);
            c = c.plus(&e, k);
        }
    }

    /// The splits asked for since the last call.
    pub fn take_wanted(&mut self) -> Vec<(AtomId, i64)> {
        std::mem::take(&mut self.wanted)
    }

    /// A size as a coordinate, if no product of symbols stands in it.
    pub fn size(&mut self, size: &Size, ranges: &[Range], multiples: &[i64]) -> Option<Coord> {
        let mut fold = FromSize { space: self, ranges, multiples, ok: true };
        let c = size.fold(&mut fold);
        fold.ok.then_some(c)
    }

    /// `c` with one atom replaced by a coordinate.
    pub fn substitute(&mut self, c: &Coord, atom: AtomId, with: &Coord) -> Coord {
        let mut out = Coord::constant(c.constant);
        for (a, k) in c.terms.clone() {
            let term = if a == atom {
                with.clone()
            } else {
                match self.get(a).clone() {
                    Atom::Div(inner, m) if self.mentions(&inner, atom) => {
                        let inner = self.substitute(&inner, atom, with);
                        self.div_rem(&inner, m).0
                    }
                    Atom::Mod(inner, m) if self.mentions(&inner, atom) => {
                        let inner = self.substitute(&inner, atom, with);
                        self.div_rem(&inner, m).1
                    }
                    _ => Coord::atom(a),
                }
            };
            out = out.plus(&term, k);
        }
        out
    }

    /// True if an atom occurs in a coordinate, at any depth.
    pub fn mentions(&self, c: &Coord, atom: AtomId) -> bool {
        c.terms.iter().any(|(a, _)| {
            *a == atom
                || match self.get(*a) {
                    Atom::Div(e, _) | Atom::Mod(e, _) | Atom::Min(e, _) | Atom::Max(e, _) => self.mentions(e, atom),
                    _ => false,
                }
        })
    }

    /// Calls `visit` for every atom of a coordinate, at any depth.
    pub fn atoms(&self, c: &Coord, visit: &mut dyn FnMut(AtomId)) {
        for (a, _) in &c.terms {
            visit(*a);
            if let Atom::Div(e, _) | Atom::Mod(e, _) | Atom::Min(e, _) | Atom::Max(e, _) = self.get(*a) {
                self.atoms(&e.clone(), visit);
            }
        }
    }
}

struct FromSize<'a> {
    space: &'a mut Space,
    ranges: &'a [Range],
    multiples: &'a [i64],
    ok: bool,
}

impl SizeFold<Coord> for FromSize<'_> {
    fn constant(&mut self, value: i64) -> Coord {
        Coord::constant(value)
    }

    fn symbol(&mut self, id: SymId) -> Coord {
        let range = self.ranges.get(id.0 as usize).copied().unwrap_or(Range::new(0, i64::from(u32::MAX)));
        let multiple = self.multiples.get(id.0 as usize).copied().unwrap_or(1);
        Coord::atom(self.space.intern(Atom::Symbol(id), range, multiple))
    }

    fn add(&mut self, a: Coord, b: Coord) -> Coord {
        a.plus(&b, 1)
    }

    fn mul(&mut self, a: Coord, b: Coord) -> Coord {
        match (a.as_const(), b.as_const()) {
            (Some(k), _) => b.scale(k),
            (_, Some(k)) => a.scale(k),
            _ => {
                self.ok = false;
                a
            }
        }
    }

    fn scale(&mut self, a: Coord, by: i64) -> Coord {
        a.scale(by)
    }

    fn floor_div(&mut self, a: Coord, by: i64) -> Coord {
        self.space.div_rem(&a, by).0
    }

    fn min(&mut self, a: Coord, with: i64) -> Coord {
        let r = self.space.range(&a);
        if r.hi <= with {
            return a;
        }
        Coord::atom(self.space.intern(Atom::Min(a, with), Range::new(r.lo.min(with), with), 1))
    }

    fn max(&mut self, a: Coord, with: i64) -> Coord {
        let r = self.space.range(&a);
        if r.lo >= with {
            return a;
        }
        Coord::atom(self.space.intern(Atom::Max(a, with), Range::new(with, r.hi.max(with)), 1))
    }
}

pub(crate) fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loops(space: &mut Space, sizes: &[(i64, i64)]) -> Vec<Coord> {
        sizes
            .iter()
            .enumerate()
            .map(|(i, (n, m))| Coord::atom(space.intern(Atom::Loop(i as u32), Range::new(0, n - m), *m)))
            .collect()
    }

    #[test]
    fn quotients_vanish_where_ranges_prove_it() {
        let mut s = Space::default();
        let v = loops(&mut s, &[(32, 1), (64, 16)]);
        let lane = Coord::atom(s.intern(Atom::Lane, Range::new(0, 15), 1));
        let c = v[0].scale(64).plus(&v[1], 1).plus(&lane, 1);
        let (q, r) = s.div_rem(&c, 64);
        assert_eq!(q, v[0]);
        assert_eq!(r, v[1].plus(&lane, 1));
        assert!(s.take_wanted().is_empty());
    }

    #[test]
    fn an_opaque_quotient_says_which_split_would_help() {
        let mut s = Space::default();
        let v = loops(&mut s, &[(2048, 1)]);
        let (q, _) = s.div_rem(&v[0], 64);
        assert!(matches!(s.get(q.terms[0].0), Atom::Div(..)));
        assert_eq!(s.take_wanted(), vec![(v[0].terms[0].0, 64)]);
    }

    #[test]
    fn quotients_agree_with_plain_arithmetic() {
        let mut s = Space::default();
        let v = loops(&mut s, &[(12, 4), (5, 1)]);
        let c = v[0].scale(5).plus(&v[1].scale(3), 1).offset(7);
        for m in [2, 3, 4, 5, 20] {
            let (q, r) = s.div_rem(&c, m);
            for a in [0, 4, 8] {
                for b in 0..5 {
                    let x = value(&s, &c, &[a, b]);
                    assert_eq!(value(&s, &q, &[a, b]), x.div_euclid(m));
                    assert_eq!(value(&s, &r, &[a, b]), x.rem_euclid(m));
                }
            }
        }
    }

    #[test]
    fn parts_of_an_index_meet_again() {
        let mut s = Space::default();
        let v = loops(&mut s, &[(2048, 1), (7, 1)]);
        let (q, w) = s.div_rem(&v[0], 5);
        let (n, h) = s.div_rem(&q, 12);
        let whole = n.scale(60).plus(&h, 5).plus(&w, 1).plus(&v[1], 3);
        assert_eq!(s.rejoined(whole), v[0].plus(&v[1], 3));
        // With another factor only the inner pair is one.
        let other = n.scale(59).plus(&h, 5).plus(&w, 1);
        let joined = s.rejoined(other.clone());
        for a in [0, 59, 60, 2047] {
            assert_eq!(value(&s, &joined, &[a, 0]), value(&s, &other, &[a, 0]));
        }
    }

    fn value(s: &Space, c: &Coord, loops: &[i64]) -> i64 {
        c.terms.iter().fold(c.constant, |sum, (a, k)| {
            sum + k * match s.get(*a) {
                Atom::Loop(i) => loops[*i as usize],
                Atom::Div(e, m) => value(s, e, loops).div_euclid(*m),
                Atom::Mod(e, m) => value(s, e, loops).rem_euclid(*m),
                other => panic!("no {other:?} here"),
            }
        })
    }
}
