//! Composite ops in terms of primitives.
//!
//! Users may write a norm or have one found; either way the kernels come from these primitives. Attention stays: it has
//! a template. Norms and softmax compute in f32 whatever their dtype, as MLX's fast kernels do.

use crate::lower::coord::gcd;
use crate::rewrite::{Rewriter, remove_dead};
use mlxc_ir::graph::{BinaryOp, CompareOp, Function, Literal, Node, Op, ReduceOp, TensorType, UnaryOp, ValueId};
use mlxc_ir::{DType, Diagnostic, Location, Size};
use std::sync::Arc;

/// Replaces every norm, softmax and rotary embedding by primitives.
///
/// # Errors
/// `MLXC0301` for a rotary embedding whose offset has no bounds, `MLXC0302` for one whose frequencies are not constant.
pub fn decompose(f: &Function) -> Result<Function, Diagnostic> {
    let out = Rewriter::new(f).run(|r, _, node| {
        let x = |r: &Rewriter<'_>, i: usize| r.map(node.inputs[i]);
        let value = match &node.op {
            Op::RmsNorm { eps } => {
                let mut b = Chain { r, at: node.at.as_ref() };
                let (input, weight) = (b.r.map(node.inputs[0]), node.inputs.get(1).map(|w| b.r.map(*w)));
                rms_norm(&mut b, input, weight, eps.get())?
            }
            Op::LayerNorm { eps } => {
                let mut b = Chain { r, at: node.at.as_ref() };
                let operands: Vec<ValueId> = node.inputs.iter().map(|v| b.r.map(*v)).collect();
                layer_norm(&mut b, &operands, eps.get())?
            }
            Op::Softmax => {
                let input = x(r, 0);
                softmax(&mut Chain { r, at: node.at.as_ref() }, input)?
            }
            Op::Rope { .. } => {
                let operands: Vec<ValueId> = node.inputs.iter().map(|v| r.map(*v)).collect();
                rope(&mut Chain { r, at: node.at.as_ref() }, node, &operands)?
            }
            _ => return Ok(None),
        };
        if let Some(name) = &node.name {
            r.to.name(value, name.clone());
        }
        Ok(Some(vec![value]))
    })?;
    remove_dead(&out)
}

/// Appends ops at one source line.
struct Chain<'a, 'f> {
    r: &'a mut Rewriter<'f>,
    at: Option<&'a Location>,
}

impl Chain<'_, '_> {
    fn op(&mut self, op: Op, inputs: &[ValueId]) -> Result<ValueId, Diagnostic> {
        self.r.op(op, inputs, self.at)
    }

    fn ty(&self, v: ValueId) -> TensorType {
        self.r.to.function().ty(v).clone()
    }

    fn cast(&mut self, v: ValueId, to: DType) -> Result<ValueId, Diagnostic> {
        if self.ty(v).dtype == to { Ok(v) } else { self.op(Op::Cast(to), &[v]) }
    }

    fn unary(&mut self, op: UnaryOp, v: ValueId) -> Result<ValueId, Diagnostic> {
        self.op(Op::Unary(op), &[v])
    }

    /// A binary op; the second operand is broadcast to the first.
    fn binary(&mut self, op: BinaryOp, a: ValueId, b: ValueId) -> Result<ValueId, Diagnostic> {
        let shape = self.ty(a).shape;
        let b = if self.ty(b).shape == shape { b } else { self.op(Op::Broadcast { shape }, &[b])? };
        self.op(Op::Binary(op), &[a, b])
    }

    fn full(&mut self, value: f64, like: ValueId) -> Result<ValueId, Diagnostic> {
        let TensorType { dtype, shape } = self.ty(like);
        self.op(Op::Full { value: Literal::float(value), dtype, shape }, &[])
    }

    fn with_scalar(&mut self, op: BinaryOp, a: ValueId, value: f64) -> Result<ValueId, Diagnostic> {
        let b = self.full(value, a)?;
        self.op(Op::Binary(op), &[a, b])
    }

    fn reduce_last(&mut self, op: ReduceOp, v: ValueId) -> Result<ValueId, Diagnostic> {
        let axis = self.ty(v).rank() as u32 - 1;
        self.op(Op::Reduce { op, axes: vec![axis], keepdims: true }, &[v])
    }

    fn mean_last(&mut self, v: ValueId) -> Result<ValueId, Diagnostic> {
        let shape = self.ty(v).shape;
        let n = &shape[shape.len() - 1];
        let sum = self.reduce_last(ReduceOp::Sum, v)?;
        match n.as_const() {
            Some(n) => self.with_scalar(BinaryOp::Multiply, sum, 1.0 / n.max(1) as f64),
            None => {
                let n = self.op(Op::FromSize { size: n.clone(), dtype: self.ty(sum).dtype }, &[])?;
                self.binary(BinaryOp::Divide, sum, n)
            }
        }
    }
}

