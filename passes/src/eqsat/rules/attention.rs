//! Attention written in primitives: product, scale, cap, mask, softmax, product.
//!
//! Keys and values repeated for groups of query heads, masks as selections or as large negative terms, and the causal
//! mask as a comparison of positions are all seen through. A mask's value counts as minus infinity from about -1e9 on
//! (or the least finite f16): such scores vanish in the softmax of any row that sees something.

use super::affine::{Affine, at_most_zero, conjunctions, negated};
use crate::eqsat::Numerics;
use crate::eqsat::graph::{Graph, ty};
use crate::eqsat::rule::{Group, Matches, Rule, Term, binary, broadcasts, casts, constant, each_op, ops, scaled};
use egg::Id;
use mlxc_ir::graph::{BinaryOp, Op, UnaryOp, broadcast_shapes};
use mlxc_ir::{DType, Size};

/// Most features of a head.
const FEATURES: i64 = 256;

/// The rules of this file.
pub fn rules() -> Vec<Rule> {
    vec![Rule { name: "attention", group: Group::Detect, level: Numerics::Strict, search: attention }]
}

/// What is done to scores between the product and the softmax.
#[derive(Clone, Debug)]
enum Mask {
    /// Keeps where true.
    Keep(Id),
    /// Keeps where false.
    Drop(Id),
    /// Is added.
    Add(Id),
}

/// Scaled and masked scores.
#[derive(Clone, Debug)]
struct Scores {
    q: Id,
    k: Id,
    /// k is stored [.., T, D].
    rows: bool,
    scale: f64,
    /// Scores are `cap * tanh(scores / cap)`.
    softcap: Option<f64>,
    masks: Vec<Mask>,
}

fn attention(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, x| {
        let Op::MatMul { transpose_a: false, transpose_b } = *op else { return };
        for weights in softmaxes(g, x[0]) {
            for s in scores(g, weights, 8) {
                if let Some(term) = build(g, id, &s, x[1], transpose_b) {
                    out.add(id, term);
                }
            }
        }
    });
}

/// Classes whose softmax the class is, conversions aside.
fn softmaxes(g: &Graph<'_>, id: Id) -> Vec<Id> {
    let direct = |id: Id| ops(g, id).filter(|(op, _)| **op == Op::Softmax).map(|(_, x)| x[0]).collect::<Vec<_>>();
    let mut out = direct(id);
    casts(g, id).filter(|x| ty(g, *x).dtype.is_float()).for_each(|x| out.extend(direct(x)));
    out
}

/// Ways to read a class as scores.
fn scores(g: &Graph<'_>, id: Id, depth: u32) -> Vec<Scores> {
    let mut out = Vec::new();
    if depth == 0 {
        return out;
    }
    for (op, x) in ops(g, id) {
        match op {
            Op::MatMul { transpose_a: false, transpose_b } => {
                out.push(Scores { q: x[0], k: x[1], rows: *transpose_b, scale: 1.0, softcap: None, masks: Vec::new() });
            }
            Op::Cast(_) if ty(g, x[0]).dtype.is_float() => out.extend(scores(g, x[0], depth - 1)),
            Op::Unary(UnaryOp::Tanh) => {
                // A factor behind it becomes the cap and, as the cap divides what is inside, part of the scale.
                let inner = scores(g, x[0], depth - 1).into_iter();
                let plain = inner.filter(|s| s.masks.is_empty() && s.softcap.is_none());
                out.extend(plain.map(|s| Scores { softcap: Some(1.0), ..s }));
            }
            Op::Select => {
                let mut masked = |scores_at: Id, mask: Mask| {
                    out.extend(scores(g, scores_at, depth - 1).into_iter().map(|mut s| {
                        s.masks.push(mask.clone());
                        s
                    }));
                };
                if is_low(g, x[2]) {
                    masked(x[1], Mask::Keep(x[0]));
                }
                if is_low(g, x[1]) {
                    masked(x[2], Mask::Drop(x[0]));
                }
            }
            _ => {}
        }
    }
    for (x, factor) in scaled(g, id).into_iter().filter(|(_, c)| *c > 0.0) {
        let inner = scores(g, x, depth - 1).into_iter();
        // A factor after an additive mask scales the mask too.
        let inner = inner.filter(|s| !s.masks.iter().any(|m| matches!(m, Mask::Add(_))));
        out.extend(inner.map(|s| Scores { scale: s.scale * factor, softcap: s.softcap.map(|c| c * factor), ..s }));
    }
    for (x, m) in binary(g, id, BinaryOp::Add) {
        for mut s in scores(g, x, depth - 1) {
            s.masks.push(additive(g, m));
            out.push(s);
        }
    }
    out.truncate(16);
    out
}

/// True for a uniform value that no score survives.
fn is_low(g: &Graph<'_>, id: Id) -> bool {
    constant(g, id).is_some_and(|v| v <= if ty(g, id).dtype == DType::F16 { -65504.0 } else { -9e8 })
}

fn is_zero(g: &Graph<'_>, id: Id) -> bool {
    constant(g, id) == Some(0.0)
}

