//! Placements without proof: a portfolio of greedy orders, then hill climbing on the best order.
//!
//! Buffers are taken by size, size times length, length, breadth or start, and go to the best or the first gap that holds them.
//! Orders after Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020.

use super::arena::{Interval, Placement, height};
use std::cmp::Reverse;

const ORDERS: [&str; 5] = ["size", "area", "length", "breadth", "start"];
/// Moves tried by climbing at most; a count, so that the same input gives the same plan.
const CLIMB_MOVES: usize = 2_000;
/// Neighbours looked at by climbing at most, so that thousands of buffers take no longer than hundreds.
const CLIMB_WORK: usize = 20_000_000;

/// A placement, and the order that gave it.
pub struct Ordered {
    /// The placement.
    pub placement: Placement,
    order: Vec<usize>,
}

/// The best of the portfolio; the first that has at most `enough` bytes.
pub fn portfolio(buffers: &[Interval], conflicts: &Conflicts, enough: u64) -> Ordered {
    let mut best: Option<Ordered> = None;
    for name in ORDERS {
        let order = sorted(buffers, conflicts, name);
        for first_fit in [true, false] {
            // Only what is smaller than the best so far is of use.
            let limit = best.as_ref().map_or(u64::MAX, |b| b.placement.bytes);
            let Some(offsets) = greedy(buffers, conflicts, &order, first_fit, limit) else { continue };
            let bytes = height(buffers, &offsets);
            if best.as_ref().is_none_or(|b| bytes < b.placement.bytes) {
                let strategy = format!("{name}/{}", if first_fit { "first" } else { "best" });
                best = Some(Ordered { placement: Placement { offsets, bytes, strategy }, order: order.clone() });
            }
            if bytes <= enough {
                return best.expect("a placement was just made");
            }
        }
    }
    best.expect("the portfolio is not empty")
}

/// Which buffers live at a common time.
pub struct Conflicts(Vec<Vec<u32>>);

impl Conflicts {
    /// Finds them in one sweep over time.
    pub fn new(buffers: &[Interval]) -> Self {
        let mut order: Vec<usize> = (0..buffers.len()).collect();
        order.sort_by_key(|i| buffers[*i].first);
        let mut out = vec![Vec::new(); buffers.len()];
        let mut live: Vec<usize> = Vec::new();
        for i in order {
            live.retain(|j| buffers[*j].last >= buffers[i].first);
            for j in &live {
                out[*j].push(i as u32);
                out[i].push(*j as u32);
            }
            live.push(i);
        }
        Conflicts(out)
    }
}

fn sorted(buffers: &[Interval], conflicts: &Conflicts, by: &str) -> Vec<usize> {
    let length = |b: &Interval| (b.last - b.first).saturating_add(1);
    let breadth = |i: usize| {
        let others = conflicts.0[i].iter().map(|j| buffers[*j as usize].bytes);
        others.chain([buffers[i].bytes]).max().unwrap_or(0)
    };
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_cached_key(|i| {
        let b = &buffers[*i];
        let key = match by {
            "size" => b.bytes,
            "area" => b.bytes.saturating_mul(length(b)),
            "length" => length(b),
            "breadth" => breadth(*i),
            _ => u64::MAX - b.first,
        };
        (Reverse(key), Reverse(b.bytes), *i)
    });
    order
}

/// Places buffers in order; `None` as soon as one ends above `limit`.
pub fn greedy(
    buffers: &[Interval],
    conflicts: &Conflicts,
    order: &[usize],
    first_fit: bool,
    limit: u64,
) -> Option<Vec<u64>> {
    let mut offsets: Vec<Option<u64>> = vec![None; buffers.len()];
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for i in order {
        let bytes = buffers[*i].bytes;
        taken.clear();
        taken.extend(
            conflicts.0[*i].iter().filter_map(|j| offsets[*j as usize].map(|o| (o, o + buffers[*j as usize].bytes))),
        );
        taken.sort_unstable();
        let (mut end, mut found, mut slack) = (0, None, u64::MAX);
        for (lo, hi) in &taken {
            if *lo >= end + bytes {
                let room = lo - end - bytes;
                if found.is_none() || room < slack {
                    (found, slack) = (Some(end), room);
                }
                if first_fit {
                    break;
                }
            }
            end = end.max(*hi);
        }
        let offset = found.unwrap_or(end);
        if offset.saturating_add(bytes) > limit {
            return None;
        }
        offsets[*i] = Some(offset);
    }
    Some(offsets.into_iter().map(|o| o.unwrap_or(0)).collect())
}

/// Moves one buffer at the peak forward in the order and keeps what does not get worse, until `enough` bytes suffice.
pub fn climb(buffers: &[Interval], conflicts: &Conflicts, start: Ordered, enough: u64) -> Placement {
    let Ordered { placement: mut best, mut order } = start;
    let strategy = format!("{}+climb", best.strategy);
    let Some(mut current) = greedy(buffers, conflicts, &order, true, u64::MAX) else { return best };
    let mut bytes = height(buffers, &current);
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = |n: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % n.max(1) as u64) as usize
    };
    let work: usize = buffers.len() + conflicts.0.iter().map(Vec::len).sum::<usize>();
    for _ in 0..CLIMB_MOVES.min(CLIMB_WORK / work.max(1)) {
        if best.bytes <= enough {
            break;
        }
        let top: Vec<usize> =
            (0..order.len()).filter(|p| current[order[*p]] + buffers[order[*p]].bytes == bytes).collect();
        let from = if next(4) == 0 || top.is_empty() { next(order.len()) } else { top[next(top.len())] };
        let to = next(from + 1);
        let moved = order.remove(from);
        order.insert(to, moved);
        if let Some(tried) = greedy(buffers, conflicts, &order, true, bytes) {
            bytes = height(buffers, &tried);
            current = tried;
            if bytes < best.bytes {
                best = Placement { offsets: current.clone(), bytes, strategy: strategy.clone() };
            }
        } else {
            let back = order.remove(to);
            order.insert(from, back);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_are_those_of_the_definition() {
        let b: Vec<Interval> = [(3, 5), (0, 2), (2, 3), (6, 9), (5, 6), (0, 9)]
            .map(|(first, last)| Interval { first, last, bytes: 1 })
            .into();
        let mut found = Conflicts::new(&b).0;
        found.iter_mut().for_each(|c| c.sort_unstable());
        let meets = |i: usize, j: usize| i != j && b[i].first <= b[j].last && b[j].first <= b[i].last;
        let want: Vec<Vec<u32>> =
            (0..b.len()).map(|i| (0..b.len()).filter(|j| meets(i, *j)).map(|j| j as u32).collect()).collect();
        assert_eq!(found, want);
    }

    #[test]
    fn climbing_mends_a_bad_order() {
        // The wide buffer waits until the narrow ones lie side by side.
        let b = [
            Interval { first: 0, last: 1, bytes: 2 },
            Interval { first: 1, last: 2, bytes: 3 },
            Interval { first: 2, last: 3, bytes: 2 },
            Interval { first: 0, last: 0, bytes: 3 },
            Interval { first: 3, last: 3, bytes: 3 },
        ];
        let conflicts = Conflicts::new(&b);
        let order = vec![0, 2, 4, 3, 1];
        let offsets = greedy(&b, &conflicts, &order, true, u64::MAX).expect("there is no limit");
        let bytes = height(&b, &offsets);
        let start = Ordered { placement: Placement { offsets, bytes, strategy: "given".into() }, order };
        assert!(climb(&b, &conflicts, start, 0).bytes <= bytes);
    }
}
