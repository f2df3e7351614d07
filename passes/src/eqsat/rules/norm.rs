//! Norms and softmax written in primitives.
//!
//! A value per row may keep its last axis with extent 1 or drop it, and may be reshaped between the two at any step.
//! Composites compute in f32, so what is written in f32 around casts of a half type is the composite of the half type.

use crate::eqsat::Numerics;
use crate::eqsat::graph::{Graph, ty};
use crate::eqsat::rule::{
    Group, Matches, Rule, Term, binary, broadcasts, casts, constant, each_op, is_about, is_last_axis, ops, same,
    scaled, unary,
};
use egg::Id;
use mlxc_ir::graph::{BinaryOp, Op, ReduceOp, UnaryOp};
use mlxc_ir::{DType, Size};

/// The rules of this file.
pub fn rules() -> Vec<Rule> {
    let rule = |name, search| Rule { name, group: Group::Detect, level: Numerics::Strict, search };
    vec![
        rule("rms-norm", rms_norm as fn(&Graph<'_>, &mut Matches)),
        rule("layer-norm", layer_norm),
        rule("norm-weight", norm_weight),
        rule("layer-norm-bias", layer_norm_bias),
        rule("softmax", softmax),
        rule("composite-in-f32", composite_in_f32),
    ]
}

/// Classes that hold the same row values, with the last axis kept or dropped.
fn row_forms(g: &Graph<'_>, id: Id, full: &[Size]) -> Vec<Id> {
    let is_row = |id: Id| {
        let shape = &ty(g, id).shape;
        let Some((last, outer)) = full.split_last() else { return false };
        let kept =
            shape.len() == full.len() && shape[..outer.len()] == *outer && shape[outer.len()] == Size::constant(1);
        kept || (shape == outer && *last != Size::constant(1))
    };
    let reshaped = ops(g, id).filter(|(op, _)| matches!(op, Op::Reshape { .. })).map(|(_, x)| x[0]);
    std::iter::once(id).chain(reshaped).filter(|v| is_row(*v)).collect()
}

/// Row values that a class of full shape repeats along the last axis.
fn rows(g: &Graph<'_>, id: Id) -> Vec<Id> {
    let full = &ty(g, id).shape;
    broadcasts(g, id).flat_map(|x| row_forms(g, x, full)).collect()
}

/// Classes whose mean over the last axis the row values are.
fn means(g: &Graph<'_>, id: Id, full: &[Size]) -> Vec<Id> {
    let Some(n) = full.last().and_then(Size::as_const).filter(|n| *n > 0) else { return Vec::new() };
    let mut out = Vec::new();
    for form in row_forms(g, id, full) {
        let dtype = ty(g, form).dtype;
        for (sum, factor) in scaled(g, form) {
            if is_about(factor, 1.0 / n as f64, dtype) {
                out.extend(reductions(g, sum, full, ReduceOp::Sum));
            }
        }
    }
    out
}

/// Classes of full shape whose reduction over the last axis the row values are.
fn reductions(g: &Graph<'_>, id: Id, full: &[Size], want: ReduceOp) -> Vec<Id> {
    let mut out = Vec::new();
    for form in row_forms(g, id, full) {
        for (op, x) in ops(g, form) {
            if let Op::Reduce { op, axes, .. } = op
                && *op == want
                && ty(g, x[0]).shape == full
                && is_last_axis(axes, full.len())
            {
                out.push(x[0]);
            }
        }
    }
    out
}

/// Classes whose square the class is.
fn squares(g: &Graph<'_>, id: Id) -> Vec<Id> {
    let mut out: Vec<Id> = unary(g, id, UnaryOp::Square).collect();
    out.extend(binary(g, id, BinaryOp::Multiply).filter(|(a, b)| same(g, *a, *b)).map(|(a, _)| a));
    out.extend(binary(g, id, BinaryOp::Power).filter(|(_, b)| constant(g, *b) == Some(2.0)).map(|(a, _)| a));
    out
}

/// Row values `v` where the class divides something by their root: `x / sqrt(v)` or `x * rsqrt(v)`. Gives x and v.
fn over_root(g: &Graph<'_>, id: Id) -> Vec<(Id, Id)> {
    let full = &ty(g, id).shape;
    let mut out = Vec::new();
    for (x, s) in binary(g, id, BinaryOp::Multiply) {
        for r in rows(g, s) {
            for form in row_forms(g, r, full) {
                out.extend(inverse_roots(g, form).into_iter().map(|v| (x, v)));
            }
        }
    }
    for (x, s) in binary(g, id, BinaryOp::Divide) {
        for r in rows(g, s) {
            for form in row_forms(g, r, full) {
                out.extend(unary(g, form, UnaryOp::Sqrt).map(|v| (x, v)));
            }
        }
    }
    out
}

fn inverse_roots(g: &Graph<'_>, id: Id) -> Vec<Id> {
    let mut out: Vec<Id> = unary(g, id, UnaryOp::Rsqrt).collect();
    let mut root = |y: Id| out.extend(unary(g, y, UnaryOp::Sqrt));
    unary(g, id, UnaryOp::Reciprocal).for_each(&mut root);
    binary(g, id, BinaryOp::Divide).filter(|(one, _)| constant(g, *one) == Some(1.0)).for_each(|(_, y)| root(y));
    out.extend(binary(g, id, BinaryOp::Power).filter(|(_, k)| constant(g, *k) == Some(-0.5)).map(|(v, _)| v));
    out
}

/// Row values and the constant that is added to them.
fn shifted(g: &Graph<'_>, id: Id, full: &[Size]) -> Vec<(Id, f64)> {
    let forms = row_forms(g, id, full);
    let sums = forms.into_iter().flat_map(|form| binary(g, form, BinaryOp::Add));
    sums.filter_map(|(m, eps)| Some((m, constant(g, eps).filter(|e| *e >= 0.0)?))).collect()
}

/// `x * rsqrt(mean(x²) + eps)`.
fn rms_norm(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, _| {
        if !matches!(op, Op::Binary(BinaryOp::Multiply | BinaryOp::Divide)) || !is_norm_dtype(g, id) {
            return;
        }
        let full = &ty(g, id).shape;
        for (x, v) in over_root(g, id) {
            for (mean, eps) in shifted(g, v, full) {
                let squared = means(g, mean, full).into_iter().flat_map(|q| squares(g, q));
                if squared.into_iter().any(|y| same(g, x, y)) {
                    out.add(id, Term::of(Op::RmsNorm { eps: eps.into() }, x));
                }
            }
        }
    });
}

/// Composites compute in f32, or in f64 for f64.
fn is_norm_dtype(g: &Graph<'_>, id: Id) -> bool {
    ty(g, id).dtype.is_float() && ty(g, id).rank() > 0
}

/// `(x - mean(x)) * rsqrt(mean((x - mean(x))²) + eps)`.
fn layer_norm(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, _| {
        if !matches!(op, Op::Binary(BinaryOp::Multiply | BinaryOp::Divide)) || !is_norm_dtype(g, id) {
            return;
        }
        let full = &ty(g, id).shape;
        for (d, v) in over_root(g, id) {
            let centred: Vec<Id> = binary(g, d, BinaryOp::Subtract)
                .filter(|(x, m)| rows(g, *m).into_iter().flat_map(|m| means(g, m, full)).any(|y| same(g, *x, y)))
                .map(|(x, _)| x)
                .collect();
            for x in centred {
                for (variance, eps) in shifted(g, v, full) {
                    let squared = means(g, variance, full).into_iter().flat_map(|q| squares(g, q));
                    if squared.into_iter().any(|y| same(g, d, y)) {
                        out.add(id, Term::of(Op::LayerNorm { eps: eps.into() }, x));
                    }
                }
            }
        }
    });
}

