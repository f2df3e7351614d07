//! Rotary embeddings written in primitives.
//!
//! Three ways of writing them are known: two halves rotated and joined, `x * cos + rotated(x) * sin` with tables of full
//! width, and neighbours rotated and interleaved. In each the angles are positions times frequencies: positions count up
//! from a constant or a host scalar along the axis before the last, and frequencies are known now.

use super::affine::affine;
use crate::canonicalise::evaluate;
use crate::eqsat::Numerics;
use crate::eqsat::graph::{Graph, Head, param, ty};
use crate::eqsat::rule::{Group, Matches, Rule, Term, binary, broadcasts, casts, each_op, ops, same, scaled, unary};
use egg::Id;
use mlxc_ir::graph::interpret::Tensor;
use mlxc_ir::graph::{BinaryOp, Dense, Literal, Op, Real, Role, UnaryOp};
use mlxc_ir::{DType, Size};
use std::sync::Arc;

/// Most frequencies that are evaluated.
const FREQUENCIES: i64 = 4096;

/// The rules of this file.
pub fn rules() -> Vec<Rule> {
    let rule = |name, search| Rule { name, group: Group::Detect, level: Numerics::Strict, search };
    vec![
        rule("rope-halves", halves as fn(&Graph<'_>, &mut Matches)),
        rule("rope-rotated", rotated),
        rule("rope-interleaved", interleaved),
        rule("rope-partial", partial),
    ]
}

/// Which elements of the last axis a view takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Low,
    High,
    Even,
    Odd,
}

/// Classes that the class is a half of.
fn parts(g: &Graph<'_>, id: Id) -> Vec<(Id, Part)> {
    let mut out = Vec::new();
    for (op, x) in ops(g, id) {
        match op {
            Op::Slice { start, stop, step } => {
                let shape = &ty(g, x[0]).shape;
                let Some((at, others)) = last_slice(shape, start, stop, step) else { continue };
                let Some(d) = shape.last().and_then(Size::as_const) else { continue };
                if !others {
                    continue;
                }
                let part = match at {
                    (0, hi, 1) if 2 * hi == d => Part::Low,
                    (lo, hi, 1) if 2 * lo == d && hi == d => Part::High,
                    (0, hi, 2) if hi >= d - 1 => Part::Even,
                    (1, hi, 2) if hi == d => Part::Odd,
                    _ => continue,
                };
                out.push((x[0], part));
            }
            // One of each pair of [.., D/2, 2].
            Op::Reshape { shape } => {
                for (slice, pairs) in ops(g, x[0]) {
                    let Op::Slice { start, stop, step } = slice else { continue };
                    let from = &ty(g, pairs[0]).shape;
                    let Some(((lo, hi, 1), true)) = last_slice(from, start, stop, step) else { continue };
                    if from.last() != Some(&Size::constant(2)) || hi != lo + 1 || from[..from.len() - 1] != shape[..] {
                        continue;
                    }
                    let part = if lo == 0 { Part::Even } else { Part::Odd };
                    for (op, x) in ops(g, pairs[0]) {
                        let whole = &ty(g, x[0]).shape;
                        let same_rows =
                            whole.len() == shape.len() && whole[..whole.len() - 1] == shape[..shape.len() - 1];
                        if matches!(op, Op::Reshape { .. }) && same_rows {
                            out.push((x[0], part));
                        }
                    }
                }
            }
            _ => {}
        }
    }
    out
}

/// Start, stop and step along the last axis, and whether all other axes are whole.
fn last_slice(shape: &[Size], start: &[Size], stop: &[Size], step: &[i64]) -> Option<((i64, i64, i64), bool)> {
    let last = shape.len().checked_sub(1)?;
    let zero = Size::constant(0);
    let others = (0..last).all(|i| start[i] == zero && stop[i] == shape[i] && step[i] == 1);
    Some(((start[last].as_const()?, stop[last].as_const()?, step[last]), others))
}

/// Classes of which the class is a table of `f`, repeated over all axes but the last two. With `doubled`, the table's
/// two halves along the last axis are equal, and the class of one half's angles is given.
fn angles(g: &Graph<'_>, id: Id, f: UnaryOp, doubled: bool) -> Vec<Id> {
    let mut out = Vec::new();
    for table in looked_through(g, id) {
        for a in unary(g, table, f) {
            out.extend(looked_through(g, a).into_iter().flat_map(|a| if doubled { twice(g, a) } else { vec![a] }));
        }
        if doubled {
            for half in twice(g, table) {
                out.extend(looked_through(g, half).into_iter().flat_map(|t| unary(g, t, f)));
            }
        }
    }
    out.into_iter().map(|a| g.find(a)).collect()
}

/// The class, and what it converts, repeats, or gives axes of extent 1.
fn looked_through(g: &Graph<'_>, id: Id) -> Vec<Id> {
    let mut out = vec![g.find(id)];
    let mut at = 0;
    while at < out.len() && out.len() < 16 {
        let x = out[at];
        at += 1;
        let shape = &ty(g, x).shape;
        let same_end = |y: Id| {
            let s = &ty(g, y).shape;
            s.len() >= 2
                && s.len() <= shape.len() + 2
                && shape.len() >= 2
                && s[s.len() - 2..] == shape[shape.len() - 2..]
        };
        let unit = |y: Id| {
            let s = &ty(g, y).shape;
            s[..s.len() - 2].iter().all(|d| *d == Size::constant(1))
        };
        let mut next: Vec<Id> = casts(g, x).filter(|y| ty(g, *y).dtype.is_float()).collect();
        next.extend(broadcasts(g, x).filter(|y| same_end(*y) && unit(*y)));
        for (op, y) in ops(g, x) {
            if matches!(op, Op::Reshape { .. }) && same_end(y[0]) && unit(y[0]) && unit(x) {
                next.push(y[0]);
            }
        }
        for y in next {
            let y = g.find(y);
            if !out.contains(&y) {
                out.push(y);
            }
        }
    }
    out
}

/// Classes that the class joins with themselves along the last axis.
fn twice(g: &Graph<'_>, id: Id) -> Vec<Id> {
    let last = ty(g, id).rank().saturating_sub(1) as u32;
    ops(g, id)
        .filter(|(op, x)| **op == Op::Concat { axis: last } && x.len() == 2 && same(g, x[0], x[1]))
        .map(|(_, x)| x[0])
        .collect()
}

/// Positions and frequencies.
struct Angle {
    offset: Term,
    scale: f64,
    frequencies: Vec<f32>,
}

/// Reads angles [.., S, half] as positions times frequencies.
fn angle(g: &Graph<'_>, id: Id, queries: &Size, half: i64) -> Option<Angle> {
    let shape = &ty(g, id).shape;
    let n = shape.len();
    let fits = n >= 2
        && shape[n - 2] == *queries
        && shape[n - 1] == Size::constant(half)
        && shape[..n - 2].iter().all(|d| *d == Size::constant(1))
        && ty(g, id).dtype == DType::F32;
    if !fits {
        return None;
    }
    let mut pairs: Vec<(Id, Id)> = Vec::new();
    for (p, w) in binary(g, id, BinaryOp::Multiply) {
        pairs.extend(broadcasts(g, p).flat_map(|p| broadcasts(g, w).map(move |w| (p, w))));
    }
    for (op, x) in ops(g, id) {
        if *op == (Op::MatMul { transpose_a: false, transpose_b: false }) {
            pairs.push((x[0], x[1]));
        }
    }
    pairs.into_iter().find_map(|(p, w)| {
        let frequencies = frequencies(g, w, half)?;
        let (offset, scale) = position(g, p, queries, 4)?;
        Some(Angle { offset, scale, frequencies })
    })
}

/// The values of a vector along the last axis that is known now.
fn frequencies(g: &Graph<'_>, w: Id, half: i64) -> Option<Vec<f32>> {
    let shape = &ty(g, w).shape;
    let (last, outer) = shape.split_last()?;
    if *last != Size::constant(half) || outer.iter().any(|d| *d != Size::constant(1)) {
        return None;
    }
    let t = known(g, w, 24)?;
    Some((0..t.len()).map(|i| t.float(i) as f32).collect())
}

/// The value of a class that depends on nothing.
fn known(g: &Graph<'_>, id: Id, depth: u32) -> Option<Tensor> {
    let shape = ty(g, id).const_shape()?;
    if depth == 0 || shape.iter().product::<i64>() > FREQUENCIES {
        return None;
    }
    g[id].iter().find_map(|n| match &n.head {
        Head::Leaf(n) => match &g.analysis.function.nodes[*n as usize].op {
            Op::Constant(d) => {
                let dims: Vec<usize> = d.shape.iter().map(|n| *n as usize).collect();
                Tensor::from_bytes(d.dtype, &dims, &d.bytes)
            }
            _ => None,
        },
        Head::Op(op) => {
            let inputs: Option<Vec<Tensor>> = n.children.iter().map(|c| known(g, *c, depth - 1)).collect();
            evaluate(op, &inputs?)
        }
        _ => None,
    })
}

/// Positions [.., S, 1]: the offset they count from, and the factor on them.
fn position(g: &Graph<'_>, p: Id, queries: &Size, depth: u32) -> Option<(Term, f64)> {
    let shape = &ty(g, p).shape;
    let n = shape.len();
    if n < 2 || shape[n - 2] != *queries || shape[n - 1] != Size::constant(1) {
        return None;
    }
    if let Some(a) = affine(g, p) {
        let single = *queries == Size::constant(1);
        let counts = a.axes.iter().enumerate().all(|(i, k)| *k == i64::from(i == n - 2 && !single));
        let zero = a.constant == Size::constant(0);
        let offset = match (a.scalars.iter().next(), a.constant.as_const()) {
            (None, Some(at)) => {
                let at = Op::Full { value: Literal::Int(at), dtype: DType::I32, shape: Vec::new() };
                Some(Term::Op(at, Vec::new()))
            }
            // A host scalar has bounds, which tables need.
            (Some((id, 1)), _) if zero && a.scalars.len() == 1 => {
                let scalar = param(g, *id).is_some_and(|(_, p)| matches!(p.role, Role::Scalar(_)));
                scalar.then_some(Term::Class(*id))
            }
            _ => None,
        };
        if let (true, Some(offset)) = (counts, offset) {
            return Some((offset, 1.0));
        }
    }
    if depth == 0 {
        return None;
    }
    let through = casts(g, p).filter(|x| ty(g, *x).dtype.is_float()).map(|x| (x, 1.0));
    let through = through
        .chain(scaled(g, p))
        .chain(ops(g, p).filter(|(op, _)| matches!(op, Op::Reshape { .. })).map(|(_, x)| (x[0], 1.0)));
    through.into_iter().find_map(|(x, k)| {
        let (offset, scale) = position(g, x, queries, depth - 1)?;
        Some((offset, scale * k))
    })
}

/// The composite for a value and its angles.
fn rope(g: &Graph<'_>, x: Id, angles: &[Id], traditional: bool) -> Option<Term> {
    let shape = &ty(g, x).shape;
    let n = shape.len();
    // The composite computes angles in f32.
    if n < 2 || !ty(g, x).dtype.is_float() || ty(g, x).dtype == DType::F64 {
        return None;
    }
    let dims = shape[n - 1].as_const().filter(|d| *d > 0 && d % 2 == 0)?;
    let a = angles.iter().find_map(|a| angle(g, *a, &shape[n - 2], dims / 2))?;
    let dims = u32::try_from(dims).ok()?;
    let base = base(&a.frequencies, dims);
    let op = Op::Rope { dims, traditional, base: Real::new(base.unwrap_or(0.0)), scale: Real::new(a.scale) };
    let mut operands = vec![Term::Class(x), a.offset];
    if base.is_none() {
        let bytes = a.frequencies.iter().flat_map(|w| w.to_le_bytes()).collect();
        let dense = Dense { dtype: DType::F32, shape: vec![a.frequencies.len() as i64], bytes };
        operands.push(Term::Op(Op::Constant(Arc::new(dense)), Vec::new()));
    }
    Some(Term::Op(op, operands))
}

/// The base that gives exactly these frequencies.
fn base(frequencies: &[f32], dims: u32) -> Option<f64> {
    let second = f64::from(*frequencies.get(1)?);
    let near = second.powf(-f64::from(dims) / 2.0);
    // Bases are round numbers; the second frequency gives one to about seven digits.
    [near.round(), (near / 100.0).round() * 100.0, (near / 1000.0).round() * 1000.0].into_iter().find(|base| {
        frequencies.iter().enumerate().all(|(i, w)| {
            let exact = (1.0 / base.powf(2.0 * i as f64 / f64::from(dims))) as f32;
            base.is_finite() && *base > 0.0 && exact.to_bits() == w.to_bits()
        })
    })
}

/// Products of a part of some value with a table: the value, the part, and the angles.
fn products(g: &Graph<'_>, id: Id, f: UnaryOp) -> Vec<(Id, Part, Vec<Id>)> {
    let mut out = Vec::new();
    for (x, table) in binary(g, id, BinaryOp::Multiply) {
        let found = parts(g, x);
        if !found.is_empty() {
            let angles = angles(g, table, f, false);
            if !angles.is_empty() {
                out.extend(found.into_iter().map(|(x, part)| (g.find(x), part, angles.clone())));
            }
        }
    }
    out
}

fn common(a: &[Id], b: &[Id]) -> Vec<Id> {
    a.iter().copied().filter(|x| b.contains(x)).collect()
}

/// `first * cos - second * sin` and `second * cos + first * sin`: the rotated value and its angles.
fn rotation(g: &Graph<'_>, one: Id, two: Id, first: Part, second: Part) -> Option<(Id, Vec<Id>)> {
    let mut near = Vec::new();
    for (u, v) in binary(g, one, BinaryOp::Subtract) {
        for (x, p, cos) in products(g, u, UnaryOp::Cos).into_iter().filter(|(_, p, _)| *p == first) {
            for (y, q, sin) in products(g, v, UnaryOp::Sin) {
                if y == x && q == second && p == first {
                    near.push((x, common(&cos, &sin)));
                }
            }
        }
    }
    for (u, v) in binary(g, two, BinaryOp::Add) {
        for (x, p, cos) in products(g, u, UnaryOp::Cos) {
            for (y, q, sin) in products(g, v, UnaryOp::Sin) {
                if y != x || p != second || q != first {
                    continue;
                }
                let far = common(&cos, &sin);
                for (z, angles) in &near {
                    let all = common(angles, &far);
                    if *z == x && !all.is_empty() {
                        return Some((x, all));
                    }
                }
            }
        }
    }
    None
}

/// True for a concatenation along the last axis.
fn joins_last(g: &Graph<'_>, id: Id, op: &Op) -> bool {
    matches!(op, Op::Concat { axis } if *axis as usize + 1 == ty(g, id).rank())
}

/// `concat(x1 * cos - x2 * sin, x2 * cos + x1 * sin)`.
fn halves(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, x| {
        if joins_last(g, id, op)
            && let [one, two] = *x
            && let Some((v, angles)) = rotation(g, one, two, Part::Low, Part::High)
            && let Some(term) = rope(g, v, &angles, false)
        {
            out.add(id, term);
        }
    });
}

