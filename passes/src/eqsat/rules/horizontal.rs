//! Sibling products on one input become slices of one wide product.
//!
//! The weights are joined along their rows, which storage does when the package is made. One search over the graph, not
//! a pattern with several roots: pairs of siblings would merge in every order and the graph would explode.

use crate::eqsat::Numerics;
use crate::eqsat::graph::{Graph, Head, ty, weight};
use crate::eqsat::rule::{Group, Matches, Rule, Term, each_op};
use egg::Id;
use mlxc_ir::Size;
use mlxc_ir::graph::Op;
use std::collections::{BTreeMap, BTreeSet};

/// Every part has a multiple of so many columns: the widest panel of any profile, so that no panel straddles parts.
const COLUMNS: i64 = 32;

/// The rules of this file.
pub fn rules() -> Vec<Rule> {
    vec![Rule { name: "merge-siblings", group: Group::Horizontal, level: Numerics::Exact, search: merge_siblings }]
}

const PRODUCT: Op = Op::MatMul { transpose_a: false, transpose_b: true };

/// The right factor of a product: a weight, or the parts of a quantised one.
struct Factor {
    /// How the rows are stored: dense, or dequantised by this op.
    op: Option<Op>,
    /// Classes of the weight, or of words, scales and biases.
    parts: Vec<Id>,
}

/// The factor a class is, and the parameter that orders it among its siblings.
fn factor(g: &Graph<'_>, id: Id) -> Option<(u32, Factor)> {
    if let Some(p) = weight(g, id) {
        return only_feeds_products(g, id).then(|| (p, Factor { op: None, parts: vec![g.find(id)] }));
    }
    let node = g[id].iter().find(|n| matches!(n.as_op(), Some(Op::Dequantize { .. })))?;
    let parts: Vec<Id> = node.children.iter().map(|c| g.find(*c)).collect();
    let all_weights = parts.iter().all(|c| weight(g, *c).is_some() && only_dequantized(g, *c));
    if !all_weights || !only_feeds_products(g, id) {
        return None;
    }
    Some((weight(g, parts[0])?, Factor { op: node.as_op().cloned(), parts }))
}

/// `x · Wiᵀ` for all `i` is slices of `x · concat(W)ᵀ`; quantised rows are joined as they are stored.
fn merge_siblings(g: &Graph<'_>, out: &mut Matches) {
    // By left factor and storage: the weight's parameter, its parts and its product's class.
    let mut siblings: BTreeMap<(Id, Option<Op>), BTreeMap<u32, (Factor, Id)>> = BTreeMap::new();
    each_op(g, |id, op, x| {
        if *op == PRODUCT
            && ty(g, id).rank() == 2
            && ty(g, x[1]).shape[0].as_const().is_some_and(|n| n > 0 && n % COLUMNS == 0)
            && let Some((p, factor)) = factor(g, x[1])
        {
            siblings.entry((g.find(x[0]), factor.op.clone())).or_default().insert(p, (factor, id));
        }
    });
    for ((x, dequantize), parts) in siblings {
        let products: BTreeSet<Id> = parts.values().map(|(_, product)| *product).collect();
        if products.len() < 2 {
            continue;
        }
        let count = parts.values().next().map_or(0, |(f, _)| f.parts.len());
        let join =
            |i: usize| Term::Op(Op::Concat { axis: 0 }, parts.values().map(|(f, _)| Term::Class(f.parts[i])).collect());
        let weights = match dequantize {
            Some(op) => Term::Op(op, (0..count).map(join).collect()),
            None => join(0),
        };
        let wide = Term::Op(PRODUCT, vec![x.into(), weights]);
        let rows = ty(g, x).shape[0].clone();
        let mut column = Size::constant(0);
        for (w, product) in parts.values() {
            let next = column.clone() + ty(g, w.parts[0]).shape[0].clone();
            let slice = Op::Slice {
                start: vec![Size::constant(0), column],
                stop: vec![rows.clone(), next.clone()],
                step: vec![1, 1],
            };
            out.add(*product, Term::Op(slice, vec![wide.clone()]));
            column = next;
        }
    }
}

/// True if a weight is read as a right factor only: another reader would have it stored twice.
fn only_feeds_products(g: &Graph<'_>, w: Id) -> bool {
    g[w].parents().all(|p| {
        let n = &g.nodes()[usize::from(p)];
        match &n.head {
            Head::Op(op) if *op == PRODUCT => g.find(n.children[1]) == g.find(w) && g.find(n.children[0]) != g.find(w),
            Head::Op(Op::Concat { .. }) => true,
            _ => false,
        }
    })
}

/// True if a part of a quantised weight is read only to dequantise it.
fn only_dequantized(g: &Graph<'_>, part: Id) -> bool {
    g[part]
        .parents()
        .all(|p| matches!(&g.nodes()[usize::from(p)].head, Head::Op(Op::Dequantize { .. } | Op::Concat { .. })))
}
