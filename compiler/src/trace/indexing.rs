//! Methods that read and write where indices say. Negative indices count from the end, others are clamped.

use super::array::{Array, Operand};
use super::here;
use super::shape::IntoAxes;
use mlxc_ir::graph::{Op, ScatterOp, broadcast_shapes};
use mlxc_ir::{DType, Diagnostic, Location, Size};

impl Array {
    /// Indices in one shape and their axes, both in ascending order of the axes.
    fn places(&self, indices: &[&Array], axes: Vec<i32>, at: &Location) -> Option<(Vec<Array>, Vec<u32>)> {
        let mut order: Vec<(usize, &Array)> = Vec::new();
        for (a, i) in axes.iter().zip(indices) {
            order.push((self.axis(*a, at)?, i));
        }
        order.sort_by_key(|(a, _)| *a);
        let distinct = order.windows(2).all(|w| w[0].0 < w[1].0);
        if !distinct || indices.len() != axes.len() || indices.is_empty() {
            let d = Diagnostic::new(147, "indices need one axis each")
                .expected(format!("{} different axes", indices.len()))
                .found(format!("{axes:?}"));
            self.fail(d, at);
            return None;
        }
        let mut shape = Vec::new();
        for i in indices {
            let Some(s) = broadcast_shapes(&shape, &i.sizes()) else {
                let d =
                    Diagnostic::new(127, "indices do not broadcast").found(format!("{shape:?} and {:?}", i.sizes()));
                self.fail(d, at);
                return None;
            };
            shape = s;
        }
        let (axes, indices) = order.into_iter().map(|(a, i)| (a as u32, i.stretch(&shape, at))).unzip();
        Some((indices, axes))
    }

    /// `x[i, j, ..]` with an index array for each of `axes`: MLX's `gather`. Result shape: the indices' (which
    /// broadcast), then the other axes of x.
    ///
    /// # Errors
    /// `MLXC0147` where axes repeat or do not match the indices.
    #[track_caller]
    pub fn gather(&self, indices: &[&Array], axes: impl IntoAxes) -> Array {
        let at = here();
        let Some((indices, axes)) = self.places(indices, axes.into_axes(), &at) else {
            return Array::new(&self.inner, None);
        };
        let inputs: Vec<&Array> = std::iter::once(self).chain(&indices).collect();
        self.make(Op::GatherNd { axes }, &inputs, &at)
    }

    /// `x` with updates where index arrays for each of `axes` say: MLX's `x.at[i, j].add(updates)` and its like, and
    /// `x[i, j] = updates` for [`ScatterOp::Set`]. Updates broadcast to the indices' shape, then the other axes of x; they
    /// are applied in order, so that of several for one element the last wins.
    ///
    /// # Errors
    /// As [`Array::gather`].
    #[track_caller]
    pub fn scatter(
        &self,
        indices: &[&Array],
        axes: impl IntoAxes,
        updates: impl Into<Operand>,
        how: ScatterOp,
    ) -> Array {
        let at = here();
        let Some((indices, axes)) = self.places(indices, axes.into_axes(), &at) else {
            return Array::new(&self.inner, None);
        };
        let mut shape = indices[0].sizes();
        let kept = self.sizes().into_iter().enumerate().filter(|(i, _)| !axes.contains(&(*i as u32)));
        shape.extend(kept.map(|(_, d)| d));
        let updates = self.update(updates.into(), &shape, &at);
        let inputs: Vec<&Array> = [self, &updates].into_iter().chain(&indices).collect();
        self.make(Op::Scatter { axes, reduce: how }, &inputs, &at)
    }

    /// A number or array as updates of a shape, in this array's dtype.
    fn update(&self, value: Operand, shape: &[Size], at: &Location) -> Array {
        match value {
            Operand::Array(a) => a.cast_at(self.dtype(), at).stretch(shape, at),
            Operand::Float(x) => self.splat(x, self.dtype(), shape.to_vec(), at),
            Operand::Int(i) => self.splat(i as f64, self.dtype(), shape.to_vec(), at),
        }
    }

    #[track_caller]
    fn along(&self, indices: &Array, values: Operand, axis: i32, reduce: ScatterOp) -> Array {
        let at = here();
        let Some(a) = self.axis(axis, &at) else { return Array::new(&self.inner, None) };
        let mut shape = self.sizes();
        if let Some(n) = indices.sizes().get(a) {
            shape[a] = n.clone();
        }
        let (indices, updates) = (indices.stretch(&shape, &at), self.update(values, &shape, &at));
        self.make(Op::ScatterAlong { axis: a as u32, reduce }, &[self, &indices, &updates], &at)
    }

    /// `values` put at an index for each place along an axis; of several for one element the last wins. MLX's
    /// `put_along_axis`.
    #[track_caller]
    pub fn put_along_axis(&self, indices: &Array, values: impl Into<Operand>, axis: i32) -> Array {
        self.along(indices, values.into(), axis, ScatterOp::Set)
    }

