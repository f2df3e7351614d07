//! Random small functions, for tests that hold a pass to the interpreter.

use crate::kernels::Random;
use mlxc_ir::graph::{
    BinaryOp, CompareOp, Function, FunctionBuilder, Literal, Op, ReduceOp, Role, TensorType, UnaryOp,
};
use mlxc_ir::{DType, Size};

/// A function of about `nodes` nodes over constant shapes: elementwise ops, views, joins, reductions and products, on
/// values that repeat often enough for identities to apply.
pub fn function(seed: u64, nodes: usize) -> Function {
    let mut r = Random::new(seed);
    let mut b = FunctionBuilder::new("random");
    let mut values = Vec::new();
    for i in 0..3 {
        let shape = *pick(&mut r, &[[4, 6], [6, 4], [4, 4]]);
        let dtype = *pick(&mut r, &[DType::F32, DType::F32, DType::I32]);
        let role = if i == 2 { Role::Weight(0) } else { Role::Input };
        values.push(b.param(&format!("x{i}"), role, TensorType::constant(dtype, &shape), None));
    }
    for _ in 0..nodes {
        let x = values[r.below(values.len() as u64) as usize];
        let ty = b.function().ty(x).clone();
        let same: Vec<_> = values.iter().copied().filter(|v| *b.function().ty(*v) == ty).collect();
        let y = *pick(&mut r, &same);
        let shape: Vec<i64> = ty.shape.iter().map(|d| d.as_const().unwrap_or(1)).collect();
        let rank = shape.len();
        let axis = r.below(rank.max(1) as u64) as usize;
        let float = ty.dtype.is_float();
        let number = *pick(&mut r, &[0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 3.0]);
        let (op, inputs) = match r.below(16) {
            0 => (Op::Full { value: Literal::float(number), dtype: ty.dtype, shape: ty.shape.clone() }, vec![]),
            1 => (Op::Iota { dtype: ty.dtype, shape: ty.shape.clone(), axis: axis as u32 }, vec![]),
            2 => {
                (Op::Unary(*pick(&mut r, &[UnaryOp::Negative, UnaryOp::Abs, UnaryOp::Square, UnaryOp::Relu])), vec![x])
            }
            3 | 4 => {
                use BinaryOp::*;
                let op = *pick(&mut r, &[Add, Subtract, Multiply, Multiply, Maximum, Minimum]);
                (Op::Binary(op), vec![x, y])
            }
            5 => {
                let at = if float { BinaryOp::Divide } else { BinaryOp::FloorDivide };
                (Op::Binary(at), vec![x, y])
            }
            6 => (Op::Compare(*pick(&mut r, CompareOp::ALL)), vec![x, y]),
            7 => (Op::Cast(*pick(&mut r, &[DType::F32, DType::I32, DType::BF16, DType::F64, DType::F16])), vec![x]),
            8 => {
                let mut to = shape.clone();
                if rank < 4 {
                    to.insert(0, *pick(&mut r, &[1, 2]));
                }
                (Op::Broadcast { shape: sizes(&to) }, vec![x])
            }
            9 => {
                let n: i64 = shape.iter().product();
                let mut to = vec![*pick(&mut r, &[1, 2, 4])];
                if n % to[0] != 0 {
                    to[0] = 1;
                }
                to.push(n / to[0]);
                (Op::Reshape { shape: sizes(&to) }, vec![x])
            }
            10 => {
                let mut perm: Vec<u32> = (0..rank as u32).collect();
                if rank > 1 {
                    perm.swap(axis, (axis + 1) % rank);
                }
                (Op::Transpose { perm }, vec![x])
            }
            11 => {
                let mut start = vec![0; rank];
                let mut stop = shape.clone();
                if rank > 0 && shape[axis] > 1 {
                    let cut = 1 + r.below(shape[axis] as u64 - 1) as i64;
                    if r.below(2) == 0 { start[axis] = cut } else { stop[axis] = cut }
                }
                (Op::Slice { start: sizes(&start), stop: sizes(&stop), step: vec![1; rank] }, vec![x])
            }
            12 if rank > 0 => (Op::Concat { axis: axis as u32 }, vec![x, y]),
            13 if rank > 0 => {
                let op = *pick(&mut r, &[ReduceOp::Sum, ReduceOp::Max]);
                (Op::Reduce { op, axes: vec![axis as u32], keepdims: r.below(2) == 0 }, vec![x])
            }
            14 if rank > 0 => (Op::Reverse { axes: vec![axis as u32] }, vec![x]),
            15 => (Op::MatMul { transpose_a: r.below(2) == 0, transpose_b: r.below(2) == 0 }, vec![x, y]),
            _ => (Op::Unary(UnaryOp::Negative), vec![x]),
        };
        let bytes: i64 = shape.iter().product();
        if bytes > 512 {
            continue;
        }
        // What inference refuses is left out.
        if let Ok(v) = b.node(op, &inputs, None) {
            values.push(v);
        }
    }
    for (i, v) in values.iter().rev().take(4).enumerate() {
        b.result(format!("y{i}"), *v);
    }
    b.finish()
}

fn sizes(shape: &[i64]) -> Vec<Size> {
    shape.iter().map(|n| Size::constant(*n)).collect()
}

fn pick<'a, T>(r: &mut Random, from: &'a [T]) -> &'a T {
    &from[r.below(from.len() as u64) as usize]
}