/// A vector along the last axis that a class repeats over all others, as a term of rank 1.
fn vector(g: &Graph<'_>, id: Id) -> Vec<Term> {
    let full = &ty(g, id).shape;
    let Some(n) = full.last() else { return Vec::new() };
    let sources = broadcasts(g, id).chain((full.len() == 1).then_some(id));
    sources
        .filter(|x| {
            let shape = &ty(g, *x).shape;
            shape.last() == Some(n) && shape[..shape.len() - 1].iter().all(|d| *d == Size::constant(1))
        })
        .map(|x| Term::reshape(g, x, std::slice::from_ref(n)))
        .collect()
}

/// A norm without weight times a vector is the norm with it.
fn norm_weight(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, _| {
        if *op != Op::Binary(BinaryOp::Multiply) {
            return;
        }
        for (norm, w) in binary(g, id, BinaryOp::Multiply) {
            for (op, x) in ops(g, norm) {
                if matches!(op, Op::RmsNorm { .. } | Op::LayerNorm { .. }) && x.len() == 1 {
                    for w in vector(g, w) {
                        out.add(id, Term::both(op.clone(), x[0], w));
                    }
                }
            }
        }
    });
}

/// A layer norm with weight plus a vector is the norm with bias.
fn layer_norm_bias(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, _| {
        if *op != Op::Binary(BinaryOp::Add) {
            return;
        }
        for (norm, b) in binary(g, id, BinaryOp::Add) {
            for (op, x) in ops(g, norm) {
                if matches!(op, Op::LayerNorm { .. }) && x.len() == 2 {
                    for b in vector(g, b) {
                        out.add(id, Term::Op(op.clone(), vec![x[0].into(), x[1].into(), b]));
                    }
                }
            }
        }
    });
}

