//! The check of a plan: after it, every index is in range and every buffer lies in memory that is large
//! enough for it at every value the symbols may take.
//!
//! It recomputes what it needs (lifetimes, sizes) and believes nothing the plan says of itself. What a
//! kernel does with its buffers is not in the plan and not checked here.

mod entry;
mod memory;

use crate::plan::{Access, Plan};
use crate::{DType, Layout, PackageError, Range, Size};
use std::collections::HashSet;

/// Largest number of bytes of one tensor, of the arena, or of all states: 64 TiB.
pub const MAX_BYTES: u64 = 1 << 46;
/// Largest number of entries of any list.
pub(crate) const MAX_ITEMS: usize = 1 << 20;
/// Largest number of buffers and of scalars of a kernel.
pub(crate) const MAX_RECORD: usize = 4096;
/// Largest number of axes of a shape or grid.
pub(crate) const MAX_AXES: usize = 255;
/// Largest group memory of a worker.
pub const MAX_GROUP_BYTES: u64 = 1 << 30;
/// Largest number of lanes of a group.
pub(crate) const MAX_LANES: u32 = 1024;
/// Largest number of groups of a shader's launch along one axis of a dispatch (WebGPU, "Limits").
pub const MAX_GROUPS: u64 = 65535;
/// Deepest nesting of a size.
pub(crate) const MAX_DEPTH: u32 = 16;
/// Alignment of buffers, and what their sizes are rounded up to.
pub const BUFFER_ALIGNMENT: u64 = 256;

/// Checks a plan. A writer calls it before it writes, a reader before it uses anything.
///
/// # Errors
/// 0606 for the first thing that is wrong, with its place, what was expected and what was found.
pub fn check_plan(plan: &Plan) -> Result<(), PackageError> {
    for (what, n) in [
        ("weights", plan.weights.len()),
        ("states", plan.states.len()),
        ("kernels", plan.kernels.len()),
        ("entries", plan.entries.len()),
    ] {
        at_most(what, "items", n as u64, MAX_ITEMS as u64)?;
    }
    unique("weights", plan.weights.iter().map(|w| w.name.as_str()))?;
    unique("states", plan.states.iter().map(|s| s.name.as_str()))?;
    unique("kernels", plan.kernels.iter().map(|k| k.name.as_str()))?;
    unique("entries", plan.entries.iter().map(|e| e.name.as_str()))?;
    for weight in &plan.weights {
        let at = || format!("weight `{}`", weight.name);
        stored(&at, weight.dtype, &weight.shape, weight.layout, weight.bytes)?;
    }
    let mut total = 0;
    for state in &plan.states {
        let at = || format!("state `{}`", state.name);
        stored(&at, state.dtype, &state.shape, state.layout, state.bytes)?;
        total += state.bytes.next_multiple_of(BUFFER_ALIGNMENT);
        at_most(&at(), "bytes in all states so far", total, MAX_BYTES)?;
    }
    for kernel in &plan.kernels {
        let at = format!("kernel `{}`", kernel.name);
        at_most(&at, "buffers", kernel.buffers.len() as u64, MAX_RECORD as u64)?;
        at_most(&at, "scalars", u64::from(kernel.scalars), MAX_RECORD as u64)?;
        at_most(&at, "phases", kernel.phases.len() as u64, MAX_ITEMS as u64)?;
        if !(kernel.constant.is_empty() || kernel.constant.len() == kernel.buffers.len()) {
            let expected = format!("{} flags, or none, of which buffers are constant", kernel.buffers.len());
            return Err(unsound(at, expected, kernel.constant.len().to_string()));
        }
        if let Some(phase) = kernel.phases.iter().find(|p| !(1..=MAX_LANES).contains(&p.lanes)) {
            let at = format!("{at}, phase `{}`", phase.name);
            return Err(unsound(at, format!("1 to {MAX_LANES} lanes"), phase.lanes.to_string()));
        }
    }
    plan.entries.iter().try_for_each(|entry| entry::check(plan, entry))
}

/// Checks what a plan for shaders must keep besides: that grids fit a dispatch.
pub(crate) fn check_dispatch(plan: &Plan) -> Result<(), PackageError> {
    plan.entries.iter().try_for_each(|entry| entry::check_dispatch(plan, entry))
}

