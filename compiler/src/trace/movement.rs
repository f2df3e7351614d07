//! Methods that move elements: shapes, slices, joins, gathers, choices.

use super::array::{Array, Operand, literal};
use super::here;
use super::promote::promote;
use super::shape::{Dim, IntoAxes, IntoShape};
use mlxc_ir::graph::{Op, broadcast_shapes};
use mlxc_ir::{DType, Diagnostic, Size};

impl Array {
    /// The value in another dtype.
    #[track_caller]
    pub fn astype(&self, dtype: DType) -> Array {
        self.cast_at(dtype, &here())
    }

    /// The same elements in another shape; one extent may be -1.
    #[track_caller]
    pub fn reshape(&self, shape: impl IntoShape) -> Array {
        let at = here();
        let Some(ty) = self.ty() else { return self.clone() };
        let mut shape: Vec<Size> = shape.into_shape().into_iter().map(|d| d.0).collect();
        if let Some(open) = shape.iter().position(|d| d.as_const() == Some(-1)) {
            shape[open] = Size::constant(1);
            let known = shape.iter().fold(Size::constant(1), |n, d| n * d.clone());
            match ty.elements().exact_div(&known) {
                Some(n) => shape[open] = n,
                None => {
                    let d = Diagnostic::new(128, "the open extent of a reshape is not a whole number")
                        .expected(format!("a divisor of {}", ty.elements()))
                        .found(known.to_string());
                    return self.fail(d, &at);
                }
            }
        }
        if shape == ty.shape { self.clone() } else { self.make(Op::Reshape { shape }, &[self], &at) }
    }

    /// Axes in another order.
    #[track_caller]
    pub fn transpose(&self, axes: impl IntoAxes) -> Array {
        let at = here();
        let Some(perm) = self.axes(axes, &at) else { return Array::new(&self.inner, None) };
        self.make(Op::Transpose { perm }, &[self], &at)
    }

    /// The last two axes exchanged; all axes reversed where there are fewer.
    #[track_caller]
    pub fn t(&self) -> Array {
        let rank = self.ndim() as i32;
        let mut axes: Vec<i32> = (0..rank).collect();
        if rank >= 2 {
            axes.swap(rank as usize - 2, rank as usize - 1);
        }
        self.transpose(axes)
    }

    /// Two axes exchanged.
    #[track_caller]
    pub fn swapaxes(&self, a: i32, b: i32) -> Array {
        let at = here();
        let (Some(a), Some(b)) = (self.axis(a, &at), self.axis(b, &at)) else {
            return Array::new(&self.inner, None);
        };
        let mut perm: Vec<u32> = (0..self.ndim() as u32).collect();
        perm.swap(a, b);
        self.make(Op::Transpose { perm }, &[self], &at)
    }

    /// A new axis of extent 1.
    #[track_caller]
    pub fn expand_dims(&self, axis: i32) -> Array {
        let at = here();
        let rank = self.ndim() as i32 + 1;
        let i = if axis < 0 { axis + rank } else { axis };
        let mut shape = self.shape();
        if i < 0 || i > shape.len() as i32 {
            let d = Diagnostic::new(125, "there is no such axis").expected(format!("-{rank}..{rank}"));
            return self.fail(d.found(axis.to_string()), &at);
        }
        shape.insert(i as usize, Dim::from(1i64));
        self.make(Op::Reshape { shape: shape.into_iter().map(|d| d.0).collect() }, &[self], &at)
    }

    /// An axis of extent 1 removed.
    #[track_caller]
    pub fn squeeze(&self, axis: i32) -> Array {
        let at = here();
        let Some(i) = self.axis(axis, &at) else { return Array::new(&self.inner, None) };
        let mut shape: Vec<Size> = self.shape().into_iter().map(|d| d.0).collect();
        let removed = shape.remove(i);
        if removed.as_const() != Some(1) {
            let d =
                Diagnostic::new(129, "only an axis of extent 1 is squeezed").expected("1").found(removed.to_string());
            return self.fail(d, &at);
        }
        self.make(Op::Reshape { shape }, &[self], &at)
    }

    /// Repeats to a larger shape by broadcasting.
    #[track_caller]
    pub fn broadcast_to(&self, shape: impl IntoShape) -> Array {
        let at = here();
        let shape: Vec<Size> = shape.into_shape().into_iter().map(|d| d.0).collect();
        self.stretch(&shape, &at)
    }

    /// Elements `start..stop` along an axis.
    #[track_caller]
    pub fn slice(&self, axis: i32, start: impl Into<Dim>, stop: impl Into<Dim>) -> Array {
        self.slice_step(axis, start, stop, 1)
    }

    /// Elements `start, start + step, …` short of `stop` along an axis. With a negative step they run backwards, and a
    /// `stop` of -1 stands before the first.
    #[track_caller]
    pub fn slice_step(&self, axis: i32, start: impl Into<Dim>, stop: impl Into<Dim>, step: i64) -> Array {
        let at = here();
        if step < 0 {
            // The same elements forwards, reversed, then every one of the step.
            let (first, end) = (stop.into() + 1i64, start.into() + 1i64);
            let backwards = self.slice(axis, first.clone(), end.clone()).reverse(axis);
            return backwards.slice_step(axis, 0i64, end - first, -step);
        }
        let Some(axis) = self.axis(axis, &at) else { return Array::new(&self.inner, None) };
        let shape: Vec<Size> = self.shape().into_iter().map(|d| d.0).collect();
        let mut from = vec![Size::constant(0); shape.len()];
        let mut to = shape;
        let mut steps = vec![1; from.len()];
        (from[axis], to[axis], steps[axis]) = (start.into().0, stop.into().0, step);
        self.make(Op::Slice { start: from, stop: to, step: steps }, &[self], &at)
    }

