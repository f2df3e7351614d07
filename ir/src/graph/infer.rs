//! Shape and dtype rules: one result type list per op, or a diagnostic that says what is wrong.
//!
//! Decides types only. Broadcasting and promotion belong to the front end, so every rule here is strict.

use crate::diagnostic::Diagnostic;
use crate::graph::op::{BinaryOp, CompareOp, Op, ReduceOp, UnaryOp};
use crate::graph::types::{Symbol, TensorType, ranges};
use crate::quantize::Scheme;
use mlxc_package::{DType, Size};
use smallvec::{SmallVec, smallvec};

mod indexed;

type Types = SmallVec<[TensorType; 1]>;

/// The result types of `op` on operands of the given types.
///
/// # Errors
/// `MLXC0110` number of operands, `MLXC0111` dtype, `MLXC0112` shapes, `MLXC0113` an attribute out of range.
/// Parameters and calls are typed by their function and refused here with `MLXC0114`.
pub fn infer(op: &Op, inputs: &[&TensorType], symbols: &[Symbol]) -> Result<Types, Diagnostic> {
    Infer { op, inputs, symbols }.run()
}

/// The broadcast of two shapes, right-aligned, if they are compatible.
pub fn broadcast_shapes(a: &[Size], b: &[Size]) -> Option<Vec<Size>> {
    let one = Size::constant(1);
    let rank = a.len().max(b.len());
    (0..rank)
        .map(|i| {
            let at = |s: &[Size]| (i + s.len()).checked_sub(rank).map(|j| s[j].clone());
            match (at(a), at(b)) {
                (Some(x), Some(y)) if x == y || y == one => Some(x),
                (Some(x), Some(y)) if x == one => Some(y),
                (Some(_), Some(_)) => None,
                (x, y) => x.or(y),
            }
        })
        .collect()
}

struct Infer<'a> {
    op: &'a Op,
    inputs: &'a [&'a TensorType],
    symbols: &'a [Symbol],
}

