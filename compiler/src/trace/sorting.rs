//! Sorting methods, in terms of a stable argsort.

use super::array::{Array, Operand};
use super::here;
use mlxc_ir::graph::{CompareOp, Op};
use mlxc_ir::{DType, Diagnostic};

impl Array {
    /// Positions (u32) that sort an axis: ascending, stable, NaN last. MLX's `argsort`.
    #[track_caller]
    pub fn argsort(&self, axis: i32) -> Array {
        let at = here();
        match self.axis(axis, &at) {
            Some(a) => self.make(Op::ArgSort { axis: a as u32 }, &[self], &at),
            None => Array::new(&self.inner, None),
        }
    }

    /// Elements of an axis in ascending order, stable, NaN last: MLX's `sort`. A symbolic extent is at least 1.
    #[track_caller]
    pub fn sort(&self, axis: i32) -> Array {
        let order = self.argsort(axis);
        self.take_along_axis(&order, axis)
    }

    /// A whole sort, which is a partition at every position: MLX's `partition`, whose order of the rest is open.
    ///
    /// # Errors
    /// `MLXC0150` where `kth` is no position of the axis.
    #[track_caller]
    pub fn partition(&self, kth: i64, axis: i32) -> Array {
        if self.has_position(kth, axis) { self.sort(axis) } else { Array::new(&self.inner, None) }
    }

    /// Positions of a whole sort: MLX's `argpartition`, whose order of the rest is open.
    ///
    /// # Errors
    /// As [`Array::partition`].
    #[track_caller]
    pub fn argpartition(&self, kth: i64, axis: i32) -> Array {
        if self.has_position(kth, axis) { self.argsort(axis) } else { Array::new(&self.inner, None) }
    }

    #[track_caller]
    fn has_position(&self, kth: i64, axis: i32) -> bool {
        let extent = self.dim(axis);
        let fits = extent.as_const().is_none_or(|n| (-n..n).contains(&kth));
        if !fits {
            let d = Diagnostic::new(150, "there is no such position along the axis")
                .expected(format!("-{n}..{n}", n = extent.size()))
                .found(kth.to_string());
            self.fail(d, &here());
        }
        fits
    }

    /// The `k` largest elements of an axis, ascending: MLX's `topk`, which leaves their order open.
    ///
    /// # Errors
    /// `MLXC0150` where `k` exceeds the extent.
    #[track_caller]
    pub fn topk(&self, k: i64, axis: i32) -> Array {
        let extent = self.dim(axis);
        if extent.as_const().is_some_and(|n| !(0..=n).contains(&k)) {
            let d = Diagnostic::new(150, "there are fewer elements along the axis")
                .expected(format!("0..={}", extent.size()))
                .found(k.to_string());
            return self.fail(d, &here());
        }
        self.sort(axis).slice(axis, extent.clone() - k, extent)
    }

    /// Where each value would be inserted into this sorted array of one axis (u32): before equal elements, or after them
    /// where `right`. MLX's `searchsorted`, by counting; NaN comes after everything else.
    #[track_caller]
    pub fn searchsorted(&self, values: &Array, right: bool) -> Array {
        let at = here();
        if self.ndim() != 1 {
            let d = Diagnostic::new(150, "a sorted sequence has one axis").found(self.ndim().to_string());
            return self.fail(d, &at);
        }
        let line = values.expand_dims(-1);
        let op = if right { CompareOp::LessEqual } else { CompareOp::Less };
        let mut before = self.compare(op, Operand::Array(line.clone()));
        if self.dtype().is_float() && line.dtype().is_float() {
            let (mine, theirs) = (self.isnan(), line.isnan());
            before = before.logical_or(if right { theirs } else { theirs.logical_and(mine.logical_not()) });
        }
        before.sum(-1, false).cast_at(DType::U32, &at)
    }
}
