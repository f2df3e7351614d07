//! Choosing one node of each class so that the nodes together cost least.
//!
//! A value used twice is paid for once, so the cost is that of a graph, not of a tree. The start is the best tree
//! (Knuth's generalisation of Dijkstra's algorithm, whose choices are acyclic whatever the costs); then single choices,
//! and all choices that share one child together, are flipped as long as the total falls and no cycle appears. Classes
//! are visited in an order that depends on their contents and not on their numbers; what is left of ties goes by number.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BinaryHeap;

/// Rounds of local search after which it ends, improved or not.
const ROUNDS: usize = 64;

/// One node of a class.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Cost of computing the node from its children, in any unit.
    pub cost: u64,
    /// Number that tells nodes of other operations apart.
    pub label: u64,
    /// Classes read.
    pub children: Vec<usize>,
}

/// Classes to choose from.
#[derive(Clone, Debug, Default)]
pub struct Problem {
    /// Candidates of each class.
    pub classes: Vec<Vec<Candidate>>,
    /// Classes that must be computed.
    pub roots: Vec<usize>,
}

/// A choice for each class that can be computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extraction {
    /// Position of the chosen candidate; meaningful for classes the roots reach.
    pub choice: Vec<Option<usize>>,
    /// Cost of everything the roots reach, each class once.
    pub cost: u64,
}

/// The best choice found; `None` if some root cannot be computed without a cycle.
pub fn extract(p: &Problem) -> Option<Extraction> {
    let order = Order::of(p);
    let choice = cheapest_trees(p, &order);
    let cost = total(p, &choice)?;
    let mut search = Search { p, order: &order, best: Extraction { choice, cost } };
    for _ in 0..ROUNDS {
        let before = search.best.cost;
        search.flip_groups();
        search.flip_singles();
        if search.best.cost == before {
            break;
        }
    }
    Some(search.best)
}

/// Cost of all that the roots reach; `None` for a cycle or a class without a choice.
pub fn total(p: &Problem, choice: &[Option<usize>]) -> Option<u64> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut mark = vec![Mark::New; p.classes.len()];
    let mut sum = 0u64;
    let mut stack: Vec<(usize, usize)> = Vec::new();
    for root in &p.roots {
        if mark[*root] == Mark::New {
            mark[*root] = Mark::Open;
            stack.push((*root, 0));
        }
        while let Some((class, next)) = stack.pop() {
            let node = &p.classes[class][choice[class]?];
            match node.children.get(next) {
                None => {
                    mark[class] = Mark::Done;
                    sum = sum.saturating_add(node.cost);
                }
                Some(child) => {
                    stack.push((class, next + 1));
                    match mark[*child] {
                        Mark::Open => return None,
                        Mark::Done => {}
                        Mark::New => {
                            mark[*child] = Mark::Open;
                            stack.push((*child, 0));
                        }
                    }
                }
            }
        }
    }
    Some(sum)
}

/// Classes the roots reach.
pub fn reached(p: &Problem, choice: &[Option<usize>]) -> Vec<bool> {
    let mut seen = vec![false; p.classes.len()];
    let mut stack = p.roots.clone();
    while let Some(class) = stack.pop() {
        if std::mem::replace(&mut seen[class], true) {
            continue;
        }
        if let Some(k) = choice[class] {
            stack.extend(&p.classes[class][k].children);
        }
    }
    seen
}

/// An order of classes and candidates by what they hold.
struct Order {
    /// Classes, first to last.
    classes: Vec<usize>,
    /// Position of each class.
    rank: Vec<usize>,
    /// Candidates of each class, first to last.
    candidates: Vec<Vec<usize>>,
}

