//! Lifetimes as sections: the sets of buffers that are live together, each set once and no set within another.
//!
//! Two buffers meet in time just where they share a section, so the search needs no other notion of time. A section ends
//! where a buffer dies after others were born.

use super::super::Interval;

/// Buffers of one stretch of time that no instant splits, numbered from 0, and their sections.
#[derive(Debug)]
pub struct Problem {
    /// Bytes of each buffer.
    pub bytes: Vec<u64>,
    /// Times that each buffer lives.
    pub length: Vec<u64>,
    /// Sections of each buffer: the first, and one past the last.
    pub span: Vec<(usize, usize)>,
    /// Buffers that meet each buffer.
    pub meets: Vec<Vec<usize>>,
    /// Buffers of each section.
    pub members: Vec<Vec<usize>>,
}

impl Problem {
    /// Sections of the buffers `chosen`.
    pub fn new(buffers: &[Interval], chosen: &[usize]) -> Self {
        let n = chosen.len();
        // Deaths before births at the same time, since both ends of an interval are live.
        let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * n);
        for (i, b) in chosen.iter().map(|b| &buffers[*b]).enumerate() {
            events.push((b.first, true, i));
            events.push((b.last + 1, false, i));
        }
        events.sort_unstable();
        let mut members: Vec<Vec<usize>> = Vec::new();
        let mut span = vec![(0, 0); n];
        let mut meets = vec![Vec::new(); n];
        let mut live: Vec<usize> = Vec::new();
        let mut born = false;
        for (_, birth, i) in events {
            if birth {
                for j in &live {
                    meets[i].push(*j);
                    meets[*j].push(i);
                }
                span[i].0 = members.len();
                live.push(i);
                born = true;
                continue;
            }
            if born {
                members.push(live.clone());
                born = false;
            }
            live.retain(|j| *j != i);
            span[i].1 = members.len();
        }
        Problem {
            bytes: chosen.iter().map(|b| buffers[*b].bytes).collect(),
            length: chosen.iter().map(|b| buffers[*b].last - buffers[*b].first + 1).collect(),
            span,
            meets,
            members,
        }
    }
}

/// Buffers in stretches of time that share no buffer. Empty buffers take no room and are left out.
pub fn components(buffers: &[Interval]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..buffers.len()).filter(|i| buffers[*i].bytes > 0).collect();
    order.sort_by_key(|i| (buffers[*i].first, *i));
    let mut out: Vec<Vec<usize>> = Vec::new();
    let mut end = None;
    for i in order {
        match out.last_mut() {
            Some(part) if end >= Some(buffers[i].first) => part.push(i),
            _ => out.push(vec![i]),
        }
        end = end.max(Some(buffers[i].last));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(first: u64, last: u64) -> Interval {
        Interval { first, last, bytes: 1 }
    }

    #[test]
    fn sections_are_the_largest_sets_of_live_buffers() {
        let b = [interval(0, 2), interval(1, 4), interval(3, 5), interval(5, 6)];
        let p = Problem::new(&b, &[0, 1, 2, 3]);
        assert_eq!(p.members, vec![vec![0, 1], vec![1, 2], vec![2, 3]]);
        assert_eq!(p.span, vec![(0, 1), (0, 2), (1, 3), (2, 3)]);
        assert_eq!(p.meets, vec![vec![1], vec![0, 2], vec![1, 3], vec![2]]);
    }

    #[test]
    fn components_share_no_time() {
        let b = [interval(4, 6), interval(0, 2), interval(2, 3), interval(7, 7), interval(5, 5)];
        assert_eq!(components(&b), vec![vec![1, 2], vec![0, 4], vec![3]]);
    }
}
