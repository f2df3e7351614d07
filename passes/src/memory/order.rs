//! The order of launches: the one that keeps fewest bytes live.
//!
//! A greedy topological order (of the launches that may run, the one after which fewest bytes are live) is kept only
//! where its peak is below that of the order given.

use std::collections::BTreeSet;

/// What a launch touches, by buffer number.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// Buffers read.
    pub reads: Vec<usize>,
    /// Buffers written.
    pub writes: Vec<usize>,
}

/// A permutation of the launches. `bytes[b]` is 0 for buffers outside the arena.
pub fn order(launches: &[Launch], bytes: &[u64]) -> Vec<usize> {
    let given: Vec<usize> = (0..launches.len()).collect();
    let found = greedy(launches, bytes);
    if peak(launches, bytes, &found) < peak(launches, bytes, &given) { found } else { given }
}

/// Bytes live at the worst launch of an order: from its writer to its last reader, a buffer is live.
pub fn peak(launches: &[Launch], bytes: &[u64], order: &[usize]) -> u64 {
    let mut left = uses(launches, bytes.len());
    let mut live: BTreeSet<usize> = BTreeSet::new();
    let (mut now, mut most) = (0, 0);
    for l in order {
        for b in &launches[*l].writes {
            if live.insert(*b) {
                now += bytes[*b];
            }
        }
        most = most.max(now);
        now -= retire(&launches[*l], bytes, &mut left, &mut live);
    }
    most
}

fn uses(launches: &[Launch], buffers: usize) -> Vec<u32> {
    let mut out = vec![0; buffers];
    launches.iter().flat_map(|l| l.reads.iter().chain(&l.writes)).for_each(|b| out[*b] += 1);
    out
}

/// Drops buffers whose last use this launch is; gives their bytes.
fn retire(launch: &Launch, bytes: &[u64], left: &mut [u32], live: &mut BTreeSet<usize>) -> u64 {
    let mut freed = 0;
    for b in launch.reads.iter().chain(&launch.writes) {
        left[*b] -= 1;
        if left[*b] == 0 && live.remove(b) {
            freed += bytes[*b];
        }
    }
    freed
}

/// Launches that must come before each launch: by data, and by writes to what an earlier one reads or writes.
fn before(launches: &[Launch], buffers: usize) -> Vec<BTreeSet<usize>> {
    let mut writer: Vec<Option<usize>> = vec![None; buffers];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); buffers];
    let mut out = Vec::with_capacity(launches.len());
    for (i, l) in launches.iter().enumerate() {
        let mut needs = BTreeSet::new();
        for b in &l.reads {
            needs.extend(writer[*b]);
            readers[*b].push(i);
        }
        for b in &l.writes {
            needs.extend(writer[*b]);
            needs.extend(readers[*b].iter().copied().filter(|r| *r != i));
            writer[*b] = Some(i);
            readers[*b].clear();
        }
        out.push(needs);
    }
    out
}

fn greedy(launches: &[Launch], bytes: &[u64]) -> Vec<usize> {
    let mut needs = before(launches, bytes.len());
    let mut left = uses(launches, bytes.len());
    let mut live = BTreeSet::new();
    let mut open: BTreeSet<usize> = (0..launches.len()).collect();
    let mut out = Vec::with_capacity(launches.len());
    while let Some(best) = open
        .iter()
        .copied()
        .filter(|l| needs[*l].is_empty())
        .min_by_key(|l| (growth(&launches[*l], bytes, &left, &live), *l))
    {
        open.remove(&best);
        live.extend(launches[best].writes.iter().copied());
        retire(&launches[best], bytes, &mut left, &mut live);
        needs.iter_mut().for_each(|n| {
            n.remove(&best);
        });
        out.push(best);
    }
    out
}

/// Bytes live after the launch less those before it.
fn growth(l: &Launch, bytes: &[u64], left: &[u32], live: &BTreeSet<usize>) -> i64 {
    let made: u64 = l.writes.iter().filter(|b| !live.contains(b)).map(|b| bytes[*b]).sum();
    let touched: BTreeSet<usize> = l.reads.iter().chain(&l.writes).copied().collect();
    let freed: u64 = touched
        .into_iter()
        .filter(|b| {
            let mine = l.reads.iter().chain(&l.writes).filter(|x| *x == b).count() as u32;
            left[*b] == mine
        })
        .map(|b| bytes[b])
        .sum();
    made as i64 - freed as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(reads: &[usize], writes: &[usize]) -> Launch {
        Launch { reads: reads.to_vec(), writes: writes.to_vec() }
    }

    #[test]
    fn a_branch_is_finished_before_the_next_begins() {
        // Two wide producers, each followed by a narrow consumer: interleaving them halves the peak.
        let launches =
            [launch(&[], &[0]), launch(&[], &[1]), launch(&[0], &[2]), launch(&[1], &[3]), launch(&[2, 3], &[4])];
        let bytes = [100, 100, 1, 1, 1];
        let o = order(&launches, &bytes);
        assert_eq!(o, vec![0, 2, 1, 3, 4]);
        assert!(peak(&launches, &bytes, &o) < peak(&launches, &bytes, &[0, 1, 2, 3, 4]));
    }

    #[test]
    fn a_write_waits_for_the_readers_of_the_old_value() {
        let launches = [launch(&[0], &[1]), launch(&[], &[0]), launch(&[0, 1], &[2])];
        assert_eq!(order(&launches, &[0, 10, 1]), vec![0, 1, 2]);
        let needs = before(&launches, 3);
        assert!(needs[1].contains(&0) && needs[2].contains(&1));
    }
}
