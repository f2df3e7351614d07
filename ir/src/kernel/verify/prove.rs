//! Proofs that linear forms are at least 0, from facts of the same kind.
//!
//! To prove e >= 0, the youngest atom of e is eliminated with each fact in which it has the same sign; a minimum or
//! maximum is also tried as each of its two operands. Every step is sound, none is complete: what is not proved is
//! refused by the verifier.

use super::linear::{AtomId, Linear, gcd};
use rustc_hash::{FxHashMap, FxHashSet};

/// Eliminations one behind the other, and forms looked at for one proof, so that no kernel takes long. Most proofs are short:
/// a deep search would wander past them.
const ROUNDS: [(u32, u32); 3] = [(4, 150), (7, 500), (14, 4000)];
/// The same for a constant bound, which is only a help.
const BOUND_BUDGET: u32 = 160;

/// An integer nothing else is said of than by facts.
struct Atom {
    /// Constant bounds that hold here; the extremes of `i64` when there are none.
    lo: i64,
    hi: i64,
    /// Divides every value.
    multiple: i64,
    /// The two forms of which a minimum or maximum is one.
    cases: Option<(Linear, Linear)>,
    name: String,
}

enum Undo {
    Proved(Linear),
    Bounds(AtomId, i64, i64),
    Quotient(Linear, i64),
}

/// Where a scope began.
pub(super) struct Mark {
    facts: usize,
    atoms: usize,
    log: usize,
}

/// Facts that hold at the statement being verified.
#[derive(Default)]
pub(super) struct Prover {
    atoms: Vec<Atom>,
    facts: Vec<Linear>,
    by_atom: Vec<Vec<u32>>,
    quotients: FxHashMap<(Linear, i64), Linear>,
    log: Vec<Undo>,
    /// Forms that were proved: more facts do not make them wrong.
    proved: FxHashSet<Linear>,
    seen: FxHashMap<Linear, u32>,
    steps: u32,
    depth: u32,
    budget: u32,
}

impl Prover {
    pub(super) fn mark(&self) -> Mark {
        Mark { facts: self.facts.len(), atoms: self.atoms.len(), log: self.log.len() }
    }

    /// Forgets everything since the mark.
    pub(super) fn release(&mut self, mark: &Mark) {
        while self.log.len() > mark.log {
            match self.log.pop() {
                Some(Undo::Bounds(a, lo, hi)) => {
                    let atom = &mut self.atoms[a as usize];
                    (atom.lo, atom.hi) = (lo, hi);
                }
                Some(Undo::Proved(e)) => {
                    self.proved.remove(&e);
                }
                Some(Undo::Quotient(e, m)) => {
                    self.quotients.remove(&(e, m));
                }
                None => break,
            }
        }
        while self.facts.len() > mark.facts {
            if let Some(fact) = self.facts.pop() {
                for (a, _) in fact.terms {
                    self.by_atom[a as usize].pop();
                }
            }
        }
        self.atoms.truncate(mark.atoms);
        self.by_atom.truncate(mark.atoms);
    }

    pub(super) fn atom(&mut self, name: String, lo: i64, hi: i64) -> Linear {
        let id = self.atoms.len() as AtomId;
        self.atoms.push(Atom { lo, hi, multiple: 1, cases: None, name });
        self.by_atom.push(Vec::new());
        let a = Linear::atom(id);
        for (sign, bound) in [(1, lo), (-1, hi)] {
            if bound != i64::MIN
                && bound != i64::MAX
                && let Some(fact) = a.combine(sign, &Linear::constant(bound), -sign)
            {
                self.add(fact);
            }
        }
        a
    }

    fn interval_of(&self, a: AtomId, c: i64) -> (Option<i64>, Option<i64>) {
        let atom = &self.atoms[a as usize];
        let times = |bound: i64| if bound == i64::MIN || bound == i64::MAX { None } else { bound.checked_mul(c) };
        let (lo, hi) = (times(atom.lo), times(atom.hi));
        if c > 0 { (lo, hi) } else { (hi, lo) }
    }