/// `x * cos + concat(-x2, x1) * sin`.
fn rotated(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, _| {
        if *op != Op::Binary(BinaryOp::Add) || !ty(g, id).dtype.is_float() || ty(g, id).rank() < 2 {
            return;
        }
        let axis = ty(g, id).rank() as u32 - 1;
        // The class turned by a quarter: (-x2, x1).
        let quarter = |r: Id| -> Vec<Id> {
            let joins = ops(g, r).filter(|(op, x)| **op == Op::Concat { axis } && x.len() == 2);
            joins
                .flat_map(|(_, x)| {
                    let high = scaled(g, x[0]).into_iter().filter(|(_, k)| *k == -1.0).flat_map(|(y, _)| parts(g, y));
                    let high: Vec<Id> = high.filter(|(_, p)| *p == Part::High).map(|(v, _)| g.find(v)).collect();
                    let low = parts(g, x[1]).into_iter().filter(|(_, p)| *p == Part::Low).map(|(v, _)| g.find(v));
                    low.filter(move |v| high.contains(v)).collect::<Vec<_>>()
                })
                .collect()
        };
        for (u, v) in binary(g, id, BinaryOp::Add) {
            for (r, sin) in binary(g, v, BinaryOp::Multiply) {
                for x in quarter(r) {
                    for (y, cos) in binary(g, u, BinaryOp::Multiply).filter(|(y, _)| same(g, *y, x)) {
                        let all = common(&angles(g, cos, UnaryOp::Cos, true), &angles(g, sin, UnaryOp::Sin, true));
                        if let Some(term) = rope(g, y, &all, false) {
                            out.add(id, term);
                        }
                    }
                }
            }
        }
    });
}

