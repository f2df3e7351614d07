//! Methods that arrange elements anew, in terms of views, joins, pads and gathers.

use super::array::{Array, Operand};
use super::here;
use super::shape::{Dim, IntoAxes, IntoShape};
use mlxc_ir::graph::{Op, broadcast_shapes};
use mlxc_ir::{DType, Diagnostic, Location, Size};

/// What stands outside an array that is padded: MLX's modes of `pad`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PadMode {
    /// This value.
    Constant(f64),
    /// The nearest element.
    Edge,
    /// The elements mirrored at the last one, which is not repeated.
    Reflect,
    /// The elements mirrored at the edge, the last one repeated.
    Symmetric,
}

impl Array {
    fn none(&self) -> Array {
        Array::new(&self.inner, None)
    }

    fn reshaped(&self, shape: Vec<Size>, at: &Location) -> Array {
        if self.sizes() == shape { self.clone() } else { self.make(Op::Reshape { shape }, &[self], at) }
    }

    /// Axes `start..=end` joined into one: MLX's `flatten`. A scalar gains an axis.
    #[track_caller]
    pub fn flatten_axes(&self, start: i32, end: i32) -> Array {
        let at = here();
        let mut shape = self.sizes();
        if shape.is_empty() {
            return self.reshaped(vec![Size::constant(1)], &at);
        }
        let (Some(a), Some(b)) = (self.axis(start, &at), self.axis(end, &at)) else { return self.none() };
        if a > b {
            return self.clone();
        }
        let joined = shape[a..=b].iter().fold(Size::constant(1), |n, d| n * d.clone());
        shape.splice(a..=b, [joined]);
        self.reshaped(shape, &at)
    }

    /// All axes joined into one: MLX's `flatten` without axes.
    #[track_caller]
    pub fn flatten(&self) -> Array {
        self.flatten_axes(0, -1)
    }

    /// One axis split into several; one extent may be -1. MLX's `unflatten`.
    #[track_caller]
    pub fn unflatten(&self, axis: i32, shape: impl IntoShape) -> Array {
        let at = here();
        let Some(a) = self.axis(axis, &at) else { return self.none() };
        let mut parts: Vec<Size> = shape.into_shape().into_iter().map(|d| d.0).collect();
        let mut whole = self.sizes();
        if let Some(open) = parts.iter().position(|d| d.as_const() == Some(-1)) {
            parts[open] = Size::constant(1);
            let known = parts.iter().fold(Size::constant(1), |n, d| n * d.clone());
            match whole[a].exact_div(&known) {
                Some(n) => parts[open] = n,
                None => {
                    let d = Diagnostic::new(128, "the open extent of a reshape is not a whole number")
                        .expected(format!("a divisor of {}", whole[a]))
                        .found(known.to_string());
                    return self.fail(d, &at);
                }
            }
        }
        whole.splice(a..=a, parts);
        self.reshaped(whole, &at)
    }

    /// One axis moved to another place: MLX's `moveaxis`.
    #[track_caller]
    pub fn moveaxis(&self, source: i32, destination: i32) -> Array {
        let at = here();
        let (Some(from), Some(to)) = (self.axis(source, &at), self.axis(destination, &at)) else { return self.none() };
        let mut perm: Vec<u32> = (0..self.ndim() as u32).collect();
        let axis = perm.remove(from);
        perm.insert(to, axis);
        if from == to { self.clone() } else { self.make(Op::Transpose { perm }, &[self], &at) }
    }

    /// All listed axes, each of extent 1, removed: MLX's `squeeze`.
    #[track_caller]
    pub fn squeeze_axes(&self, axes: impl IntoAxes) -> Array {
        let at = here();
        let Some(list) = self.axis_set(axes, &at) else { return self.none() };
        list.iter().rev().fold(self.clone(), |x, a| x.squeeze(*a as i32))
    }

    /// At least one axis: MLX's `atleast_1d`.
    #[track_caller]
    pub fn atleast_1d(&self) -> Array {
        if self.ndim() == 0 { self.expand_dims(0) } else { self.clone() }
    }

    /// At least two axes, new ones in front: MLX's `atleast_2d`.
    #[track_caller]
    pub fn atleast_2d(&self) -> Array {
        let x = self.atleast_1d();
        if x.ndim() == 1 { x.expand_dims(0) } else { x }
    }

