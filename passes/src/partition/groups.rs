//! The groups of a search, and which of them computes or stores a node.

use super::Group;
use super::graph::Graph;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Groups by number.
#[derive(Clone, Default)]
pub(super) struct Groups {
    all: BTreeMap<u32, Rc<Group>>,
    /// Groups that store a result of a node.
    storing: BTreeMap<u32, BTreeSet<u32>>,
    /// Groups that compute a node.
    computing: BTreeMap<u32, BTreeSet<u32>>,
}

impl Groups {
    /// Adds a group, or puts one in the place of another.
    pub fn insert(&mut self, id: u32, group: Rc<Group>) {
        self.remove(id);
        for v in &group.outputs {
            self.storing.entry(v.node).or_default().insert(id);
        }
        for n in &group.nodes {
            self.computing.entry(*n).or_default().insert(id);
        }
        self.all.insert(id, group);
    }

    /// Takes a group out.
    pub fn remove(&mut self, id: u32) -> Option<Rc<Group>> {
        let group = self.all.remove(&id)?;
        let drop = |of: &mut BTreeMap<u32, BTreeSet<u32>>, node: u32| {
            if let Some(ids) = of.get_mut(&node) {
                ids.remove(&id);
            }
        };
        group.outputs.iter().for_each(|v| drop(&mut self.storing, v.node));
        group.nodes.iter().for_each(|n| drop(&mut self.computing, *n));
        Some(group)
    }

    /// True if there is a group of that number.
    pub fn has(&self, id: u32) -> bool {
        self.all.contains_key(&id)
    }

    /// Numbers, ascending.
    pub fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.all.keys().copied()
    }

    /// Numbers and groups, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Rc<Group>)> {
        self.all.iter().map(|(id, g)| (*id, g))
    }

    /// Groups that must run before a group: those that store what it reads, and those that read a state it replaces.
    pub fn before(&self, graph: &Graph, id: u32) -> BTreeSet<u32> {
        let nodes = &self[id].nodes;
        let outside = |edges: &BTreeMap<u32, BTreeSet<u32>>| -> BTreeSet<u32> {
            let needs = nodes.iter().filter_map(|n| edges.get(n)).flatten();
            needs.filter(|n| !nodes.contains(n)).copied().collect()
        };
        let holding = |of: &BTreeMap<u32, BTreeSet<u32>>, node: u32| of.get(&node).cloned().unwrap_or_default();
        let stored = outside(&graph.producers).into_iter().flat_map(|n| holding(&self.storing, n));
        let read = outside(&graph.readers).into_iter().flat_map(|n| holding(&self.computing, n));
        stored.chain(read).filter(|other| *other != id).collect()
    }

    /// Groups that compute a node.
    pub fn computing(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        self.computing.get(&node).into_iter().flatten().copied()
    }

    /// Groups in dependency order, ties by their last node: near the order of the model's code. Shorter than the groups
    /// where they need each other.
    pub fn order(&self, graph: &Graph) -> Vec<u32> {
        let key = |id: u32| (self[id].nodes.last().copied().unwrap_or(0), id);
        let mut waiting: BTreeMap<u32, usize> = BTreeMap::new();
        let mut after: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut ready = BTreeSet::new();
        for id in self.ids() {
            let needs = self.before(graph, id);
            for n in &needs {
                after.entry(*n).or_default().push(id);
            }
            match needs.len() {
                0 => drop(ready.insert(key(id))),
                n => drop(waiting.insert(id, n)),
            }
        }
        let mut order = Vec::with_capacity(self.all.len());
        while let Some((_, id)) = ready.pop_first() {
            order.push(id);
            for next in after.get(&id).into_iter().flatten() {
                let left = waiting.get_mut(next).expect("a group that waits is listed");
                *left -= 1;
                if *left == 0 {
                    ready.insert(key(*next));
                }
            }
        }
        order
    }
}

impl std::ops::Index<u32> for Groups {
    type Output = Rc<Group>;

    fn index(&self, id: u32) -> &Rc<Group> {
        &self.all[&id]
    }
}

/// Which groups must run before which, at one moment of a search.
#[derive(Default)]
pub(super) struct Paths {
    place: BTreeMap<u32, usize>,
    /// Groups directly before each, by place.
    before: Vec<Vec<usize>>,
    /// All groups before each, as bits.
    ancestors: Vec<Vec<u64>>,
}

impl Paths {
    /// Of groups that do not need each other.
    pub fn new(groups: &Groups, graph: &Graph) -> Self {
        let order = groups.order(graph);
        let place: BTreeMap<u32, usize> = order.iter().enumerate().map(|(i, id)| (*id, i)).collect();
        let mut out = Paths { place, before: Vec::new(), ancestors: Vec::new() };
        for id in &order {
            let before: Vec<usize> = groups.before(graph, *id).iter().map(|b| out.place[b]).collect();
            let mut bits = vec![0u64; order.len().div_ceil(64)];
            for b in &before {
                bits[b / 64] |= 1 << (b % 64);
                bits.iter_mut().zip(&out.ancestors[*b]).for_each(|(x, y)| *x |= y);
            }
            out.before.push(before);
            out.ancestors.push(bits);
        }
        out
    }

    fn has(&self, of: usize, ancestor: usize) -> bool {
        self.ancestors[of][ancestor / 64] >> (ancestor % 64) & 1 == 1
    }

    /// True if any path leads from `from` to `to`.
    pub fn reaches(&self, from: u32, to: u32) -> bool {
        self.has(self.place[&to], self.place[&from])
    }

    /// True if a path leads from `from` to `to` through a third group.
    pub fn indirect(&self, from: u32, to: u32) -> bool {
        let (from, to) = (self.place[&from], self.place[&to]);
        self.before[to].iter().any(|b| *b != from && self.has(*b, from))
    }
}
