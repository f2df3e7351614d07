//! A wide search over partitions: what growing is measured against where there are too many nodes to try all.
//!
//! Every step merges two groups or copies one into its readers, in each of the best partitions of the step before; merges
//! that lose are kept as long as they are among the best, so that a merge may pay for one before it.

use super::exact::{Kernels, is_call};
use super::groups::Groups;
use super::objective::Objective;
use super::space::Space;
use crate::lower::emit::{Region, Target, home};
use mlxc_ir::graph::{Function, ValueId};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

/// The best partition that was met.
#[derive(Clone, Debug)]
pub struct Found {
    /// Nodes of its kernels.
    pub regions: Vec<Region>,
    /// Time and memory.
    pub objective: Objective,
    /// Kernels built on the way.
    pub built: usize,
}

/// Steps without a better partition after which the search ends.
const PATIENCE: usize = 3;

#[derive(Clone)]
struct State {
    groups: Groups,
    copied: Region,
    objective: Objective,
}

/// Searches with the `width` best partitions of every step; `None` where a node has no kernel.
pub fn beam(f: &Function, target: &Target<'_>, weights: &[bool], width: usize) -> Option<Found> {
    let space = Space::new(f, target, weights);
    let mut kernels = Kernels { space: &space, built: HashMap::new() };
    let mut groups = Groups::default();
    for (id, n) in space.starts().into_iter().enumerate() {
        let nodes = BTreeSet::from([n]);
        let outputs = space.outputs(&nodes, &Region::new());
        groups.insert(id as u32, kernels.get(nodes, outputs)?);
    }
    let start = State { objective: Objective::of(&space, &groups), groups, copied: Region::new() };
    let mut best = start.clone();
    let mut states = vec![start];
    let mut stale = 0;
    let mut seen: HashSet<Vec<(Region, Vec<ValueId>)>> = HashSet::new();
    while stale < PATIENCE && !states.is_empty() {
        let mut next: Vec<State> = Vec::new();
        for s in &states {
            for child in children(s, &mut kernels) {
                if seen.insert(key(&child.groups)) {
                    next.push(child);
                }
            }
        }
        // Ties keep the order in which partitions were found.
        next.sort_by(|a, b| a.objective.value(target).total_cmp(&b.objective.value(target)));
        next.truncate(width);
        stale += 1;
        if let Some(first) = next.first()
            && first.objective.value(target) < best.objective.value(target)
        {
            best = first.clone();
            stale = 0;
        }
        states = next;
    }
    let regions = best.groups.iter().map(|(_, g)| g.nodes.clone()).collect();
    Some(Found { regions, objective: best.objective, built: kernels.built.len() })
}

fn key(groups: &Groups) -> Vec<(Region, Vec<ValueId>)> {
    let mut out: Vec<_> = groups.iter().map(|(_, g)| (g.nodes.clone(), g.outputs.clone())).collect();
    out.sort();
    out
}

fn children(s: &State, kernels: &mut Kernels<'_, '_>) -> Vec<State> {
    let space = kernels.space;
    let ids: Vec<u32> = s.groups.ids().filter(|g| !is_call(&s.groups[*g])).collect();
    let reads = |id: u32| -> BTreeSet<ValueId> {
        let own: BTreeSet<ValueId> = s.groups[id].outputs.iter().map(|v| home(space.f, *v)).collect();
        s.groups[id].built.bindings.iter().map(|b| b.value).filter(|v| !own.contains(v)).collect()
    };
    let mut out = Vec::new();
    for (i, a) in ids.iter().enumerate() {
        for b in &ids[i + 1..] {
            let data = s.groups.before(&space.graph, *b).contains(a) || s.groups.before(&space.graph, *a).contains(b);
            let shared = || reads(*a).intersection(&reads(*b)).any(|v| space.f.ty(*v).rank() > 0);
            if !data && !shared() {
                continue;
            }
            let nodes: Region = s.groups[*a].nodes.union(&s.groups[*b].nodes).copied().collect();
            let outputs = space.outputs(&nodes, &s.copied);
            let Some(group) = kernels.get(nodes, outputs) else { continue };
            let mut groups = s.groups.clone();
            groups.remove(*a);
            groups.remove(*b);
            groups.insert(*b, group);
            push(space, groups, s.copied.clone(), &mut out);
        }
    }
    for id in &ids {
        let producer = &s.groups[*id];
        if !producer.nodes.iter().all(|n| space.may_be_copied(*n)) {
            continue;
        }
        let readers: Vec<u32> =
            s.groups.ids().filter(|g| g != id && s.groups.before(&space.graph, *g).contains(id)).collect();
        if readers.is_empty() || readers.iter().any(|r| is_call(&s.groups[*r])) {
            continue;
        }
        let mut groups = s.groups.clone();
        groups.remove(*id);
        let all = readers.iter().all(|r| {
            let nodes: Region = s.groups[*r].nodes.union(&producer.nodes).copied().collect();
            let made = kernels.get(nodes, s.groups[*r].outputs.clone());
            made.map(|group: Rc<_>| groups.insert(*r, group)).is_some()
        });
        if all {
            let copied = s.copied.union(&producer.nodes).copied().collect();
            push(space, groups, copied, &mut out);
        }
    }
    out
}

/// Adds a partition, unless its groups need each other.
fn push(space: &Space<'_>, groups: Groups, copied: Region, out: &mut Vec<State>) {
    if groups.order(&space.graph).len() == groups.ids().count() {
        out.push(State { objective: Objective::of(space, &groups), groups, copied });
    }
}
