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

/// `x · Wiᵀ` for all `i` is slices of `x · concat(W)ᵀ`.
fn merge_siblings(g: &Graph<'_>, out: &mut Matches) {
    // By left factor: weight parameter, its class and its product's class.
    let mut siblings: BTreeMap<Id, BTreeMap<u32, (Id, Id)>> = BTreeMap::new();
    each_op(g, |id, op, x| {
        if *op == PRODUCT
            && ty(g, id).rank() == 2
            && let Some(p) = weight(g, x[1])
            && ty(g, x[1]).shape[0].as_const().is_some_and(|n| n > 0 && n % COLUMNS == 0)
            && only_feeds_products(g, x[1])
        {
            siblings.entry(g.find(x[0])).or_default().insert(p, (g.find(x[1]), id));
        }
    });
    for (x, parts) in siblings {
        let products: BTreeSet<Id> = parts.values().map(|(_, product)| *product).collect();
        if products.len() < 2 {
            continue;
        }
        let weights = Term::Op(Op::Concat { axis: 0 }, parts.values().map(|(w, _)| Term::Class(*w)).collect());
        let wide = Term::Op(PRODUCT, vec![x.into(), weights]);
        let rows = ty(g, x).shape[0].clone();
        let mut column = Size::constant(0);
        for (w, product) in parts.values() {
            let next = column.clone() + ty(g, *w).shape[0].clone();
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