/// True if the kernel may store to the buffer.
pub(crate) fn writes(access: Access) -> bool {
    access != Access::Read
}

/// A refusal; the caller that knows the file fills it in.
pub(crate) fn unsound(at: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> PackageError {
    PackageError::Plan { path: "<plan>".into(), at: at.into(), expected: expected.into(), found: found.into() }
}

pub(crate) fn at_most(at: &str, what: &str, found: u64, limit: u64) -> Result<(), PackageError> {
    if found <= limit {
        return Ok(());
    }
    Err(unsound(at, format!("at most {limit} {what}"), format!("{found}")))
}

pub(crate) fn unique<'a>(at: &str, names: impl Iterator<Item = &'a str>) -> Result<(), PackageError> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(unsound(at, "each name once", format!("`{name}` twice")));
        }
    }
    Ok(())
}

/// Checks the layout and the number of bytes of something stored.
fn stored(
    at: &dyn Fn() -> String,
    dtype: DType,
    shape: &[u64],
    layout: Layout,
    bytes: u64,
) -> Result<(), PackageError> {
    at_most(&at(), "axes", shape.len() as u64, MAX_AXES as u64)?;
    if let Layout::Blocked { block, pair } = layout
        && (block == 0 || pair == 0)
    {
        return Err(unsound(at(), "panels of at least one row and column", format!("{block} by {pair}")));
    }
    let expected = product(shape)
        .and_then(|_| product(&layout.stored_shape(shape)))
        .and_then(|n| n.checked_mul(dtype.bytes()))
        .filter(|n| *n <= MAX_BYTES);
    match expected {
        Some(n) if n == bytes => Ok(()),
        Some(n) => Err(unsound(at(), format!("{n} bytes for {dtype}{shape:?}"), format!("{bytes}"))),
        None => Err(unsound(at(), format!("at most {MAX_BYTES} bytes"), format!("{dtype}{shape:?}"))),
    }
}

/// The product, or `None` if it or, zero factors aside, any part of it overflows.
fn product(shape: &[u64]) -> Option<u64> {
    shape.iter().try_fold(1u64, |p, d| p.checked_mul((*d).max(1)))?;
    Some(shape.iter().product())
}

/// Largest number of bytes of a shape over all symbol values.
pub(crate) fn largest_bytes(
    at: &dyn Fn() -> String,
    dtype: DType,
    shape: &[Size],
    symbols: &[Range],
) -> Result<u64, PackageError> {
    at_most(&at(), "axes", shape.len() as u64, MAX_AXES as u64)?;
    let mut bytes = dtype.bytes();
    for (axis, size) in shape.iter().enumerate() {
        well_formed(&|| format!("{}, axis {axis}", at()), size, symbols.len())?;
        let extent = size.bounds(symbols).hi;
        // A zero extent must not hide an overflow: other axes are multiplied on their own elsewhere.
        let factor = u64::try_from(extent.max(1)).unwrap_or(1);
        bytes = bytes.checked_mul(factor).filter(|b| *b <= MAX_BYTES).ok_or_else(|| {
            unsound(at(), format!("at most {MAX_BYTES} bytes"), format!("an extent of up to {extent} on axis {axis}"))
        })?;
    }
    let empty = shape.iter().any(|s| s.bounds(symbols).hi <= 0);
    Ok(if empty { 0 } else { bytes })
}

pub(crate) fn well_formed(at: &dyn Fn() -> String, size: &Size, symbols: usize) -> Result<(), PackageError> {
    if size.is_well_formed(symbols, MAX_DEPTH) {
        return Ok(());
    }
    let expected = format!("a size over the entry's {symbols} symbols, nested at most {MAX_DEPTH} deep");
    Err(unsound(at(), expected, "another"))
}

impl PackageError {
    /// Fills in the file of a plan's refusal.
    pub(crate) fn at_path(self, to: &str) -> Self {
        match self {
            PackageError::Plan { at, expected, found, .. } => {
                PackageError::Plan { path: to.into(), at, expected, found }
            }
            other => other,
        }
    }
}
