//! Arrays made of nothing: constants, counters, diagonals.

use super::array::{Array, literal};
use super::shape::{Dim, IntoShape};
use super::{Context, here};
use mlxc_ir::graph::interpret::Tensor;
use mlxc_ir::graph::{Dense, Op};
use mlxc_ir::{DType, Size};
use std::sync::Arc;

impl Context {
    /// An array of zeros: MLX's `zeros`.
    #[track_caller]
    pub fn zeros(&self, shape: impl IntoShape, dtype: DType) -> Array {
        self.full(shape, 0.0, dtype)
    }

    /// An array of ones: MLX's `ones`.
    #[track_caller]
    pub fn ones(&self, shape: impl IntoShape, dtype: DType) -> Array {
        self.full(shape, 1.0, dtype)
    }

    /// A constant array of any dtype, MLX's `array`; floats round to nearest even, integers wrap.
    #[track_caller]
    pub fn array(&self, values: &[f64], shape: &[i64], dtype: DType) -> Array {
        let count = [values.len()];
        let whole = if dtype.is_float() {
            Tensor::floats(dtype, &count, values)
        } else {
            // Through i64, so that negative numbers wrap.
            Tensor::ints(dtype, &count, &values.iter().map(|v| *v as i64).collect::<Vec<_>>())
        };
        let bytes = whole.to_bytes();
        let dense = Dense { dtype, shape: shape.to_vec(), bytes };
        Array::new(&self.inner, self.inner.node(Op::Constant(Arc::new(dense)), &[], &here()))
    }

    /// `start, start + step, …` short of `stop`: MLX's `arange`. A step of 0 or away from `stop` gives no elements.
    #[track_caller]
    pub fn arange_from(&self, start: f64, stop: f64, step: f64, dtype: DType) -> Array {
        let n = ((stop - start) / step).ceil();
        let n = if n.is_finite() && n > 0.0 { n as i64 } else { 0 };
        let steps = self.arange(n, dtype);
        let at = here();
        if !dtype.is_float() && dtype != DType::Bool {
            let (start, step) = (start as i64, step as i64);
            return steps * step + start;
        }
        let steps = steps.cast_at(dtype, &at);
        steps * step + start
    }

    /// `num` numbers from `start` to `stop`, both included: MLX's `linspace`. Computed in f32 (f64 for f64).
    #[track_caller]
    pub fn linspace(&self, start: f64, stop: f64, num: i64, dtype: DType) -> Array {
        let at = here();
        if num == 1 {
            return self.full([1i64], start, dtype);
        }
        let inner = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let t = self.arange(num.max(0), inner) / (num - 1) as f64;
        let back = 1.0 - &t;
        (back * start + t * stop).cast_at(dtype, &at)
    }

    /// Ones on the diagonal `k` of `[n, m]`, zeros elsewhere: MLX's `eye`.
    #[track_caller]
    pub fn eye(&self, n: impl Into<Dim>, m: impl Into<Dim>, k: i64, dtype: DType) -> Array {
        let at = here();
        self.places(n.into(), m.into(), &at, |row, column| (row + k).equal(column)).cast_at(dtype, &at)
    }

    /// Ones on the diagonal of `[n, n]`: MLX's `identity`.
    #[track_caller]
    pub fn identity(&self, n: impl Into<Dim>, dtype: DType) -> Array {
        let n = n.into();
        self.eye(n.clone(), n, 0, dtype)
    }

    /// Ones at and below the diagonal `k` of `[n, m]`: MLX's `tri`.
    #[track_caller]
    pub fn tri(&self, n: impl Into<Dim>, m: impl Into<Dim>, k: i64, dtype: DType) -> Array {
        let at = here();
        self.places(n.into(), m.into(), &at, |row, column| (row + k).greater_equal(column)).cast_at(dtype, &at)
    }

    fn places(&self, n: Dim, m: Dim, at: &mlxc_ir::Location, test: impl FnOnce(Array, Array) -> Array) -> Array {
        let shape = vec![n.0, m.0];
        let [row, column] = [0, 1].map(|axis| {
            let op = Op::Iota { dtype: DType::I32, shape: shape.clone(), axis };
            Array::new(&self.inner, self.inner.node(op, &[], at))
        });
        test(row, column)
    }

    /// Coordinate arrays of a grid: MLX's `meshgrid`, `indexing="ij"`, or `"xy"` where `cartesian`.
    #[track_caller]
    pub fn meshgrid(&self, axes: &[&Array], cartesian: bool) -> Vec<Array> {
        let at = here();
        let n = axes.len();
        let flipped = |i: usize| if cartesian && n > 1 && i < 2 { 1 - i } else { i };
        let mut shape = vec![Size::constant(1); n];
        for (i, a) in axes.iter().enumerate() {
            shape[flipped(i)] = a.ty().map_or(Size::constant(1), |t| t.elements());
        }
        axes.iter()
            .enumerate()
            .map(|(i, a)| {
                let mut own = vec![Size::constant(1); n];
                own[flipped(i)].clone_from(&shape[flipped(i)]);
                let line = a.make(Op::Reshape { shape: own }, &[a], &at);
                line.stretch(&shape, &at)
            })
            .collect()
    }
}

impl Array {
    /// `value` in this array's shape and dtype: MLX's `full_like`.
    #[track_caller]
    pub fn full_like(&self, value: f64) -> Array {
        let at = here();
        let dtype = self.dtype();
        let Some(ty) = self.ty() else { return self.clone() };
        self.make(Op::Full { value: literal(value, dtype), dtype, shape: ty.shape }, &[], &at)
    }

    /// Zeros in this array's shape and dtype: MLX's `zeros_like`.
    #[track_caller]
    pub fn zeros_like(&self) -> Array {
        self.full_like(0.0)
    }

    /// Ones in this array's shape and dtype: MLX's `ones_like`.
    #[track_caller]
    pub fn ones_like(&self) -> Array {
        self.full_like(1.0)
    }

    /// True at and below the diagonal `k` of the last two axes.
    fn triangle(&self, k: i64, at: &mlxc_ir::Location) -> Array {
        let shape = self.sizes();
        let n = shape.len();
        let [row, column] = [n - 2, n - 1].map(|axis| {
            let op = Op::Iota { dtype: DType::I32, shape: shape[n - 2..].to_vec(), axis: (axis + 2 - n) as u32 };
            self.make(op, &[], at)
        });
        (row + k).greater_equal(column)
    }

    /// Zeros above the diagonal `k` of the last two axes: MLX's `tril`.
    #[track_caller]
    pub fn tril(&self, k: i64) -> Array {
        let at = here();
        if !self.has_axes(2, &at) {
            return Array::new(&self.inner, None);
        }
        self.triangle(k, &at).choose(self, self.zeros_like())
    }

    /// Zeros below the diagonal `k` of the last two axes: MLX's `triu`.
    #[track_caller]
    pub fn triu(&self, k: i64) -> Array {
        let at = here();
        if !self.has_axes(2, &at) {
            return Array::new(&self.inner, None);
        }
        self.triangle(k - 1, &at).choose(self.zeros_like(), self)
    }

    /// True with at least `n` axes; else an error `MLXC0152`.
    pub(super) fn has_axes(&self, n: usize, at: &mlxc_ir::Location) -> bool {
        if self.value.is_none() || self.ndim() >= n {
            return self.value.is_some();
        }
        let d = mlxc_ir::Diagnostic::new(152, "an array has too few axes")
            .expected(format!("at least {n}"))
            .found(self.ndim().to_string());
        self.fail(d, at);
        false
    }
}
