//! Rules of windows, gathers and scatters over several axes, scans, sorts, bitcasts and random bits.

use super::Infer;
use crate::diagnostic::Diagnostic;
use crate::graph::op::ScanOp;
use crate::graph::types::{TensorType, ranges};
use mlxc_package::{DType, Size};

impl Infer<'_> {
    pub(super) fn bitcast(&self, to: DType) -> Result<TensorType, Diagnostic> {
        self.count(1, 1)?;
        let x = self.inputs[0];
        let fits = x.dtype.bytes() == to.bytes() && x.dtype != DType::Bool && to != DType::Bool;
        if !fits {
            return Err(self.dtype_error(&format!("a number of {} bits", 8 * to.bytes())));
        }
        Ok(TensorType { dtype: to, shape: x.shape.clone() })
    }

    pub(super) fn windows(
        &self,
        axes: &[u32],
        sizes: &[i64],
        strides: &[i64],
        dilations: &[i64],
    ) -> Result<TensorType, Diagnostic> {
        self.count(1, 1)?;
        let x = self.inputs[0];
        self.ascending(axes)?;
        let fits = [sizes, strides, dilations].iter().all(|l| l.len() == axes.len() && l.iter().all(|n| *n >= 1));
        if !fits {
            let found = format!("{sizes:?}, {strides:?}, {dilations:?}");
            return Err(self.attribute("a size, stride and dilation of at least 1 an axis", found));
        }
        let r = ranges(self.symbols);
        let mut shape = x.shape.clone();
        for (i, axis) in axes.iter().enumerate() {
            let span = (sizes[i] - 1).saturating_mul(dilations[i]).saturating_add(1);
            let room = x.shape[*axis as usize].clone() - Size::constant(span);
            if room.bounds(&r).lo < 0 {
                return Err(self.shape_error(format!("an extent of at least {span} on axis {axis}")));
            }
            shape[*axis as usize] = room.floor_div(strides[i]) + Size::constant(1);
        }
        shape.extend(sizes.iter().map(|n| Size::constant(*n)));
        Ok(TensorType { dtype: x.dtype, shape })
    }

    fn ascending(&self, axes: &[u32]) -> Result<(), Diagnostic> {
        let rank = self.inputs[0].rank();
        if axes.windows(2).all(|w| w[0] < w[1]) && axes.iter().all(|a| (*a as usize) < rank) {
            return Ok(());
        }
        Err(self.attribute("ascending axes of x", format!("{axes:?}")))
    }

    /// Checks the indices from operand `first` on and gives their shape, then x's without the indexed axes.
    fn indexed(&self, axes: &[u32], first: usize) -> Result<Vec<Size>, Diagnostic> {
        self.ascending(axes)?;
        let (x, indices) = (self.inputs[0], &self.inputs[first..]);
        let Some(one) = indices.first() else { return Err(self.attribute("at least one axis", "none")) };
        if indices.iter().any(|i| !i.dtype.is_int()) {
            return Err(self.dtype_error("integer indices"));
        }
        if indices.iter().any(|i| i.shape != one.shape) {
            return Err(self.shape_error("indices of one shape"));
        }
        let r = ranges(self.symbols);
        let none = one.elements().bounds(&r).hi == 0;
        if !none && axes.iter().any(|a| x.shape[*a as usize].bounds(&r).lo < 1) {
            return Err(self.shape_error("indexed extents of at least 1"));
        }
        let kept = x.shape.iter().enumerate().filter(|(i, _)| !axes.contains(&(*i as u32)));
        Ok(one.shape.iter().cloned().chain(kept.map(|(_, d)| d.clone())).collect())
    }

    pub(super) fn gather_nd(&self, axes: &[u32]) -> Result<TensorType, Diagnostic> {
        self.count(1 + axes.len(), 1 + axes.len())?;
        Ok(TensorType { dtype: self.inputs[0].dtype, shape: self.indexed(axes, 1)? })
    }

    pub(super) fn scatter(&self, axes: &[u32]) -> Result<TensorType, Diagnostic> {
        self.count(2 + axes.len(), 2 + axes.len())?;
        let (x, updates) = (self.inputs[0], self.inputs[1]);
        if x.dtype != updates.dtype {
            return Err(self.dtype_error("updates of x's dtype"));
        }
        if self.indexed(axes, 2)? != updates.shape {
            return Err(self.shape_error("updates of the indices' shape, then x's without the indexed axes"));
        }
        Ok(x.clone())
    }

    pub(super) fn scatter_along(&self, axis: u32) -> Result<TensorType, Diagnostic> {
        self.count(3, 3)?;
        let (x, indices, updates) = (self.inputs[0], self.inputs[1], self.inputs[2]);
        let axis = self.axis(axis, x.rank())?;
        if x.dtype != updates.dtype {
            return Err(self.dtype_error("updates of x's dtype"));
        }
        if !indices.dtype.is_int() {
            return Err(self.dtype_error("integer indices"));
        }
        let others = x.rank() == indices.rank() && (0..x.rank()).all(|i| i == axis || x.shape[i] == indices.shape[i]);
        if !others || indices.shape != updates.shape {
            return Err(self.shape_error(format!("indices and updates that differ from x on axis {axis} only")));
        }
        self.something_to_take(axis)?;
        Ok(x.clone())
    }

    pub(super) fn scan(&self, op: ScanOp, axis: u32) -> Result<TensorType, Diagnostic> {
        self.count(1, 1)?;
        let x = self.inputs[0];
        self.axis(axis, x.rank())?;
        let dtype = match (op, x.dtype) {
            (ScanOp::Sum | ScanOp::Prod, DType::Bool) => DType::I32,
            (ScanOp::LogAddExp, d) if !d.is_float() => return Err(self.dtype_error("a float dtype")),
            (_, d) => d,
        };
        Ok(TensorType { dtype, shape: x.shape.clone() })
    }

    pub(super) fn argsort(&self, axis: u32) -> Result<TensorType, Diagnostic> {
        self.count(1, 1)?;
        self.axis(axis, self.inputs[0].rank())?;
        Ok(TensorType { dtype: DType::U32, shape: self.inputs[0].shape.clone() })
    }

    pub(super) fn random_bits(&self, shape: &[Size], width: u32) -> Result<TensorType, Diagnostic> {
        self.count(1, 1)?;
        self.non_negative(shape)?;
        let keys = self.inputs[0];
        if keys.dtype != DType::U32 || keys.shape.last().and_then(Size::as_const) != Some(2) {
            return Err(self.dtype_error("keys of type u32[.., 2]"));
        }
        let dtype = match width {
            1 => DType::U8,
            2 => DType::U16,
            4 => DType::U32,
            _ => return Err(self.attribute("a width of 1, 2 or 4", width.to_string())),
        };
        let batch = &keys.shape[..keys.rank() - 1];
        Ok(TensorType { dtype, shape: batch.iter().chain(shape).cloned().collect() })
    }
}