    /// Parts of given extents along an axis.
    #[track_caller]
    pub fn split(&self, extents: &[i64], axis: i32) -> Vec<Array> {
        let mut at = 0;
        extents
            .iter()
            .map(|n| {
                let part = self.slice(axis, at, at + n);
                at += n;
                part
            })
            .collect()
    }

    /// A window of run-time position along an axis.
    #[track_caller]
    pub fn dynamic_slice(&self, start: &Array, axis: i32, extent: impl Into<Dim>) -> Array {
        let at = here();
        let Some(axis) = self.axis(axis, &at) else { return Array::new(&self.inner, None) };
        let mut sizes: Vec<Size> = self.shape().into_iter().map(|d| d.0).collect();
        let whole = std::mem::replace(&mut sizes[axis], extent.into().0);
        if let Some(id) = start.value.and_then(|s| self.inner.scalar_symbol(s)) {
            self.inner.require(whole - sizes[axis].clone() - Size::symbol(id));
        }
        self.make(Op::DynamicSlice { axes: vec![axis as u32], sizes }, &[self, start], &at)
    }

    /// Elements in reverse along an axis.
    #[track_caller]
    pub fn reverse(&self, axis: i32) -> Array {
        let at = here();
        match self.axis(axis, &at) {
            Some(a) => self.make(Op::Reverse { axes: vec![a as u32] }, &[self], &at),
            None => Array::new(&self.inner, None),
        }
    }

    /// `value` before and after, per axis.
    #[track_caller]
    pub fn pad(&self, widths: &[(i64, i64)], value: f64) -> Array {
        let (low, high) = widths.iter().copied().unzip();
        let value = literal(value, self.dtype());
        self.make(Op::Pad { low, high, value }, &[self], &here())
    }

    /// Joins arrays along an axis.
    #[track_caller]
    pub fn concatenate(parts: &[&Array], axis: i32) -> Array {
        let at = here();
        let first = parts.first().expect("concatenate takes at least one array");
        let Some(a) = first.axis(axis, &at) else { return Array::new(&first.inner, None) };
        let dtype = parts.iter().fold(first.dtype(), |d, p| promote(d, p.dtype()));
        let parts: Vec<Array> = parts.iter().map(|p| p.promoted(dtype, &at)).collect();
        let refs: Vec<&Array> = parts.iter().collect();
        first.make(Op::Concat { axis: a as u32 }, &refs, &at)
    }

    /// Rows picked by integer indices along an axis; negative ones count from the end, others are clamped.
    #[track_caller]
    pub fn take(&self, indices: &Array, axis: i32) -> Array {
        let at = here();
        match self.axis(axis, &at) {
            Some(a) => self.make(Op::Gather { axis: a as u32 }, &[self, indices], &at),
            None => Array::new(&self.inner, None),
        }
    }

    /// Elements picked by an index for each place along an axis.
    #[track_caller]
    pub fn take_along_axis(&self, indices: &Array, axis: i32) -> Array {
        let at = here();
        match self.axis(axis, &at) {
            Some(a) => self.make(Op::TakeAlong { axis: a as u32 }, &[self, indices], &at),
            None => Array::new(&self.inner, None),
        }
    }

    /// `self` where true, else the operands: `condition.choose(a, b)`, MLX's `where`.
    #[track_caller]
    pub fn choose(&self, a: impl Into<Operand>, b: impl Into<Operand>) -> Array {
        let at = here();
        let condition = self.cast_at(DType::Bool, &at);
        let (a, b) = (a.into(), b.into());
        let scalar = |o: &Operand| match o {
            Operand::Float(x) => Some((*x, DType::F32)),
            Operand::Int(i) => Some((*i as f64, DType::I32)),
            Operand::Array(_) => None,
        };
        // Two numbers make an array of the condition's shape.
        let a = match a {
            Operand::Array(a) => a,
            number => {
                let like = match &b {
                    Operand::Array(b) => b.clone(),
                    other => {
                        let (_, d) = scalar(other).expect("an operand is an array or a number");
                        condition.cast_at(d, &at)
                    }
                };
                match like.meet(number, &at, false) {
                    Some((_, full)) => full,
                    None => return Array::new(&self.inner, None),
                }
            }
        };
        let Some((a, b)) = a.meet(b, &at, false) else { return Array::new(&self.inner, None) };
        let (Some(ca), Some(ta)) = (condition.ty(), a.ty()) else { return Array::new(&self.inner, None) };
        let Some(shape) = broadcast_shapes(&ca.shape, &ta.shape) else {
            let d = Diagnostic::new(127, "shapes do not broadcast").found(format!("{:?} and {:?}", ca.shape, ta.shape));
            return self.fail(d, &at);
        };
        let (c, a, b) = (condition.stretch(&shape, &at), a.stretch(&shape, &at), b.stretch(&shape, &at));
        c.make(Op::Select, &[&c, &a, &b], &at)
    }
}
