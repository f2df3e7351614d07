//! The order of launches: the one that keeps fewest bytes live.
//!
//! The order given is kept unless another has a lower peak. A greedy order (of the launches that may run, the one after which
//! fewest bytes are live) is the first try, a search over sets of launches (`beam`) the second.

mod beam;
mod graph;

use graph::{Graph, Set};
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
    let graph = Graph::new(launches, bytes);
    let bound = graph.bound();
    let mut best: Vec<usize> = (0..launches.len()).collect();
    let mut most = peak(launches, bytes, &best);
    for try_one in [|g: &Graph<'_>, _| Some(greedy(g)), beam::search] {
        if most <= bound {
            break;
        }
        if let Some(found) = try_one(&graph, most) {
            let found_peak = peak(launches, bytes, &found);
            if found_peak < most {
                (best, most) = (found, found_peak);
            }
        }
    }
    best
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

/// Of the launches that may run, always the one after which fewest bytes are live.
fn greedy(graph: &Graph<'_>) -> Vec<usize> {
    let (mut done, mut ready) = (Set::empty(graph.len()), graph.first());
    let mut out = Vec::with_capacity(graph.len());
    let growth = |l: usize, done: &Set| graph.made(l, done) as i64 - graph.freed(l, done) as i64;
    while let Some(best) = ready.iter().min_by_key(|l| (growth(*l, &done), *l)) {
        graph.run(best, &mut done, &mut ready);
        out.push(best);
    }
    out
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
        let needs = Graph::new(&launches, &[0, 10, 1]).needs;
        assert!(needs[1].contains(&0) && needs[2].contains(&1));
    }
}
