//! Checks one entry: its symbols, ports and launches. Buffers and the arena are in [`super::memory`].

use super::{
    MAX_AXES, MAX_BYTES, MAX_GROUP_BYTES, MAX_GROUPS, MAX_ITEMS, at_most, largest_bytes, memory, unique, unsound,
    well_formed,
};
use crate::plan::{Entry, Launch, Plan, Port, SymbolKind};
use crate::{DType, PackageError, Range, SymId};

/// Largest number of symbols.
const MAX_SYMBOLS: usize = 1024;
/// Largest symbol value.
const MAX_SYMBOL: i64 = i32::MAX as i64;
/// Largest number of tasks of a launch.
const MAX_TASKS: i64 = 1 << 48;

pub(super) fn check(plan: &Plan, entry: &Entry) -> Result<(), PackageError> {
    let at = format!("entry `{}`", entry.name);
    for (what, n, limit) in [
        ("symbols", entry.symbols.len(), MAX_SYMBOLS),
        ("conditions", entry.requires.len(), MAX_ITEMS),
        ("inputs", entry.inputs.len(), MAX_ITEMS),
        ("outputs", entry.outputs.len(), MAX_ITEMS),
        ("buffers", entry.buffers.len(), MAX_ITEMS),
        ("launches", entry.launches.len(), MAX_ITEMS),
    ] {
        at_most(&at, what, n as u64, limit as u64)?;
    }
    at_most(&at, "bytes of arena", entry.arena.bytes, MAX_BYTES)?;
    at_most(&at, "bytes of group memory", entry.arena.worker_bytes, MAX_GROUP_BYTES)?;
    unique(&format!("{at}, symbols"), entry.symbols.iter().map(|s| s.name.as_str()))?;
    unique(&format!("{at}, inputs"), entry.inputs.iter().map(|p| p.name.as_str()))?;
    unique(&format!("{at}, outputs"), entry.outputs.iter().map(|p| p.name.as_str()))?;
    let symbols = symbols(entry, &at)?;
    for port in entry.inputs.iter().chain(&entry.outputs) {
        largest_bytes(&|| format!("{at}, port `{}`", port.name), port.dtype, &port.shape, &symbols)?;
    }
    for (i, size) in entry.requires.iter().enumerate() {
        well_formed(&|| format!("{at}, condition {i}"), size, symbols.len())?;
    }
    for (i, launch) in entry.launches.iter().enumerate() {
        check_launch(plan, entry, launch, &symbols, &|| format!("{at}, launch {i}"))?;
    }
    memory::check(plan, entry, &symbols, &at)
}

/// Checks that every launch of an entry that was checked fits a dispatch.
pub(super) fn check_dispatch(plan: &Plan, entry: &Entry) -> Result<(), PackageError> {
    let symbols: Vec<Range> = entry.symbols.iter().map(|s| s.range).collect();
    for (i, launch) in entry.launches.iter().enumerate() {
        let kernel = &plan.kernels[launch.kernel as usize];
        let at = || format!("entry `{}`, launch {i}, kernel `{}`", entry.name, kernel.name);
        let mut extents = launch.grid.iter().map(|s| s.bounds(&symbols).hi.max(0) as u64);
        if kernel.phases[launch.phase as usize].linear {
            let groups = extents.fold(1u64, u64::saturating_mul);
            at_most(&at(), "groups", groups, MAX_GROUPS * MAX_GROUPS)?;
        } else {
            at_most(&at(), "grid axes in a dispatch", launch.grid.len() as u64, 3)?;
            extents.try_for_each(|n| at_most(&at(), "groups along an axis", n, MAX_GROUPS))?;
        }
    }
    Ok(())
}

/// Checks that every symbol is bounded and that an input gives its value.
fn symbols(entry: &Entry, at: &str) -> Result<Vec<Range>, PackageError> {
    for (i, symbol) in entry.symbols.iter().enumerate() {
        let at = format!("{at}, symbol `{}`", symbol.name);
        let Range { lo, hi } = symbol.range;
        if !(0 <= lo && lo <= hi && hi <= MAX_SYMBOL) {
            return Err(unsound(at, format!("bounds in 0..={MAX_SYMBOL}"), format!("{lo}..={hi}")));
        }
        if symbol.multiple < 1 {
            return Err(unsound(at, "a multiple of at least 1", format!("{}", symbol.multiple)));
        }
        let id = SymId(i as u32);
        let given = |p: &Port| match symbol.kind {
            SymbolKind::Size => p.shape.iter().any(|s| s.as_symbol() == Some(id)),
            SymbolKind::Scalar => p.name == symbol.name && p.dtype == DType::I32 && p.shape.is_empty(),
        };
        if !entry.inputs.iter().any(given) {
            let expected = match symbol.kind {
                SymbolKind::Size => "an input with it as an extent".to_string(),
                SymbolKind::Scalar => format!("an input `{}: i32[]`", symbol.name),
            };
            return Err(unsound(at, expected, "none"));
        }
    }
    Ok(entry.symbols.iter().map(|s| s.range).collect())
}

fn check_launch(
    plan: &Plan,
    entry: &Entry,
    launch: &Launch,
    symbols: &[Range],
    at: &dyn Fn() -> String,
) -> Result<(), PackageError> {
    let Some(kernel) = plan.kernels.get(launch.kernel as usize) else {
        return Err(unsound(at(), format!("a kernel below {}", plan.kernels.len()), format!("{}", launch.kernel)));
    };
    let at = || format!("{}, kernel `{}`", at(), kernel.name);
    let Some(phase) = kernel.phases.get(launch.phase as usize) else {
        return Err(unsound(at(), format!("a phase below {}", kernel.phases.len()), format!("{}", launch.phase)));
    };
    if phase.group_bytes > entry.arena.worker_bytes {
        return Err(unsound(
            at(),
            format!("at most the entry's {} bytes of group memory", entry.arena.worker_bytes),
            format!("{}", phase.group_bytes),
        ));
    }
    for (what, expected, found) in [
        ("buffers", kernel.buffers.len(), launch.buffers.len()),
        ("scalars", kernel.scalars as usize, launch.scalars.len()),
    ] {
        if expected != found {
            return Err(unsound(at(), format!("{expected} {what}"), format!("{found}")));
        }
    }
    if let Some(b) = launch.buffers.iter().find(|b| **b as usize >= entry.buffers.len()) {
        return Err(unsound(at(), format!("buffers below {}", entry.buffers.len()), format!("{b}")));
    }
    at_most(&at(), "grid axes", launch.grid.len() as u64, MAX_AXES as u64)?;
    let mut tasks = 1i64;
    for size in launch.grid.iter().chain(&launch.scalars) {
        well_formed(&at, size, symbols.len())?;
    }
    for size in &launch.grid {
        tasks = tasks.saturating_mul(size.bounds(symbols).hi.max(1));
    }
    if tasks > MAX_TASKS {
        return Err(unsound(at(), format!("at most {MAX_TASKS} tasks"), format!("up to {tasks}")));
    }
    memory::check_launch(kernel, entry, launch, &at)
}
