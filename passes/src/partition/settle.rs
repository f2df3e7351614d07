//! Local search over a partition: what growth by merging cannot undo or reach.
//!
//! A node moves with all that follows it in its group to the group that reads it, or with all that is before it to the group
//! it reads; a group is cut before a node; an elementwise node is copied into all its readers. A move must gain more than the
//! model's figures are good for.

use super::CALL;
use super::exact::Kernels;
use super::groups::Groups;
use super::objective::{byte_cost, peak};
use super::space::Space;
use crate::lower::emit::Region;
use crate::memory::align;
use mlxc_ir::graph::{Op, ValueId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Rounds over all nodes after which the search ends, improved or not.
const ROUNDS: usize = 4;
/// Kernels with a product or an attention that are built on the way, and more for every so many nodes: they are dear to build.
const ANCHORED: usize = 16;
const NODES_FOR_ONE: usize = 3;
/// Share of the time of the kernels a move touches that it must gain.
const MARGIN: f64 = 0.02;

/// What becomes of a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It goes with what follows it to the one group that reads them.
    Down,
    /// The same, and what they read of the group they leave is copied.
    DownWithCopies,
    /// It goes with what comes before it to the one group that they read.
    Up,
    /// It begins a group of its own.
    Cut,
    /// Every reader computes it.
    Copies,
}

/// A move: the groups whose nodes change, and the nodes copied after it.
struct Move {
    regions: BTreeMap<u32, Region>,
    copied: Region,
    /// Nodes that change their group or are copied: what they read and what reads them may have to be stored, or no more.
    touched: Region,
}

/// Improves a partition by moves until none gains.
pub(super) fn settle(groups: &mut Groups, copied: &mut Region, space: &Space<'_>) {
    let peak = peak(space, groups, &groups.order(&space.graph));
    let kernels = Kernels { space, built: HashMap::new() };
    let left = ANCHORED + space.starts().len() / NODES_FOR_ONE;
    let mut s = Settling { left, space, kernels, groups: std::mem::take(groups), copied: std::mem::take(copied), peak };
    let mut open: BTreeSet<u32> = space.starts();
    for _ in 0..ROUNDS {
        let mut next = BTreeSet::new();
        for n in open {
            for way in [Way::Down, Way::DownWithCopies, Way::Up, Way::Cut, Way::Copies] {
                if let Some(m) = s.plan(n, way) {
                    next.extend(s.take(m).into_iter().flatten());
                }
            }
        }
        if next.is_empty() {
            break;
        }
        open = next;
    }
    (*groups, *copied) = (s.groups, s.copied);
}

struct Settling<'s, 'a> {
    /// Kernels with an anchor that may still be built.
    left: usize,
    space: &'s Space<'a>,
    kernels: Kernels<'s, 'a>,
    groups: Groups,
    copied: Region,
    peak: u64,
}

impl Settling<'_, '_> {
    fn is_call(&self, id: u32) -> bool {
        self.groups[id].built.template == CALL
    }

    /// Nodes of a region that a walk along edges reaches from a node, itself among them.
    fn reached(&self, node: u32, region: &Region, edges: &BTreeMap<u32, BTreeSet<u32>>) -> Region {
        let mut out = Region::from([node]);
        let mut stack = vec![node];
        while let Some(n) = stack.pop() {
            let next = edges.get(&n).into_iter().flatten();
            stack.extend(next.filter(|m| region.contains(m) && out.insert(**m)));
        }
        out
    }

    /// A move of a node, if there is one.
    fn plan(&self, node: u32, way: Way) -> Option<Move> {
        if self.copied.contains(&node) {
            return None;
        }
        let graph = &self.space.graph;
        let home = self.groups.computing(node).next().filter(|g| !self.is_call(*g))?;
        let own = &self.groups[home].nodes;
        let (forward, back) = (&graph.consumers, &graph.producers);
        let (moving, towards) = match way {
            Way::Down | Way::DownWithCopies | Way::Cut => (self.reached(node, own, forward), forward),
            Way::Up => (self.reached(node, own, back), back),
            Way::Copies => (Region::from([node]), forward),
        };
        let left: Region = own.difference(&moving).copied().collect();
        let near: BTreeSet<u32> = moving.iter().filter_map(|n| towards.get(n)).flatten().copied().collect();
        let touching: BTreeSet<u32> =
            near.iter().flat_map(|n| self.groups.computing(*n)).filter(|g| *g != home).collect();
        let touching: Vec<u32> = touching.into_iter().collect();
        let mut copied = self.copied.clone();
        let mut regions = BTreeMap::new();
        match way {
            Way::Cut => {
                // What a cut saves is what one kernel computes more than once.
                let (work, rates) = (&self.groups[home].built.work, &self.space.target.profile.rates);
                let computed = work.flops / rates.f32_flops;
                if left.is_empty() || computed <= MARGIN * self.groups[home].cost + rates.launch_seconds {
                    return None;
                }
                let new = self.groups.ids().last().map_or(0, |id| id + 1);
                regions.extend([(home, left), (new, moving.clone())]);
            }
            Way::Down | Way::DownWithCopies | Way::Up => {
                let [to] = touching[..] else { return None };
                if self.is_call(to) || left.is_empty() || !self.may_gain(home, to) {
                    return None;
                }
                if way == Way::DownWithCopies {
                    let copies = self.copyable_before(&moving, &left)?;
                    copied.extend(copies);
                }
                let joined = self.groups[to].nodes.union(&moving).copied().collect();
                regions.extend([(home, left), (to, joined)]);
            }
            Way::Copies => {
                let mut to = touching.iter();
                if touching.is_empty() || to.any(|g| self.is_call(*g)) || !self.space.may_be_copied(node) {
                    return None;
                }
                let bytes = 2.0 * self.bytes(&self.groups[home].outputs) * byte_cost(self.space.target);
                let all: f64 = touching.iter().map(|g| self.groups[*g].cost).sum();
                if self.groups[home].cost + bytes <= MARGIN * (self.groups[home].cost + all) {
                    return None;
                }
                copied.insert(node);
            }
        }
        let touched = match way {
            Way::DownWithCopies => moving.union(&copied).copied().collect(),
            _ => moving,
        };
        Some(Move { regions, copied, touched })
    }