    /// A constant the form is never below, from the bounds of its atoms.
    fn floor(&self, e: &Linear) -> Option<i64> {
        e.terms.iter().try_fold(e.k, |sum, (a, c)| sum.checked_add(self.interval_of(*a, *c).0?))
    }

    /// A constant the form is never above.
    fn ceiling(&self, e: &Linear) -> Option<i64> {
        e.terms.iter().try_fold(e.k, |sum, (a, c)| sum.checked_add(self.interval_of(*a, *c).1?))
    }

    /// Adds `fact >= 0`.
    pub(super) fn add(&mut self, fact: Linear) {
        let fact = fact.tightened();
        if fact.terms.is_empty() {
            return;
        }
        // c·a >= -(largest value of the rest)
        for (i, (a, c)) in fact.terms.iter().enumerate() {
            let rest = fact
                .terms
                .iter()
                .enumerate()
                .filter(|(j, _)| *j != i)
                .try_fold(fact.k, |sum, (_, (b, d))| sum.checked_add(self.interval_of(*b, *d).1?));
            let Some(least) = rest.and_then(i64::checked_neg) else { continue };
            let atom = &mut self.atoms[*a as usize];
            let old = (atom.lo, atom.hi);
            if *c > 0 {
                atom.lo = atom.lo.max(-(-least).div_euclid(*c));
            } else if let Some(by) = c.checked_neg() {
                atom.hi = atom.hi.min((-least).div_euclid(by));
            }
            if old != (atom.lo, atom.hi) {
                self.log.push(Undo::Bounds(*a, old.0, old.1));
            }
        }
        for (a, _) in &fact.terms {
            self.by_atom[*a as usize].push(self.facts.len() as u32);
        }
        self.facts.push(fact);
    }

    /// True if `e >= 0` follows.
    pub(super) fn prove(&mut self, e: &Linear) -> bool {
        if self.floor(e).is_some_and(|k| k >= 0) {
            return true;
        }
        let e = e.clone().tightened();
        if self.proved.contains(&e) {
            return true;
        }
        let found = ROUNDS.iter().any(|(depth, budget)| {
            self.seen.clear();
            (self.steps, self.depth, self.budget) = (0, *depth, *budget);
            self.search(e.clone(), 0)
        });
        if found && self.proved.insert(e.clone()) {
            self.log.push(Undo::Proved(e));
        }
        found
    }

    fn search(&mut self, e: Linear, depth: u32) -> bool {
        if self.floor(&e).is_some_and(|k| k >= 0) {
            return true;
        }
        let Some((a, c)) = e.youngest() else { return false };
        if depth > self.depth || self.ceiling(&e).is_some_and(|k| k < 0) {
            return false;
        }
        self.steps += 1;
        if self.steps > self.budget || self.seen.get(&e).is_some_and(|d| *d <= depth) {
            return false;
        }
        self.seen.insert(e.clone(), depth);
        if let Some(k) = self.interval_of(a, c).0.and_then(|least| e.k.checked_add(least)) {
            let rest = Linear { terms: e.terms[..e.terms.len() - 1].into(), k };
            if self.search(rest.tightened(), depth + 1) {
                return true;
            }
        }
        // Facts that bring in younger atoms (guards) come last and cost more.
        for (later, cost) in [(false, 1), (true, 3)] {
            for n in 0..self.by_atom[a as usize].len() {
                let fact = &self.facts[self.by_atom[a as usize][n] as usize];
                let q = fact.coefficient(a);
                let brings = fact.youngest().is_some_and(|(b, _)| b > a);
                // Facts of one atom are in its bounds already.
                if (q > 0) != (c > 0) || brings != later || fact.terms.len() == 1 {
                    continue;
                }
                // e is a whole number: q·e of more than -q is enough.
                let slack = q.abs() - 1;
                let Some(rest) = e.combine(q.abs(), fact, -c.abs()).and_then(|r| r.plus(slack)) else { continue };
                if self.search(rest.tightened(), depth + cost) {
                    return true;
                }
            }
        }
        if self.search_beside(&e, a, depth) {
            return true;
        }
        if let Some((x, y)) = self.atoms[a as usize].cases.clone() {
            let without = Linear { terms: e.terms[..e.terms.len() - 1].into(), k: e.k };
            let (x, y) = (without.combine(1, &x, c), without.combine(1, &y, c));
            if let (Some(x), Some(y)) = (x, y) {
                return self.search(x.tightened(), depth + 1) && self.search(y.tightened(), depth + 1);
            }
        }
        false
    }

