//! Identities of views, joins and products: ops that only say where elements are found, and what absorbs them.

use super::{Canon, Simplified, Step};
use mlxc_ir::Size;
use mlxc_ir::graph::{Literal, Op, ReduceOp, TensorType, ValueId, infer};

/// One identity that applies to the node, if any does.
pub(super) fn simplify(c: &mut Canon, op: &Op, x: &[ValueId]) -> Simplified {
    if let Some(step) = uniform(c, op, x) {
        return Ok(Some(step));
    }
    match op {
        Op::Broadcast { shape } => Ok(broadcast(c, shape, x[0])),
        Op::Reshape { shape } => Ok(reshape(c, shape, x[0])),
        Op::Transpose { perm } => Ok(transpose(c, perm, x[0])),
        Op::Slice { start, stop, step } => slice(c, start, stop, step, x[0]),
        Op::Reverse { axes } => Ok(reverse(c, axes, x[0])),
        Op::Pad { low, high, .. } if low.iter().chain(high).all(|n| *n == 0) => Ok(Some(Step::Value(x[0]))),
        Op::Concat { axis } => concat(c, *axis, x),
        Op::Gather { axis } => gather(c, *axis, x),
        Op::DynamicSlice { axes, sizes } => Ok(dynamic_slice(c, axes, sizes, x)),
        Op::Reduce { op, axes, keepdims } => Ok(reduce(c, *op, axes, *keepdims, x[0])),
        Op::MatMul { transpose_a, transpose_b } => matmul(c, *transpose_a, *transpose_b, x),
        _ => Ok(None),
    }
}

/// Views and joins of one repeated value are that value in another shape.
fn uniform(c: &Canon, op: &Op, x: &[ValueId]) -> Option<Step> {
    let value = c.full(*x.first()?)?;
    let kept = match op {
        Op::Concat { .. } => x.iter().all(|v| c.full(*v) == Some(value)),
        Op::Pad { value: pad, .. } => {
            let dtype = c.dtype(x[0]);
            if dtype.is_float() { pad.as_f64().to_bits() == value.as_f64().to_bits() } else { *pad == value }
        }
        // A reduction of at least one element, which inference made sure of.
        Op::Reduce { op: ReduceOp::Max | ReduceOp::Min, .. } => true,
        op => op.is_view(),
    };
    if !kept {
        return None;
    }
    let operands: Vec<&TensorType> = x.iter().map(|v| c.ty(*v)).collect();
    let ty = infer(op, &operands, &c.to.function().symbols).ok()?.pop()?;
    Some(Step::Node(Op::Full { value, dtype: ty.dtype, shape: ty.shape }, Vec::new()))
}

fn broadcast(c: &Canon, shape: &[Size], x: ValueId) -> Option<Step> {
    let from = c.shape(x);
    if from == shape {
        return Some(Step::Value(x));
    }
    // Only extents of 1 are added: the elements and their order stay.
    let added = shape.len() - from.len();
    if shape[..added].iter().all(|d| *d == Size::constant(1)) && shape[added..] == *from {
        return Some(Step::Node(Op::Reshape { shape: shape.to_vec() }, vec![x]));
    }
    match c.unary_def(x)? {
        (Op::Broadcast { .. }, inner) => Some(Step::Node(Op::Broadcast { shape: shape.to_vec() }, vec![inner])),
        _ => None,
    }
}

fn reshape(c: &Canon, shape: &[Size], x: ValueId) -> Option<Step> {
    if c.shape(x) == shape {
        return Some(Step::Value(x));
    }
    match c.unary_def(x)? {
        (Op::Reshape { .. }, inner) => Some(Step::Node(Op::Reshape { shape: shape.to_vec() }, vec![inner])),
        // A reduction that drops its axes, with extents of 1 put back in their place.
        (Op::Reduce { op, axes, keepdims: false }, inner) => {
            let kept = c.shape(inner).iter().enumerate();
            let kept = kept.map(|(i, d)| if axes.contains(&(i as u32)) { Size::constant(1) } else { d.clone() });
            let same = kept.eq(shape.iter().cloned());
            same.then(|| Step::Node(Op::Reduce { op: *op, axes: axes.clone(), keepdims: true }, vec![inner]))
        }
        _ => None,
    }
}

fn transpose(c: &Canon, perm: &[u32], x: ValueId) -> Option<Step> {
    if let Some((Op::Transpose { perm: inner }, y)) = c.unary_def(x) {
        let perm = perm.iter().map(|p| inner[*p as usize]).collect();
        return Some(Step::Node(Op::Transpose { perm }, vec![y]));
    }
    if perm.iter().enumerate().all(|(i, p)| i == *p as usize) {
        return Some(Step::Value(x));
    }
    let shape = c.shape(x);
    let one = Size::constant(1);
    let moved: Vec<u32> = perm.iter().copied().filter(|p| shape[*p as usize] != one).collect();
    if moved.is_sorted() {
        let shape = perm.iter().map(|p| shape[*p as usize].clone()).collect();
        return Some(Step::Node(Op::Reshape { shape }, vec![x]));
    }
    None
}