    /// Bytes of some values.
    fn bytes(&self, values: &[ValueId]) -> f64 {
        let f = self.space.f;
        values.iter().map(|v| align(f.ty(*v).max_bytes(&f.symbols))).sum::<u64>() as f64
    }

    /// False where a move between two groups cannot gain enough, whatever it saves of the smaller one's time and memory.
    fn may_gain(&self, a: u32, b: u32) -> bool {
        let (a, b) = (&self.groups[a], &self.groups[b]);
        let bytes = self.bytes(&a.outputs) + self.bytes(&b.outputs);
        a.cost.min(b.cost) + 2.0 * bytes * byte_cost(self.space.target) > MARGIN * (a.cost + b.cost)
    }

    /// Elementwise nodes of what is left that the moving nodes read, if every one that they read is such.
    fn copyable_before(&self, moving: &Region, left: &Region) -> Option<Region> {
        let graph = &self.space.graph;
        let mut out = Region::new();
        let mut stack: Vec<u32> = moving.iter().copied().collect();
        while let Some(n) = stack.pop() {
            for p in graph.producers.get(&n).into_iter().flatten().filter(|p| left.contains(p)) {
                let called = || {
                    let mut readers = graph.consumers.get(p).into_iter().flatten();
                    readers.any(|r| self.groups.ids().any(|g| self.is_call(g) && self.groups[g].nodes.contains(r)))
                };
                if self.space.may_be_copied(*p) && !called() && out.insert(*p) {
                    stack.push(*p);
                }
            }
        }
        (!out.is_empty()).then_some(out)
    }

    /// Seconds that a kernel of some nodes takes at least: a launch, and the products that groups have among them now.
    fn least(&self, nodes: &Region) -> f64 {
        let rates = &self.space.target.profile.rates;
        let is_product = |op: &Op| matches!(op, Op::MatMul { .. } | Op::Int8MatMul { .. } | Op::Sdpa { .. });
        let products = nodes.iter().filter(|n| is_product(&self.space.f.nodes[**n as usize].op));
        let groups: BTreeSet<u32> = products.flat_map(|n| self.groups.computing(*n)).collect();
        let work = groups.iter().map(|g| &self.groups[*g].built.work);
        rates.launch_seconds + work.map(|w| w.products(rates)).sum::<f64>()
    }

    /// Makes a move if it gains; gives the nodes of the groups it changed.
    fn take(&mut self, m: Move) -> Option<Region> {
        let graph = &self.space.graph;
        let near = |edges: &BTreeMap<u32, BTreeSet<u32>>| -> Region {
            m.touched.iter().filter_map(|n| edges.get(n)).flatten().copied().collect()
        };
        let nodes = m.touched.iter().copied().chain(near(&graph.producers)).chain(near(&graph.consumers));
        let mut ids: BTreeSet<u32> = nodes.flat_map(|n| self.groups.computing(n)).collect();
        ids.extend(m.regions.keys());
        ids.retain(|id| !self.groups.has(*id) || !self.is_call(*id));
        let mut groups = self.groups.clone();
        let mut changed = Region::new();
        // Bytes that are stored no more: the peak falls by no more than these.
        let (mut before, mut spared) = (0.0, 0.0);
        let mut wanted = Vec::new();
        for id in ids {
            let known = self.groups.has(id).then(|| self.groups[id].clone());
            let nodes = m.regions.get(&id).or(known.as_ref().map(|g| &g.nodes)).cloned().unwrap_or_default();
            let nodes = self.space.closed(nodes, &m.copied);
            let outputs = self.space.outputs(&nodes, &m.copied);
            if let Some(group) = &known {
                // Groups that stay may have to store more than before, or less.
                if nodes == group.nodes && outputs == group.outputs {
                    continue;
                }
                before += group.cost;
                spared += self.bytes(&group.outputs);
                groups.remove(id);
            }
            if !nodes.is_empty() {
                changed.extend(&nodes);
                spared -= self.bytes(&outputs);
                wanted.push((self.least(&nodes), id, nodes, outputs));
            }
        }
        // Groups without a product are built first: often they are dear enough to end it.
        wanted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut left: f64 = wanted.iter().map(|w| w.0).sum();
        let mut after = 0.0;
        for (least, id, nodes, outputs) in wanted {
            if before - after - left + spared.max(0.0) * byte_cost(self.space.target) <= MARGIN * before {
                return None;
            }
            let key = (nodes, outputs);
            if least > self.space.target.profile.rates.launch_seconds && !self.kernels.built.contains_key(&key) {
                self.left = self.left.checked_sub(1)?;
            }
            let made = self.kernels.get(key.0, key.1)?;
            after += made.cost;
            left -= least;
            groups.insert(id, made);
        }
        let order = groups.order(graph);
        if order.len() != groups.ids().count() {
            return None;
        }
        let at = peak(self.space, &groups, &order);
        let memory = (self.peak as f64 - at as f64) * byte_cost(self.space.target);
        if before - after + memory <= MARGIN * before {
            return None;
        }
        (self.groups, self.copied, self.peak) = (groups, m.copied, at);
        Some(changed)
    }
}
