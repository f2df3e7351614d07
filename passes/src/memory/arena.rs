//! Placing buffers of known lifetimes in one arena.
//!
//! First greedy placements (`greedy`), then climbing, then an exact search (`exact`), each only as long as the placement is
//! above the lower bound: the largest sum of bytes live at one time, which no placement beats.

use super::exact::{self, Verdict};
use super::greedy::{self, Conflicts};
use std::collections::BTreeMap;

/// A buffer: its bytes and the times it is live, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// First time.
    pub first: u64,
    /// Last time, below `u64::MAX`.
    pub last: u64,
    /// Bytes, a multiple of the caller's alignment.
    pub bytes: u64,
}

/// Offsets for a list of intervals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Offset of each buffer: a sum of sizes, so a multiple of whatever divides all of them.
    pub offsets: Vec<u64>,
    /// Bytes of the arena.
    pub bytes: u64,
    /// What won: `size/first`, …, with `+climb` where climbing improved it; `exact`.
    pub strategy: String,
}

/// Steps of exact search in a compilation: below a second for hundreds of buffers, which is what they are worth.
const STEPS: u64 = 100_000;

/// Largest sum of bytes live at one time.
pub fn lower_bound(buffers: &[Interval]) -> u64 {
    let mut events: Vec<(u64, bool, u64)> = Vec::with_capacity(2 * buffers.len());
    for b in buffers {
        events.push((b.first, true, b.bytes));
        events.push((b.last + 1, false, b.bytes));
    }
    // At one time, ends come before starts: `false` sorts first.
    events.sort_unstable();
    let (mut live, mut most) = (0u64, 0);
    for (_, starts, bytes) in events {
        if starts {
            live += bytes;
            most = most.max(live);
        } else {
            live -= bytes;
        }
    }
    most
}

/// Recomputes every conflict in one sweep over time; the independent check of a placement.
///
/// # Errors
/// Two buffers that overlap in time and place, or one that leaves the arena or has no offset, twice.
pub fn check(buffers: &[Interval], placement: &Placement) -> Result<(), (usize, usize)> {
    let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * buffers.len());
    let mut ranges = Vec::with_capacity(buffers.len());
    for (i, b) in buffers.iter().enumerate() {
        let from = *placement.offsets.get(i).ok_or((i, i))?;
        let to = from.checked_add(b.bytes).filter(|to| *to <= placement.bytes).ok_or((i, i))?;
        ranges.push((from, to));
        // Nothing overlaps an empty range.
        if from < to {
            events.push((b.first, true, i));
            events.push((b.last + 1, false, i));
        }
    }
    events.sort_unstable();
    // Ranges in use, by where they begin. They are disjoint, so only neighbours can overlap a new one.
    let mut live: BTreeMap<u64, usize> = BTreeMap::new();
    for (_, starts, i) in events {
        let (from, to) = ranges[i];
        if !starts {
            live.remove(&from);
            continue;
        }
        let below = live.range(..=from).next_back().filter(|(_, j)| ranges[**j].1 > from);
        let above = live.range(from..to).next();
        if let Some((_, j)) = below.or(above) {
            return Err((i.min(*j), i.max(*j)));
        }
        live.insert(from, i);
    }
    Ok(())
}

/// A placement, and what is known of better ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The placement.
    pub placement: Placement,
    /// No placement has fewer bytes than these: the largest sum of bytes live at one time, or more where that is proved.
    pub bound: u64,
    /// Steps of exact search.
    pub steps: u64,
}

/// Why buffers were not placed within a capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// So many bytes are live at one time, which is more.
    Bound(u64),
    /// An exhaustive search took so many steps and found that no placement exists.
    Impossible(u64),
    /// Nothing was found; the smallest placement known has so many bytes.
    Open(u64),
}

/// Places every buffer in few bytes.
pub fn place(buffers: &[Interval]) -> Placement {
    minimise(buffers, STEPS).placement
}

/// Places every buffer in few bytes, with at most so many steps of exact search.
pub fn minimise(buffers: &[Interval], steps: u64) -> Placed {
    let bound = lower_bound(buffers);
    let placement = heuristic(buffers, bound);
    if placement.bytes <= bound {
        return Placed { placement, bound, steps: 0 };
    }
    let mut left = steps;
    let found = exact::minimise(buffers, &placement.offsets, bound, &mut left);
    let placement = if found.bytes < placement.bytes {
        Placement { offsets: found.offsets, bytes: found.bytes, strategy: "exact".into() }
    } else {
        placement
    };
    Placed { placement, bound: found.bound, steps: steps - left }
}

