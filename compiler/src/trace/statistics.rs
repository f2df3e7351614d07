//! Reductions beyond the primitives, softmax over any axes, and running folds.

use super::array::{Array, Operand};
use super::here;
use super::shape::IntoAxes;
use mlxc_ir::graph::{BinaryOp, Op, ScanOp};
use mlxc_ir::{DType, Diagnostic, Size};

impl Array {
    /// Standard deviation over axes, with `n - ddof` in the denominator: MLX's `std`.
    #[track_caller]
    pub fn std(&self, axes: impl IntoAxes, keepdims: bool, ddof: i64) -> Array {
        self.var(axes, keepdims, ddof).sqrt()
    }

    /// `log(sum(exp(x)))` over axes, without overflow: MLX's `logsumexp`.
    #[track_caller]
    pub fn logsumexp(&self, axes: impl IntoAxes, keepdims: bool) -> Array {
        let at = here();
        let axes = axes.into_axes();
        let x = self.floating(&at);
        let most = x.max(axes.clone(), true);
        // An infinite maximum is the result: its difference from itself is NaN.
        let level = most.isinf().choose(0.0, &most);
        let sum = (&x - &level).exp().sum(axes.clone(), true).log() + &level;
        let out = most.isinf().choose(&most, &sum);
        if keepdims { out } else { out.squeeze_axes(axes) }
    }

    /// Softmax over axes, computed in f32: MLX's `softmax` with `precise`.
    #[track_caller]
    pub fn softmax_over(&self, axes: impl IntoAxes) -> Array {
        let at = here();
        let axes = axes.into_axes();
        let x = self.floating(&at);
        if let [axis] = axes.as_slice()
            && x.axis(*axis, &at) == Some(x.ndim().wrapping_sub(1))
        {
            return x.softmax();
        }
        let dtype = x.dtype();
        let wide = x.cast_at(if dtype == DType::F64 { DType::F64 } else { DType::F32 }, &at);
        let powers = (&wide - wide.max(axes.clone(), true)).exp();
        (&powers / powers.sum(axes, true)).cast_at(dtype, &at)
    }

    /// `x - logsumexp(x)` over one axis: MLX's `nn.log_softmax`.
    #[track_caller]
    pub fn log_softmax(&self, axis: i32) -> Array {
        let at = here();
        let x = self.floating(&at);
        let shifted = &x - x.max(axis, true);
        &shifted - shifted.logsumexp(axis, true)
    }

    /// The middle of the sorted elements over axes, the mean of two where their number is even; NaN if any is: MLX's
    /// `median`.
    ///
    /// # Errors
    /// `MLXC0154` where the extents are symbolic or empty.
    #[track_caller]
    pub fn median(&self, axes: impl IntoAxes, keepdims: bool) -> Array {
        let at = here();
        let Some(list) = self.axis_set(axes, &at) else { return Array::new(&self.inner, None) };
        let list: Vec<usize> = list.into_iter().map(|a| a as usize).collect();
        let shape = self.sizes();
        let count = list.iter().fold(Size::constant(1), |n, a| n * shape[*a].clone());
        let Some(n) = count.as_const().filter(|n| *n > 0) else {
            return self
                .fail(Diagnostic::new(154, "a median needs a known number of elements").found(count.to_string()), &at);
        };
        let kept: Vec<usize> = (0..shape.len()).filter(|i| !list.contains(i)).collect();
        let perm: Vec<u32> = kept.iter().chain(&list).map(|a| *a as u32).collect();
        let mut flat: Vec<Size> = kept.iter().map(|i| shape[*i].clone()).collect();
        flat.push(Size::constant(n));
        let x = self.make(Op::Transpose { perm }, &[self], &at);
        let x = x.make(Op::Reshape { shape: flat }, &[&x], &at);
        let sorted = x.sort(-1);
        let pick = |i: i64| sorted.slice(-1, i, i + 1).floating(&at);
        let mut middle = pick(n / 2);
        if n % 2 == 0 {
            middle = (middle + pick(n / 2 - 1)) * 0.5;
        }
        if self.dtype().is_float() {
            // NaN stands last, so the middle never shows it.
            middle = x.isnan().any(-1, true).choose(f64::NAN, &middle);
        }
        let shape = shape.into_iter().enumerate();
        let shape = if keepdims {
            shape.map(|(i, d)| if list.contains(&i) { Size::constant(1) } else { d }).collect()
        } else {
            shape.filter(|(i, _)| !list.contains(i)).map(|(_, d)| d).collect()
        };
        middle.make(Op::Reshape { shape }, &[&middle], &at)
    }

    /// Number of elements that are not 0, of type i32: MLX's `count_nonzero`.
    #[track_caller]
    pub fn count_nonzero(&self, axes: impl IntoAxes, keepdims: bool) -> Array {
        self.not_equal(0).sum(axes, keepdims)
    }

    #[track_caller]
    fn scan(&self, op: ScanOp, axis: i32, reverse: bool, inclusive: bool) -> Array {
        let at = here();
        match self.axis(axis, &at) {
            Some(a) => self.make(Op::Scan { op, axis: a as u32, reverse, exclusive: !inclusive }, &[self], &at),
            None => Array::new(&self.inner, None),
        }
    }

    /// Running sum along an axis; of bool in i32, of half types in f32 before each result is rounded: MLX's `cumsum`.
    #[track_caller]
    pub fn cumsum(&self, axis: i32, reverse: bool, inclusive: bool) -> Array {
        self.scan(ScanOp::Sum, axis, reverse, inclusive)
    }

    /// Running product along an axis: MLX's `cumprod`.
    #[track_caller]
    pub fn cumprod(&self, axis: i32, reverse: bool, inclusive: bool) -> Array {
        self.scan(ScanOp::Prod, axis, reverse, inclusive)
    }

    /// Largest element so far along an axis: MLX's `cummax`.
    #[track_caller]
    pub fn cummax(&self, axis: i32, reverse: bool, inclusive: bool) -> Array {
        self.scan(ScanOp::Max, axis, reverse, inclusive)
    }

    /// Smallest element so far along an axis: MLX's `cummin`.
    #[track_caller]
    pub fn cummin(&self, axis: i32, reverse: bool, inclusive: bool) -> Array {
        self.scan(ScanOp::Min, axis, reverse, inclusive)
    }

    /// Logarithm of the running sum of exponentials along an axis: MLX's `logcumsumexp`.
    #[track_caller]
    pub fn logcumsumexp(&self, axis: i32, reverse: bool, inclusive: bool) -> Array {
        let at = here();
        self.floating(&at).scan(ScanOp::LogAddExp, axis, reverse, inclusive)
    }

    /// Differences of neighbours along an axis, `n` times: MLX's `diff`.
    #[track_caller]
    pub fn diff(&self, n: u32, axis: i32) -> Array {
        (0..n).fold(self.clone(), |x, _| {
            let extent = x.dim(axis);
            x.slice(axis, 1i64, extent.clone())
                .binary(BinaryOp::Subtract, Operand::Array(x.slice(axis, 0i64, extent - 1i64)))
        })
    }
}
