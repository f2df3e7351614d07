//! `lut` where the target has no permutation of its shape: an affine table becomes arithmetic, another short one
//! a tree of selects on the bits of the index. Long tables, and those loaded from memory, stay: the writer
//! reads them lane by lane.

use std::collections::BTreeMap;

use mlxc_ir::kernel::{ExprId, ExprKind, Index, IndexId, Kernel, LocalId, Stmt, Type, VarId};
use mlxc_ir::profile::TargetProfile;
use mlxc_ir::{DType, Diagnostic};

use super::compute::{Compute, V};
use super::rewrite::{Rule, Site, rewrite};
use crate::constant;
use crate::profiles::{CpuTarget, Native, cpu_target};

/// Entries that a tree of selects may have.
const SHORT: usize = 16;

pub(super) fn run(kernel: &mut Kernel, profile: &TargetProfile) -> Result<(), Diagnostic> {
    rewrite(kernel, &mut Tables { target: cpu_target(&profile.name), known: BTreeMap::new() })
}

struct Tables {
    target: Option<&'static CpuTarget>,
    /// Tables bound by a `let`.
    known: BTreeMap<LocalId, ExprId>,
}

impl Rule for Tables {
    fn statement(&mut self, at: &mut Site<'_>, stmt: Stmt) -> Result<Option<Stmt>, Diagnostic> {
        if let Stmt::Let(local, e) = stmt
            && matches!(at.kernel.expr(e).kind, ExprKind::Table(_))
        {
            self.known.insert(local, e);
        }
        Ok(Some(stmt))
    }

    fn expression(&mut self, at: &mut Site<'_>, id: ExprId) -> Result<ExprId, Diagnostic> {
        let ExprKind::Lut(table, index) = at.kernel.expr(id).kind else { return Ok(id) };
        let ty = at.kernel.expr(id).ty;
        let index_type = at.kernel.expr(index).ty;
        if self.is_native(at.kernel.expr(table).ty, index_type, ty) {
            return Ok(id);
        }
        let Some(entries) = self.entries(at.kernel, table) else { return Ok(id) };
        let entries = shortest_period(&entries);
        let line = affine(entries).filter(|_| exact(entries, ty.dtype()));
        if line.is_none() && entries.len() > SHORT {
            return Ok(id);
        }
        let mut m = Compute::new(at, ty.lanes());
        let index = m.take(index);
        let index = m.cast(index, DType::U32);
        let index = m.and(index, V::U32(entries.len() as u32 - 1));
        let value = match line {
            Some((first, step)) => arithmetic(&mut m, index, first, step, ty.dtype()),
            None => tree(&mut m, index, entries, ty.dtype()),
        };
        Ok(m.expr(value))
    }
}

impl Tables {
    fn is_native(&self, table: Type, index: Type, result: Type) -> bool {
        let bits = result.dtype().bytes() as u8 * 8;
        let same = table.lanes() == result.lanes() && index.dtype().bytes() == result.dtype().bytes();
        let wanted = Native::Lut { bits, lanes: result.lanes() };
        same && self.target.is_some_and(|t| t.natives.iter().any(|(n, _)| *n == wanted))
    }

    /// The entries of a table that is constant.
    fn entries(&self, kernel: &Kernel, table: ExprId) -> Option<Vec<i64>> {
        let ExprKind::Table(f) = kernel.expr(table).kind else {
            let ExprKind::Get(local, _) = &kernel.expr(table).kind else { return None };
            return self.entries(kernel, *self.known.get(local)?);
        };
        (0..i64::from(kernel.expr(table).ty.lanes())).map(|l| evaluate(kernel, f.body, f.var, l)).collect()
    }
}

/// An index expression of one variable only.
pub(super) fn evaluate(kernel: &Kernel, id: IndexId, var: VarId, value: i64) -> Option<i64> {
    let go = |i| evaluate(kernel, i, var, value);
    Some(match kernel.index.get(id) {
        Index::Const(c) => c,
        Index::Var(v) if v == var => value,
        Index::Var(_) | Index::Builtin(_) | Index::Clamp(..) => return None,
        Index::Add(a, b) => go(a)? + go(b)?,
        Index::Scale(a, by) => go(a)? * by,
        Index::Div(a, by) => go(a)? / by,
        Index::DivBy(a, b) => go(a)?.checked_div(go(b)?)?,
        Index::Mod(a, by) => go(a)? % by,
        Index::Min(a, b) => go(a)?.min(go(b)?),
        Index::Max(a, b) => go(a)?.max(go(b)?),
    })
}

/// The entries up to where they repeat.
fn shortest_period(entries: &[i64]) -> &[i64] {
    let mut entries = entries;
    while entries.len() > 1 {
        let (low, high) = entries.split_at(entries.len() / 2);
        if low != high {
            break;
        }
        entries = low;
    }
    entries
}

fn affine(entries: &[i64]) -> Option<(i64, i64)> {
    let first = *entries.first()?;
    let step = entries.get(1).map_or(0, |second| second - first);
    entries.iter().enumerate().all(|(l, e)| *e == first + step * l as i64).then_some((first, step))
}

/// True if `arithmetic` gives these entries as this type.
fn exact(entries: &[i64], dtype: DType) -> bool {
    let largest = match dtype {
        DType::BF16 => 1 << 8,
        DType::F32 => 1 << 24,
        DType::F16 | DType::F64 | DType::Bool => return false,
        _ => 1 << 30,
    };
    entries.iter().all(|e| e.abs() <= largest)
}

/// first + step·index.
fn arithmetic(m: &mut Compute<'_, '_>, index: V, first: i64, step: i64, dtype: DType) -> V {
    let value = if step == 1 { index } else { m.mul(index, V::U32(step as u32)) };
    let value = if first == 0 { value } else { m.add(value, V::U32(first as u32)) };
    let signed = m.bits(value, DType::I32);
    match dtype {
        DType::BF16 => {
            // Exact, so the upper half needs no rounding.
            let wide = m.cast(signed, DType::F32);
            let wide = m.bits(wide, DType::U32);
            let high = m.shr(wide, V::U32(16));
            let high = m.cast(high, DType::U16);
            m.bits(high, DType::BF16)
        }
        _ => m.cast(signed, dtype),
    }
}

/// Entries of equal width are told apart by the index's bits, lowest first.
fn tree(m: &mut Compute<'_, '_>, index: V, entries: &[i64], dtype: DType) -> V {
    let mut level: Vec<V> = entries.iter().map(|e| V::Const { bits: constant::of_integer(dtype, *e), dtype }).collect();
    let mut bit = 1;
    while level.len() > 1 {
        let set = m.and(index, V::U32(bit));
        let set = m.ne(set, V::U32(0));
        level = level.chunks(2).map(|pair| m.select(set, pair[1], pair[0])).collect();
        bit <<= 1;
    }
    level[0]
}