    /// At least three axes; two become `[.., 1]`. MLX's `atleast_3d`.
    #[track_caller]
    pub fn atleast_3d(&self) -> Array {
        let x = self.atleast_2d();
        if x.ndim() == 2 { x.expand_dims(-1) } else { x }
    }

    /// Joins arrays of one shape along a new axis: MLX's `stack`.
    ///
    /// # Panics
    /// Without an array.
    #[track_caller]
    pub fn stack(parts: &[&Array], axis: i32) -> Array {
        let parts: Vec<Array> = parts.iter().map(|p| p.expand_dims(axis)).collect();
        let refs: Vec<&Array> = parts.iter().collect();
        Array::concatenate(&refs, axis)
    }

    /// One array for each element along an axis, which is removed: MLX's `unstack`.
    #[track_caller]
    pub fn unstack(&self, axis: i32) -> Vec<Array> {
        self.split_sections(self.dim(axis).as_const().unwrap_or(0), axis).iter().map(|p| p.squeeze(axis)).collect()
    }

    /// Equal parts along an axis: MLX's `split` by a number.
    ///
    /// # Errors
    /// `MLXC0142` where the extent is symbolic or no multiple of `sections`.
    #[track_caller]
    pub fn split_sections(&self, sections: i64, axis: i32) -> Vec<Array> {
        let at = here();
        let Some(a) = self.axis(axis, &at) else { return Vec::new() };
        let extent = self.sizes()[a].clone();
        match extent.as_const() {
            Some(n) if sections > 0 && n % sections == 0 => {
                (0..sections).map(|i| self.slice(axis, i * (n / sections), (i + 1) * (n / sections))).collect()
            }
            _ => {
                let d = Diagnostic::new(142, "an axis is not split into equal parts")
                    .expected(format!("an extent that is a multiple of {sections}"))
                    .found(extent.to_string());
                self.fail(d, &at);
                Vec::new()
            }
        }
    }

    /// Parts between given positions along an axis: MLX's `split` by indices.
    #[track_caller]
    pub fn split_at(&self, positions: &[i64], axis: i32) -> Vec<Array> {
        let end = self.dim(axis);
        let starts = std::iter::once(0).chain(positions.iter().copied());
        let mut out: Vec<Array> = Vec::with_capacity(positions.len() + 1);
        for (i, start) in starts.enumerate() {
            let stop = positions.get(i).map_or_else(|| end.clone(), |p| Dim::from(*p));
            out.push(self.slice(axis, start, stop));
        }
        out
    }

    /// The array repeated whole, as often as `counts` says an axis: MLX's `tile`.
    #[track_caller]
    pub fn tile(&self, counts: &[i64]) -> Array {
        let at = here();
        let rank = self.ndim().max(counts.len());
        let mut shape = vec![Size::constant(1); rank - self.ndim()];
        shape.extend(self.sizes());
        let mut times = vec![1; rank - counts.len()];
        times.extend_from_slice(counts);
        // [a, b] as [1, a, 1, b], repeated on the ones.
        let apart = shape.iter().flat_map(|d| [Size::constant(1), d.clone()]).collect();
        let repeated: Vec<Size> = shape.iter().zip(&times).flat_map(|(d, n)| [Size::constant(*n), d.clone()]).collect();
        let joined = shape.iter().zip(&times).map(|(d, n)| d.clone() * Size::constant(*n)).collect();
        self.reshaped(apart, &at).stretch(&repeated, &at).reshaped(joined, &at)
    }

    /// Each element repeated along an axis: MLX's `repeat`.
    #[track_caller]
    pub fn repeat(&self, count: i64, axis: i32) -> Array {
        let at = here();
        let Some(a) = self.axis(axis, &at) else { return self.none() };
        let mut apart = self.sizes();
        apart.insert(a + 1, Size::constant(1));
        let mut repeated = apart.clone();
        repeated[a + 1] = Size::constant(count);
        let mut joined = self.sizes();
        joined[a] = joined[a].clone() * Size::constant(count);
        self.reshaped(apart, &at).stretch(&repeated, &at).reshaped(joined, &at)
    }

