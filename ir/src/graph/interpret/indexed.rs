//! What gathers and scatters over several axes, scans and sorts mean.

use super::elementwise;
use super::tensor::{Data, Tensor, count, each_index, round_float, strides, wrap_int};
use super::{Run, copy};
use crate::graph::op::{BinaryOp, ScanOp, ScatterOp};
use mlxc_package::DType;

/// How a scan walks.
pub(super) struct Steps {
    pub(super) axis: usize,
    pub(super) reverse: bool,
    pub(super) exclusive: bool,
}

/// Where the indices point: the first element of each named row, and the offsets of a row's elements.
struct Indexed {
    rows: Vec<usize>,
    offsets: Vec<usize>,
}

impl Run<'_> {
    fn rows_of(&mut self, x: &[usize], indices: &[&Tensor], axes: &[u32]) -> Indexed {
        let s = strides(x);
        let rows = (0..indices[0].len())
            .map(|i| {
                let places = indices.iter().zip(axes);
                places.map(|(t, a)| self.index(t, i, x[*a as usize]) * s[*a as usize]).sum()
            })
            .collect();
        let kept: Vec<usize> = (0..x.len()).filter(|i| !axes.contains(&(*i as u32))).collect();
        let shape: Vec<usize> = kept.iter().map(|i| x[*i]).collect();
        let mut offsets = Vec::with_capacity(count(&shape));
        each_index(&shape, |at| offsets.push(at.iter().zip(&kept).map(|(a, k)| a * s[*k]).sum()));
        Indexed { rows, offsets }
    }

    pub(super) fn gather_nd(&mut self, x: &Tensor, indices: &[&Tensor], axes: &[u32], shape: Vec<usize>) -> Tensor {
        let found = self.rows_of(&x.shape, indices, axes);
        let at = found.rows.iter().flat_map(|r| found.offsets.iter().map(move |o| r + o));
        x.pick(shape, at)
    }

    pub(super) fn scatter(
        &mut self,
        x: &Tensor,
        updates: &Tensor,
        indices: &[&Tensor],
        axes: &[u32],
        how: ScatterOp,
    ) -> Tensor {
        let found = self.rows_of(&x.shape, indices, axes);
        let mut out = x.clone();
        let at = found.rows.iter().flat_map(|r| found.offsets.iter().map(move |o| r + o));
        for (i, to) in at.enumerate() {
            self.combine(&mut out, to, updates, i, how);
        }
        out
    }

    pub(super) fn scatter_along(&mut self, x: &[&Tensor], axis: usize, how: ScatterOp) -> Tensor {
        let (indices, updates) = (x[1], x[2]);
        let mut out = x[0].clone();
        let s = strides(&out.shape);
        let mut i = 0;
        each_index(&indices.shape, |at| {
            let row = self.index(indices, i, out.shape[axis]);
            let to = (0..s.len()).map(|k| if k == axis { row } else { at[k] } * s[k]).sum();
            self.combine(&mut out, to, updates, i, how);
            i += 1;
        });
        out
    }

    fn combine(&self, out: &mut Tensor, to: usize, updates: &Tensor, i: usize, how: ScatterOp) {
        let Some(op) = how.binary(out.dtype == DType::Bool) else { return copy(out, to, updates, i) };
        let one = |t: &Tensor, i: usize| t.pick(Vec::new(), std::iter::once(i));
        let new = elementwise::binary(op, &one(out, to), &one(updates, i), self.rounds());
        copy(out, to, &new, 0);
    }
}

/// A running fold. Sums and products of half types are kept wide and rounded as they are stored.
pub(super) fn scan(x: &Tensor, op: ScanOp, steps: Steps, to: DType, rounds: bool) -> Tensor {
    let s = strides(&x.shape);
    let n = x.shape[steps.axis];
    let mut out = Tensor::zeros(to, &x.shape);
    let mut others = x.shape.clone();
    others[steps.axis] = 1;
    let bits = 8 * to.bytes();
    let (binary, float, int) = match op {
        ScanOp::Sum => (BinaryOp::Add, 0.0, 0),
        ScanOp::Prod => (BinaryOp::Multiply, 1.0, 1),
        ScanOp::Max if to == DType::Bool => (BinaryOp::LogicalOr, 0.0, 0),
        ScanOp::Min if to == DType::Bool => (BinaryOp::LogicalAnd, 0.0, 1),
        ScanOp::Max => {
            (BinaryOp::Maximum, f64::NEG_INFINITY, if to.is_signed_int() { i64::MIN >> (64 - bits) } else { 0 })
        }
        ScanOp::Min => {
            (BinaryOp::Minimum, f64::INFINITY, if to.is_signed_int() { i64::MAX >> (64 - bits) } else { -1 })
        }
        ScanOp::LogAddExp => (BinaryOp::LogAddExp, f64::NEG_INFINITY, 0),
    };
    let wide = if matches!(to, DType::F16 | DType::BF16) { DType::F32 } else { to };
    each_index(&others, |at| {
        let base: usize = at.iter().zip(&s).map(|(a, s)| a * s).sum();
        let (mut sum, mut whole) = (float, wrap_int(to, int));
        for step in 0..n {
            let i = base + if steps.reverse { n - 1 - step } else { step } * s[steps.axis];
            let before = (sum, whole);
            if to.is_float() {
                let next = elementwise::float_binary(binary, x.float(i), sum);
                sum = if rounds { round_float(wide, next) } else { next };
            } else {
                whole = wrap_int(to, elementwise::int_binary(binary, to, x.int(i), whole));
            }
            let (f, v) = if steps.exclusive { before } else { (sum, whole) };
            match &mut out.data {
                Data::Float(o) => o[i] = if rounds { round_float(to, f) } else { f },
                Data::Int(o) => o[i] = v,
            }
        }
    });
    out
}

/// Positions that sort each row, stable, NaN last.
pub(super) fn argsort(x: &Tensor, axis: usize) -> Tensor {
    let s = strides(&x.shape);
    let n = x.shape[axis];
    let mut others = x.shape.clone();
    others[axis] = 1;
    let mut out = vec![0; x.len()];
    each_index(&others, |at| {
        let base: usize = at.iter().zip(&s).map(|(a, s)| a * s).sum();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| {
            let (a, b) = (base + a * s[axis], base + b * s[axis]);
            match &x.data {
                Data::Float(v) => v[a].partial_cmp(&v[b]).unwrap_or(v[a].is_nan().cmp(&v[b].is_nan())),
                Data::Int(v) if x.dtype == DType::U64 => (v[a] as u64).cmp(&(v[b] as u64)),
                Data::Int(v) => v[a].cmp(&v[b]),
            }
        });
        order.iter().enumerate().for_each(|(i, from)| out[base + i * s[axis]] = *from as i64);
    });
    Tensor::ints(DType::U32, &x.shape, &out)
}
