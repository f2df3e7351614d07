//! Transposes move towards products, which read their operands either way round.

use crate::canonicalise::swaps_last;
use crate::eqsat::Numerics;
use crate::eqsat::graph::{Graph, ty};
use crate::eqsat::rule::{Group, Matches, Rule, Term, each_op, ops};
use egg::Id;
use mlxc_ir::graph::{Literal, Op};

/// The rules of this file.
pub fn rules() -> Vec<Rule> {
    let rule = |name, search| Rule { name, group: Group::Layout, level: Numerics::Exact, search };
    vec![
        rule("transposed-factor", transposed_factor as fn(&Graph<'_>, &mut Matches)),
        rule("transpose-of-transpose", transpose_of_transpose),
        rule("transpose-after-elementwise", transpose_after_elementwise),
    ]
}

/// `matmul(transpose(a), b)` is `matmul(a, b)` with a flag turned.
fn transposed_factor(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, x| {
        let Op::MatMul { transpose_a, transpose_b } = *op else { return };
        for a in swapped(g, x[0]) {
            let op = Op::MatMul { transpose_a: !transpose_a, transpose_b };
            out.add(id, Term::both(op, a, x[1]));
        }
        for b in swapped(g, x[1]) {
            let op = Op::MatMul { transpose_a, transpose_b: !transpose_b };
            out.add(id, Term::both(op, x[0], b));
        }
    });
}

/// What the class is with its last two axes exchanged.
fn swapped(g: &Graph<'_>, id: Id) -> Vec<Id> {
    transposes(g, id).into_iter().filter(|(perm, _)| swaps_last(perm)).map(|(_, x)| x).collect()
}

fn transposes<'g>(g: &'g Graph<'_>, id: Id) -> Vec<(&'g [u32], Id)> {
    ops(g, id)
        .filter_map(|(op, x)| match op {
            Op::Transpose { perm } => Some((perm.as_slice(), x[0])),
            _ => None,
        })
        .collect()
}

/// Two transposes are one.
fn transpose_of_transpose(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, x| {
        let Op::Transpose { perm } = op else { return };
        for (inner, y) in transposes(g, x[0]) {
            let perm: Vec<u32> = perm.iter().map(|p| inner[*p as usize]).collect();
            let same = perm.iter().enumerate().all(|(i, p)| i == *p as usize);
            out.add(id, if same { y.into() } else { Term::of(Op::Transpose { perm }, y) });
        }
    });
}

/// `f(transpose(x), transpose(y))` is `transpose(f(x, y))`; uniform operands have no order to change.
fn transpose_after_elementwise(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, x| {
        if !op.is_elementwise() || x.is_empty() {
            return;
        }
        for (perm, _) in x.iter().flat_map(|c| transposes(g, *c)) {
            let mut inner = perm.to_vec();
            for (i, p) in perm.iter().enumerate() {
                inner[*p as usize] = i as u32;
            }
            let operand = |c: &Id| -> Option<Term> {
                if let Some((_, y)) = transposes(g, *c).into_iter().find(|(p, _)| *p == perm) {
                    return Some(y.into());
                }
                let value: Literal = g[*c].data.constant?;
                let t = ty(g, *c);
                let shape = inner.iter().map(|p| t.shape[*p as usize].clone()).collect();
                Some(Term::Op(Op::Full { value, dtype: t.dtype, shape }, Vec::new()))
            };
            let operands: Option<Vec<Term>> = x.iter().map(operand).collect();
            if let Some(operands) = operands {
                out.add(id, Term::of(Op::Transpose { perm: perm.to_vec() }, Term::Op(op.clone(), operands)));
            }
        }
    });
}
