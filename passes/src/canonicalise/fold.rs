//! Constant folding: what the interpreter computes of constants, rounded as the node's dtype states.

use super::{Canon, Simplified, Step};
use mlxc_ir::graph::interpret::{Mode, Tensor, run};
use mlxc_ir::graph::{Dense, FunctionBuilder, Literal, Module, Op, Role, TensorType, ValueId};
use mlxc_ir::{DType, Size};
use std::sync::Arc;

/// Largest dense constant that folding reads or writes.
const ELEMENTS: i64 = 4096;

/// Folds nodes whose operands are all constant.
pub(super) fn simplify(c: &mut Canon, op: &Op, inputs: &[ValueId]) -> Simplified {
    if let Op::Full { value, dtype, shape } = op {
        let normal = literal(*dtype, *value);
        let step = Step::Node(Op::Full { value: normal, dtype: *dtype, shape: shape.clone() }, Vec::new());
        return Ok((normal != *value).then_some(step));
    }
    if inputs.is_empty() {
        return Ok(None);
    }
    let fulls: Option<Vec<Literal>> = inputs.iter().map(|v| c.full(*v)).collect();
    if let Some(fulls) = fulls
        && op.is_elementwise()
    {
        let scalars: Vec<Tensor> = inputs.iter().zip(&fulls).map(|(v, l)| splat(c.dtype(*v), *l)).collect();
        let Some(out) = evaluate(op, &scalars) else { return Ok(None) };
        let value = if out.dtype.is_float() { Literal::float(out.float(0)) } else { Literal::Int(out.int(0)) };
        let shape = c.shape(inputs[0]).to_vec();
        return Ok(Some(Step::Node(Op::Full { value, dtype: out.dtype, shape }, Vec::new())));
    }
    dense(c, op, inputs)
}

/// A literal in the form its dtype gives it, so that equal constants compare equal.
fn literal(dtype: DType, value: Literal) -> Literal {
    let t = splat(dtype, value);
    if dtype.is_float() { Literal::float(t.float(0)) } else { Literal::Int(t.int(0)) }
}

fn splat(dtype: DType, value: Literal) -> Tensor {
    if dtype.is_float() {
        Tensor::floats(dtype, &[], &[value.as_f64()])
    } else if dtype == DType::Bool {
        Tensor::ints(dtype, &[], &[i64::from(value.as_f64() != 0.0)])
    } else {
        Tensor::ints(dtype, &[], &[value.as_i64()])
    }
}

/// Folds ops on small dense constants that do not grow them.
fn dense(c: &mut Canon, op: &Op, inputs: &[ValueId]) -> Simplified {
    if !(op.is_elementwise() || op.is_view() || matches!(op, Op::Reduce { .. } | Op::Concat { .. } | Op::Pad { .. })) {
        return Ok(None);
    }
    let mut tensors = Vec::new();
    let mut largest = 0;
    for v in inputs {
        let Some(shape) = c.ty(*v).const_shape() else { return Ok(None) };
        let elements = shape.iter().product::<i64>();
        if elements > ELEMENTS {
            return Ok(None);
        }
        let dims: Vec<usize> = shape.iter().map(|n| *n as usize).collect();
        let t = match &c.to.function().node(*v).op {
            Op::Constant(d) => {
                largest = largest.max(elements);
                Tensor::from_bytes(d.dtype, &dims, &d.bytes)
            }
            Op::Full { value, dtype, .. } => {
                let one = splat(*dtype, *value);
                Some(one.pick(dims, std::iter::repeat_n(0, elements as usize)))
            }
            _ => None,
        };
        match t {
            Some(t) => tensors.push(t),
            None => return Ok(None),
        }
    }
    let Some(out) = evaluate(op, &tensors) else { return Ok(None) };
    if out.len() as i64 > largest {
        return Ok(None);
    }
    let dense = Dense { dtype: out.dtype, shape: out.shape.iter().map(|n| *n as i64).collect(), bytes: out.to_bytes() };
    Ok(Some(Step::Node(Op::Constant(Arc::new(dense)), Vec::new())))
}

/// True if a symbol stands in the op's attributes: its value is known only when a step runs.
fn mentions_symbols(op: &Op) -> bool {
    let any = |sizes: &[Size]| sizes.iter().any(|s| s.as_const().is_none());
    match op {
        Op::Full { shape, .. } | Op::Iota { shape, .. } | Op::Broadcast { shape } | Op::Reshape { shape } => any(shape),
        Op::DynamicSlice { sizes, .. } => any(sizes),
        Op::Slice { start, stop, .. } => any(start) || any(stop),
        Op::FromSize { size, .. } => size.as_const().is_none(),
        _ => false,
    }
}

/// Runs one op on constant tensors; `None` for an op that depends on symbols.
pub(crate) fn evaluate(op: &Op, inputs: &[Tensor]) -> Option<Tensor> {
    if mentions_symbols(op) {
        return None;
    }
    let mut b = FunctionBuilder::new("constant");
    let args: Vec<ValueId> = inputs
        .iter()
        .map(|t| {
            let shape: Vec<i64> = t.shape.iter().map(|n| *n as i64).collect();
            b.param("x", Role::Input, TensorType::constant(t.dtype, &shape), None)
        })
        .collect();
    let v = b.node(op.clone(), &args, None).ok()?;
    b.result("y", v);
    run(&Module::default(), &b.finish(), inputs, Mode::Stated).ok()?.results.pop()
}