/// `e / sum(e)` with `e = exp(x - max(x))`.
fn softmax(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, _| {
        if !matches!(op, Op::Binary(BinaryOp::Multiply | BinaryOp::Divide)) || !is_norm_dtype(g, id) {
            return;
        }
        let full = &ty(g, id).shape;
        let mut quotients: Vec<(Id, Id)> = binary(g, id, BinaryOp::Divide).collect();
        for (e, inverse) in binary(g, id, BinaryOp::Multiply) {
            quotients.extend(unary(g, inverse, UnaryOp::Reciprocal).map(|s| (e, s)));
        }
        let mut pairs: Vec<(Id, Id)> = Vec::new();
        for (e, s) in quotients {
            pairs.extend(rows(g, s).into_iter().map(|r| (e, r)));
        }
        for (e, s) in binary(g, id, BinaryOp::Multiply) {
            for r in rows(g, s) {
                pairs.extend(unary(g, r, UnaryOp::Reciprocal).map(|r| (e, r)));
            }
        }
        for (e, sum) in pairs {
            if !reductions(g, sum, full, ReduceOp::Sum).into_iter().any(|y| same(g, e, y)) {
                continue;
            }
            for d in unary(g, e, UnaryOp::Exp) {
                for (x, m) in binary(g, d, BinaryOp::Subtract) {
                    let most = rows(g, m).into_iter().flat_map(|m| reductions(g, m, full, ReduceOp::Max));
                    if most.into_iter().any(|y| same(g, x, y)) {
                        out.add(id, Term::of(Op::Softmax, x));
                    }
                }
            }
        }
    });
}

/// A composite in f32 of a converted half value, converted back, is the composite of the half value.
fn composite_in_f32(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, x| {
        let Op::Cast(to) = op else { return };
        let wide = ty(g, x[0]).dtype;
        if wide != DType::F32 || !matches!(to, DType::F16 | DType::BF16) {
            return;
        }
        for (composite, operands) in ops(g, x[0]) {
            let tensors = match composite {
                Op::RmsNorm { .. } | Op::LayerNorm { .. } | Op::Softmax => operands.len(),
                Op::Sdpa { .. } => 3,
                _ => continue,
            };
            let narrow = |id: Id| casts(g, id).find(|x| ty(g, *x).dtype == *to);
            let mut terms: Option<Vec<Term>> =
                operands[..tensors].iter().map(|x| narrow(*x).map(Term::Class)).collect();
            for x in &operands[tensors..] {
                let t = ty(g, *x).dtype;
                // An additive mask has the dtype of the scores.
                let term = if t.is_float() { narrow(*x) } else { Some(*x) };
                match (&mut terms, term) {
                    (Some(terms), Some(x)) => terms.push(x.into()),
                    _ => terms = None,
                }
            }
            if let Some(terms) = terms {
                out.add(id, Term::Op(composite.clone(), terms));
            }
        }
    });
}
