//! Index expressions as linear forms, and what must hold of their parts.

use super::Verifier;
use super::linear::Linear;
use crate::kernel::index::{Builtin, Index};
use crate::kernel::types::*;

impl Verifier<'_> {
    /// The linear form of an index; what cannot be one is reported and stands for an unknown atom.
    pub(super) fn linear(&mut self, id: IndexId) -> Linear {
        if let Some(known) = self.forms.get(&id) {
            return known.clone();
        }
        let form = match self.try_linear(id) {
            Some(form) => form,
            None => self.prover.atom("?".into(), i64::MIN, i64::MAX),
        };
        self.forms.insert(id, form.clone());
        self.form_log.push(id);
        form
    }

    fn try_linear(&mut self, id: IndexId) -> Option<Linear> {
        match self.k.index.get(id) {
            Index::Const(c) => Some(Linear::constant(c)),
            Index::Var(v) => match self.var(v) {
                Some(state) => Some(state.form.clone()),
                None => {
                    self.hidden(self.k.var_name(v).to_string());
                    None
                }
            },
            Index::Builtin(b) => {
                let form = self.builtins[b as usize].clone();
                if form.is_none() {
                    let message = format!("`{}` needs a phase with a subgroup width", b.name());
                    self.report(533, if b == Builtin::Lane { "`lane` stands in phases only".into() } else { message });
                }
                form
            }
            Index::Add(a, b) => {
                let (a, b) = (self.linear(a), self.linear(b));
                self.fits(a.combine(1, &b, 1))
            }
            Index::Scale(a, by) => {
                let a = self.linear(a);
                self.fits(a.combine(by, &Linear::default(), 0))
            }
            Index::Div(a, by) => self.quotient(id, a, by),
            Index::Mod(a, by) => {
                let d = self.quotient(id, a, by)?;
                let a = self.linear(a);
                self.fits(a.combine(1, &d, by.checked_neg()?))
            }
            Index::DivBy(a, b) => {
                let (x, y) = (self.linear(a), self.linear(b));
                self.not_negative(a, &x);
                let (least, most) = (self.prover.lower(&y), self.prover.upper(&x));
                let (Some(least @ 1..), Some(most)) = (least, most) else {
                    self.report(521, format!("`{}` may be 0 or the quotient has no bound", self.show_index(b)));
                    return None;
                };
                Some(self.prover.atom(self.show_index(id), 0, most.max(0) / least))
            }
            Index::Min(a, b) => self.extremum(id, true, a, b),
            Index::Max(a, b) => self.extremum(id, false, a, b),
            Index::Clamp(value, lo, hi) => {
                self.value(value);
                let (l, h) = (self.linear(lo), self.linear(hi));
                let ty = self.k.expr(value).ty;
                if ty.lanes() != 1 || !ty.dtype().is_int() {
                    self.report(503, format!("idx takes an integer scalar, not {ty}"));
                }
                let room = self.fits(h.combine(1, &l, -1)?.plus(-1))?;
                if !self.prover.prove(&room) {
                    let what = format!("`{}` has no value between its bounds", self.show_index(id));
                    self.unproved(522, what, format!("{} < {}", self.show_index(lo), self.show_index(hi)), &room);
                }
                let (least, most) = (self.prover.lower(&l), self.prover.upper(&h));
                let most = most.map_or(i64::MAX, |m| m.saturating_sub(1));
                let n = self.prover.atom(self.show_index(id), least.unwrap_or(i64::MIN), most);
                self.prover.add(n.combine(1, &l, -1)?);
                self.prover.add(h.combine(1, &n, -1)?.plus(-1)?);
                Some(n)
            }
        }
    }

    fn fits(&mut self, form: Option<Linear>) -> Option<Linear> {
        if form.is_none() {
            self.report(520, "the index expression leaves 64 bits".into());
        }
        form
    }

    fn quotient(&mut self, id: IndexId, a: IndexId, by: i64) -> Option<Linear> {
        let form = self.linear(a);
        if by < 1 {
            self.report(521, "index divisors are at least 1".into());
            return None;
        }
        self.not_negative(a, &form);
        if by == 1 {
            return Some(form);
        }
        let k = self.k;
        let d = self.prover.quotient(&form, by, &|| match k.index.get(id) {
            Index::Mod(a, by) => format!("({}/{by})", super::super::print_index(k, a)),
            _ => format!("({})", super::super::print_index(k, id)),
        });
        self.fits(d)
    }

    fn extremum(&mut self, id: IndexId, min: bool, a: IndexId, b: IndexId) -> Option<Linear> {
        let (x, y) = (self.linear(a), self.linear(b));
        self.not_negative(a, &x);
        self.not_negative(b, &y);
        let name = self.show_index(id);
        let n = self.prover.extremum(min, &x, &y, name);
        self.fits(n)
    }

    /// Divisions, minima, comparisons and bounds are unsigned on some targets.
    pub(super) fn not_negative(&mut self, id: IndexId, form: &Linear) {
        if !self.prover.prove(form) {
            let text = self.show_index(id);
            let what = format!("`{text}` may be negative where only a natural number may stand");
            self.unproved(522, what, format!("{text} >= 0"), form);
        }
    }

    /// True if the value differs between the lanes of a group.
    pub(super) fn index_varies(&self, id: IndexId) -> bool {
        match self.k.index.get(id) {
            Index::Const(_) => false,
            Index::Var(v) => self.var(v).is_none_or(|s| s.varies),
            Index::Builtin(b) => b != Builtin::SubgroupWidth && self.lanes > 1,
            Index::Scale(a, _) | Index::Div(a, _) | Index::Mod(a, _) => self.index_varies(a),
            Index::Add(a, b) | Index::DivBy(a, b) | Index::Min(a, b) | Index::Max(a, b) => {
                self.index_varies(a) || self.index_varies(b)
            }
            Index::Clamp(e, a, b) => self.varies(e) || self.index_varies(a) || self.index_varies(b),
        }
    }

    /// True if the value is a constant once `unroll` loops are written out.
    pub(super) fn is_constant(&self, id: IndexId) -> bool {
        match self.k.index.get(id) {
            Index::Const(_) => true,
            Index::Var(v) => self.var(v).is_some_and(|s| s.constant),
            Index::Builtin(_) | Index::Clamp(..) => false,
            Index::Scale(a, _) | Index::Div(a, _) | Index::Mod(a, _) => self.is_constant(a),
            Index::Add(a, b) | Index::DivBy(a, b) | Index::Min(a, b) | Index::Max(a, b) => {
                self.is_constant(a) && self.is_constant(b)
            }
        }
    }
}