/// The type norms are computed in.
fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

fn rms_norm(b: &mut Chain<'_, '_>, x: ValueId, weight: Option<ValueId>, eps: f64) -> Result<ValueId, Diagnostic> {
    let dtype = b.ty(x).dtype;
    let w = wide(dtype);
    let x = b.cast(x, w)?;
    let squares = b.unary(UnaryOp::Square, x)?;
    let mean = b.mean_last(squares)?;
    let shifted = b.with_scalar(BinaryOp::Add, mean, eps)?;
    let scale = b.unary(UnaryOp::Rsqrt, shifted)?;
    let mut y = b.binary(BinaryOp::Multiply, x, scale)?;
    if let Some(weight) = weight {
        let weight = b.cast(weight, w)?;
        y = b.binary(BinaryOp::Multiply, y, weight)?;
    }
    b.cast(y, dtype)
}

fn layer_norm(b: &mut Chain<'_, '_>, operands: &[ValueId], eps: f64) -> Result<ValueId, Diagnostic> {
    let dtype = b.ty(operands[0]).dtype;
    let w = wide(dtype);
    let x = b.cast(operands[0], w)?;
    let mean = b.mean_last(x)?;
    let centred = b.binary(BinaryOp::Subtract, x, mean)?;
    let squares = b.unary(UnaryOp::Square, centred)?;
    let variance = b.mean_last(squares)?;
    let shifted = b.with_scalar(BinaryOp::Add, variance, eps)?;
    let scale = b.unary(UnaryOp::Rsqrt, shifted)?;
    let mut y = b.binary(BinaryOp::Multiply, centred, scale)?;
    for (i, operand) in operands[1..].iter().enumerate() {
        let operand = b.cast(*operand, w)?;
        y = b.binary(if i == 0 { BinaryOp::Multiply } else { BinaryOp::Add }, y, operand)?;
    }
    b.cast(y, dtype)
}

fn softmax(b: &mut Chain<'_, '_>, x: ValueId) -> Result<ValueId, Diagnostic> {
    let dtype = b.ty(x).dtype;
    let x = b.cast(x, wide(dtype))?;
    let most = b.reduce_last(ReduceOp::Max, x)?;
    let shifted = b.binary(BinaryOp::Subtract, x, most)?;
    let powers = b.unary(UnaryOp::Exp, shifted)?;
    let sum = b.reduce_last(ReduceOp::Sum, powers)?;
    let y = b.binary(BinaryOp::Divide, powers, sum)?;
    b.cast(y, dtype)
}

/// Most elements of a table of positions: 2^24 of them with 256 features each.
const LARGEST_TABLE: i64 = 1 << 32;

