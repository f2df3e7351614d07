//! Products whose activations are rounded to 8-bit integers: which they are, and what they are made of where a target has no
//! such products.

use crate::lower::matmul::quantized;
use crate::rewrite::Rewriter;
use mlxc_ir::graph::{BinaryOp, CompareOp, Function, Literal, Node, Op, ReduceOp, TensorType, UnaryOp, ValueId};
use mlxc_ir::quantize::{INT8_LARGEST, INT8_LEAST};
use mlxc_ir::{DType, Diagnostic, Size, TargetProfile};

/// Rounds the left factor of every product with a quantised weight, each of the weight's groups on its own.
///
/// # Errors
/// What inference says; none for a verified function.
pub fn round(f: &Function) -> Result<Function, Diagnostic> {
    Rewriter::new(f).run(|r, i, node| {
        let Some(weight) = matches!(node.op, Op::MatMul { .. }).then(|| quantized::operand(f, i as u32)).flatten()
        else {
            return Ok(None);
        };
        let op = Op::Int8MatMul { group: weight.scheme.group() };
        Ok(Some(vec![replaced(r, node, op, None)?]))
    })
}

/// Writes products of rounded activations as a rounding and a product, where the target's products do not round.
///
/// # Errors
/// What inference says; none for a verified function.
pub fn expand(f: &Function, profile: &TargetProfile) -> Result<Function, Diagnostic> {
    Rewriter::new(f).run(|r, i, node| {
        let Op::Int8MatMul { group } = node.op else { return Ok(None) };
        if quantized::multiplies_int8(f, profile, i as u32) {
            return Ok(None);
        }
        let a = rounded(r, node, f.ty(node.inputs[0]), i64::from(group))?;
        let op = Op::MatMul { transpose_a: false, transpose_b: true };
        Ok(Some(vec![replaced(r, node, op, Some(a))?]))
    })
}

/// A product in place of another, with the same name.
fn replaced(r: &mut Rewriter<'_>, node: &Node, op: Op, a: Option<ValueId>) -> Result<ValueId, Diagnostic> {
    let inputs = [a.unwrap_or_else(|| r.map(node.inputs[0])), r.map(node.inputs[1])];
    let y = r.op(op, &inputs, node.at.as_ref())?;
    if let Some(name) = &node.name {
        r.to.name(y, name.clone());
    }
    Ok(y)
}

/// The left factor, rounded: the arithmetic of [`mlxc_ir::quantize::round_int8`].
fn rounded(r: &mut Rewriter<'_>, node: &Node, ty: &TensorType, group: i64) -> Result<ValueId, Diagnostic> {
    let at = node.at.clone();
    let x = r.map(node.inputs[0]);
    let last = ty.rank() - 1;
    let k = ty.shape[last].as_const().expect("the inner extent is a weight's");
    let mut groups = ty.shape[..last].to_vec();
    groups.extend([Size::constant(k / group), Size::constant(group)]);
    let mut each = groups.clone();
    each[last + 1] = Size::constant(1);
    let mut op = |op: Op, inputs: &[ValueId]| r.to.node(op, inputs, at.clone());
    let wide = op(Op::Cast(DType::F32), &[x])?;
    let grouped = op(Op::Reshape { shape: groups.clone() }, &[wide])?;
    let magnitudes = op(Op::Unary(UnaryOp::Abs), &[grouped])?;
    let largest = op(Op::Reduce { op: ReduceOp::Max, axes: vec![last as u32 + 1], keepdims: true }, &[magnitudes])?;
    let mut full =
        |v: f32| op(Op::Full { value: Literal::float(f64::from(v)), dtype: DType::F32, shape: each.clone() }, &[]);
    let [least, zero, most, share] = [INT8_LEAST, 0.0, INT8_LARGEST, 1.0 / INT8_LARGEST].map(&mut full);
    let (least, zero, most, share) = (least?, zero?, most?, share?);
    let mut op = |op: Op, inputs: &[ValueId]| r.to.node(op, inputs, at.clone());
    let none = op(Op::Compare(CompareOp::Less), &[largest, least])?;
    let per = op(Op::Binary(BinaryOp::Divide), &[most, largest])?;
    let per = op(Op::Select, &[none, zero, per])?;
    let scale = op(Op::Binary(BinaryOp::Multiply), &[largest, share])?;
    let scale = op(Op::Select, &[none, zero, scale])?;
    let per = op(Op::Broadcast { shape: groups.clone() }, &[per])?;
    let scale = op(Op::Broadcast { shape: groups }, &[scale])?;
    let codes = op(Op::Binary(BinaryOp::Multiply), &[grouped, per])?;
    let codes = op(Op::Unary(UnaryOp::Round), &[codes])?;
    let values = op(Op::Binary(BinaryOp::Multiply), &[codes, scale])?;
    let values = op(Op::Reshape { shape: ty.shape.clone() }, &[values])?;
    op(Op::Cast(ty.dtype), &[values])
}
