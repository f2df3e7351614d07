//! Placing buffers of known lifetimes in one arena.
//!
//! A portfolio of greedy orders (by size, size times length, length, breadth, start) with best or first fit, then hill
//! climbing on the order. The lower bound is the largest sum of bytes live at one time; a placement that meets it is
//! optimal. Greedy orders after Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020.

/// A buffer: its bytes and the times it is live, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// First time.
    pub first: u32,
    /// Last time.
    pub last: u32,
    /// Bytes, a multiple of the caller's alignment.
    pub bytes: u64,
}

impl Interval {
    fn meets(&self, other: &Interval) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Offsets for a list of intervals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Offset of each buffer.
    pub offsets: Vec<u64>,
    /// Bytes of the arena.
    pub bytes: u64,
    /// Which of the portfolio won: `size/first`, …, with `+climb` where climbing improved it.
    pub strategy: String,
}

/// Largest sum of bytes live at one time.
pub fn lower_bound(buffers: &[Interval]) -> u64 {
    let mut events: Vec<(u32, bool, u64)> = Vec::with_capacity(2 * buffers.len());
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

/// Recomputes every conflict; the independent check of a placement.
///
/// # Errors
/// The two buffers that overlap in time and place, or the one that leaves the arena twice.
pub fn check(buffers: &[Interval], placement: &Placement) -> Result<(), (usize, usize)> {
    for (i, a) in buffers.iter().enumerate() {
        let (lo, hi) = (placement.offsets[i], placement.offsets[i] + a.bytes);
        if hi > placement.bytes {
            return Err((i, i));
        }
        for (j, b) in buffers.iter().enumerate().skip(i + 1) {
            let (from, to) = (placement.offsets[j], placement.offsets[j] + b.bytes);
            if a.meets(b) && lo < to && from < hi {
                return Err((i, j));
            }
        }
    }
    Ok(())
}

const ORDERS: [&str; 5] = ["size", "area", "length", "breadth", "start"];
/// Moves tried by climbing; a count, so that the same input gives the same plan.
const CLIMB_STEPS: usize = 2_000;

/// Places every buffer; the best the portfolio and climbing find.
pub fn place(buffers: &[Interval]) -> Placement {
    let bound = lower_bound(buffers);
    let conflicts = Conflicts::new(buffers);
    let mut best: Option<(Placement, Vec<usize>)> = None;
    'portfolio: for name in ORDERS {
        let order = sorted(buffers, name);
        for first_fit in [true, false] {
            let Some(offsets) = greedy(buffers, &conflicts, &order, first_fit, u64::MAX) else { continue };
            let bytes = height(buffers, &offsets);
            if best.as_ref().is_none_or(|(b, _)| bytes < b.bytes) {
                let strategy = format!("{name}/{}", if first_fit { "first" } else { "best" });
                best = Some((Placement { offsets, bytes, strategy }, order.clone()));
            }
            // Nothing is smaller than the bound.
            if bytes == bound {
                break 'portfolio;
            }
        }
    }
    let (placement, order) = best.expect("the portfolio is not empty");
    if placement.bytes == bound { placement } else { climb(buffers, &conflicts, placement, order, bound) }
}

struct Conflicts(Vec<Vec<u32>>);

impl Conflicts {
    fn new(buffers: &[Interval]) -> Self {
        let meeting = |i: usize| {
            let a = buffers[i];
            (0..buffers.len()).filter(|j| *j != i && a.meets(&buffers[*j])).map(|j| j as u32).collect()
        };
        Conflicts((0..buffers.len()).map(meeting).collect())
    }
}

fn sorted(buffers: &[Interval], by: &str) -> Vec<usize> {
    let length = |b: &Interval| u64::from(b.last - b.first) + 1;
    let breadth = |i: usize| buffers.iter().filter(|b| b.meets(&buffers[i])).map(|b| b.bytes).max().unwrap_or(0);
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|i| {
        let b = &buffers[*i];
        let key = match by {
            "size" => b.bytes,
            "area" => b.bytes.saturating_mul(length(b)),
            "length" => length(b),
            "breadth" => breadth(*i),
            _ => u64::from(u32::MAX - b.first),
        };
        (std::cmp::Reverse(key), std::cmp::Reverse(b.bytes), *i)
    });
    order
}