    /// `values` added at an index for each place along an axis: MLX's `scatter_add_axis`.
    #[track_caller]
    pub fn scatter_add_axis(&self, indices: &Array, values: impl Into<Operand>, axis: i32) -> Array {
        self.along(indices, values.into(), axis, ScatterOp::Add)
    }

    /// `x` with a window replaced or combined: element `start + i * step` of each axis with element `i` of the update.
    /// MLX's `slice_update` and `x.at[a:b:c].add(update)`.
    ///
    /// # Errors
    /// `MLXC0148` where the window leaves x, or a list does not name every axis.
    #[track_caller]
    pub fn slice_update(
        &self,
        update: impl Into<Operand>,
        start: &[i64],
        stop: &[i64],
        step: &[i64],
        how: ScatterOp,
    ) -> Array {
        let at = here();
        let shape: Option<Vec<i64>> = self.sizes().iter().map(Size::as_const).collect();
        let Some(shape) = shape.filter(|s| [start, stop, step].iter().all(|l| l.len() == s.len())) else {
            let d = Diagnostic::new(148, "a window needs a start, stop and step for each axis of a constant shape")
                .expected(format!("{} of each", self.ndim()))
                .found(format!("{start:?}, {stop:?}, {step:?}"));
            return self.fail(d, &at);
        };
        let fits =
            (0..shape.len()).all(|i| 0 <= start[i] && start[i] <= stop[i] && stop[i] <= shape[i] && step[i] >= 1);
        if !fits {
            let d = Diagnostic::new(148, "a window leaves the array")
                .expected(format!("0 <= start <= stop <= {shape:?} and steps of at least 1"))
                .found(format!("{start:?}..{stop:?} by {step:?}"));
            return self.fail(d, &at);
        }
        let count = |i: usize| (stop[i] - start[i] + step[i] - 1) / step[i];
        let window: Vec<Size> = (0..shape.len()).map(|i| Size::constant(count(i))).collect();
        let update = self.update(update.into(), &window, &at);
        if (0..shape.len()).any(|i| count(i) == 0) {
            return self.clone();
        }
        let bools = self.dtype() == DType::Bool;
        if step.iter().all(|s| *s == 1) {
            let op = Op::Slice {
                start: start.iter().map(|n| Size::constant(*n)).collect(),
                stop: stop.iter().map(|n| Size::constant(*n)).collect(),
                step: step.to_vec(),
            };
            let new = match how.binary(bools) {
                None => update,
                Some(how) => update.make(Op::Binary(how), &[&self.make(op, &[self], &at), &update], &at),
            };
            let starts: Vec<Array> = start.iter().map(|n| self.number(*n as f64, DType::I32, &at)).collect();
            let inputs: Vec<&Array> = [self, &new].into_iter().chain(&starts).collect();
            return self.make(Op::SliceUpdate { axes: (0..shape.len() as u32).collect() }, &inputs, &at);
        }
        // The update, spread out and padded to x's shape, and where it stands.
        let spread = |x: Array| {
            let x = (0..shape.len()).fold(x, |x, i| x.dilate(i, step[i], &at));
            let width = |i: usize| (start[i], shape[i] - start[i] - ((count(i) - 1) * step[i] + 1));
            x.pad(&(0..shape.len()).map(width).collect::<Vec<_>>(), 0.0)
        };
        let here = spread(self.splat(1.0, DType::Bool, window, &at));
        let update = spread(update);
        let new = match how.binary(bools) {
            None => update,
            Some(how) => self.make(Op::Binary(how), &[self, &update], &at),
        };
        here.choose(new, self)
    }

    /// `x` with a window of run-time position along an axis replaced; the start is clamped. MLX's `slice_update` with an
    /// array start.
    #[track_caller]
    pub fn dynamic_slice_update(&self, update: &Array, start: &Array, axis: i32) -> Array {
        let at = here();
        let Some(a) = self.axis(axis, &at) else { return Array::new(&self.inner, None) };
        let update = update.cast_at(self.dtype(), &at);
        self.make(Op::SliceUpdate { axes: vec![a as u32] }, &[self, &update, start], &at)
    }

    /// Rows of `values` in order where `mask` is true: MLX's `masked_scatter` of arrays of one shape. The n-th true
    /// element takes the n-th of the flattened values, the last where there are too few.
    #[track_caller]
    pub fn masked_scatter(&self, mask: &Array, values: &Array) -> Array {
        let at = here();
        let mask = mask.cast_at(DType::Bool, &at).stretch(&self.sizes(), &at);
        let order = mask.flatten().cumsum(0, false, false);
        let found = values.cast_at(self.dtype(), &at).flatten().take(&order, 0);
        let found = found.make(Op::Reshape { shape: self.sizes() }, &[&found], &at);
        mask.choose(found, self)
    }
}
