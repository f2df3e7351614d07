//! Activations and gates written in primitives.

use crate::eqsat::Numerics;
use crate::eqsat::graph::{Graph, ty};
use crate::eqsat::rule::{Group, Matches, Rule, Term, binary, constant, each_op, is_about, ops, same, scaled, unary};
use egg::Id;
use mlxc_ir::graph::{Activation, BinaryOp, Op, UnaryOp};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

/// The rules of this file.
pub fn rules() -> Vec<Rule> {
    let rule = |name, search| Rule { name, group: Group::Detect, level: Numerics::Strict, search };
    vec![
        rule("sigmoid", sigmoid as fn(&Graph<'_>, &mut Matches)),
        rule("silu", silu),
        rule("gelu", gelu),
        rule("gelu-approx", gelu_approx),
        rule("relu", relu),
        rule("gated", gated),
    ]
}

/// True for a float class computed by one of the given binary ops.
fn is_float_binary(g: &Graph<'_>, id: Id, op: &Op, want: &[BinaryOp]) -> bool {
    matches!(op, Op::Binary(op) if want.contains(op)) && ty(g, id).dtype.is_float()
}

/// Classes `x` where the class is `1 + f(x)`.
fn one_plus(g: &Graph<'_>, id: Id, f: UnaryOp) -> Vec<Id> {
    let sums = binary(g, id, BinaryOp::Add).filter(|(_, one)| constant(g, *one) == Some(1.0));
    sums.flat_map(|(y, _)| unary(g, y, f)).collect()
}

/// Classes `x` where the class is `1 + e^-x`.
fn logistic_denominators(g: &Graph<'_>, id: Id) -> Vec<Id> {
    let minus = one_plus(g, id, UnaryOp::Exp).into_iter().flat_map(|y| scaled(g, y));
    minus.filter(|(_, c)| *c == -1.0).map(|(x, _)| x).collect()
}

/// `1 / (1 + e^-x)`.
fn sigmoid(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, x| {
        let below = match op {
            Op::Binary(BinaryOp::Divide) if constant(g, x[0]) == Some(1.0) => x[1],
            Op::Unary(UnaryOp::Reciprocal) => x[0],
            _ => return,
        };
        for y in logistic_denominators(g, below) {
            out.add(id, Term::of(Op::Unary(UnaryOp::Sigmoid), y));
        }
    });
}

/// `x * sigmoid(x)` or `x / (1 + e^-x)`.
fn silu(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, _| {
        if !is_float_binary(g, id, op, &[BinaryOp::Multiply, BinaryOp::Divide]) {
            return;
        }
        for (x, s) in binary(g, id, BinaryOp::Multiply) {
            if unary(g, s, UnaryOp::Sigmoid).any(|y| same(g, x, y)) {
                out.add(id, Term::of(Op::Unary(UnaryOp::Silu), x));
            }
        }
        for (x, below) in binary(g, id, BinaryOp::Divide) {
            if logistic_denominators(g, below).into_iter().any(|y| same(g, x, y)) {
                out.add(id, Term::of(Op::Unary(UnaryOp::Silu), x));
            }
        }
    });
}

/// Ways to write a class as a constant times at most three factors.
fn factors(g: &Graph<'_>, id: Id, depth: u32) -> Vec<(f64, Vec<Id>)> {
    let mut out = vec![(1.0, vec![g.find(id)])];
    if depth == 0 {
        return out;
    }
    for (x, c) in scaled(g, id) {
        out.extend(factors(g, x, depth - 1).into_iter().map(|(k, f)| (k * c, f)));
    }
    for x in unary(g, id, UnaryOp::Square) {
        out.push((1.0, vec![g.find(x); 2]));
    }
    for (op, x) in ops(g, id) {
        match op {
            Op::Binary(BinaryOp::Power) if constant(g, x[1]) == Some(3.0) => out.push((1.0, vec![g.find(x[0]); 3])),
            Op::Binary(BinaryOp::Multiply) if x.iter().all(|c| constant(g, *c).is_none()) => {
                for (k, a) in factors(g, x[0], depth - 1) {
                    for (l, b) in factors(g, x[1], depth - 1) {
                        if a.len() + b.len() <= 3 {
                            out.push((k * l, a.iter().chain(&b).copied().collect()));
                        }
                    }
                }
            }
            _ => {}
        }
    }
    out.truncate(32);
    out
}

