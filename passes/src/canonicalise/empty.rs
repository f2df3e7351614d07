//! Values without elements, and folds of nothing: no kernel needs to know that there is nothing to read.

use super::{Canon, Simplified, Step};
use mlxc_ir::Size;
use mlxc_ir::graph::{Literal, Op, ReduceOp, TensorType, infer};

fn is_zero(d: &Size) -> bool {
    d.as_const() == Some(0)
}

/// Replaces a value that has no elements at any size of its symbols, and one that combines no elements.
pub(super) fn simplify(c: &Canon, op: &Op, inputs: &[mlxc_ir::graph::ValueId]) -> Simplified {
    if matches!(op, Op::Full { .. } | Op::Constant(_)) {
        return Ok(None);
    }
    let types: Vec<&TensorType> = inputs.iter().map(|v| c.ty(*v)).collect();
    let update = match op {
        Op::SliceUpdate { .. } | Op::Scatter { .. } => Some(1),
        Op::ScatterAlong { .. } => Some(2),
        _ => None,
    };
    if let Some(i) = update
        && types[i].shape.iter().any(is_zero)
    {
        // What would be updated stays as it is.
        return Ok(Some(Step::Value(inputs[0])));
    }
    if let Op::SliceUpdate { .. } = op {
        return Ok(None);
    }
    let ty = infer(op, &types, &c.to.function().symbols)?.swap_remove(0);
    let full = |value: i64| {
        let op = Op::Full { value: Literal::Int(value), dtype: ty.dtype, shape: ty.shape.clone() };
        Ok(Some(Step::Node(op, Vec::new())))
    };
    if ty.shape.iter().any(is_zero) {
        return full(0);
    }
    match op {
        Op::Reduce { op, axes, .. } if axes.iter().any(|a| is_zero(&types[0].shape[*a as usize])) => {
            full(i64::from(matches!(op, ReduceOp::Prod | ReduceOp::All)))
        }
        Op::MatMul { .. } | Op::Int8MatMul { .. } if types[0].shape.iter().any(is_zero) => full(0),
        Op::Sdpa { .. } if is_zero(&types[1].shape[2]) => full(0),
        _ => Ok(None),
    }
}