    /// Eliminates an older atom with a fact that also speaks of the youngest: what a quotient leaves of its dividend.
    fn search_beside(&mut self, e: &Linear, a: AtomId, depth: u32) -> bool {
        for n in 0..self.by_atom[a as usize].len() {
            let fact = self.facts[self.by_atom[a as usize][n] as usize].clone();
            if fact.youngest().is_none_or(|(b, _)| b > a) {
                continue;
            }
            for (b, q) in fact.terms.iter().filter(|(b, _)| *b != a) {
                let c = e.coefficient(*b);
                if c == 0 || (*q > 0) != (c > 0) {
                    continue;
                }
                let Some(rest) = e.combine(q.abs(), &fact, -c.abs()).and_then(|r| r.plus(q.abs() - 1)) else {
                    continue;
                };
                if self.search(rest.tightened(), depth + 3) {
                    return true;
                }
            }
        }
        false
    }

    /// The best constant found that `e` is never above.
    pub(super) fn upper(&mut self, e: &Linear) -> Option<i64> {
        let mut best = self.ceiling(e);
        self.steps = 0;
        self.lower_ceiling(e.clone(), 1, 0, &mut best);
        best
    }

    /// The best constant found that `e` is never below.
    pub(super) fn lower(&mut self, e: &Linear) -> Option<i64> {
        self.upper(&e.combine(-1, &Linear::default(), 0)?)?.checked_neg()
    }

    /// `x / scale` is never below the form asked about.
    fn lower_ceiling(&mut self, x: Linear, scale: i64, depth: u32, best: &mut Option<i64>) {
        if let Some(k) = self.ceiling(&x) {
            let k = k.div_euclid(scale);
            if best.is_none_or(|b| k < b) {
                *best = Some(k);
            }
        }
        let Some((a, c)) = x.youngest() else { return };
        self.steps += 1;
        if depth > 8 || self.steps > BOUND_BUDGET {
            return;
        }
        if let Some(k) = self.interval_of(a, c).1.and_then(|most| x.k.checked_add(most)) {
            let rest = Linear { terms: x.terms[..x.terms.len() - 1].into(), k };
            self.lower_ceiling(rest, scale, depth + 1, best);
        }
        let mut tried = 0;
        for n in 0..self.by_atom[a as usize].len() {
            let fact = &self.facts[self.by_atom[a as usize][n] as usize];
            let q = fact.coefficient(a);
            if (q < 0) != (c > 0) || fact.terms.len() == 1 || fact.youngest().is_some_and(|(b, _)| b > a) {
                continue;
            }
            let g = gcd(q, c);
            let (p, r) = (q.abs() / g, c.abs() / g);
            let (Some(next), Some(scale)) = (x.combine(p, fact, r), scale.checked_mul(p)) else { continue };
            self.lower_ceiling(next, scale, depth + 1, best);
            tried += 1;
            if tried >= 4 {
                break;
            }
        }
    }