/// What adding a class does: `select(c, 0, low)` keeps where c, `c * low` drops where c.
fn additive(g: &Graph<'_>, m: Id) -> Mask {
    let looked_through = std::iter::once(m).chain(broadcasts(g, m)).chain(casts(g, m));
    for m in looked_through {
        for (op, x) in ops(g, m) {
            if *op == Op::Select && is_zero(g, x[1]) && is_low(g, x[2]) {
                return Mask::Keep(x[0]);
            }
            if *op == Op::Select && is_low(g, x[1]) && is_zero(g, x[2]) {
                return Mask::Drop(x[0]);
            }
        }
        for (c, low) in binary(g, m, BinaryOp::Multiply) {
            // 0 * -inf would be no number; a finite low is meant.
            if is_low(g, low)
                && constant(g, low).is_some_and(f64::is_finite)
                && let Some(c) = casts(g, c).find(|c| ty(g, *c).dtype == DType::Bool)
            {
                return Mask::Drop(c);
            }
        }
    }
    Mask::Add(m)
}

/// Extents of attention in the written rank: [H, S, ·], [B, H, S, ·] or [B, Hkv, G, S, ·].
struct Shape {
    /// [B, H, S, D] of the queries.
    q: Vec<Size>,
    /// Written rank.
    rank: usize,
}

impl Shape {
    fn of(written: &[Size]) -> Option<Self> {
        let one = Size::constant(1);
        let q = match written {
            [h, s, d] => vec![one, h.clone(), s.clone(), d.clone()],
            [b, h, s, d] => vec![b.clone(), h.clone(), s.clone(), d.clone()],
            [b, h, n, s, d] => vec![b.clone(), h.clone() * n.clone(), s.clone(), d.clone()],
            _ => return None,
        };
        q[1].as_const()?;
        Some(Shape { q, rank: written.len() })
    }
}

fn build(g: &Graph<'_>, id: Id, s: &Scores, v: Id, v_columns: bool) -> Option<Term> {
    let written = &ty(g, s.q).shape;
    let dtype = ty(g, s.q).dtype;
    // The composite accumulates in f32.
    if ty(g, v).dtype != dtype || ty(g, id).dtype != dtype || dtype == DType::F64 {
        return None;
    }
    let shape = Shape::of(written)?;
    let (k, keys) = shared(g, s.k, s.rows, shape.rank)?;
    let (v, values) = shared(g, v, !v_columns, shape.rank)?;
    if keys[..3] != values[..3] || keys[3] != shape.q[3] || keys[0] != shape.q[0] {
        return None;
    }
    // What the template has room for; the primitives stay where it has not.
    let room = |d: &Size| d.as_const().is_some_and(|d| d <= FEATURES);
    let affine = shape.q[2].as_affine().is_some() && keys[2].as_affine().is_some();
    if !(room(&keys[3]) && room(&values[3]) && affine) {
        return None;
    }
    let (h, shared_heads) = (shape.q[1].as_const()?, keys[1].as_const()?);
    if shared_heads == 0 || h % shared_heads != 0 {
        return None;
    }
    let mut operands = vec![Term::reshape(g, s.q, &shape.q), k, v];
    let (mut causal, mut mask, mut offset) = (false, None, None);
    let mut left: Vec<Mask> = s.masks.clone();
    while let Some(m) = left.pop() {
        if let Mask::Keep(c) = m
            && let Some((a, b)) = std::iter::once(c).chain(broadcasts(g, c)).find_map(|c| conjunctions(g, c).pop())
        {
            left.extend([Mask::Keep(a), Mask::Keep(b)]);
            continue;
        }
        let positions = match m {
            Mask::Keep(c) => is_causal(g, c, false, &shape.q[2], &keys[2]),
            Mask::Drop(c) => is_causal(g, c, true, &shape.q[2], &keys[2]),
            Mask::Add(_) => None,
        };
        match positions {
            Some(at) if !causal => (causal, offset) = (true, at),
            // A second mask has no place.
            _ if mask.is_some() => return None,
            _ => mask = Some(operand(g, &m, &shape, &keys[2], dtype)?),
        }
    }
    let lead = (keys[2].clone() - shape.q[2].clone()).bounds(&g.analysis.function.ranges()).lo;
    if causal && offset.is_none() && lead < 0 {
        return None;
    }
    let op = Op::Sdpa {
        scale: s.scale.into(),
        causal,
        mask: mask.is_some(),
        offset: offset.is_some(),
        window: None,
        softcap: s.softcap.map(Into::into),
    };
    operands.extend(mask);
    operands.extend(offset.map(Term::Class));
    let term = Term::Op(op, operands);
    Some(if shape.rank == 4 { term } else { Term::of(Op::Reshape { shape: ty(g, id).shape.clone() }, term) })
}

