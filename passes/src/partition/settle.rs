//! Local search over a partition: what growth by merging cannot undo or reach.
//!
//! A node moves with all that follows it in its group to the group that reads it, or with all that is before it to the group
//! it reads; a group is cut before a node; an elementwise node is copied into all its readers. A move must gain more than the
//! model's figures are good for.

use super::CALL;
use super::groups::Groups;
use super::objective::{byte_cost, peak};
use super::space::Space;
use crate::lower::emit::Region;
use crate::memory::align;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Rounds over all nodes after which the search ends, improved or not.
const ROUNDS: usize = 4;
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
}

/// Improves a partition by moves until none gains.
pub(super) fn settle(groups: &mut Groups, copied: &mut Region, space: &Space<'_>) {
    let peak = peak(space, groups);
    let mut s = Settling { space, groups: std::mem::take(groups), copied: std::mem::take(copied), peak };
    let starts: Vec<u32> = space.starts().into_iter().collect();
    for _ in 0..ROUNDS {
        let mut changed = false;
        for n in &starts {
            for way in [Way::Down, Way::DownWithCopies, Way::Up, Way::Cut, Way::Copies] {
                changed |= s.plan(*n, way).is_some_and(|m| s.take(m));
            }
        }
        if !changed {
            break;
        }
    }
    (*groups, *copied) = (s.groups, s.copied);
}

struct Settling<'s, 'a> {
    space: &'s Space<'a>,
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
        let home = self.groups.ids().find(|g| self.groups[*g].nodes.contains(&node)).filter(|g| !self.is_call(*g))?;
        let own = &self.groups[home].nodes;
        let (forward, back) = (&graph.consumers, &graph.producers);
        let (moving, towards) = match way {
            Way::Down | Way::DownWithCopies | Way::Cut => (self.reached(node, own, forward), forward),
            Way::Up => (self.reached(node, own, back), back),
            Way::Copies => (Region::from([node]), forward),
        };
        let left: Region = own.difference(&moving).copied().collect();
        let near: BTreeSet<u32> = moving.iter().filter_map(|n| towards.get(n)).flatten().copied().collect();
        let others = self.groups.ids().filter(|g| *g != home);
        let touching: Vec<u32> =
            others.filter(|g| self.groups[*g].nodes.intersection(&near).next().is_some()).collect();
        let mut copied = self.copied.clone();
        let mut regions = BTreeMap::new();
        match way {
            Way::Cut => {
                if left.is_empty() {
                    return None;
                }
                let new = self.groups.ids().last().map_or(0, |id| id + 1);
                regions.extend([(home, left), (new, moving)]);
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
                copied.insert(node);
            }
        }
        Some(Move { regions, copied })
    }

    /// False where a move between two groups cannot gain enough, whatever it saves of the smaller one's time and memory.
    fn may_gain(&self, a: u32, b: u32) -> bool {
        let (a, b) = (&self.groups[a], &self.groups[b]);
        let f = self.space.f;
        let bytes: u64 = a.outputs.iter().chain(&b.outputs).map(|v| align(f.ty(*v).max_bytes(&f.symbols))).sum();
        a.cost.min(b.cost) + 2.0 * bytes as f64 * byte_cost(self.space.target) > MARGIN * (a.cost + b.cost)
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

    /// Makes a move if it gains.
    fn take(&mut self, m: Move) -> bool {
        let mut groups = Groups::default();
        let (mut before, mut after) = (0.0, 0.0);
        let new = m.regions.keys().copied().filter(|id| !self.groups.has(*id));
        let ids: Vec<u32> = self.groups.ids().chain(new).collect();
        for id in ids {
            let known = self.groups.has(id).then(|| self.groups[id].clone());
            if let Some(group) = known.iter().find(|g| g.built.template == CALL) {
                groups.insert(id, group.clone());
                continue;
            }
            let nodes = m.regions.get(&id).or(known.as_ref().map(|g| &g.nodes)).cloned().unwrap_or_default();
            let nodes = self.space.closed(nodes, &m.copied);
            if let Some(group) = &known {
                // Groups that stay may have to store more than before, or less.
                if nodes == group.nodes && self.space.outputs(&nodes, &m.copied) == group.outputs {
                    groups.insert(id, group.clone());
                    continue;
                }
                before += group.cost;
            }
            if nodes.is_empty() {
                continue;
            }
            let Ok(made) = self.space.group(nodes, &m.copied) else { return false };
            after += made.cost;
            groups.insert(id, Rc::new(made));
        }
        if groups.order(&self.space.graph).len() != groups.ids().count() {
            return false;
        }
        let at = peak(self.space, &groups);
        let memory = (self.peak as f64 - at as f64) * byte_cost(self.space.target);
        if before - after + memory <= MARGIN * before {
            return false;
        }
        (self.groups, self.copied, self.peak) = (groups, m.copied, at);
        true
    }
}
