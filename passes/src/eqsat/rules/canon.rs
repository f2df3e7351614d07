//! Simpler spellings that rewriting itself brings about; the rest is canonical before saturation starts.

use crate::eqsat::Numerics;
use crate::eqsat::graph::{Graph, ty};
use crate::eqsat::rule::{Group, Matches, Rule, Term, each_op, ops};
use mlxc_ir::graph::Op;

/// The rules of this file.
pub fn rules() -> Vec<Rule> {
    let rule = |name, search| Rule { name, group: Group::Canon, level: Numerics::Exact, search };
    vec![
        rule("reshape-of-reshape", reshape_of_reshape as fn(&Graph<'_>, &mut Matches)),
        rule("cast-to-own-dtype", cast_to_own_dtype),
        rule("unary-before-broadcast", unary_before_broadcast),
    ]
}

/// Two reshapes are one, or none.
fn reshape_of_reshape(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, x| {
        let Op::Reshape { shape } = op else { return };
        if ty(g, x[0]).shape == *shape {
            out.add(id, x[0].into());
        }
        for (inner, y) in ops(g, x[0]) {
            if matches!(inner, Op::Reshape { .. }) {
                out.add(id, Term::reshape(g, y[0], shape));
            }
        }
    });
}

/// A conversion to the dtype a value has.
fn cast_to_own_dtype(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, x| {
        if let Op::Cast(to) = op
            && ty(g, x[0]).dtype == *to
        {
            out.add(id, x[0].into());
        }
    });
}

/// A function of a repeated value is computed before it is repeated.
fn unary_before_broadcast(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, x| {
        if !matches!(op, Op::Unary(_) | Op::Cast(_)) {
            return;
        }
        for (inner, y) in ops(g, x[0]) {
            if matches!(inner, Op::Broadcast { .. }) {
                out.add(id, Term::of(inner.clone(), Term::of(op.clone(), y[0])));
            }
        }
    });
}