/// Keys or values as [B, Hkv, T, D], repetitions for query heads taken away; with those extents.
fn shared(g: &Graph<'_>, x: Id, rows: bool, rank: usize) -> Option<(Term, Vec<Size>)> {
    if !rows {
        // Stored [.., D, T]: turned around.
        let written = &ty(g, x).shape;
        if rank != 4 {
            return None;
        }
        let perm = vec![0, 1, 3, 2];
        let shape = perm.iter().map(|p| written[*p as usize].clone()).collect();
        return Some((Term::of(Op::Transpose { perm }, x), shape));
    }
    let one = Size::constant(1);
    // [B, Hkv, 1, T, D] repeated along its third axis.
    let groups = |x: Id| {
        broadcasts(g, x).find(|r| {
            let (from, to) = (&ty(g, *r).shape, &ty(g, x).shape);
            from.len() == 5 && to.len() == 5 && from[2] == one && from[..2] == to[..2] && from[3..] == to[3..]
        })
    };
    let source = match rank {
        5 => Some(groups(x).or_else(|| (ty(g, x).shape[2] == one).then_some(x))?),
        4 => ops(g, x)
            .filter(|(op, _)| matches!(op, Op::Reshape { .. }))
            .filter(|(_, b)| {
                let (from, to) = (&ty(g, b[0]).shape, &ty(g, x).shape);
                from.len() == 5 && from[0] == to[0] && from[3..] == to[2..]
            })
            .find_map(|(_, b)| groups(b[0])),
        _ => None,
    };
    let written = &ty(g, source.unwrap_or(x)).shape;
    let shape = match written.as_slice() {
        [h, t, d] => vec![one, h.clone(), t.clone(), d.clone()],
        [b, h, t, d] => vec![b.clone(), h.clone(), t.clone(), d.clone()],
        [b, h, _, t, d] => vec![b.clone(), h.clone(), t.clone(), d.clone()],
        _ => return None,
    };
    Some((Term::reshape(g, source.unwrap_or(x), &shape), shape))
}

/// Says that query `s` sees keys `0..=offset + s`. `Some(None)` for the offset that aligns the ends.
fn is_causal(g: &Graph<'_>, c: Id, negate: bool, queries: &Size, keys: &Size) -> Option<Option<Id>> {
    let f = g.analysis.function;
    std::iter::once(c).chain(broadcasts(g, c)).find_map(|c| {
        let shape = &ty(g, c).shape;
        let rank = shape.len();
        if rank < 2 || shape[rank - 1] != *keys || shape[rank - 2] != *queries {
            return None;
        }
        at_most_zero(g, c).into_iter().find_map(|d| {
            let Affine { constant, axes, scalars } = if negate { negated(&d) } else { d };
            // key - query - offset <= 0
            let single = *queries == Size::constant(1);
            let fits =
                axes[rank - 1] == 1 && (axes[rank - 2] == -1 || single) && axes[..rank - 2].iter().all(|a| *a == 0);
            if !fits {
                return None;
            }
            let zero = Size::constant(0);
            if scalars.is_empty() {
                return (zero - constant == keys.clone() - queries.clone()).then_some(None);
            }
            let (id, k) = scalars.iter().next().map(|(id, k)| (*id, *k)).filter(|_| scalars.len() == 1)?;
            // A position that leaves room for the queries; otherwise it would be clamped.
            let room = |p: &mlxc_ir::graph::Param| match p.role {
                mlxc_ir::graph::Role::Scalar(s) => {
                    let left = keys.clone() - Size::symbol(s) - queries.clone();
                    f.requires.contains(&left) || left.bounds(&f.ranges()).lo >= 0
                }
                _ => false,
            };
            let positioned = k == -1
                && constant == zero
                && ty(g, id).dtype == DType::I32
                && crate::eqsat::graph::param(g, id).is_some_and(|(_, p)| room(p));
            positioned.then_some(Some(id))
        })
    })
}

/// A mask as an operand that broadcasts to [B, H, S, T].
fn operand(g: &Graph<'_>, mask: &Mask, shape: &Shape, keys: &Size, dtype: DType) -> Option<Term> {
    let (id, negate) = match mask {
        Mask::Keep(c) => (*c, false),
        Mask::Drop(c) => (*c, true),
        Mask::Add(m) => (*m, false),
    };
    // The smallest value that is repeated; an additive one in the dtype of the scores.
    let smallest = |id: Id| broadcasts(g, id).min_by_key(|x| (ty(g, *x).rank(), *x)).unwrap_or(id);
    let mut id = smallest(id);
    if ty(g, id).dtype != DType::Bool && ty(g, id).dtype != dtype {
        id = casts(g, id).find(|x| ty(g, *x).dtype == dtype)?;
    }
    let written = &ty(g, id).shape;
    let term = if shape.rank == 4 {
        let full = [shape.q[0].clone(), shape.q[1].clone(), shape.q[2].clone(), keys.clone()];
        (broadcast_shapes(written, &full).as_deref() == Some(&full[..])).then_some(Term::Class(id))?
    } else {
        // Axes before the last two are not those of [B, H]; they must be alike.
        let n = written.len();
        let alike = n <= 2 || written[..n - 2].iter().all(|d| *d == Size::constant(1));
        let last = &written[n.saturating_sub(2)..];
        alike.then(|| Term::reshape(g, id, last))?
    };
    Some(if negate { Term::of(Op::Unary(UnaryOp::LogicalNot), term) } else { term })
}