    /// Elements moved along an axis by `shift`, around the end: MLX's `roll`.
    #[track_caller]
    pub fn roll(&self, shift: i64, axis: i32) -> Array {
        let at = here();
        let Some(a) = self.axis(axis, &at) else { return self.none() };
        let extent = self.sizes()[a].clone();
        let Some(n) = extent.as_const() else {
            // Of a symbolic extent the position is computed: (i - shift) mod n.
            let place = self.counter(extent.clone(), &at) - shift;
            let n = self.extent(extent, DType::I32, &at);
            return self.take(&place.remainder(n), axis);
        };
        let cut = if n == 0 { 0 } else { (n - shift.rem_euclid(n)) % n };
        if cut == 0 {
            return self.clone();
        }
        Array::concatenate(&[&self.slice(axis, cut, n), &self.slice(axis, 0i64, cut)], axis)
    }

    /// 0, 1, 2, … of type i32.
    pub(super) fn counter(&self, extent: Size, at: &Location) -> Array {
        if self.value.is_none() {
            return self.clone();
        }
        self.make(Op::Iota { dtype: DType::I32, shape: vec![extent], axis: 0 }, &[], at)
    }

    /// Elements in reverse along all given axes: MLX's slices of step -1.
    #[track_caller]
    pub fn flip(&self, axes: impl IntoAxes) -> Array {
        let at = here();
        let Some(list) = self.axis_set(axes, &at) else { return self.none() };
        self.make(Op::Reverse { axes: list }, &[self], &at)
    }

    /// Padded in a mode, per axis (before, after): MLX's `pad`.
    #[track_caller]
    pub fn pad_mode(&self, widths: &[(i64, i64)], mode: PadMode) -> Array {
        let at = here();
        if let PadMode::Constant(value) = mode {
            return self.pad(widths, value);
        }
        let mut out = self.clone();
        for (axis, (low, high)) in widths.iter().enumerate().filter(|(_, w)| **w != (0, 0)) {
            let Some(n) = self.sizes().get(axis).cloned() else { continue };
            let place = self.counter(n.clone() + Size::constant(low + high), &at) - *low;
            let n = self.extent(n, DType::I32, &at);
            let index = match mode {
                PadMode::Constant(_) => unreachable!("padded above"),
                PadMode::Edge => place.maximum(0).minimum(&n - 1),
                PadMode::Reflect => {
                    // Of one element there is nothing to mirror.
                    let period = ((&n - 1) * 2).maximum(1);
                    let i = place.remainder(&period);
                    i.minimum(&period - &i)
                }
                PadMode::Symmetric => {
                    let i = place.remainder(&n * 2);
                    i.minimum(&n * 2 - 1 - &i)
                }
            };
            out = out.take(&index, axis as i32);
        }
        out
    }

    /// `by - 1` zeros between neighbours along an axis.
    pub(super) fn dilate(&self, axis: usize, by: i64, at: &Location) -> Array {
        let shape = self.sizes();
        let n = shape[axis].clone();
        if by == 1 || n.as_const() == Some(1) {
            return self.clone();
        }
        let mut apart = shape.clone();
        apart.insert(axis + 1, Size::constant(1));
        let (low, mut high) = (vec![0; apart.len()], vec![0; apart.len()]);
        high[axis + 1] = by - 1;
        let x = self.reshaped(apart, at);
        let x = x.make(Op::Pad { low, high, value: super::array::literal(0.0, self.dtype()) }, &[&x], at);
        let mut joined = shape;
        joined[axis] = n.clone() * Size::constant(by);
        let x = x.reshaped(joined.clone(), at);
        let (start, step) = (vec![Size::constant(0); joined.len()], vec![1; joined.len()]);
        joined[axis] = n * Size::constant(by) - Size::constant(by - 1);
        x.make(Op::Slice { start, stop: joined, step }, &[&x], at)
    }

    /// Arrays in their common shape: MLX's `broadcast_arrays`.
    #[track_caller]
    pub fn broadcast_arrays(parts: &[&Array]) -> Vec<Array> {
        let at = here();
        let mut shape = Vec::new();
        for p in parts {
            match broadcast_shapes(&shape, &p.sizes()) {
                Some(s) => shape = s,
                None => {
                    let d =
                        Diagnostic::new(127, "shapes do not broadcast").found(format!("{shape:?} and {:?}", p.sizes()));
                    return vec![p.fail(d, &at); parts.len()];
                }
            }
        }
        parts.iter().map(|p| p.stretch(&shape, &at)).collect()
    }