impl Infer<'_> {
    fn run(&self) -> Result<Types, Diagnostic> {
        if let Some(ty) = self.op.literal_type() {
            self.count(0, 0)?;
            self.non_negative(&ty.shape)?;
            if let Op::Constant(d) = self.op {
                let want = d.shape.iter().try_fold(d.dtype.bytes(), |p, n| u64::try_from(*n).ok()?.checked_mul(p));
                if want != Some(d.bytes.len() as u64) {
                    return Err(self.attribute("bytes that fill the shape", format!("{} bytes", d.bytes.len())));
                }
            }
            if let Op::Iota { shape, axis, .. } = self.op {
                self.axis(*axis, shape.len())?;
            }
            return Ok(smallvec![ty]);
        }
        let ty = match self.op {
            Op::Unary(op) => self.unary(*op)?,
            Op::Binary(op) => self.binary(*op)?,
            Op::Compare(op) => self.compare(*op)?,
            Op::Select => self.select()?,
            Op::Cast(to) => {
                self.count(1, 1)?;
                TensorType { dtype: *to, shape: self.inputs[0].shape.clone() }
            }
            Op::Bitcast(to) => self.bitcast(*to)?,
            Op::Broadcast { shape } => self.broadcast(shape)?,
            Op::Reshape { shape } => self.reshape(shape)?,
            Op::Transpose { perm } => self.transpose(perm)?,
            Op::Slice { start, stop, step } => self.slice(start, stop, step)?,
            Op::Reverse { axes } => {
                self.count(1, 1)?;
                self.reduced(axes, true)?;
                self.inputs[0].clone()
            }
            Op::Windows { axes, sizes, strides, dilations } => self.windows(axes, sizes, strides, dilations)?,
            Op::Pad { low, high, .. } => self.pad(low, high)?,
            Op::Concat { axis } => self.concat(*axis)?,
            Op::Gather { axis } => self.gather(*axis)?,
            Op::TakeAlong { axis } => self.take_along(*axis)?,
            Op::GatherNd { axes } => self.gather_nd(axes)?,
            Op::Scatter { axes, .. } => self.scatter(axes)?,
            Op::ScatterAlong { axis, .. } => self.scatter_along(*axis)?,
            Op::Scan { op, axis, .. } => self.scan(*op, *axis)?,
            Op::ArgSort { axis } => self.argsort(*axis)?,
            Op::RandomBits { shape, width } => self.random_bits(shape, *width)?,
            Op::DynamicSlice { axes, sizes } => self.dynamic_slice(axes, sizes)?,
            Op::SliceUpdate { axes } => self.slice_update(axes)?,
            Op::Reduce { op, axes, keepdims } => self.reduce(*op, axes, *keepdims)?,
            Op::ArgReduce { axis, keepdims, .. } => self.arg_reduce(*axis, *keepdims)?,
            Op::MatMul { transpose_a, transpose_b } => self.matmul(*transpose_a, *transpose_b)?,
            Op::Int8MatMul { group } => self.int8_matmul(*group)?,
            Op::Dequantize { scheme, dtype } => self.dequantize(*scheme, *dtype)?,
            Op::RmsNorm { .. } => self.norm(2)?,
            Op::LayerNorm { .. } => self.norm(3)?,
            Op::Softmax => {
                self.count(1, 1)?;
                self.float(0)?;
                self.min_rank(0, 1)?;
                self.inputs[0].clone()
            }
            Op::Rope { dims, .. } => self.rope(*dims)?,
            Op::Sdpa { .. } => self.sdpa()?,
            Op::Gated(_) => {
                self.count(2, 2)?;
                self.float(0)?;
                self.same(0, 1)?;
                self.inputs[0].clone()
            }
            Op::Param(_) | Op::Call { .. } => {
                return Err(Diagnostic::new(114, format!("`{}` is typed by its function", self.op.name())));
            }
            Op::Full { .. } | Op::Constant(_) | Op::Iota { .. } | Op::FromSize { .. } => {
                unreachable!("literal ops returned above")
            }
        };
        Ok(smallvec![ty])
    }

    fn show(&self, ty: &TensorType) -> String {
        ty.display(self.symbols).to_string()
    }

    fn shapes(&self) -> String {
        self.inputs.iter().map(|t| self.show(t)).collect::<Vec<_>>().join(", ")
    }

    fn count(&self, lo: usize, hi: usize) -> Result<(), Diagnostic> {
        if (lo..=hi).contains(&self.inputs.len()) {
            return Ok(());
        }
        let want = if lo == hi { lo.to_string() } else { format!("{lo} to {hi}") };
        Err(Diagnostic::new(110, format!("`{}` has the wrong number of operands", self.op.name()))
            .expected(want)
            .found(self.inputs.len().to_string()))
    }

    fn dtype_error(&self, expected: &str) -> Diagnostic {
        Diagnostic::new(111, format!("`{}` does not take this dtype", self.op.name()))
            .expected(expected)
            .found(self.shapes())
    }

    fn shape_error(&self, expected: impl Into<String>) -> Diagnostic {
        Diagnostic::new(112, format!("shapes do not fit `{}`", self.op.name())).expected(expected).found(self.shapes())
    }

    fn attribute(&self, expected: impl Into<String>, found: impl Into<String>) -> Diagnostic {
        Diagnostic::new(113, format!("an attribute of `{}` is out of range", self.op.name()))
            .expected(expected)
            .found(found)
            .note(format!("operands: {}", self.shapes()))
    }

    fn float(&self, i: usize) -> Result<(), Diagnostic> {
        if self.inputs[i].dtype.is_float() { Ok(()) } else { Err(self.dtype_error("a float dtype")) }
    }

    fn same(&self, i: usize, j: usize) -> Result<(), Diagnostic> {
        let (a, b) = (self.inputs[i], self.inputs[j]);
        if a.dtype != b.dtype {
            return Err(self.dtype_error("operands of one dtype"));
        }
        if a.shape != b.shape { Err(self.shape_error("operands of one shape")) } else { Ok(()) }
    }

    fn min_rank(&self, i: usize, rank: usize) -> Result<(), Diagnostic> {
        if self.inputs[i].rank() >= rank { Ok(()) } else { Err(self.shape_error(format!("at least {rank} axes"))) }
    }

    fn axis(&self, axis: u32, rank: usize) -> Result<usize, Diagnostic> {
        if (axis as usize) < rank {
            Ok(axis as usize)
        } else {
            Err(self.attribute(format!("an axis below {rank}"), axis.to_string()))
        }
    }

    fn non_negative(&self, shape: &[Size]) -> Result<(), Diagnostic> {
        let r = ranges(self.symbols);
        match shape.iter().find(|d| d.bounds(&r).lo < 0) {
            Some(d) => Err(self.attribute("extents of at least 0", d.to_string())),
            None => Ok(()),
        }
    }

    fn scalar_index(&self, i: usize) -> Result<(), Diagnostic> {
        if self.inputs[i].dtype != DType::I32 || self.inputs[i].rank() != 0 {
            return Err(self.dtype_error("a position of type i32[]"));
        }
        Ok(())
    }

    fn unary(&self, op: UnaryOp) -> Result<TensorType, Diagnostic> {
        use UnaryOp::*;
        self.count(1, 1)?;
        let x = self.inputs[0];
        let dtype = match op {
            IsNan | IsInf | IsFinite => DType::Bool,
            LogicalNot if x.dtype == DType::Bool => DType::Bool,
            LogicalNot => return Err(self.dtype_error("bool")),
            BitwiseInvert if x.dtype.is_int() => x.dtype,
            BitwiseInvert => return Err(self.dtype_error("an integer dtype")),
            Negative | Abs | Sign | Square | Relu if x.dtype != DType::Bool => x.dtype,
            Floor | Ceil | Round if x.dtype.is_int() || x.dtype.is_float() => x.dtype,
            _ if x.dtype.is_float() => x.dtype,
            Negative | Abs | Sign | Square | Relu => return Err(self.dtype_error("a number")),
            _ => return Err(self.dtype_error("a float dtype")),
        };
        Ok(TensorType { dtype, shape: x.shape.clone() })
    }

    fn binary(&self, op: BinaryOp) -> Result<TensorType, Diagnostic> {
        use BinaryOp::*;
        self.count(2, 2)?;
        self.same(0, 1)?;
        let dtype = self.inputs[0].dtype;
        let (fits, want) = match op {
            Divide | LogAddExp | Arctan2 => (dtype.is_float(), "a float dtype"),
            LogicalAnd | LogicalOr => (dtype == DType::Bool, "bool"),
            BitwiseAnd | BitwiseOr | BitwiseXor => (!dtype.is_float(), "an integer dtype or bool"),
            LeftShift | RightShift => (dtype.is_int(), "an integer dtype"),
            Maximum | Minimum => (true, ""),
            _ => (dtype != DType::Bool, "a number"),
        };
        if fits { Ok(self.inputs[0].clone()) } else { Err(self.dtype_error(want)) }
    }

    fn compare(&self, op: CompareOp) -> Result<TensorType, Diagnostic> {
        self.count(2, 2)?;
        self.same(0, 1)?;
        if self.inputs[0].dtype == DType::Bool && !matches!(op, CompareOp::Equal | CompareOp::NotEqual) {
            return Err(self.dtype_error("numbers, or bools compared for equality"));
        }
        Ok(TensorType { dtype: DType::Bool, shape: self.inputs[0].shape.clone() })
    }

    fn select(&self) -> Result<TensorType, Diagnostic> {
        self.count(3, 3)?;
        if self.inputs[0].dtype != DType::Bool {
            return Err(self.dtype_error("a bool condition"));
        }
        self.same(1, 2)?;
        if self.inputs[0].shape != self.inputs[1].shape {
            return Err(self.shape_error("operands of one shape"));
        }
        Ok(self.inputs[1].clone())
    }

    fn broadcast(&self, shape: &[Size]) -> Result<TensorType, Diagnostic> {
        self.count(1, 1)?;
        let x = self.inputs[0];
        if broadcast_shapes(&x.shape, shape).as_deref() != Some(shape) {
            let to = TensorType { dtype: x.dtype, shape: shape.to_vec() };
            return Err(self.shape_error(format!("a shape that broadcasts to {}", self.show(&to))));
        }
        Ok(TensorType { dtype: x.dtype, shape: shape.to_vec() })
    }

    fn reshape(&self, shape: &[Size]) -> Result<TensorType, Diagnostic> {
        self.count(1, 1)?;
        self.non_negative(shape)?;
        let to = TensorType { dtype: self.inputs[0].dtype, shape: shape.to_vec() };
        if to.elements() != self.inputs[0].elements() {
            return Err(self.shape_error(format!("as many elements as {}", self.show(&to))));
        }
        Ok(to)
    }

    fn transpose(&self, perm: &[u32]) -> Result<TensorType, Diagnostic> {
        self.count(1, 1)?;
        let x = self.inputs[0];
        let mut seen = vec![false; x.rank()];
        for p in perm {
            match seen.get_mut(*p as usize) {
                Some(s) if !*s => *s = true,
                _ => return Err(self.attribute("a permutation of the axes", format!("{perm:?}"))),
            }
        }
        if perm.len() != x.rank() {
            return Err(self.attribute("a permutation of the axes", format!("{perm:?}")));
        }
        Ok(TensorType { dtype: x.dtype, shape: perm.iter().map(|p| x.shape[*p as usize].clone()).collect() })
    }

    fn slice(&self, start: &[Size], stop: &[Size], step: &[i64]) -> Result<TensorType, Diagnostic> {
        self.count(1, 1)?;
        let x = self.inputs[0];
        if start.len() != x.rank() || stop.len() != x.rank() || step.len() != x.rank() {
            return Err(self.attribute("one start, stop and step an axis", format!("{} starts", start.len())));
        }
        let r = ranges(self.symbols);
        let mut shape = Vec::with_capacity(x.rank());
        for i in 0..x.rank() {
            let inside = start[i].bounds(&r).lo >= 0
                && (stop[i].clone() - start[i].clone()).bounds(&r).lo >= 0
                && (x.shape[i].clone() - stop[i].clone()).bounds(&r).lo >= 0
                && step[i] >= 1;
            if !inside {
                return Err(self.attribute(
                    format!("0 <= start <= stop <= {} and a step of at least 1 on axis {i}", x.shape[i]),
                    format!("{}..{} step {}", start[i], stop[i], step[i]),
                ));
            }
            shape.push((stop[i].clone() - start[i].clone()).ceil_div(step[i]));
        }
        Ok(TensorType { dtype: x.dtype, shape })
    }

    fn pad(&self, low: &[i64], high: &[i64]) -> Result<TensorType, Diagnostic> {
        self.count(1, 1)?;
        let x = self.inputs[0];
        if low.len() != x.rank() || high.len() != x.rank() || low.iter().chain(high).any(|n| *n < 0) {
            return Err(self.attribute("one width of at least 0 an axis", format!("{low:?}, {high:?}")));
        }
        let shape = x
            .shape
            .iter()
            .zip(low.iter().zip(high))
            .map(|(d, (l, h))| d.clone() + Size::constant(l.saturating_add(*h)))
            .collect();
        Ok(TensorType { dtype: x.dtype, shape })
    }

    fn concat(&self, axis: u32) -> Result<TensorType, Diagnostic> {
        self.count(1, usize::MAX)?;
        let first = self.inputs[0];
        let axis = self.axis(axis, first.rank())?;
        let mut total = Size::constant(0);
        for t in self.inputs {
            if t.dtype != first.dtype {
                return Err(self.dtype_error("operands of one dtype"));
            }
            let fits = t.rank() == first.rank() && (0..t.rank()).all(|i| i == axis || t.shape[i] == first.shape[i]);
            if !fits {
                return Err(self.shape_error(format!("operands that differ on axis {axis} only")));
            }
            total = total + t.shape[axis].clone();
        }
        let mut shape = first.shape.clone();
        shape[axis] = total;
        Ok(TensorType { dtype: first.dtype, shape })
    }

    fn gather(&self, axis: u32) -> Result<TensorType, Diagnostic> {
        self.count(2, 2)?;
        let (x, indices) = (self.inputs[0], self.inputs[1]);
        let axis = self.axis(axis, x.rank())?;
        if !indices.dtype.is_int() {
            return Err(self.dtype_error("integer indices"));
        }
        self.something_to_take(axis)?;
        let mut shape = x.shape[..axis].to_vec();
        shape.extend(indices.shape.iter().cloned());
        shape.extend(x.shape[axis + 1..].iter().cloned());
        Ok(TensorType { dtype: x.dtype, shape })
    }

    fn take_along(&self, axis: u32) -> Result<TensorType, Diagnostic> {
        self.count(2, 2)?;
        let (x, indices) = (self.inputs[0], self.inputs[1]);
        let axis = self.axis(axis, x.rank())?;
        if !indices.dtype.is_int() {
            return Err(self.dtype_error("integer indices"));
        }
        let fits = x.rank() == indices.rank() && (0..x.rank()).all(|i| i == axis || x.shape[i] == indices.shape[i]);
        if !fits {
            return Err(self.shape_error(format!("indices that differ from x on axis {axis} only")));
        }
        self.something_to_take(axis)?;
        Ok(TensorType { dtype: x.dtype, shape: indices.shape.clone() })
    }

    fn window(&self, axes: &[u32], x: &TensorType, sizes: &[Size]) -> Result<(), Diagnostic> {
        let ascending = axes.windows(2).all(|w| w[0] < w[1]) && axes.iter().all(|a| (*a as usize) < x.rank());
        if !ascending {
            return Err(self.attribute("ascending axes of x", format!("{axes:?}")));
        }
        let r = ranges(self.symbols);
        let fits = sizes.len() == x.rank()
            && sizes
                .iter()
                .zip(&x.shape)
                .all(|(s, d)| s.bounds(&r).lo >= 0 && (d.clone() - s.clone()).bounds(&r).lo >= 0);
        if fits { Ok(()) } else { Err(self.shape_error("a window no larger than x")) }
    }

    fn dynamic_slice(&self, axes: &[u32], sizes: &[Size]) -> Result<TensorType, Diagnostic> {
        self.count(1 + axes.len(), 1 + axes.len())?;
        self.window(axes, self.inputs[0], sizes)?;
        (1..self.inputs.len()).try_for_each(|i| self.scalar_index(i))?;
        Ok(TensorType { dtype: self.inputs[0].dtype, shape: sizes.to_vec() })
    }

    fn slice_update(&self, axes: &[u32]) -> Result<TensorType, Diagnostic> {
        self.count(2 + axes.len(), 2 + axes.len())?;
        let (x, update) = (self.inputs[0], self.inputs[1]);
        if x.dtype != update.dtype {
            return Err(self.dtype_error("an update of x's dtype"));
        }
        self.window(axes, x, &update.shape)?;
        (2..self.inputs.len()).try_for_each(|i| self.scalar_index(i))?;
        Ok(x.clone())
    }

    fn reduced(&self, axes: &[u32], keepdims: bool) -> Result<Vec<Size>, Diagnostic> {
        let x = self.inputs[0];
        if !axes.windows(2).all(|w| w[0] < w[1]) || axes.iter().any(|a| *a as usize >= x.rank()) {
            return Err(self.attribute("ascending axes of x", format!("{axes:?}")));
        }
        let mut shape = Vec::new();
        for (i, d) in x.shape.iter().enumerate() {
            if !axes.contains(&(i as u32)) {
                shape.push(d.clone());
            } else if keepdims {
                shape.push(Size::constant(1));
            }
        }
        Ok(shape)
    }

    fn non_empty(&self, axes: &[u32]) -> Result<(), Diagnostic> {
        let r = ranges(self.symbols);
        if axes.iter().any(|a| self.inputs[0].shape[*a as usize].bounds(&r).lo < 1) {
            return Err(self.shape_error("a reduced extent of at least 1"));
        }
        Ok(())
    }

    /// Indices are clamped to an element, so there must be one, unless no index is ever given.
    fn something_to_take(&self, axis: usize) -> Result<(), Diagnostic> {
        let r = ranges(self.symbols);
        let none = self.inputs[1].elements().bounds(&r).hi == 0;
        if !none && self.inputs[0].shape[axis].bounds(&r).lo < 1 {
            return Err(self.shape_error("an indexed extent of at least 1"));
        }
        Ok(())
    }

    fn reduce(&self, op: ReduceOp, axes: &[u32], keepdims: bool) -> Result<TensorType, Diagnostic> {
        self.count(1, 1)?;
        let x = self.inputs[0].dtype;
        let shape = self.reduced(axes, keepdims)?;
        let dtype = match (op, x) {
            (ReduceOp::Any | ReduceOp::All, DType::Bool) => DType::Bool,
            (ReduceOp::Any | ReduceOp::All, _) => return Err(self.dtype_error("bool")),
            (ReduceOp::Sum | ReduceOp::Prod, DType::Bool) => DType::I32,
            (_, d) => d,
        };
        if matches!(op, ReduceOp::Max | ReduceOp::Min) {
            self.non_empty(axes)?;
        }
        Ok(TensorType { dtype, shape })
    }

    fn arg_reduce(&self, axis: u32, keepdims: bool) -> Result<TensorType, Diagnostic> {
        self.count(1, 1)?;
        let shape = self.reduced(&[axis], keepdims)?;
        self.non_empty(&[axis])?;
        Ok(TensorType { dtype: DType::U32, shape })
    }

    fn matmul(&self, transpose_a: bool, transpose_b: bool) -> Result<TensorType, Diagnostic> {
        self.count(2, 2)?;
        self.float(0)?;
        let (a, b) = (self.inputs[0], self.inputs[1]);
        if a.dtype != b.dtype {
            return Err(self.dtype_error("operands of one dtype"));
        }
        self.min_rank(0, 2)?;
        self.min_rank(1, 2)?;
        let last = |t: &TensorType, flip: bool| {
            let (r, c) = (t.shape[t.rank() - 2].clone(), t.shape[t.rank() - 1].clone());
            if flip { (c, r) } else { (r, c) }
        };
        let ((m, k), (k2, n)) = (last(a, transpose_a), last(b, transpose_b));
        if k != k2 || a.shape[..a.rank() - 2] != b.shape[..b.rank() - 2] {
            return Err(self.shape_error("equal batch axes and equal inner extents"));
        }
        let mut shape = a.shape[..a.rank() - 2].to_vec();
        shape.extend([m, n]);
        Ok(TensorType { dtype: a.dtype, shape })
    }

    fn int8_matmul(&self, group: u32) -> Result<TensorType, Diagnostic> {
        let ty = self.matmul(false, true)?;
        if ty.dtype == DType::F64 {
            return Err(self.dtype_error("f32, bf16 or f16 operands"));
        }
        let k = self.inputs[0].shape.last().and_then(Size::as_const);
        match k {
            Some(k) if group > 0 && k % i64::from(group) == 0 => Ok(ty),
            _ => Err(self.attribute("a group that divides a constant inner extent", group.to_string())),
        }
    }

    fn dequantize(&self, scheme: Scheme, dtype: DType) -> Result<TensorType, Diagnostic> {
        let n = if scheme.has_biases() { 3 } else { 2 };
        self.count(n, n)?;
        if !dtype.is_float() {
            return Err(self.attribute("a float dtype", dtype.name().to_string()));
        }
        let (words, scales) = (self.inputs[0], self.inputs[1]);
        let scales_fit = if scheme.has_biases() { scales.dtype.is_float() } else { scales.dtype == DType::U8 };
        if words.dtype != DType::U32 || !scales_fit {
            let kind = if scheme.has_biases() { "float scales and biases" } else { "u8 scales" };
            return Err(self.dtype_error(&format!("u32 words and {kind}")));
        }
        self.min_rank(0, 1)?;
        if scheme.has_biases() {
            self.same(1, 2)?;
        }
        let lead = words.rank() - 1;
        let expected = format!("rows of whole groups of {} codes", scheme.group());
        let k = words.shape[lead].as_const().and_then(|w| Some(w.checked_mul(32)? / i64::from(scheme.bits())));
        let groups = scales.shape.last().and_then(Size::as_const);
        let fits = scales.rank() == words.rank() && scales.shape[..lead] == words.shape[..lead];
        match k.filter(|k| fits && scheme.words(*k) == words.shape[lead].as_const() && scheme.groups(*k) == groups) {
            Some(k) => {
                let mut shape = words.shape.clone();
                shape[lead] = Size::constant(k);
                Ok(TensorType { dtype, shape })
            }
            None => Err(self.shape_error(expected)),
        }
    }

    fn norm(&self, most: usize) -> Result<TensorType, Diagnostic> {
        self.count(1, most)?;
        self.float(0)?;
        self.min_rank(0, 1)?;
        let x = self.inputs[0];
        for w in &self.inputs[1..] {
            if w.dtype != x.dtype {
                return Err(self.dtype_error("a weight of x's dtype"));
            }
            if w.rank() != 1 || w.shape[0] != x.shape[x.rank() - 1] {
                return Err(self.shape_error("a weight as long as x's last axis"));
            }
        }
        Ok(x.clone())
    }

    fn rope(&self, dims: u32) -> Result<TensorType, Diagnostic> {
        self.count(2, 3)?;
        self.float(0)?;
        self.min_rank(0, 2)?;
        self.scalar_index(1)?;
        let x = self.inputs[0];
        let last = x.shape[x.rank() - 1].as_const();
        if dims == 0 || dims % 2 == 1 || last.is_none_or(|d| d < i64::from(dims)) {
            return Err(self.attribute("an even number of dims within a constant last axis", dims.to_string()));
        }
        if let Some(f) = self.inputs.get(2)
            && **f != TensorType::constant(DType::F32, &[i64::from(dims / 2)])
        {
            return Err(self.shape_error(format!("inverse frequencies of type f32[{}]", dims / 2)));
        }
        Ok(x.clone())
    }

    fn sdpa(&self) -> Result<TensorType, Diagnostic> {
        let Op::Sdpa { causal, mask, offset, window, softcap, .. } = *self.op else {
            unreachable!("called for attention")
        };
        let n = 3 + usize::from(mask) + usize::from(offset);
        self.count(n, n)?;
        if let Some(w) = window
            && (w == 0 || !causal)
        {
            return Err(
                self.attribute("a window of at least 1, of causal attention", format!("window {w}, causal {causal}"))
            );
        }
        if let Some(c) = softcap
            && !(c.get() > 0.0 && c.get().is_finite())
        {
            return Err(self.attribute("a positive cap", format!("softcap {}", c.get())));
        }
        self.float(0)?;
        let (q, k, v) = (self.inputs[0], self.inputs[1], self.inputs[2]);
        if k.dtype != q.dtype || v.dtype != q.dtype {
            return Err(self.dtype_error("q, k and v of one dtype"));
        }
        let fits = q.rank() == 4
            && k.rank() == 4
            && v.rank() == 4
            && q.shape[0] == k.shape[0]
            && k.shape[..3] == v.shape[..3]
            && q.shape[3] == k.shape[3]
            && match (q.shape[1].as_const(), k.shape[1].as_const()) {
                (Some(h), Some(kv)) => kv > 0 && h % kv == 0,
                _ => false,
            };
        if !fits {
            return Err(
                self.shape_error("q [B, H, S, D], k [B, Hkv, T, D], v [B, Hkv, T, Dv] with H a multiple of Hkv")
            );
        }
        if mask {
            let m = self.inputs[3];
            let scores = [q.shape[0].clone(), q.shape[1].clone(), q.shape[2].clone(), k.shape[2].clone()];
            if m.dtype != DType::Bool && m.dtype != q.dtype {
                return Err(self.dtype_error("a mask of bool or of q's dtype"));
            }
            if broadcast_shapes(&m.shape, &scores).as_deref() != Some(&scores) {
                return Err(self.shape_error("a mask that broadcasts to [B, H, S, T]"));
            }
        }
        if offset {
            self.scalar_index(n - 1)?;
        }
        let mut shape = q.shape.clone();
        shape[3] = v.shape[3].clone();
        Ok(TensorType { dtype: q.dtype, shape })
    }
}
