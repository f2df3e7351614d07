//! A search over sets of launches that have run, a few of each size.
//!
//! Two orders of the same launches leave the same bytes live, so only the one with the lower peak goes on. Of the sets with
//! equally many launches the best `width` go on, by peak and then by bytes live; where no set was dropped the result is the
//! best order there is. A launch that fits below the peak so far and frees at least what it makes runs at once: an order that runs it
//! later is no better, since in between it holds as many bytes or more.

use super::graph::{Graph, Set};
use std::collections::HashMap;

/// Sets made, over all sizes; a count, so that the same input gives the same order.
const SETS: usize = 4_000;
/// The fewest and the most sets that those of one size are followed by.
const WIDTH: (usize, usize) = (4, 1_000);

struct Node {
    /// The node before, and the launches run since.
    before: Option<usize>,
    launches: Vec<usize>,
    done: Set,
    ready: Set,
    live: u64,
    peak: u64,
}

impl Node {
    /// The node after one more launch and what is then free to run.
    fn after(&self, graph: &Graph<'_>, at: usize, launch: usize) -> Node {
        let mut node = Node {
            before: Some(at),
            launches: Vec::new(),
            done: self.done.clone(),
            ready: self.ready.clone(),
            live: self.live,
            peak: self.peak,
        };
        node.run(graph, launch);
        node.settle(graph);
        node
    }

    fn run(&mut self, graph: &Graph<'_>, launch: usize) {
        self.live += graph.made(launch, &self.done);
        self.peak = self.peak.max(self.live);
        self.live -= graph.freed(launch, &self.done);
        graph.run(launch, &mut self.done, &mut self.ready);
        self.launches.push(launch);
    }

    /// Runs what is free to run.
    fn settle(&mut self, graph: &Graph<'_>) {
        let free = |n: &Node| {
            n.ready.iter().find(|l| {
                let made = graph.made(*l, &n.done);
                n.live + made <= n.peak && made <= graph.freed(*l, &n.done)
            })
        };
        while let Some(l) = free(self) {
            self.run(graph, l);
        }
    }
}

/// An order with a peak below `most`, if the search finds one.
pub fn search(graph: &Graph<'_>, most: u64) -> Option<Vec<usize>> {
    let n = graph.len();
    let width = (SETS / n.max(1)).clamp(WIDTH.0, WIDTH.1);
    let mut nodes: Vec<Node> = Vec::new();
    // Nodes by how many launches have run.
    let mut levels: Vec<Vec<usize>> = vec![Vec::new(); n + 1];
    let mut root =
        Node { before: None, launches: Vec::new(), done: Set::empty(n), ready: graph.first(), live: 0, peak: 0 };
    root.settle(graph);
    levels[root.launches.len()].push(0);
    nodes.push(root);
    let mut at: HashMap<Set, usize> = HashMap::new();
    for ran in 0..n {
        let level = std::mem::take(&mut levels[ran]);
        let mut moves = Vec::new();
        for i in level {
            let from = &nodes[i];
            for l in from.ready.iter() {
                let during = from.live + graph.made(l, &from.done);
                if during < most {
                    moves.push((from.peak.max(during), during - graph.freed(l, &from.done), i, l));
                }
            }
        }
        moves.sort_unstable();
        let mut made = 0;
        for (_, _, i, l) in moves {
            if made == width {
                break;
            }
            let node = nodes[i].after(graph, i, l);
            match at.get(&node.done) {
                Some(old) if nodes[*old].peak <= node.peak => {}
                Some(old) => nodes[*old] = node,
                None => {
                    made += 1;
                    at.insert(node.done.clone(), nodes.len());
                    levels[node.done.len()].push(nodes.len());
                    nodes.push(node);
                }
            }
        }
    }
    let mut out = Vec::with_capacity(n);
    let mut next = levels[n].first().copied();
    next?;
    while let Some(i) = next {
        out.extend(nodes[i].launches.iter().rev());
        next = nodes[i].before;
    }
    out.reverse();
    Some(out)
}