fn slice(c: &mut Canon, start: &[Size], stop: &[Size], step: &[i64], x: ValueId) -> Simplified {
    let zero = Size::constant(0);
    let shape = c.shape(x);
    if start.iter().all(|s| *s == zero) && stop == shape && step.iter().all(|s| *s == 1) {
        return Ok(Some(Step::Value(x)));
    }
    let Some(node) = c.def(x) else { return Ok(None) };
    match &node.op {
        Op::Slice { start: before, step: inner, .. } if inner.iter().all(|s| *s == 1) => {
            let shift = |s: &[Size]| s.iter().zip(before).map(|(a, b)| a.clone() + b.clone()).collect::<Vec<_>>();
            let op = Op::Slice { start: shift(start), stop: shift(stop), step: step.to_vec() };
            Ok(Some(Step::Node(op, vec![node.inputs[0]])))
        }
        Op::Concat { axis } => {
            let axis = *axis as usize;
            let mut before = zero;
            for part in node.inputs.clone() {
                let after = before.clone() + c.shape(part)[axis].clone();
                if c.at_least(&start[axis], &before) && c.at_least(&after, &stop[axis]) {
                    let (mut start, mut stop) = (start.to_vec(), stop.to_vec());
                    start[axis] = start[axis].clone() - before.clone();
                    stop[axis] = stop[axis].clone() - before;
                    return Ok(Some(Step::Node(Op::Slice { start, stop, step: step.to_vec() }, vec![part])));
                }
                before = after;
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

fn reverse(c: &Canon, axes: &[u32], x: ValueId) -> Option<Step> {
    let shape = c.shape(x);
    let moved: Vec<u32> = axes.iter().copied().filter(|a| shape[*a as usize] != Size::constant(1)).collect();
    if moved.is_empty() {
        return Some(Step::Value(x));
    }
    if moved.len() < axes.len() {
        return Some(Step::Node(Op::Reverse { axes: moved }, vec![x]));
    }
    match c.unary_def(x)? {
        (Op::Reverse { axes: inner }, y) if inner == axes => Some(Step::Value(y)),
        _ => None,
    }
}

/// A concatenation without empty parts, nested concatenations and neighbouring slices of one value.
fn concat(c: &mut Canon, axis: u32, x: &[ValueId]) -> Simplified {
    if let [one] = x {
        return Ok(Some(Step::Value(*one)));
    }
    let at = axis as usize;
    let mut parts: Vec<ValueId> = Vec::with_capacity(x.len());
    for v in x {
        if c.shape(*v)[at] == Size::constant(0) && !parts.is_empty() {
            continue;
        }
        let nested = c.def(*v).filter(|n| n.op == Op::Concat { axis }).map(|n| n.inputs.to_vec());
        for v in nested.unwrap_or_else(|| vec![*v]) {
            match parts.last().and_then(|last| neighbours(c, at, *last, v)) {
                Some((op, inner)) => {
                    let joined = c.build(op, &[inner])?;
                    parts.pop();
                    parts.push(joined);
                }
                None => parts.push(v),
            }
        }
    }
    Ok((parts != x).then_some(Step::Node(Op::Concat { axis }, parts)))
}

/// The slice that two slices are together, if the second begins where the first ends.
fn neighbours(c: &Canon, axis: usize, a: ValueId, b: ValueId) -> Option<(Op, ValueId)> {
    let (Op::Slice { start, stop, step }, x) = c.unary_def(a)? else { return None };
    let (Op::Slice { start: start_b, stop: stop_b, step: step_b }, y) = c.unary_def(b)? else { return None };
    let others = |i: usize| i == axis || (start[i] == start_b[i] && stop[i] == stop_b[i]);
    let fits = x == y && step == step_b && step[axis] == 1 && stop[axis] == start_b[axis];
    if !fits || !(0..start.len()).all(others) {
        return None;
    }
    Some((Op::Slice { start: start.clone(), stop: stop_b.clone(), step: step.clone() }, x))
}

/// A gather along an axis that a transpose leaves where it is, and across which it moves nothing, comes before it: a
/// product then sees the transpose.
fn gather(c: &mut Canon, axis: u32, x: &[ValueId]) -> Simplified {
    let Some((Op::Transpose { perm }, inner)) = c.unary_def(x[0]) else { return Ok(None) };
    let a = axis as usize;
    if perm[a] != axis || perm[..a].iter().any(|p| *p > axis) {
        return Ok(None);
    }
    // The indices' axes stand in the place of the one gathered; a scalar index leaves none.
    let added = c.shape(x[1]).len() as u32;
    let after = perm[a + 1..].iter().map(|p| p + added - 1);
    let perm: Vec<u32> = perm[..a].iter().copied().chain(axis..axis + added).chain(after).collect();
    let picked = c.build(Op::Gather { axis }, &[inner, x[1]])?;
    Ok(Some(Step::Node(Op::Transpose { perm }, vec![picked])))
}

fn dynamic_slice(c: &Canon, axes: &[u32], sizes: &[Size], x: &[ValueId]) -> Option<Step> {
    if c.shape(x[0]) == sizes {
        return Some(Step::Value(x[0]));
    }
    // Starts that are known and in range.
    let mut start = vec![Size::constant(0); sizes.len()];
    for (axis, v) in axes.iter().zip(&x[1..]) {
        let at = Size::constant(c.full(*v).map(Literal::as_i64).filter(|at| *at >= 0)?);
        let axis = *axis as usize;
        if !c.at_least(&c.shape(x[0])[axis], &(at.clone() + sizes[axis].clone())) {
            return None;
        }
        start[axis] = at;
    }
    let stop = start.iter().zip(sizes).map(|(a, n)| a.clone() + n.clone()).collect();
    Some(Step::Node(Op::Slice { start, stop, step: vec![1; sizes.len()] }, vec![x[0]]))
}

fn reduce(c: &Canon, op: ReduceOp, axes: &[u32], keepdims: bool, x: ValueId) -> Option<Step> {
    let ty = c.ty(x);
    let changes_dtype = matches!(op, ReduceOp::Sum | ReduceOp::Prod) && !ty.dtype.is_float() && !ty.dtype.is_int();
    let left: Vec<u32> = axes.iter().copied().filter(|a| ty.shape[*a as usize] != Size::constant(1)).collect();
    if changes_dtype || left.len() == axes.len() {
        return if axes.is_empty() && !changes_dtype { Some(Step::Value(x)) } else { None };
    }
    if left.is_empty() {
        let kept = ty.shape.iter().enumerate().filter(|(i, _)| keepdims || !axes.contains(&(*i as u32)));
        return Some(Step::Node(Op::Reshape { shape: kept.map(|(_, d)| d.clone()).collect() }, vec![x]));
    }
    keepdims.then(|| Step::Node(Op::Reduce { op, axes: left, keepdims }, vec![x]))
}

fn matmul(c: &mut Canon, transpose_a: bool, transpose_b: bool, x: &[ValueId]) -> Simplified {
    let inner = |c: &Canon, v: ValueId| match c.unary_def(v) {
        Some((Op::Transpose { perm }, y)) if swaps_last(perm) => Some(y),
        _ => None,
    };
    let (a, b) = (inner(c, x[0]), inner(c, x[1]));
    if a.is_some() || b.is_some() {
        let op = Op::MatMul { transpose_a: transpose_a ^ a.is_some(), transpose_b: transpose_b ^ b.is_some() };
        return Ok(Some(Step::Node(op, vec![a.unwrap_or(x[0]), b.unwrap_or(x[1])])));
    }
    // One right factor for every batch is one product of all rows.
    let rank = c.ty(x[0]).rank();
    if transpose_a || rank < 3 {
        return Ok(None);
    }
    let two = |v: &[Size]| v.len() == 2 || v[..v.len() - 2].iter().all(|d| *d == Size::constant(1));
    let Some((b, factor)) = (match c.unary_def(x[1]) {
        Some((Op::Broadcast { .. } | Op::Reshape { .. }, y))
            if c.ty(y).rank() >= 2
                && two(c.shape(y))
                && c.shape(y)[c.ty(y).rank() - 2..] == c.shape(x[1])[rank - 2..] =>
        {
            Some((y, c.shape(y).to_vec()))
        }
        _ => None,
    }) else {
        return Ok(None);
    };
    let b =
        if factor.len() == 2 { b } else { c.build(Op::Reshape { shape: factor[factor.len() - 2..].to_vec() }, &[b])? };
    let shape = c.shape(x[0]).to_vec();
    let rows = shape[..rank - 1].iter().fold(Size::constant(1), |n, d| n * d.clone());
    let a = c.build(Op::Reshape { shape: vec![rows, shape[rank - 1].clone()] }, &[x[0]])?;
    let product = c.build(Op::MatMul { transpose_a, transpose_b }, &[a, b])?;
    let mut out = shape;
    out[rank - 1] = c.shape(product)[1].clone();
    Ok(Some(Step::Node(Op::Reshape { shape: out }, vec![product])))
}

/// True for the permutation that exchanges the last two axes.
pub(crate) fn swaps_last(perm: &[u32]) -> bool {
    let n = perm.len();
    n >= 2
        && perm[n - 1] as usize == n - 2
        && perm[n - 2] as usize == n - 1
        && perm[..n - 2].iter().enumerate().all(|(i, p)| i == *p as usize)
}
