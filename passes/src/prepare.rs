//! Last changes before lowering: values that must lie in memory are given a node that stores them.

use crate::lower::emit::{home, is_free};
use crate::lower::is_affine_reshape;
use crate::partition::stored_root;
use crate::rewrite::Rewriter;
use mlxc_ir::graph::{Function, FunctionBuilder, Literal, Op, ValueId};
use mlxc_ir::{DType, Diagnostic, Size};
use std::collections::BTreeSet;

/// Prepares a function for partition.
///
/// # Errors
/// What inference says; none for a verified function.
pub fn prepare(f: &Function) -> Result<Function, Diagnostic> {
    distinct_results(&stored_reshapes(f)?)
}

/// A value computed anew, so that it lies in memory: a select of itself.
fn copy(b: &mut FunctionBuilder, v: ValueId) -> Result<ValueId, Diagnostic> {
    let shape = b.function().ty(v).shape.clone();
    let yes = Op::Full { value: Literal::Int(1), dtype: DType::Bool, shape };
    let yes = b.node(yes, &[], None)?;
    b.node(Op::Select, &[yes, v, v], None)
}

/// A reshape without affine indices only renames memory. What it renames must be there: a view is stored first.
fn stored_reshapes(f: &Function) -> Result<Function, Diagnostic> {
    Rewriter::new(f).run(|r, _, node| {
        let Op::Reshape { shape } = &node.op else { return Ok(None) };
        let mut x = node.inputs[0];
        while let Op::Reshape { .. } = f.node(x).op {
            x = f.node(x).inputs[0];
        }
        let in_memory = !is_free(f, x.node) || matches!(f.node(x).op, Op::Param(_));
        if in_memory || is_affine_reshape(f, shape, &f.ty(node.inputs[0]).shape) {
            return Ok(None);
        }
        let v = r.map(node.inputs[0]);
        let stored = copy(&mut r.to, v)?;
        Ok(Some(vec![r.to.node(node.op.clone(), &[stored], node.at.clone())?]))
    })
}

/// A function whose results each have memory of their own: one that is an argument, a constant, a state version or returned
/// twice is copied (by a slice of everything, which a kernel of its own copies).
fn distinct_results(f: &Function) -> Result<Function, Diagnostic> {
    let mut seen = BTreeSet::new();
    let copied: Vec<bool> = f
        .results
        .iter()
        .map(|r| {
            let v = stored_root(f, r.value);
            !seen.insert(v) || f.param_of(home(f, v)).is_some() || matches!(f.node(v).op, Op::Constant(_))
        })
        .collect();
    if !copied.contains(&true) {
        return Ok(f.clone());
    }
    let mut out = Rewriter::new(f).run(|_, _, _| Ok(None))?;
    for (i, _) in copied.iter().enumerate().filter(|(_, c)| **c) {
        let mut b = FunctionBuilder::like(f);
        *b.function_mut() = out;
        let v = b.function().results[i].value;
        let shape = b.function().ty(v).shape.clone();
        let start = vec![Size::constant(0); shape.len()];
        let step = vec![1; shape.len()];
        let copy = if shape.is_empty() {
            // A scalar has no slice.
            copy(&mut b, v)?
        } else {
            b.node(Op::Slice { start, stop: shape, step }, &[v], None)?
        };
        b.function_mut().results[i].value = copy;
        out = b.finish();
    }
    Ok(out)
}
