//! Products: factors taken out of operands, and chains multiplied in the cheaper order.

use crate::eqsat::Numerics;
use crate::eqsat::graph::{Graph, ty};
use crate::eqsat::rule::{Group, Matches, Rule, Term, each_op, ops, scaled};
use mlxc_ir::Size;
use mlxc_ir::graph::{BinaryOp, Op, TensorType};

/// The rules of this file.
pub fn rules() -> Vec<Rule> {
    let rule = |name, search| Rule { name, group: Group::MatMul, level: Numerics::Strict, search };
    vec![
        rule("factor-out-of-product", factor_out as fn(&Graph<'_>, &mut Matches)),
        rule("product-of-product", reassociate),
    ]
}

/// `matmul(a * c, b)` is `matmul(a, b) * c`: one multiplication after an f32 sum, where it often joins another.
fn factor_out(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, x| {
        if !matches!(op, Op::MatMul { .. }) {
            return;
        }
        let like = ty(g, id).clone();
        let mut add = |a, b, factor: f64| {
            let product = Term::both(op.clone(), a, b);
            out.add(id, Term::both(Op::Binary(BinaryOp::Multiply), product, Term::full(factor, &like)));
        };
        // Whole powers of two and signs would be exact on either side; other factors round once either way.
        scaled(g, x[0]).into_iter().for_each(|(a, factor)| add(a, x[1], factor));
        scaled(g, x[1]).into_iter().for_each(|(b, factor)| add(x[0], b, factor));
    });
}

/// `(a · b) · c` is `a · (b · c)`, written where it takes at most half of the operations for all sizes.
fn reassociate(g: &Graph<'_>, out: &mut Matches) {
    let plain = |op: &Op| match op {
        Op::MatMul { transpose_a: false, transpose_b } => Some(*transpose_b),
        _ => None,
    };
    each_op(g, |id, op, x| {
        let Some(turned) = plain(op) else { return };
        for (inner, y) in ops(g, x[0]) {
            let Some(inner_turned) = plain(inner) else { continue };
            let (a, b, c) = (y[0], y[1], x[1]);
            // [M, K] · [K, L] · [L, N]
            let (m, k) = last_two(ty(g, a), false);
            let (_, l) = last_two(ty(g, b), inner_turned);
            let (_, n) = last_two(ty(g, c), turned);
            let left = m.clone() * k.clone() * l.clone() + m.clone() * l.clone() * n.clone();
            let right = k.clone() * l * n.clone() + m * k * n;
            let ranges = g.analysis.function.ranges();
            if (left - right * Size::constant(2)).bounds(&ranges).lo < 0 {
                continue;
            }
            // b · c, so that both factors keep the way they lie.
            let both = Op::MatMul { transpose_a: inner_turned, transpose_b: turned };
            let outer = Op::MatMul { transpose_a: false, transpose_b: false };
            out.add(id, Term::both(outer, a, Term::both(both, b, c)));
        }
    });
}

fn last_two(t: &TensorType, turned: bool) -> (Size, Size) {
    let (r, c) = (t.shape[t.rank() - 2].clone(), t.shape[t.rank() - 1].clone());
    if turned { (c, r) } else { (r, c) }
}