/// The two ways to say which of two factors is which.
fn pairs(f: &[Id]) -> Vec<(Id, Id)> {
    match f {
        [a, b] => vec![(*a, *b), (*b, *a)],
        _ => Vec::new(),
    }
}

/// `0.5 * x * (1 + erf(x / sqrt 2))`, in any order.
fn gelu(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, _| {
        if !is_float_binary(g, id, op, &[BinaryOp::Multiply]) {
            return;
        }
        let dtype = ty(g, id).dtype;
        for (_, f) in factors(g, id, 3).into_iter().filter(|(k, _)| *k == 0.5) {
            for (x, s) in pairs(&f) {
                let inner = one_plus(g, s, UnaryOp::Erf).into_iter().flat_map(|z| scaled(g, z));
                if inner.into_iter().any(|(y, c)| same(g, x, y) && is_about(c, FRAC_1_SQRT_2, dtype)) {
                    out.add(id, Term::of(Op::Unary(UnaryOp::Gelu), x));
                }
            }
        }
    });
}

/// `0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x³)))`, in any order.
fn gelu_approx(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, _| {
        if !is_float_binary(g, id, op, &[BinaryOp::Multiply]) {
            return;
        }
        let dtype = ty(g, id).dtype;
        let cubic = |x: Id, u: Id| {
            let x = g.find(x);
            let is_power = |id: Id, n: usize| {
                let all = factors(g, id, 3);
                all.iter().any(|(k, f)| is_about(*k, 0.044715, dtype) && f.len() == n && f.iter().all(|y| *y == x))
            };
            factors(g, u, 3).into_iter().filter(|(k, _)| is_about(*k, FRAC_2_PI.sqrt(), dtype)).any(|(_, f)| {
                let sum = |v: Id| binary(g, v, BinaryOp::Add).any(|(y, w)| same(g, x, y) && is_power(w, 3));
                let factored = |v: Id| {
                    let sums = binary(g, v, BinaryOp::Add);
                    sums.filter(|(_, one)| constant(g, *one) == Some(1.0)).any(|(w, _)| is_power(w, 2))
                };
                matches!(f.as_slice(), [v] if sum(*v)) || pairs(&f).into_iter().any(|(y, v)| y == x && factored(v))
            })
        };
        for (_, f) in factors(g, id, 3).into_iter().filter(|(k, _)| *k == 0.5) {
            for (x, s) in pairs(&f) {
                if one_plus(g, s, UnaryOp::Tanh).into_iter().any(|u| cubic(x, u)) {
                    out.add(id, Term::of(Op::Unary(UnaryOp::GeluApprox), x));
                }
            }
        }
    });
}

/// `max(x, 0)`.
fn relu(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, _| {
        if is_float_binary(g, id, op, &[BinaryOp::Maximum]) {
            for (x, _) in binary(g, id, BinaryOp::Maximum).filter(|(_, zero)| constant(g, *zero) == Some(0.0)) {
                out.add(id, Term::of(Op::Unary(UnaryOp::Relu), x));
            }
        }
    });
}

/// `activation(gate) * up`.
fn gated(g: &Graph<'_>, out: &mut Matches) {
    each_op(g, |id, op, _| {
        if !is_float_binary(g, id, op, &[BinaryOp::Multiply]) {
            return;
        }
        for (a, up) in binary(g, id, BinaryOp::Multiply) {
            for activation in Activation::ALL {
                for gate in unary(g, a, activation.unary()) {
                    // `x * sigmoid(x)` has a name of its own, and a uniform factor gates nothing.
                    if !same(g, gate, up) && constant(g, up).is_none() {
                        out.add(id, Term::both(Op::Gated(*activation), gate, up));
                    }
                }
            }
        }
    });
}