impl Order {
    fn of(p: &Problem) -> Self {
        // Colour refinement: a class is told apart by its nodes, those by their children's colours.
        let mut colours = vec![0u64; p.classes.len()];
        let node = |c: &Candidate, colours: &[u64]| {
            c.children.iter().fold(mix(mix(1, c.cost), c.label), |h, child| mix(h, colours[*child]))
        };
        for _ in 0..8 {
            let next = p.classes.iter().map(|candidates| {
                let mut parts: Vec<u64> = candidates.iter().map(|c| node(c, &colours)).collect();
                parts.sort_unstable();
                parts.into_iter().fold(2, mix)
            });
            colours = next.collect();
        }
        let mut classes: Vec<usize> = (0..p.classes.len()).collect();
        classes.sort_by_key(|c| (colours[*c], *c));
        let mut rank = vec![0; classes.len()];
        for (i, c) in classes.iter().enumerate() {
            rank[*c] = i;
        }
        let candidates = p.classes.iter().map(|all| {
            let mut order: Vec<usize> = (0..all.len()).collect();
            order.sort_by_key(|k| (all[*k].cost, node(&all[*k], &colours), *k));
            order
        });
        Order { candidates: candidates.collect(), classes, rank }
    }
}

/// A fixed mixing of two words (the finaliser of splitmix64).
fn mix(a: u64, b: u64) -> u64 {
    let mut x = a.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(b).wrapping_add(0x632b_e59b_d9b4_e019);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Each class by the node whose tree costs least. A class is settled only after the children of its node.
fn cheapest_trees(p: &Problem, order: &Order) -> Vec<Option<usize>> {
    let mut choice = vec![None; p.classes.len()];
    let mut settled = vec![0u128; p.classes.len()];
    let mut waiting: Vec<Vec<usize>> = Vec::with_capacity(p.classes.len());
    let mut readers: Vec<Vec<(usize, usize)>> = vec![Vec::new(); p.classes.len()];
    let mut heap = BinaryHeap::new();
    for (class, candidates) in p.classes.iter().enumerate() {
        let mut counts = vec![0; candidates.len()];
        for (k, candidate) in candidates.iter().enumerate() {
            for (i, child) in candidate.children.iter().enumerate() {
                if !candidate.children[..i].contains(child) {
                    readers[*child].push((class, k));
                    counts[k] += 1;
                }
            }
            if counts[k] == 0 {
                heap.push(Reverse((u128::from(candidate.cost), order.rank[class], place(order, class, k), class, k)));
            }
        }
        waiting.push(counts);
    }
    while let Some(Reverse((cost, _, _, class, k))) = heap.pop() {
        if choice[class].is_some() {
            continue;
        }
        choice[class] = Some(k);
        settled[class] = cost;
        for (reader, n) in &readers[class] {
            waiting[*reader][*n] -= 1;
            if waiting[*reader][*n] == 0 && choice[*reader].is_none() {
                let candidate = &p.classes[*reader][*n];
                let tree = candidate
                    .children
                    .iter()
                    .fold(u128::from(candidate.cost), |sum, child| sum.saturating_add(settled[*child]));
                heap.push(Reverse((tree, order.rank[*reader], place(order, *reader, *n), *reader, *n)));
            }
        }
    }
    choice
}

fn place(order: &Order, class: usize, candidate: usize) -> usize {
    order.candidates[class].iter().position(|k| *k == candidate).unwrap_or(candidate)
}

struct Search<'a> {
    p: &'a Problem,
    order: &'a Order,
    best: Extraction,
}