    /// ⌊e / m⌋ for m of at least 2; `None` on overflow.
    pub(super) fn quotient(&mut self, e: &Linear, m: i64, name: &dyn Fn() -> String) -> Option<Linear> {
        if let Some(known) = self.quotients.get(&(e.clone(), m)) {
            return Some(known.clone());
        }
        let mut whole = Linear::constant(e.k.div_euclid(m));
        let mut part = Linear::constant(e.k.rem_euclid(m));
        for (a, c) in &e.terms {
            if c % m == 0 { whole.terms.push((*a, c / m)) } else { part.terms.push((*a, *c)) }
        }
        let (hi, lo) = (self.upper(&part), self.lower(&part));
        let result = match (lo, hi) {
            (Some(lo), Some(hi)) if lo.div_euclid(m) == hi.div_euclid(m) => whole.plus(lo.div_euclid(m))?,
            _ => {
                let bound = |b: Option<i64>, none: i64| b.map_or(none, |b| b.div_euclid(m));
                let d = self.atom(name(), bound(lo, i64::MIN), bound(hi, i64::MAX));
                // The remainder is congruent to k modulo g.
                let g = gcd(part.content(), m);
                let r = part.k.rem_euclid(g);
                self.add(part.combine(1, &d, -m)?.plus(-r)?);
                self.add(d.combine(m, &part, -1)?.plus(m - g + r)?);
                let sum = whole.combine(1, &d, 1)?;
                if !whole.terms.is_empty() {
                    let (hi, lo) = (self.upper(e), self.lower(e));
                    if let Some(hi) = hi {
                        self.add(Linear::constant(hi.div_euclid(m)).combine(1, &sum, -1)?);
                    }
                    if let Some(lo) = lo {
                        self.add(sum.plus(lo.div_euclid(m).checked_neg()?)?);
                    }
                }
                sum
            }
        };
        self.quotients.insert((e.clone(), m), result.clone());
        self.log.push(Undo::Quotient(e.clone(), m));
        Some(result)
    }

    /// The smaller or larger of two forms.
    pub(super) fn extremum(&mut self, min: bool, a: &Linear, b: &Linear, name: String) -> Option<Linear> {
        let sign = if min { 1 } else { -1 };
        let (mut lo, mut hi) = (i64::MIN, i64::MAX);
        let (la, lb, ha, hb) = (self.lower(a), self.lower(b), self.upper(a), self.upper(b));
        if min {
            lo = la.zip(lb).map_or(lo, |(x, y)| x.min(y));
            hi = [ha, hb].into_iter().flatten().min().unwrap_or(hi);
        } else {
            lo = [la, lb].into_iter().flatten().max().unwrap_or(lo);
            hi = ha.zip(hb).map_or(hi, |(x, y)| x.max(y));
        }
        let n = self.atom(name, lo, hi);
        self.add(a.combine(sign, &n, -sign)?);
        self.add(b.combine(sign, &n, -sign)?);
        let multiple = gcd(self.divisor(a), self.divisor(b));
        let (id, _) = n.youngest()?;
        let atom = &mut self.atoms[id as usize];
        atom.multiple = multiple.max(1);
        atom.cases = Some((a.clone(), b.clone()));
        Some(n)
    }

    /// A constant that divides every value of the form; 0 for 0.
    pub(super) fn divisor(&self, e: &Linear) -> i64 {
        e.terms.iter().fold(e.k, |g, (a, c)| gcd(g, c.saturating_mul(self.atoms[*a as usize].multiple)))
    }

    /// The form in the names of its atoms.
    pub(super) fn show(&self, e: &Linear) -> String {
        let mut out = String::new();
        for (a, c) in &e.terms {
            let name = &self.atoms[*a as usize].name;
            let sign = match (*c < 0, out.is_empty()) {
                (true, true) => "-",
                (true, false) => " - ",
                (false, true) => "",
                (false, false) => " + ",
            };
            out.push_str(sign);
            match c.unsigned_abs() {
                1 => out.push_str(name),
                n => out.push_str(&format!("{n}*{name}")),
            }
        }
        match (out.is_empty(), e.k) {
            (true, k) => k.to_string(),
            (false, 0) => out,
            (false, k) if k < 0 => format!("{out} - {}", k.unsigned_abs()),
            (false, k) => format!("{out} + {k}"),
        }
    }

    /// The facts about the atoms of a form, the youngest first, at most a dozen.
    pub(super) fn relevant(&self, e: &Linear) -> Vec<String> {
        let mut seen: Vec<u32> = Vec::new();
        for (a, _) in e.terms.iter().rev() {
            for fact in self.by_atom[*a as usize].iter().rev() {
                if !seen.contains(fact) {
                    seen.push(*fact);
                }
            }
        }
        seen.truncate(12);
        seen.into_iter().map(|f| format!("{} >= 0", self.show(&self.facts[f as usize]))).collect()
    }
}
