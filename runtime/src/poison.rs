//! Which parts of the arena to fill with NaN, so that a wrong lifetime shows in the results.

use mlxc_package::BUFFER_ALIGNMENT;
use mlxc_package::plan::{Entry, Place};

/// The parts of the arena that hold nothing any more after a launch, and did before.
pub(crate) fn freed(entry: &Entry, launch: u32) -> Vec<(u64, u64)> {
    let range = |i: usize| match entry.buffers[i].place {
        Place::Arena { offset } => Some((offset, offset + entry.buffers[i].bytes.next_multiple_of(BUFFER_ALIGNMENT))),
        _ => None,
    };
    let root = |mut i: usize| {
        while let Some(alias) = &entry.buffers[i].alias {
            i = alias.of as usize;
        }
        i
    };
    let dead: Vec<usize> = (0..entry.buffers.len()).filter(|i| entry.buffers[*i].last == launch).collect();
    let mut out: Vec<(u64, u64)> = dead.iter().filter_map(|i| range(*i)).collect();
    // Whatever lives on, or will live on in what a dead one leaves it, stays.
    let kept = (0..entry.buffers.len()).filter(|i| {
        let b = &entry.buffers[*i];
        b.last > launch && (b.first <= launch || dead.iter().any(|d| root(*d) == root(*i)))
    });
    for (a, b) in kept.filter_map(range) {
        out = out
            .into_iter()
            .flat_map(|(from, to)| [(from, to.min(a)), (from.max(b), to)])
            .filter(|(from, to)| from < to)
            .collect();
    }
    out.sort_unstable();
    out.dedup();
    out
}