/// Places every buffer within a capacity, with at most so many steps of exact search.
///
/// # Errors
/// Why there is no placement, or that none was found.
pub fn fit(buffers: &[Interval], capacity: u64, steps: u64) -> Result<Placed, Misfit> {
    let bound = lower_bound(buffers);
    if bound > capacity {
        return Err(Misfit::Bound(bound));
    }
    let placement = heuristic(buffers, capacity);
    if placement.bytes <= capacity {
        return Ok(Placed { placement, bound, steps: 0 });
    }
    let mut left = steps;
    match exact::decide(buffers, &placement.offsets, capacity, &mut left) {
        Verdict::Fits(offsets) => {
            let placement = Placement { bytes: height(buffers, &offsets), offsets, strategy: "exact".into() };
            Ok(Placed { placement, bound, steps: steps - left })
        }
        Verdict::Impossible => Err(Misfit::Impossible(steps - left)),
        Verdict::Open => Err(Misfit::Open(placement.bytes)),
    }
}

/// The best of the portfolio and climbing, or the first that has at most `enough` bytes.
fn heuristic(buffers: &[Interval], enough: u64) -> Placement {
    let conflicts = Conflicts::new(buffers);
    let best = greedy::portfolio(buffers, &conflicts, enough);
    if best.placement.bytes <= enough { best.placement } else { greedy::climb(buffers, &conflicts, best, enough) }
}

/// The highest end of a buffer.
pub(super) fn height(buffers: &[Interval], offsets: &[u64]) -> u64 {
    buffers.iter().zip(offsets).map(|(b, o)| o + b.bytes).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn interval() -> impl Strategy<Value = Interval> {
        (0u64..12, 0u64..6, 0u64..9).prop_map(|(first, length, bytes)| Interval { first, last: first + length, bytes })
    }

    /// Every pair, by the definition.
    fn overlaps(b: &[Interval], p: &Placement) -> bool {
        (0..b.len()).any(|i| {
            (0..i).any(|j| {
                let time = b[i].first <= b[j].last && b[j].first <= b[i].last;
                let (x, y) = (p.offsets[i], p.offsets[j]);
                // Neither is empty.
                time && x.max(y) < (x + b[i].bytes).min(y + b[j].bytes)
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn placements_are_sound(buffers in prop::collection::vec(interval(), 1..60)) {
            let p = place(&buffers);
            prop_assert_eq!(check(&buffers, &p), Ok(()));
            prop_assert!(!overlaps(&buffers, &p));
            prop_assert!(p.bytes >= lower_bound(&buffers));
        }

        #[test]
        fn the_check_agrees_with_the_definition(
            buffers in prop::collection::vec((interval(), 0u64..20), 1..8)
        ) {
            let (b, offsets): (Vec<Interval>, Vec<u64>) = buffers.into_iter().unzip();
            let p = Placement { bytes: height(&b, &offsets), offsets, strategy: String::new() };
            prop_assert_eq!(check(&b, &p).is_err(), overlaps(&b, &p));
        }
    }

    #[test]
    fn the_check_finds_an_overlap() {
        let b = [Interval { first: 0, last: 2, bytes: 8 }, Interval { first: 2, last: 3, bytes: 8 }];
        let p = |o: &[u64]| Placement { offsets: o.to_vec(), bytes: 16, strategy: String::new() };
        assert_eq!(check(&b, &p(&[0, 8])), Ok(()));
        assert_eq!(check(&b, &p(&[0, 7])), Err((0, 1)));
        assert_eq!(check(&b, &p(&[0, 9])), Err((1, 1)));
        assert_eq!(check(&b, &p(&[0, u64::MAX])), Err((1, 1)));
        assert_eq!(check(&b, &p(&[8])), Err((1, 1)));
    }

    #[test]
    fn nothing_needs_no_memory() {
        assert_eq!(place(&[]).bytes, 0);
        let empty = [Interval { first: 0, last: 1, bytes: 0 }];
        assert_eq!(fit(&empty, 0, 0).map(|p| p.placement.bytes), Ok(0));
    }

    #[test]
    fn the_largest_buffer_and_the_latest_time_are_placed() {
        let b = [Interval { first: 0, last: u64::MAX - 1, bytes: u64::MAX }];
        assert_eq!(place(&b).bytes, u64::MAX);
        assert_eq!(fit(&b, u64::MAX - 1, 10), Err(Misfit::Bound(u64::MAX)));
    }
}