fn height(buffers: &[Interval], offsets: &[u64]) -> u64 {
    buffers.iter().zip(offsets).map(|(b, o)| o + b.bytes).max().unwrap_or(0)
}

/// Places buffers in order; `None` as soon as one ends above `limit`.
fn greedy(
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

/// Moves one buffer at the peak forward in the order and keeps what does not get worse.
fn climb(
    buffers: &[Interval],
    conflicts: &Conflicts,
    start: Placement,
    mut order: Vec<usize>,
    bound: u64,
) -> Placement {
    let mut best = start.clone();
    let Some(mut current) = greedy(buffers, conflicts, &order, true, u64::MAX) else { return start };
    let mut bytes = height(buffers, &current);
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = |n: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % n.max(1) as u64) as usize
    };
    for _ in 0..CLIMB_STEPS {
        if best.bytes == bound {
            break;
        }
        let top: Vec<usize> =
            (0..order.len()).filter(|p| current[order[*p]] + buffers[order[*p]].bytes == bytes).collect();
        let from = if next(4) == 0 || top.is_empty() { next(order.len()) } else { top[next(top.len())] };
        let to = next(from + 1);
        let moved = order.remove(from);
        order.insert(to, moved);
        if let Some(tried) = greedy(buffers, conflicts, &order, true, bytes) {
            let h = height(buffers, &tried);
            (current, bytes) = (tried, h);
            if h < best.bytes {
                let strategy = format!("{}+climb", start.strategy);
                best = Placement { offsets: current.clone(), bytes: h, strategy };
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
    use proptest::prelude::*;

    fn interval() -> impl Strategy<Value = Interval> {
        (0u32..12, 0u32..6, 1u64..9).prop_map(|(first, length, bytes)| Interval { first, last: first + length, bytes })
    }

    /// The best over all orders with first fit; first fit reaches an optimum for some order.
    fn brute(buffers: &[Interval]) -> u64 {
        fn go(b: &[Interval], c: &Conflicts, left: &mut Vec<usize>, order: &mut Vec<usize>, best: &mut u64) {
            if left.is_empty() {
                let offsets = greedy(b, c, order, true, u64::MAX).expect("there is no limit");
                *best = (*best).min(height(b, &offsets));
                return;
            }
            for i in 0..left.len() {
                let x = left.remove(i);
                order.push(x);
                go(b, c, left, order, best);
                order.pop();
                left.insert(i, x);
            }
        }
        let mut best = u64::MAX;
        let c = Conflicts::new(buffers);
        go(buffers, &c, &mut (0..buffers.len()).collect(), &mut Vec::new(), &mut best);
        best
    }

    proptest! {
        #[test]
        fn placements_are_sound_and_near_the_best(buffers in prop::collection::vec(interval(), 1..7)) {
            let p = place(&buffers);
            prop_assert_eq!(check(&buffers, &p), Ok(()));
            let (bound, best) = (lower_bound(&buffers), brute(&buffers));
            prop_assert!(bound <= best && best <= p.bytes);
            // Small problems: climbing reaches the optimum.
            prop_assert_eq!(p.bytes, best);
        }

        #[test]
        fn larger_problems_are_sound(buffers in prop::collection::vec(interval(), 1..60)) {
            let p = place(&buffers);
            prop_assert_eq!(check(&buffers, &p), Ok(()));
            prop_assert!(p.bytes >= lower_bound(&buffers));
        }
    }

    #[test]
    fn the_check_finds_an_overlap() {
        let b = [Interval { first: 0, last: 2, bytes: 8 }, Interval { first: 2, last: 3, bytes: 8 }];
        let p = |o: [u64; 2]| Placement { offsets: o.to_vec(), bytes: 16, strategy: String::new() };
        assert_eq!(check(&b, &p([0, 8])), Ok(()));
        assert_eq!(check(&b, &p([0, 7])), Err((0, 1)));
        assert_eq!(check(&b, &p([0, 9])), Err((1, 1)));
    }

    #[test]
    fn nothing_needs_no_memory() {
        assert_eq!(place(&[]).bytes, 0);
    }
}
