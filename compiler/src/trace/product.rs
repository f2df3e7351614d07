//! Products of tensors, in terms of matmul, multiplication and sums.

use super::array::Array;
use super::here;
use super::shape::IntoAxes;
use mlxc_ir::graph::Op;
use mlxc_ir::{DType, Diagnostic, Size};

fn product(sizes: &[Size]) -> Size {
    sizes.iter().fold(Size::constant(1), |n, d| n * d.clone())
}

impl Array {
    /// Sum of products over pairs of axes: MLX's `tensordot`. Result axes: the rest of a's, then the rest of b's.
    ///
    /// # Errors
    /// `MLXC0144` where paired extents differ or the lists have different lengths.
    #[track_caller]
    pub fn tensordot(&self, other: &Array, axes_a: impl IntoAxes, axes_b: impl IntoAxes) -> Array {
        let at = here();
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        for (x, axes, list) in [(self, axes_a.into_axes(), &mut mine), (other, axes_b.into_axes(), &mut theirs)] {
            for a in axes {
                match x.axis(a, &at) {
                    Some(a) => list.push(a),
                    None => return Array::new(&self.inner, None),
                }
            }
        }
        let (a, b) = (self.sizes(), other.sizes());
        let paired = mine.len() == theirs.len() && mine.iter().zip(&theirs).all(|(i, j)| a[*i] == b[*j]);
        if !paired {
            let d = Diagnostic::new(144, "contracted axes do not fit")
                .expected("as many axes of equal extents")
                .found(format!("axes {mine:?} of {a:?} and {theirs:?} of {b:?}"));
            return self.fail(d, &at);
        }
        let rest =
            |shape: &[Size], list: &[usize]| -> Vec<usize> { (0..shape.len()).filter(|i| !list.contains(i)).collect() };
        let (free_a, free_b) = (rest(&a, &mine), rest(&b, &theirs));
        let pick = |shape: &[Size], list: &[usize]| -> Vec<Size> { list.iter().map(|i| shape[*i].clone()).collect() };
        let (outer_a, outer_b, inner) = (pick(&a, &free_a), pick(&b, &free_b), pick(&a, &mine));
        let perm = |x: &[usize], y: &[usize]| x.iter().chain(y).map(|i| *i as u32).collect();
        let x = self.make(Op::Transpose { perm: perm(&free_a, &mine) }, &[self], &at);
        let x = x.make(Op::Reshape { shape: vec![product(&outer_a), product(&inner)] }, &[&x], &at);
        let y = other.make(Op::Transpose { perm: perm(&theirs, &free_b) }, &[other], &at);
        let y = y.make(Op::Reshape { shape: vec![product(&inner), product(&outer_b)] }, &[&y], &at);
        let z = x.matmul(&y);
        z.make(Op::Reshape { shape: outer_a.into_iter().chain(outer_b).collect() }, &[&z], &at)
    }

    /// Products over the last axes: MLX's `inner`.
    #[track_caller]
    pub fn inner(&self, other: &Array) -> Array {
        if self.ndim() == 0 || other.ndim() == 0 {
            return self * other;
        }
        self.tensordot(other, -1, -1)
    }

    /// Products of all pairs of elements: MLX's `outer`, of the flattened arrays.
    #[track_caller]
    pub fn outer(&self, other: &Array) -> Array {
        self.flatten().expand_dims(1) * other.flatten()
    }

    /// Sum of products along one axis of both: MLX's `vecdot`.
    #[track_caller]
    pub fn vecdot(&self, other: &Array, axis: i32) -> Array {
        (self * other).sum(axis, false)
    }

    /// Kronecker product: MLX's `kron`.
    #[track_caller]
    pub fn kron(&self, other: &Array) -> Array {
        let at = here();
        let rank = self.ndim().max(other.ndim());
        let full = |x: &Array| {
            let mut shape = vec![Size::constant(1); rank - x.ndim()];
            shape.extend(x.sizes());
            shape
        };
        let (a, b) = (full(self), full(other));
        let one = Size::constant(1);
        let wide = |shape: &[Size], first: bool| -> Vec<Size> {
            let pair = |d: &Size| if first { [d.clone(), one.clone()] } else { [one.clone(), d.clone()] };
            shape.iter().flat_map(pair).collect()
        };
        let x = self.make(Op::Reshape { shape: wide(&a, true) }, &[self], &at);
        let y = other.make(Op::Reshape { shape: wide(&b, false) }, &[other], &at);
        let z = x * y;
        let shape = a.iter().zip(&b).map(|(m, n)| m.clone() * n.clone()).collect();
        z.make(Op::Reshape { shape }, &[&z], &at)
    }

    /// `beta * self + alpha * (a @ b)`: MLX's `addmm`, whose first operand this is.
    #[track_caller]
    pub fn addmm(&self, a: &Array, b: &Array, alpha: f64, beta: f64) -> Array {
        let scaled = |x: Array, factor: f64| if factor == 1.0 { x } else { x * factor };
        scaled(a.matmul(b), alpha) + scaled(self.clone(), beta)
    }

    /// Square root of the sum of squares over axes: MLX's `linalg.norm` of order 2 for vectors.
    #[track_caller]
    pub fn norm(&self, axes: impl IntoAxes, keepdims: bool) -> Array {
        let at = here();
        self.floating(&at).square().sum(axes, keepdims).sqrt()
    }

    /// `a @ b` of arrays of which one or both have one axis: that axis is the inner one and leaves the result.
    #[track_caller]
    pub(super) fn matmul_vectors(&self, other: &Array) -> Array {
        let (left, right) = (self.ndim() == 1, other.ndim() == 1);
        let a = if left { self.expand_dims(0) } else { self.clone() };
        let b = if right { other.expand_dims(1) } else { other.clone() };
        let z = a.matmul(&b);
        let z = if right { z.squeeze(-1) } else { z };
        if left { z.squeeze(if right { -1 } else { -2 }) } else { z }
    }

    /// A float dtype both operands of a product meet in.
    pub(super) fn product_dtype(&self, other: &Array) -> DType {
        let dtype = super::promote(self.dtype(), other.dtype());
        if dtype.is_float() { dtype } else { DType::F32 }
    }
}