/// `x1 * cos - x2 * sin` and `x2 * cos + x1 * sin` of neighbours, put side by side again.
fn interleaved(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, x| {
        if !matches!(op, Op::Reshape { .. }) {
            return;
        }
        let pairs = ty(g, x[0]).rank();
        for (op, parts) in ops(g, x[0]) {
            if !joins_last(g, x[0], op) || parts.len() != 2 {
                continue;
            }
            // [.., half, 1] each.
            let flat = |p: Id| ops(g, p).find(|(op, _)| matches!(op, Op::Reshape { .. })).map(|(_, y)| y[0]);
            let (Some(one), Some(two)) = (flat(parts[0]), flat(parts[1])) else { continue };
            let ends = ty(g, parts[0]).shape.last() == Some(&Size::constant(1))
                && ty(g, parts[0]).shape[..pairs - 1] == ty(g, one).shape[..];
            if !ends {
                continue;
            }
            if let Some((v, angles)) = rotation(g, one, two, Part::Even, Part::Odd)
                && ty(g, v).shape == ty(g, id).shape
                && let Some(term) = rope(g, v, &angles, true)
            {
                out.add(id, term);
            }
        }
    });
}

/// A rotation of the first features, with the rest behind it.
fn partial(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, x| {
        let Some(last) = ty(g, id).rank().checked_sub(1) else { return };
        let (Op::Concat { axis }, [turned, rest]) = (op, x) else { return };
        if *axis as usize != last {
            return;
        }
        let slices = |v: Id| -> Vec<(Id, i64, i64)> {
            let all = ops(g, v).filter_map(|(op, x)| match op {
                Op::Slice { start, stop, step } => match last_slice(&ty(g, x[0]).shape, start, stop, step)? {
                    ((lo, hi, 1), true) => Some((g.find(x[0]), lo, hi)),
                    _ => None,
                },
                _ => None,
            });
            all.collect()
        };
        for (op, operands) in ops(g, *turned) {
            let Op::Rope { dims, .. } = op else { continue };
            for (v, lo, hi) in slices(operands[0]) {
                let whole = ty(g, v).shape[last].as_const();
                let behind = slices(*rest).iter().any(|(w, from, to)| *w == v && *from == hi && Some(*to) == whole);
                if lo == 0 && hi == i64::from(*dims) && behind {
                    let terms = std::iter::once(v).chain(operands[1..].iter().copied()).map(Term::Class).collect();
                    out.add(id, Term::Op(op.clone(), terms));
                }
            }
        }
    });
}
