//! The best partition of a few nodes, by trying all: the oracle that growing is measured against.
//!
//! A kernel's nodes hang together, by data or by a value they all read. Elementwise nodes with several readers may be
//! copied into all of them. For each choice of copies a table over sets of nodes gives the least time of any split into
//! kernels, cyclic ones too; a search over splits uses it as its bound, drops cyclic ones and adds the peak.

use super::groups::Groups;
use super::objective::{Objective, byte_cost, peak};
use super::space::Space;
use super::{CALL, Group};
use crate::lower::emit::{Region, Target};
use mlxc_ir::graph::{Function, Op, ValueId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// Nodes of the largest function that is searched.
pub const MOST_NODES: usize = 16;

/// The best partition.
#[derive(Clone, Debug)]
pub struct Optimum {
    /// Nodes of its kernels.
    pub regions: Vec<Region>,
    /// Time and memory.
    pub objective: Objective,
    /// Kernels built on the way.
    pub built: usize,
}

/// Searches every partition with at most `copies` copied nodes; `None` for more than `most` nodes (and [`MOST_NODES`]), or
/// where a node has no kernel.
pub fn exact(f: &Function, target: &Target<'_>, weights: &[bool], copies: usize, most: usize) -> Option<Optimum> {
    let space = Space::new(f, target, weights);
    let nodes: Vec<u32> = space.starts().into_iter().collect();
    if nodes.len() > most.min(MOST_NODES) {
        return None;
    }
    let mut search = Search {
        related: related(&space, &nodes),
        kernels: Kernels { space: &space, built: HashMap::new() },
        nodes,
        best: None,
    };
    let eligible = search.eligible();
    for choice in 0u32..1 << eligible.len() {
        if choice.count_ones() as usize <= copies {
            let copied = eligible.iter().enumerate().filter(|(i, _)| choice >> i & 1 == 1);
            search.with_copies(copied.map(|(_, n)| *n).collect());
        }
    }
    let built = search.kernels.built.len();
    search.best.map(|(_, objective, regions)| Optimum { regions, objective, built })
}

/// Kernels by their nodes and outputs, each built once.
pub(super) struct Kernels<'s, 'a> {
    pub space: &'s Space<'a>,
    pub built: HashMap<(Region, Vec<ValueId>), Option<Rc<Group>>>,
}

impl Kernels<'_, '_> {
    /// The kernel of some nodes that stores some of their values.
    pub fn get(&mut self, nodes: Region, outputs: Vec<ValueId>) -> Option<Rc<Group>> {
        let build = |(nodes, outputs): &(Region, Vec<ValueId>)| {
            self.space.group_with(nodes.clone(), outputs.clone()).ok().map(Rc::new)
        };
        let key = (nodes, outputs);
        if let Some(known) = self.built.get(&key) {
            return known.clone();
        }
        let made = build(&key);
        self.built.insert(key, made.clone());
        made
    }
}

/// For each node, the nodes it hangs together with: data, or a value with extents that both read.
fn related(space: &Space<'_>, nodes: &[u32]) -> Vec<u32> {
    let f = space.f;
    // What each node of the function reads through views: parameters and computing nodes.
    let mut behind: Vec<BTreeSet<ValueId>> = Vec::with_capacity(f.nodes.len());
    for (i, n) in f.nodes.iter().enumerate() {
        let mut reads = BTreeSet::new();
        for v in &n.inputs {
            let free = crate::lower::emit::is_free(f, v.node) && !matches!(f.node(*v).op, Op::Param(_));
            if free {
                reads.extend(behind[v.node as usize].iter().copied());
            } else {
                reads.insert(*v);
            }
        }
        debug_assert_eq!(behind.len(), i);
        behind.push(reads);
    }
    let shares = |a: u32, b: u32| {
        let mut both = behind[a as usize].intersection(&behind[b as usize]);
        both.any(|v| f.ty(*v).rank() > 0)
    };
    let feeds = |a: u32, b: u32| space.graph.consumers.get(&a).is_some_and(|c| c.contains(&b));
    nodes
        .iter()
        .map(|a| {
            let bit = |(i, b): (usize, &u32)| {
                let hangs = a != b && (feeds(*a, *b) || feeds(*b, *a) || shares(*a, *b));
                u32::from(hangs) << i
            };
            nodes.iter().enumerate().map(bit).sum()
        })
        .collect()
}

struct Search<'s, 'a> {
    kernels: Kernels<'s, 'a>,
    /// The nodes, by bit.
    nodes: Vec<u32>,
    /// Nodes that each hangs together with, as bits.
    related: Vec<u32>,
    best: Option<(f64, Objective, Vec<Region>)>,
}

/// The kernels that sets of the nodes that are not copied can be.
struct Table {
    /// Kernel of each set that can be one.
    groups: BTreeMap<u32, Rc<Group>>,
    /// Least seconds of any split of a set into kernels.
    least: HashMap<u32, f64>,
}

impl Search<'_, '_> {
    fn is_call(&self, node: u32) -> bool {
        matches!(self.kernels.space.f.nodes[node as usize].op, Op::Call { .. })
    }

    /// Nodes that copying could pay for: several readers, in the end, and none of them a call.
    fn eligible(&self) -> Vec<u32> {
        let consumers = &self.kernels.space.graph.consumers;
        let mut out: BTreeSet<u32> = BTreeSet::new();
        for n in self.nodes.iter().rev() {
            let readers: Vec<u32> = consumers.get(n).into_iter().flatten().copied().collect();
            let several = readers.len() > 1 || readers.first().is_some_and(|r| out.contains(r));
            if several && self.kernels.space.may_be_copied(*n) && !readers.iter().any(|r| self.is_call(*r)) {
                out.insert(*n);
            }
        }
        out.into_iter().collect()
    }

    fn region(&self, set: u32, copied: &Region) -> Region {
        let bits = self.nodes.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1);
        self.kernels.space.closed(bits.map(|(_, n)| *n).collect(), copied)
    }

    /// True if the set hangs together, through copies too.
    fn hangs_together(&self, set: u32, copies: u32) -> bool {
        let mut seen = set & set.wrapping_neg();
        loop {
            let mut next = seen;
            for (i, related) in self.related.iter().enumerate() {
                if seen >> i & 1 == 1 {
                    next |= related & (set | copies);
                }
            }
            if next == seen {
                return set & !seen == 0;
            }
            seen = next;
        }
    }

    fn with_copies(&mut self, copied: Region) {
        let (mut all, mut copies) = (0u32, 0u32);
        for (i, n) in self.nodes.iter().enumerate() {
            if copied.contains(n) { copies |= 1 << i } else { all |= 1 << i }
        }
        let mut table = Table { groups: BTreeMap::new(), least: HashMap::from([(0, 0.0)]) };
        let mut set = all;
        while set != 0 {
            if self.hangs_together(set, copies) {
                let nodes = self.region(set, &copied);
                // Copies are stored nowhere.
                let own: Region = nodes.difference(&copied).copied().collect();
                let mut outputs = self.kernels.space.outputs(&nodes, &copied);
                outputs.retain(|v| own.contains(&v.node));
                if let Some(group) = self.kernels.get(nodes, outputs) {
                    table.groups.insert(set, group);
                }
            }
            set = (set - 1) & all;
        }
        self.split(all, &mut Vec::new(), 0.0, &mut table);
    }

    /// The least time of splitting a set into kernels.
    fn least(set: u32, table: &mut Table) -> f64 {
        if let Some(known) = table.least.get(&set) {
            return *known;
        }
        let lowest = set & set.wrapping_neg();
        let rest = set & !lowest;
        let mut best = f64::INFINITY;
        let mut part = rest;
        loop {
            if let Some(g) = table.groups.get(&(part | lowest)) {
                let cost = g.cost;
                best = best.min(cost + Search::least(rest & !part, table));
            }
            if part == 0 {
                break;
            }
            part = (part - 1) & rest;
        }
        table.least.insert(set, best);
        best
    }

    fn split(&mut self, left: u32, chosen: &mut Vec<u32>, seconds: f64, table: &mut Table) {
        let bound = seconds + Search::least(left, table);
        if !bound.is_finite() || self.best.as_ref().is_some_and(|(v, _, _)| bound >= *v) {
            return;
        }
        if left == 0 {
            return self.finish(chosen, seconds, table);
        }
        let lowest = left & left.wrapping_neg();
        let rest = left & !lowest;
        let mut part = rest;
        loop {
            let set = part | lowest;
            if let Some(cost) = table.groups.get(&set).map(|g| g.cost) {
                chosen.push(set);
                self.split(rest & !part, chosen, seconds + cost, table);
                chosen.pop();
            }
            if part == 0 {
                return;
            }
            part = (part - 1) & rest;
        }
    }

    fn finish(&mut self, chosen: &[u32], seconds: f64, table: &Table) {
        let space = self.kernels.space;
        let mut groups = Groups::default();
        for (id, set) in chosen.iter().enumerate() {
            groups.insert(id as u32, table.groups[set].clone());
        }
        let order = groups.order(&space.graph);
        if order.len() != chosen.len() {
            return;
        }
        let objective = Objective { seconds, peak: peak(space, &groups, &order) };
        let value = seconds + objective.peak as f64 * byte_cost(space.target);
        if self.best.as_ref().is_none_or(|(v, _, _)| value < *v) {
            let regions = groups.iter().map(|(_, g)| g.nodes.clone()).collect();
            self.best = Some((value, objective, regions));
        }
    }
}

/// True for the group of a call.
pub(super) fn is_call(group: &Group) -> bool {
    group.built.template == CALL
}
