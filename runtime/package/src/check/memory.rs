//! Checks where an entry's buffers lie: inside their memory, apart from each other, written before they are
//! read.

use super::{BUFFER_ALIGNMENT, at_most, largest_bytes, unsound, writes};
use crate::plan::{Access, Buffer, Entry, Kernel, Launch, Place, Plan};
use crate::{PackageError, Range};
use std::collections::HashSet;

/// Comparisons of two buffers after which a plan is refused as too large to check.
const MAX_COMPARISONS: u64 = 1 << 28;

pub(super) fn check(plan: &Plan, entry: &Entry, symbols: &[Range], at: &str) -> Result<(), PackageError> {
    for (i, buffer) in entry.buffers.iter().enumerate() {
        check_place(plan, entry, i, symbols, &|| format!("{at}, buffer {i} `{}`", buffer.name))?;
    }
    check_uses(plan, entry, at)?;
    check_overlaps(entry, at)
}

/// The bytes a buffer takes in the arena.
fn arena_range(buffer: &Buffer) -> Option<(u64, u64)> {
    match buffer.place {
        Place::Arena { offset } => Some((offset, offset + buffer.bytes.next_multiple_of(BUFFER_ALIGNMENT))),
        _ => None,
    }
}

fn check_place(
    plan: &Plan,
    entry: &Entry,
    index: usize,
    symbols: &[Range],
    at: &dyn Fn() -> String,
) -> Result<(), PackageError> {
    let buffer = &entry.buffers[index];
    let needed = largest_bytes(at, buffer.dtype, &buffer.shape, symbols)?;
    if buffer.bytes < needed {
        return Err(unsound(at(), format!("{needed} bytes for its shape"), format!("{}", buffer.bytes)));
    }
    at_most(&at(), "bytes", buffer.bytes, super::MAX_BYTES)?;
    let launches = entry.launches.len().max(1) as u32;
    if buffer.first > buffer.last || buffer.last >= launches {
        return Err(unsound(
            at(),
            format!("a first and last launch below {launches}"),
            format!("{} and {}", buffer.first, buffer.last),
        ));
    }
    if let Some(alias) = &buffer.alias
        && alias.of as usize >= index
    {
        return Err(unsound(at(), "to share memory with an earlier buffer", format!("buffer {}", alias.of)));
    }
    let port = |ports: &[crate::plan::Port], what: &str, i: u32| {
        let Some(port) = ports.get(i as usize) else {
            return Err(unsound(at(), format!("an {what} below {}", ports.len()), format!("{i}")));
        };
        if port.dtype != buffer.dtype || port.shape != buffer.shape {
            return Err(unsound(
                at(),
                format!("dtype and shape of {what} `{}`", port.name),
                format!("{}{:?}", buffer.dtype, buffer.shape.iter().map(|s| s.to_string()).collect::<Vec<_>>()),
            ));
        }
        Ok(())
    };
    let within = |what: &str, held: Option<u64>, i: u32| match held {
        Some(held) if buffer.bytes <= held => Ok(()),
        Some(held) => Err(unsound(at(), format!("at most {held} bytes of {what} {i}"), format!("{}", buffer.bytes))),
        None => Err(unsound(at(), format!("a {what} of the plan"), format!("{what} {i}"))),
    };
    match buffer.place {
        Place::Input(i) => port(&entry.inputs, "input", i),
        Place::Output(i) => port(&entry.outputs, "output", i),
        Place::Weight(i) => within("weight", plan.weights.get(i as usize).map(|w| w.bytes), i),
        Place::State(i) => within("state", plan.states.get(i as usize).map(|s| s.bytes), i),
        Place::Arena { offset } => {
            let end = buffer.bytes.next_multiple_of(BUFFER_ALIGNMENT).checked_add(offset);
            let arena = entry.arena.bytes.next_multiple_of(BUFFER_ALIGNMENT);
            if offset % BUFFER_ALIGNMENT != 0 || end.is_none_or(|end| end > arena) {
                return Err(unsound(
                    at(),
                    format!("a multiple of {BUFFER_ALIGNMENT} inside the {arena} bytes of the arena"),
                    format!("{} bytes at {offset}", buffer.bytes),
                ));
            }
            Ok(())
        }
    }
}