    /// Elements of the flattened array at `offset + sum(index * stride)`: MLX's `as_strided`, by a gather. Positions
    /// outside are clamped.
    #[track_caller]
    pub fn as_strided(&self, shape: &[i64], strides: &[i64], offset: i64) -> Array {
        let at = here();
        let sizes: Vec<Size> = shape.iter().map(|n| Size::constant(*n)).collect();
        let mut place = self.splat(offset as f64, DType::I32, sizes.clone(), &at);
        for (axis, stride) in strides.iter().enumerate().take(shape.len()) {
            let op = Op::Iota { dtype: DType::I32, shape: sizes.clone(), axis: axis as u32 };
            place = &place + self.make(op, &[], &at) * *stride;
        }
        self.flatten().take(&place, 0)
    }

    /// The diagonal `offset` of two axes, as the last axis: MLX's `diagonal`.
    ///
    /// # Errors
    /// `MLXC0153` where the two axes are one, or an extent is symbolic.
    #[track_caller]
    pub fn diagonal(&self, offset: i64, axis1: i32, axis2: i32) -> Array {
        let at = here();
        let (Some(a), Some(b)) = (self.axis(axis1, &at), self.axis(axis2, &at)) else { return self.none() };
        let shape = self.sizes();
        let (Some(n), Some(m)) = (shape[a].as_const(), shape[b].as_const()) else {
            return self.fail(Diagnostic::new(153, "a diagonal of a symbolic extent"), &at);
        };
        if a == b {
            return self.fail(Diagnostic::new(153, "a diagonal lies between two axes").found(axis1.to_string()), &at);
        }
        let (below, right) = ((-offset).max(0), offset.max(0));
        let length = (n - below).min(m - right).max(0);
        let line = self.counter(Size::constant(length), &at);
        let (i, j) = (&line + below, &line + right);
        let found = self.gather(&[&i, &j], [a as i32, b as i32]);
        found.moveaxis(0, -1)
    }

    /// A matrix with this diagonal, or the diagonal of a matrix: MLX's `diag`.
    #[track_caller]
    pub fn diag(&self, k: i64) -> Array {
        let at = here();
        if self.ndim() == 2 {
            return self.diagonal(k, 0, 1);
        }
        if self.ndim() != 1 {
            let d = Diagnostic::new(153, "a diagonal has one axis or a matrix two").found(self.ndim().to_string());
            return self.fail(d, &at);
        }
        let (n, wide) = (self.sizes()[0].clone(), Size::constant(k.abs()));
        let rows = n.clone() + wide.clone();
        let place =
            |axis| self.make(Op::Iota { dtype: DType::I32, shape: vec![rows.clone(), rows.clone()], axis }, &[], &at);
        let on = (place(0) + k).equal(place(1));
        // Element i stands in row i of a diagonal above, in column i of one below.
        let line = if k >= 0 { self.expand_dims(1) } else { self.expand_dims(0) };
        let padded = if k >= 0 { line.pad(&[(0, k), (0, 0)], 0.0) } else { line.pad(&[(0, 0), (0, -k)], 0.0) };
        on.choose(Operand::Array(padded), self.number(0.0, self.dtype(), &at))
    }

    /// Sum of a diagonal: MLX's `trace`.
    #[track_caller]
    pub fn trace(&self, offset: i64, axis1: i32, axis2: i32) -> Array {
        self.diagonal(offset, axis1, axis2).sum(-1, false)
    }

    /// Sliding windows of given sizes, strides and dilations over some axes. The axes keep the windows' positions; one
    /// axis for each is appended.
    #[track_caller]
    pub fn windows(&self, axes: impl IntoAxes, sizes: &[i64], strides: &[i64], dilations: &[i64]) -> Array {
        let at = here();
        let Some(list) = self.axes(axes, &at) else { return self.none() };
        let (sizes, strides, dilations) = (sizes.to_vec(), strides.to_vec(), dilations.to_vec());
        self.make(Op::Windows { axes: list, sizes, strides, dilations }, &[self], &at)
    }
}
