//! What a plan says to people: entries, kernels, memory.

use mlxc_package::plan::{Entry, Place, Plan};
use serde::Serialize;
use std::fmt::Write;

/// One entry in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryReport {
    /// Name.
    pub name: String,
    /// Launches of one step.
    pub launches: u64,
    /// Launches of one repetition of the repeated block; 0 where nothing repeats.
    pub launches_per_block: u64,
    /// Planned scratch, in bytes.
    pub scratch_bytes: u64,
    /// Largest sum of live scratch at one launch, in bytes.
    pub lower_bound_bytes: u64,
    /// Sum of all scratch buffers, in bytes.
    pub naive_bytes: u64,
    /// Group memory a worker needs, in bytes.
    pub worker_bytes: u64,
    /// State, in bytes.
    pub state_bytes: u64,
    /// Weights this entry reads, in bytes.
    pub weight_bytes: u64,
}

/// A plan in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanReport {
    /// Entries.
    pub entries: Vec<EntryReport>,
    /// Distinct kernels.
    pub kernels: u64,
    /// All weights, in bytes.
    pub weight_bytes: u64,
    /// All states, in bytes.
    pub state_bytes: u64,
}

/// Reports a plan.
pub fn report(plan: &Plan) -> PlanReport {
    PlanReport {
        entries: plan.entries.iter().map(|e| entry(plan, e)).collect(),
        kernels: plan.kernels.len() as u64,
        weight_bytes: plan.weights.iter().map(|w| w.bytes).sum(),
        state_bytes: plan.states.iter().map(|s| s.bytes).sum(),
    }
}

fn entry(plan: &Plan, e: &Entry) -> EntryReport {
    let repeated: Vec<(u32, u32)> = e.launches.iter().filter_map(|l| l.block).collect();
    let repetitions: std::collections::BTreeSet<(u32, u32)> = repeated.iter().copied().collect();
    let bytes = |pick: &dyn Fn(Place) -> Option<u64>| -> u64 { e.buffers.iter().filter_map(|b| pick(b.place)).sum() };
    EntryReport {
        name: e.name.clone(),
        launches: e.launches.len() as u64,
        launches_per_block: repeated.len().checked_div(repetitions.len()).unwrap_or(0) as u64,
        scratch_bytes: e.arena.bytes,
        lower_bound_bytes: e.arena.lower_bound,
        naive_bytes: e.arena.naive,
        worker_bytes: e.arena.worker_bytes,
        state_bytes: bytes(&|p| match p {
            Place::State(s) => Some(plan.states[s as usize].bytes),
            _ => None,
        }),
        weight_bytes: bytes(&|p| match p {
            Place::Weight(w) => Some(plan.weights[w as usize].bytes),
            _ => None,
        }),
    }
}

/// Bytes as people read them.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// The kernels of an entry in launch order, what each fused and where it came from. Repetitions of a block are shown
/// once.
pub fn kernels(plan: &Plan, e: &Entry) -> String {
    let mut out = String::new();
    let mut skipped = 0;
    for l in &e.launches {
        if l.block.is_some_and(|(_, n)| n > 0) {
            skipped += 1;
            continue;
        }
        let k = &plan.kernels[l.kernel as usize];
        let place = if l.block.is_some() { "  block" } else { "" };
        let _ = writeln!(out, "{:<28} {:<10}{place}", k.name, k.template);
        let _ = writeln!(out, "    fused: {}", k.comment);
        let mut files: Vec<&str> = k.origin.iter().map(String::as_str).collect();
        files.dedup();
        if !files.is_empty() {
            let _ = writeln!(out, "    from:  {}", files.join(", "));
        }
    }
    if skipped > 0 {
        let _ = writeln!(out, "... and the same block again: {skipped} more launches");
    }
    out
}

/// The memory plan of an entry as text.
pub fn memory(e: &Entry) -> String {
    let mut out = String::new();
    let a = &e.arena;
    let ratio = if a.lower_bound == 0 { 1.0 } else { a.bytes as f64 / a.lower_bound as f64 };
    let _ = writeln!(
        out,
        "{}: scratch {} ({} bytes), lower bound {}, ratio {ratio:.4}, without reuse {}, placed by {}",
        e.name,
        human(a.bytes),
        a.bytes,
        human(a.lower_bound),
        human(a.naive),
        a.strategy
    );
    let _ = writeln!(out, "  group memory of a worker: {}", human(a.worker_bytes));
    let (peak, live) = peak(e);
    let _ = writeln!(out, "  peak at launch {peak}: {} live", human(live));
    for b in &e.buffers {
        if let Place::Arena { offset } = b.place
            && b.first <= peak
            && peak <= b.last
        {
            let _ = writeln!(
                out,
                "    {:<28} {:>10} at {offset:<12} launches {}..={}",
                b.name,
                human(b.bytes),
                b.first,
                b.last
            );
        }
    }
    out
}

/// The launch at which most scratch is live, and how much.
fn peak(e: &Entry) -> (u32, u64) {
    let live = |at: u32| -> u64 {
        e.buffers
            .iter()
            .filter(|b| matches!(b.place, Place::Arena { .. }) && b.first <= at && at <= b.last)
            .map(|b| b.bytes.div_ceil(256) * 256)
            .sum()
    };
    (0..e.launches.len() as u32)
        .map(|i| (i, live(i)))
        .max_by_key(|(i, b)| (*b, std::cmp::Reverse(*i)))
        .unwrap_or((0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_readable() {
        assert_eq!(human(0), "0 B");
        assert_eq!(human(1536), "1.5 KiB");
        assert_eq!(human(3 << 30), "3.0 GiB");
    }
}
