//! Integer tensors as linear functions of their coordinates: what masks and positions are made of.

use crate::eqsat::graph::{Graph, ty};
use crate::eqsat::rule::{binary, ops, unary};
use egg::Id;
use mlxc_ir::Size;
use mlxc_ir::graph::{BinaryOp, Literal, Op, UnaryOp};
use std::collections::BTreeMap;

/// `constant + Σ axes[i] * coordinate i + Σ scalars[id] * value of id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affine {
    /// What does not vary.
    pub constant: Size,
    /// Factor of each coordinate; 0 for extents of 1.
    pub axes: Vec<i64>,
    /// Factors of values of shape [].
    pub scalars: BTreeMap<Id, i64>,
}

impl Affine {
    fn constant(constant: Size, rank: usize) -> Self {
        Affine { constant, axes: vec![0; rank], scalars: BTreeMap::new() }
    }

    /// `self + other * factor`.
    pub fn plus(mut self, other: &Affine, factor: i64) -> Self {
        self.constant = self.constant + other.constant.clone() * Size::constant(factor);
        for (a, b) in self.axes.iter_mut().zip(&other.axes) {
            *a += b * factor;
        }
        for (id, k) in &other.scalars {
            let sum = self.scalars.entry(*id).or_insert(0);
            *sum += k * factor;
        }
        self.scalars.retain(|_, k| *k != 0);
        self
    }
}

/// The class as a linear function, if one of its nodes says so.
pub fn affine(g: &Graph<'_>, id: Id) -> Option<Affine> {
    read(g, g.find(id), 12)
}

fn read(g: &Graph<'_>, id: Id, depth: u32) -> Option<Affine> {
    let t = ty(g, id);
    if !t.dtype.is_int() || depth == 0 {
        return None;
    }
    if let Some(value) = g[id].data.constant {
        return Some(Affine::constant(Size::constant(value.as_i64()), t.rank()));
    }
    let found = ops(g, id).find_map(|(op, x)| node(g, id, op, x, depth - 1));
    // A value of shape [] that nothing more is known of stands for itself.
    let itself = || {
        (t.rank() == 0).then(|| Affine { scalars: BTreeMap::from([(id, 1)]), ..Affine::constant(Size::constant(0), 0) })
    };
    found.or_else(itself)
}

fn node(g: &Graph<'_>, id: Id, op: &Op, x: &[Id], depth: u32) -> Option<Affine> {
    let shape = &ty(g, id).shape;
    let operand = |i: usize| read(g, g.find(x[i]), depth);
    match op {
        Op::Iota { axis, .. } => {
            let mut a = Affine::constant(Size::constant(0), shape.len());
            a.axes[*axis as usize] = i64::from(shape[*axis as usize] != Size::constant(1));
            Some(a)
        }
        Op::FromSize { size, .. } => Some(Affine::constant(size.clone(), 0)),
        Op::Cast(_) if ty(g, x[0]).dtype.is_int() => operand(0),
        Op::Unary(UnaryOp::Negative) => Some(Affine::constant(Size::constant(0), shape.len()).plus(&operand(0)?, -1)),
        Op::Binary(BinaryOp::Add) => Some(operand(0)?.plus(&operand(1)?, 1)),
        Op::Binary(BinaryOp::Subtract) => Some(operand(0)?.plus(&operand(1)?, -1)),
        Op::Binary(BinaryOp::Multiply) => {
            let factor = g[x[1]].data.constant.map(Literal::as_i64)?;
            Some(Affine::constant(Size::constant(0), shape.len()).plus(&operand(0)?, factor))
        }
        Op::Broadcast { .. } => {
            let inner = operand(0)?;
            let skip = shape.len() - inner.axes.len();
            let axes = (0..shape.len()).map(|i| if i < skip { 0 } else { inner.axes[i - skip] }).collect();
            Some(Affine { axes, ..inner })
        }
        Op::Transpose { perm } => {
            let inner = operand(0)?;
            Some(Affine { axes: perm.iter().map(|p| inner.axes[*p as usize]).collect(), ..inner })
        }
        Op::Reshape { .. } => {
            // Extents of 1 come and go; the others must stay.
            let inner = operand(0)?;
            let one = Size::constant(1);
            let from = &ty(g, x[0]).shape;
            let kept: Vec<usize> = (0..from.len()).filter(|i| from[*i] != one).collect();
            let to: Vec<usize> = (0..shape.len()).filter(|i| shape[*i] != one).collect();
            let fits = kept.len() == to.len() && kept.iter().zip(&to).all(|(a, b)| from[*a] == shape[*b]);
            let mut axes = vec![0; shape.len()];
            for (a, b) in kept.iter().zip(&to) {
                axes[*b] = inner.axes[*a];
            }
            fits.then_some(Affine { axes, ..inner })
        }
        Op::Slice { start, step, .. } if step.iter().all(|s| *s == 1) => {
            let inner = operand(0)?;
            let moved = start
                .iter()
                .zip(&inner.axes)
                .fold(inner.constant.clone(), |sum, (s, k)| sum + s.clone() * Size::constant(*k));
            Some(Affine { constant: moved, ..inner })
        }
        _ => None,
    }
}

/// `difference <= 0` for a class of bools that compares two linear functions.
pub fn at_most_zero(g: &Graph<'_>, id: Id) -> Vec<Affine> {
    use mlxc_ir::graph::CompareOp::*;
    let mut out = Vec::new();
    for (op, x) in ops(g, id) {
        let Op::Compare(op) = op else { continue };
        let (Some(a), Some(b)) = (affine(g, x[0]), affine(g, x[1])) else { continue };
        let one = Affine::constant(Size::constant(1), a.axes.len());
        out.extend(match op {
            LessEqual => Some(a.plus(&b, -1)),
            GreaterEqual => Some(b.plus(&a, -1)),
            Less => Some(a.plus(&b, -1).plus(&one, 1)),
            Greater => Some(b.plus(&a, -1).plus(&one, 1)),
            Equal | NotEqual => None,
        });
    }
    for x in unary(g, id, UnaryOp::LogicalNot) {
        out.extend(at_most_zero(g, x).iter().map(negated));
    }
    out
}

/// `difference <= 0` where the given difference is not.
pub fn negated(difference: &Affine) -> Affine {
    Affine::constant(Size::constant(1), difference.axes.len()).plus(difference, -1)
}

/// Both operands of conjunctions.
pub fn conjunctions(g: &Graph<'_>, id: Id) -> Vec<(Id, Id)> {
    [BinaryOp::LogicalAnd, BinaryOp::BitwiseAnd].into_iter().flat_map(|op| binary(g, id, op)).collect()
}
