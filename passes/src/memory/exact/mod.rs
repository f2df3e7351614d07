//! Placements that are proved: is there one within a capacity, and which is the smallest.
//!
//! Work is counted in steps (placements of single buffers that were tried), never in time, so the same input gives the same
//! answer everywhere. Preferences take turns with limits that double: where one of them wanders, another often walks
//! straight to an answer.

mod search;
mod sections;

use super::arena::{Interval, height};
use search::{End, PREFERENCES, Search};
use sections::{Problem, components};

/// The most buffers that share a stretch of time; beyond, a search would only use up its steps.
pub const MOST_BUFFERS: usize = 500;

/// The answer to whether buffers fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Offsets within the capacity.
    Fits(Vec<u64>),
    /// No placement exists.
    Impossible,
    /// The steps did not suffice, or there are too many buffers.
    Open,
}

/// Looks for offsets within a capacity. Stretches of time where the `known` offsets fit keep them. The steps taken are
/// subtracted from `steps`.
pub fn decide(buffers: &[Interval], known: &[u64], capacity: u64, steps: &mut u64) -> Verdict {
    let mut offsets = known.to_vec();
    let mut open = false;
    for part in components(buffers) {
        if part.iter().all(|i| known[*i] + buffers[*i].bytes <= capacity) {
            continue;
        }
        if part.len() > MOST_BUFFERS {
            open = true;
            continue;
        }
        let problem = Problem::new(buffers, &part);
        let mut search = Search::new(&problem, capacity);
        match take_turns(&mut search, part.len() as u64, steps) {
            End::Found => part.iter().zip(search.offsets()).for_each(|(i, o)| offsets[*i] = *o),
            // One stretch of time that does not fit is proof enough.
            End::Impossible => return Verdict::Impossible,
            End::Steps => open = true,
        }
    }
    if open {
        return Verdict::Open;
    }
    // An empty buffer lies anywhere; at the start it is within every capacity.
    offsets.iter_mut().zip(buffers).filter(|(_, b)| b.bytes == 0).for_each(|(o, _)| *o = 0);
    Verdict::Fits(offsets)
}

/// Runs all preferences in turn, with limits that double, until one of them has an answer.
fn take_turns(search: &mut Search<'_>, buffers: u64, steps: &mut u64) -> End {
    let mut limit = 4 * buffers;
    while *steps > 0 {
        for preference in PREFERENCES {
            let before = search.steps();
            let end = search.run(preference, limit.min(*steps));
            *steps -= search.steps() - before;
            if end != End::Steps {
                return end;
            }
        }
        limit *= 2;
    }
    End::Steps
}

/// The smallest placement found, and how much is proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smallest {
    /// Offset of each buffer.
    pub offsets: Vec<u64>,
    /// Bytes of the arena.
    pub bytes: u64,
    /// No placement has fewer bytes than these.
    pub bound: u64,
}

/// Shrinks a placement: first to the bound, then by bisection between what is refused and what is known. The steps taken are
/// subtracted from `steps`.
pub fn minimise(buffers: &[Interval], known: &[u64], bound: u64, steps: &mut u64) -> Smallest {
    let mut best = Smallest { offsets: known.to_vec(), bytes: height(buffers, known), bound };
    // Every offset worth trying is a sum of sizes, and so a multiple of what divides them all.
    let unit = buffers.iter().map(|b| b.bytes).fold(0, gcd).max(1);
    // Capacities below `low` are refused or were left open.
    let mut low = bound;
    let mut at = bound;
    while low < best.bytes && *steps > 0 {
        let mut share = steps.div_ceil(2);
        *steps -= share;
        match decide(buffers, &best.offsets, at, &mut share) {
            Verdict::Fits(offsets) => {
                best.bytes = height(buffers, &offsets);
                best.offsets = offsets;
            }
            Verdict::Impossible => {
                low = at + unit;
                best.bound = low;
            }
            Verdict::Open => low = at + unit,
        }
        *steps += share;
        at = low + best.bytes.saturating_sub(low) / unit / 2 * unit;
    }
    // What is left of the steps goes to the next smaller capacity: to find it, or to prove that there is none.
    while best.bound < best.bytes && *steps > 0 {
        match decide(buffers, &best.offsets, best.bytes - unit, steps) {
            Verdict::Fits(offsets) => {
                best.bytes = height(buffers, &offsets);
                best.offsets = offsets;
            }
            Verdict::Impossible => best.bound = best.bytes,
            Verdict::Open => break,
        }
    }
    best
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
