//! What a rewrite rule is, and the words rules are written in.

use super::Numerics;
use super::graph::{ENode, Graph, ty};
use egg::Id;
use mlxc_ir::graph::{BinaryOp, Literal, Op, TensorType, UnaryOp};
use mlxc_ir::{DType, Size};

/// What a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Simpler spellings of one value.
    Canon,
    /// Composites written in primitives.
    Detect,
    /// Transposes towards products.
    Layout,
    /// Products themselves.
    MatMul,
    /// Sibling products on one input.
    Horizontal,
}

/// A rewrite rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Stable name.
    pub name: &'static str,
    /// What it is for.
    pub group: Group,
    /// The lowest level that loads it.
    pub level: Numerics,
    /// Finds what the rule says of a graph.
    pub search: fn(&Graph<'_>, &mut Matches),
}

/// A value in terms of classes.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// A class that exists.
    Class(Id),
    /// An operation on terms.
    Op(Op, Vec<Term>),
}

impl From<Id> for Term {
    fn from(id: Id) -> Self {
        Term::Class(id)
    }
}

impl Term {
    /// An operation on one term.
    pub fn of(op: Op, x: impl Into<Term>) -> Self {
        Term::Op(op, vec![x.into()])
    }

    /// An operation on two terms.
    pub fn both(op: Op, a: impl Into<Term>, b: impl Into<Term>) -> Self {
        Term::Op(op, vec![a.into(), b.into()])
    }

    /// A uniform constant of a type.
    pub fn full(value: f64, like: &TensorType) -> Self {
        Term::Op(Op::Full { value: Literal::float(value), dtype: like.dtype, shape: like.shape.clone() }, Vec::new())
    }

    /// A reshape, left out where the class has the shape already.
    pub fn reshape(g: &Graph<'_>, x: Id, shape: &[Size]) -> Self {
        if ty(g, x).shape == shape { x.into() } else { Term::of(Op::Reshape { shape: shape.to_vec() }, x) }
    }
}

/// What rules found: a class, and another way to compute it.
#[derive(Debug, Default)]
pub struct Matches {
    /// In the order found.
    pub found: Vec<(Id, Term)>,
}

impl Matches {
    /// Adds one.
    pub fn add(&mut self, id: Id, term: Term) {
        self.found.push((id, term));
    }
}

/// Calls `visit` with every class and its nodes, by class number.
pub fn each_node(g: &Graph<'_>, mut visit: impl FnMut(Id, &ENode)) {
    let mut ids: Vec<Id> = g.classes().map(|c| c.id).collect();
    ids.sort_unstable();
    for id in ids {
        g[id].iter().for_each(|n| visit(id, n));
    }
}

/// Calls `visit` with every operation of the graph.
pub fn each_op(g: &Graph<'_>, mut visit: impl FnMut(Id, &Op, &[Id])) {
    each_node(g, |id, n| {
        if let Some(op) = n.as_op() {
            visit(id, op, &n.children);
        }
    });
}

/// The operations of a class with their operands.
pub fn ops<'g>(g: &'g Graph<'_>, id: Id) -> impl Iterator<Item = (&'g Op, &'g [Id])> + 'g {
    g[id].iter().filter_map(|n| Some((n.as_op()?, n.children.as_slice())))
}

/// Operands of the class's nodes of one unary function.
pub fn unary<'g>(g: &'g Graph<'_>, id: Id, want: UnaryOp) -> impl Iterator<Item = Id> + 'g {
    ops(g, id).filter(move |(op, _)| **op == Op::Unary(want)).map(|(_, x)| x[0])
}

/// Operands of the class's nodes of one binary function; both ways round where the order does not matter.
pub fn binary<'g>(g: &'g Graph<'_>, id: Id, want: BinaryOp) -> impl Iterator<Item = (Id, Id)> + 'g {
    let here = ops(g, id).filter(move |(op, _)| **op == Op::Binary(want));
    here.flat_map(move |(_, x)| {
        let turned = want.is_commutative().then_some((x[1], x[0]));
        std::iter::once((x[0], x[1])).chain(turned)
    })
}

/// Operands of the class's conversions to its dtype.
pub fn casts<'g>(g: &'g Graph<'_>, id: Id) -> impl Iterator<Item = Id> + 'g {
    ops(g, id).filter(|(op, _)| matches!(op, Op::Cast(_))).map(|(_, x)| x[0])
}

/// Operands of the class's broadcasts.
pub fn broadcasts<'g>(g: &'g Graph<'_>, id: Id) -> impl Iterator<Item = Id> + 'g {
    ops(g, id).filter(|(op, _)| matches!(op, Op::Broadcast { .. })).map(|(_, x)| x[0])
}

/// The value of a uniform class.
pub fn constant(g: &Graph<'_>, id: Id) -> Option<f64> {
    g[id].data.constant.map(Literal::as_f64)
}

/// What the class multiplies by a constant, and the constant: `x * c`, `x / c` and `-x`.
pub fn scaled(g: &Graph<'_>, id: Id) -> Vec<(Id, f64)> {
    let mut out = Vec::new();
    for (x, c) in binary(g, id, BinaryOp::Multiply) {
        out.extend(constant(g, c).map(|c| (x, c)));
    }
    for (x, c) in binary(g, id, BinaryOp::Divide) {
        out.extend(constant(g, c).filter(|c| *c != 0.0).map(|c| (x, 1.0 / c)));
    }
    out.extend(unary(g, id, UnaryOp::Negative).map(|x| (x, -1.0)));
    out
}

/// True if a constant is the nearest its dtype comes to a number, or as near as another float dtype comes.
pub fn is_about(value: f64, wanted: f64, dtype: DType) -> bool {
    let epsilon = match dtype {
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        DType::F32 => 2f64.powi(-22),
        _ => 2f64.powi(-50),
    };
    (value - wanted).abs() <= epsilon * wanted.abs()
}

/// True for the last axis alone.
pub fn is_last_axis(axes: &[u32], rank: usize) -> bool {
    axes.len() == 1 && axes[0] as usize + 1 == rank
}

/// True if two classes are one.
pub fn same(g: &Graph<'_>, a: Id, b: Id) -> bool {
    g.find(a) == g.find(b)
}