impl Search<'_> {
    /// Takes a choice that differs in the given classes, if it costs less.
    fn take(&mut self, flips: &[(usize, usize)]) -> bool {
        let mut choice = self.best.choice.clone();
        for (class, k) in flips {
            choice[*class] = Some(*k);
        }
        match total(self.p, &choice) {
            Some(cost) if cost < self.best.cost => {
                self.best = Extraction { choice, cost };
                true
            }
            _ => false,
        }
    }

    fn flip_singles(&mut self) {
        let live = reached(self.p, &self.best.choice);
        for class in self.order.classes.iter().filter(|c| live[**c]) {
            for k in &self.order.candidates[*class] {
                if self.best.choice[*class] != Some(*k) {
                    self.take(&[(*class, *k)]);
                }
            }
        }
    }

    /// For each class, moves all live classes that have a node reading it onto that node; what gains nothing for
    /// the group is dropped again by single flips.
    fn flip_groups(&mut self) {
        let mut readers: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
        for (class, candidates) in self.p.classes.iter().enumerate() {
            for k in &self.order.candidates[class] {
                for child in &candidates[*k].children {
                    let all = readers.entry(*child).or_default();
                    // The cheapest node of a class that reads the child stands for the class.
                    if !all.iter().any(|(c, _)| *c == class) {
                        all.push((class, *k));
                    }
                }
            }
        }
        for shared in &self.order.classes {
            let Some(all) = readers.get(shared).filter(|r| r.len() > 1) else { continue };
            let live = reached(self.p, &self.best.choice);
            let flips: Vec<(usize, usize)> = all.iter().copied().filter(|(c, _)| live[*c]).collect();
            if flips.iter().any(|(c, k)| self.best.choice[*c] != Some(*k)) {
                self.take_group(&flips, *shared);
            }
            // Classes that the child does not make cheaper may stay where they are.
            let cost = |c: usize, k: usize| self.p.classes[c][k].cost;
            let gains = |(c, k): &(usize, usize)| self.best.choice[*c].is_some_and(|now| cost(*c, *k) < cost(*c, now));
            let cheaper: Vec<(usize, usize)> = flips.iter().copied().filter(gains).collect();
            if !cheaper.is_empty() && cheaper.len() < flips.len() {
                self.take_group(&cheaper, *shared);
            }
            if let Some(flips) = self.leaving(*shared, &[]).filter(|f| !f.is_empty()) {
                self.take(&flips);
            }
            self.swap(&flips, *shared);
        }
    }

    /// Flips a group onto a shared child and moves all others off a child that it read before.
    fn swap(&mut self, flips: &[(usize, usize)], shared: usize) {
        let now = flips.iter().filter_map(|(c, _)| self.best.choice[*c].map(|k| &self.p.classes[*c][k].children));
        let mut left: Vec<usize> = now.flatten().copied().filter(|c| *c != shared).collect();
        left.sort_by_key(|c| self.order.rank[*c]);
        left.dedup();
        for child in left {
            if let Some(others) = self.leaving(child, flips) {
                let all: Vec<(usize, usize)> = flips.iter().copied().chain(others).collect();
                self.take(&all);
            }
        }
    }

    /// What moves all live classes that read a child, but for some, onto their cheapest nodes that do not; `None` if one
    /// has none.
    fn leaving(&self, shared: usize, except: &[(usize, usize)]) -> Option<Vec<(usize, usize)>> {
        let live = reached(self.p, &self.best.choice);
        let mut flips = Vec::new();
        for class in self.order.classes.iter().filter(|c| live[**c] && !except.iter().any(|(e, _)| e == *c)) {
            let reads = |k: usize| self.p.classes[*class][k].children.contains(&shared);
            if self.best.choice[*class].is_none_or(|k| !reads(k)) {
                continue;
            }
            let cheapest = |class: usize| self.p.classes[class].iter().map(|n| n.cost).min().unwrap_or(0);
            // What is computed already costs nothing more.
            let cost = |k: usize| {
                let candidate = &self.p.classes[*class][k];
                candidate.cost + candidate.children.iter().filter(|c| !live[**c]).map(|c| cheapest(*c)).sum::<u64>()
            };
            let others = self.order.candidates[*class].iter().copied().filter(|k| !reads(*k));
            flips.push((*class, others.min_by_key(|k| cost(*k))?));
        }
        Some(flips)
    }

    /// Flips a group, with the shared child computed by each of its own nodes in turn.
    fn take_group(&mut self, flips: &[(usize, usize)], shared: usize) {
        if self.take(flips) {
            return;
        }
        for k in &self.order.candidates[shared] {
            let mut all = flips.to_vec();
            all.push((shared, *k));
            if self.best.choice[shared] != Some(*k) && self.take(&all) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