/// `x * cos + partner * sin` with the sign of the half, from tables over every position the offset may take.
fn rope(b: &mut Chain<'_, '_>, node: &Node, operands: &[ValueId]) -> Result<ValueId, Diagnostic> {
    let Op::Rope { dims, traditional, base, scale } = &node.op else { unreachable!("called for rope") };
    let f = b.r.to.function();
    let (x, offset) = (operands[0], operands[1]);
    let ty = f.ty(x).clone();
    let rank = ty.rank();
    let half = i64::from(*dims / 2);
    let queries = ty.shape[rank - 2].clone();
    let ranges = f.ranges();
    let last_offset = match f.param_of(offset).map(|p| p.role) {
        Some(mlxc_ir::graph::Role::Scalar(id)) => ranges[id.0 as usize].hi,
        _ => match &f.node(offset).op {
            Op::Full { value, .. } => value.as_i64(),
            _ => {
                return Err(Diagnostic::new(301, "the offset of a rotary embedding has no bounds")
                    .expected("a constant or an input declared with `scalar`")
                    .found(f.value_name(offset)));
            }
        },
    };
    let positions = last_offset.saturating_add(queries.bounds(&ranges).hi).max(1);
    let d = ty.shape[rank - 1].as_const().expect("inference wants a constant last axis");
    if positions.saturating_mul(d) > LARGEST_TABLE {
        return Err(Diagnostic::new(301, "the table of a rotary embedding is too large")
            .expected(format!("at most {LARGEST_TABLE} elements"))
            .found(format!("{positions} positions of {d} features")));
    }
    let frequencies = match operands.get(2) {
        Some(v) => match &f.node(*v).op {
            Op::Constant(d) => d.bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect(),
            _ => {
                return Err(Diagnostic::new(302, "the frequencies of a rotary embedding are not constant")
                    .expected("a constant f32 tensor")
                    .found(f.value_name(*v)));
            }
        },
        // In f32, as checkpoints' own code computes them.
        None => {
            (0..half).map(|i| (1.0 / base.get().powf(2.0 * i as f64 / f64::from(*dims))) as f32).collect::<Vec<f32>>()
        }
    };
    let block = gcd(half, d);
    if d != i64::from(*dims) && !traditional && block >= BLOCK {
        let angle = |p: i64, i: i64| f64::from((p as f64 * scale.get()) as f32 * frequencies[i as usize]);
        return part_rotated(b, x, offset, &Turn { half, block, positions, angle: &angle });
    }
    let table = |g: &dyn Fn(f64) -> f64| {
        let w = wide(ty.dtype);
        let mut bytes = Vec::with_capacity((positions * half) as usize * w.bytes() as usize);
        for p in 0..positions {
            let p = (p as f64 * scale.get()) as f32;
            for frequency in &frequencies {
                push(&mut bytes, g(f64::from(p * frequency)), w);
            }
        }
        let dense = mlxc_ir::graph::Dense { dtype: w, shape: vec![positions, half], bytes };
        Op::Constant(Arc::new(dense))
    };
    let (cos, sin) = (table(&f64::cos), table(&f64::sin));
    // [.., S, D] as [.., S, 2, half] (or [.., S, half, 2]): the partner is the other of two.
    let pair_axis = if *traditional { rank } else { rank - 1 };
    let mut split = ty.shape.clone();
    split[rank - 1] = Size::constant(half);
    split.insert(pair_axis, Size::constant(2));
    let rotated = if d == i64::from(*dims) { x } else { last_slice(b, x, 0, i64::from(*dims))? };
    let pairs = b.op(Op::Reshape { shape: split.clone() }, &[rotated])?;
    let pairs = b.cast(pairs, wide(ty.dtype))?;
    let partner = b.op(Op::Reverse { axes: vec![pair_axis as u32] }, &[pairs])?;
    let window = |b: &mut Chain<'_, '_>, op: Op, name: &str| -> Result<ValueId, Diagnostic> {
        let t = b.op(op, &[])?;
        b.r.to.name(t, name);
        let rows = Op::DynamicSlice { axes: vec![0], sizes: vec![queries.clone(), Size::constant(half)] };
        let t = b.op(rows, &[t, offset])?;
        let mut shape = vec![queries.clone(), Size::constant(half)];
        shape.insert(pair_axis + 1 - rank + 1, Size::constant(1));
        let t = b.op(Op::Reshape { shape }, &[t])?;
        let t = b.op(Op::Broadcast { shape: split.clone() }, &[t])?;
        b.cast(t, wide(ty.dtype))
    };
    let (cos, sin) = (window(b, cos, "cosines")?, window(b, sin, "sines")?);
    // -1 for the first of a pair, 1 for the second.
    let side = b.op(Op::Iota { dtype: wide(ty.dtype), shape: split.clone(), axis: pair_axis as u32 }, &[])?;
    let side = b.with_scalar(BinaryOp::Multiply, side, 2.0)?;
    let sign = b.with_scalar(BinaryOp::Subtract, side, 1.0)?;
    let near = b.binary(BinaryOp::Multiply, pairs, cos)?;
    let far = b.binary(BinaryOp::Multiply, partner, sin)?;
    let far = b.binary(BinaryOp::Multiply, far, sign)?;
    let sum = b.binary(BinaryOp::Add, near, far)?;
    let sum = b.cast(sum, ty.dtype)?;
    let mut shape = ty.shape.clone();
    shape[rank - 1] = Size::constant(i64::from(*dims));
    let out = b.op(Op::Reshape { shape }, &[sum])?;
    if d == i64::from(*dims) {
        return Ok(out);
    }
    let rest = last_slice(b, x, i64::from(*dims), d)?;
    b.op(Op::Concat { axis: rank as u32 - 1 }, &[out, rest])
}

/// Appends an element of f64, or of f32 otherwise.
fn push(bytes: &mut Vec<u8>, value: f64, dtype: DType) {
    if dtype == DType::F64 {
        bytes.extend(value.to_le_bytes());
    } else {
        bytes.extend((value as f32).to_le_bytes());
    }
}

/// Features of a block, at least, for which whole blocks are moved instead of single features.
const BLOCK: i64 = 8;