/// Checks what a launch writes: nothing of the caller's or of the weights, and nothing that another of its
/// buffers overlaps.
pub(super) fn check_launch(
    kernel: &Kernel,
    entry: &Entry,
    launch: &Launch,
    at: &dyn Fn() -> String,
) -> Result<(), PackageError> {
    // Buffer indices were checked; places were not, so only comparisons are made here.
    let buffers: Vec<&Buffer> = launch.buffers.iter().map(|b| &entry.buffers[*b as usize]).collect();
    let mut arena: Vec<(u64, u64, usize)> = Vec::new();
    let mut places: HashSet<Place> = HashSet::new();
    let mut written: HashSet<Place> = HashSet::new();
    for (i, (buffer, access)) in buffers.iter().zip(&kernel.buffers).enumerate() {
        if writes(*access) && matches!(buffer.place, Place::Input(_) | Place::Weight(_)) {
            return Err(unsound(at(), "inputs and weights to be read only", format!("a store to `{}`", buffer.name)));
        }
        if kernel.constant.get(i) == Some(&true) && !matches!(buffer.place, Place::Weight(_)) {
            return Err(unsound(at(), "a weight where the kernel reads constants", format!("`{}`", buffer.name)));
        }
        if let Place::Arena { offset } = buffer.place {
            let end = offset.saturating_add(buffer.bytes.max(1));
            arena.push((offset, end, i));
            continue;
        }
        let new = places.insert(buffer.place);
        let stored_before = written.contains(&buffer.place);
        if writes(*access) {
            written.insert(buffer.place);
        }
        if !new && (stored_before || writes(*access)) {
            return Err(unsound(at(), "a stored buffer to be bound once", format!("`{}` twice", buffer.name)));
        }
    }
    arena.sort_unstable();
    // The furthest ends so far, of all buffers and of those that are stored to.
    let (mut any, mut stored) = (0, 0);
    for (start, end, i) in arena {
        let stores = writes(kernel.buffers[i]);
        if start < stored || stores && start < any {
            return Err(unsound(
                at(),
                "what it stores to lie apart from its other buffers",
                format!("`{}` inside another", buffers[i].name),
            ));
        }
        any = any.max(end);
        if stores {
            stored = stored.max(end);
        }
    }
    Ok(())
}

/// Checks that buffers are used within their stated lives, outputs are written, and nothing is read that no
/// launch wrote.
fn check_uses(plan: &Plan, entry: &Entry, at: &str) -> Result<(), PackageError> {
    let mut used = vec![false; entry.buffers.len()];
    let mut produced = vec![false; entry.outputs.len()];
    for (i, launch) in entry.launches.iter().enumerate() {
        let kernel = &plan.kernels[launch.kernel as usize];
        for (b, access) in launch.buffers.iter().zip(&kernel.buffers) {
            let buffer = &entry.buffers[*b as usize];
            let at = || format!("{at}, buffer {b} `{}`", buffer.name);
            if !(buffer.first..=buffer.last).contains(&(i as u32)) {
                let expected = format!("uses in launches {}..={}", buffer.first, buffer.last);
                return Err(unsound(at(), expected, format!("one in launch {i}")));
            }
            let fresh = matches!(buffer.place, Place::Arena { .. } | Place::Output(_)) && buffer.alias.is_none();
            if fresh && !used[*b as usize] && *access == Access::Read {
                return Err(unsound(at(), "to be written before it is read", format!("a first load in launch {i}")));
            }
            used[*b as usize] = true;
            if let Place::Output(o) = buffer.place
                && writes(*access)
            {
                produced[o as usize] = true;
            }
        }
    }
    // What has no elements is written by nobody.
    let ranges: Vec<Range> = entry.symbols.iter().map(|s| s.range).collect();
    let empty = |i: usize| entry.outputs[i].shape.iter().any(|d| d.bounds(&ranges).hi <= 0);
    match (0..produced.len()).find(|i| !produced[*i] && !empty(*i)) {
        Some(i) => Err(unsound(at, format!("a launch that writes output `{}`", entry.outputs[i].name), "none")),
        None => Ok(()),
    }
}

/// Checks that buffers that live at the same time lie apart, those in one chain of aliases excepted.
fn check_overlaps(entry: &Entry, at: &str) -> Result<(), PackageError> {
    let mut root: Vec<usize> = Vec::with_capacity(entry.buffers.len());
    for (i, buffer) in entry.buffers.iter().enumerate() {
        let of = buffer.alias.as_ref().map(|a| root[a.of as usize]);
        root.push(of.unwrap_or(i));
    }
    let mut order: Vec<usize> = (0..entry.buffers.len())
        .filter(|i| matches!(entry.buffers[*i].place, Place::Arena { .. } | Place::Output(_)))
        .collect();
    order.sort_by_key(|i| entry.buffers[*i].first);
    let mut live: Vec<usize> = Vec::new();
    let mut comparisons = 0u64;
    for i in order {
        let buffer = &entry.buffers[i];
        live.retain(|j| entry.buffers[*j].last >= buffer.first);
        comparisons += live.len() as u64;
        at_most(at, "pairs of buffers that live at once", comparisons, MAX_COMPARISONS)?;
        for j in &live {
            let other = &entry.buffers[*j];
            let overlap = match (arena_range(buffer), arena_range(other)) {
                (Some((a, b)), Some((c, d))) => a < d && c < b,
                _ => buffer.place == other.place,
            };
            if overlap && root[i] != root[*j] {
                return Err(unsound(
                    format!("{at}, buffer {i} `{}`", buffer.name),
                    format!("to lie apart from buffer {j} `{}` while both live", other.name),
                    format!("{:?} and {:?}", buffer.place, other.place),
                ));
            }
        }
        live.push(i);
    }
    Ok(())
}