/// A rotation of the first features of a row.
struct Turn<'a> {
    /// Half of the rotated features.
    half: i64,
    /// Features of a block: halves and rows are whole numbers of them.
    block: i64,
    positions: i64,
    /// The angle of a position and a frequency.
    angle: &'a dyn Fn(i64, i64) -> f64,
}

/// Rotates a part of each row without cutting it out: a feature is turned with the block that is its partner, and the rest
/// stays. Rows keep their shape from end to end, so the whole fuses as a rotation of all features does.
fn part_rotated(b: &mut Chain<'_, '_>, x: ValueId, offset: ValueId, t: &Turn<'_>) -> Result<ValueId, Diagnostic> {
    let ty = b.ty(x);
    let (rank, acc) = (ty.rank(), wide(ty.dtype));
    let d = ty.shape[rank - 1].as_const().expect("inference wants a constant last axis");
    let queries = ty.shape[rank - 2].clone();
    let (blocks, half) = (d / t.block, t.half / t.block);
    let mut split = ty.shape.clone();
    split[rank - 1] = Size::constant(blocks);
    split.push(Size::constant(t.block));
    let own = b.op(Op::Reshape { shape: split.clone() }, &[x])?;
    let own = b.cast(own, acc)?;
    let cut = |b: &mut Chain<'_, '_>, from: i64, to: i64| {
        let (mut start, mut stop) = (vec![Size::constant(0); rank + 1], split.clone());
        (start[rank - 1], stop[rank - 1]) = (Size::constant(from), Size::constant(to));
        b.op(Op::Slice { start, stop, step: vec![1; rank + 1] }, &[own])
    };
    let parts = [cut(b, half, 2 * half)?, cut(b, 0, half)?, cut(b, 2 * half, blocks)?];
    let partner = b.op(Op::Concat { axis: rank as u32 - 1 }, &parts)?;
    let table = |b: &mut Chain<'_, '_>, g: &dyn Fn(i64, f64) -> f64, rest: f64, name: &str| {
        let mut bytes = Vec::with_capacity((t.positions * d) as usize * acc.bytes() as usize);
        for p in 0..t.positions {
            for j in 0..d {
                let turned = j < 2 * t.half;
                let v = if turned { g(j, (t.angle)(p, j % t.half)) } else { rest };
                push(&mut bytes, v, acc);
            }
        }
        let dense = mlxc_ir::graph::Dense { dtype: acc, shape: vec![t.positions, d], bytes };
        let v = b.op(Op::Constant(Arc::new(dense)), &[])?;
        b.r.to.name(v, name);
        let rows = Op::DynamicSlice { axes: vec![0], sizes: vec![queries.clone(), Size::constant(d)] };
        let v = b.op(rows, &[v, offset])?;
        let shape = vec![queries.clone(), Size::constant(blocks), Size::constant(t.block)];
        let v = b.op(Op::Reshape { shape }, &[v])?;
        let v = b.op(Op::Broadcast { shape: split.clone() }, &[v])?;
        b.cast(v, acc)
    };
    let cos = table(b, &|_, a| a.cos(), 1.0, "cosines")?;
    let sin = table(b, &|j, a| if j < t.half { -a.sin() } else { a.sin() }, 0.0, "sines")?;
    let near = b.binary(BinaryOp::Multiply, own, cos)?;
    let far = b.binary(BinaryOp::Multiply, partner, sin)?;
    let sum = b.binary(BinaryOp::Add, near, far)?;
    // Not left to factors of 1 and 0, which would make NaN of an infinity.
    let number = b.op(Op::Iota { dtype: DType::I32, shape: split.clone(), axis: rank as u32 - 1 }, &[])?;
    let end = Op::Full { value: Literal::Int(2 * half), dtype: DType::I32, shape: split.clone() };
    let end = b.op(end, &[])?;
    let turned = b.op(Op::Compare(CompareOp::Less), &[number, end])?;
    let y = b.op(Op::Select, &[turned, sum, own])?;
    let y = b.cast(y, ty.dtype)?;
    b.op(Op::Reshape { shape: ty.shape }, &[y])
}

fn last_slice(b: &mut Chain<'_, '_>, x: ValueId, from: i64, to: i64) -> Result<ValueId, Diagnostic> {
    let shape = b.ty(x).shape;
    let last = shape.len() - 1;
    let mut start = vec![Size::constant(0); shape.len()];
    let mut stop = shape;
    start[last] = Size::constant(from);
    stop[last] = Size::constant(to);
    let step = vec![1; start.len()];
    b.op(Op::Slice { start, stop, step }, &[x])
}
