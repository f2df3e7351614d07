//! Growing regions: neighbours merge, the largest gain in time first, until no merge pays; then nodes move
//! between neighbours ([`settle`](super::settle)).
//!
//! What a merge does to the peak of scratch memory is looked at when its turn comes, and counts both ways. One that does not
//! pay then waits until other merges have changed the peak.

use super::graph::Graph;
use super::groups::{Groups, Paths};
use super::objective::{Objective, byte_cost, peak};
use super::settle::settle;
use super::space::Space;
use super::{CALL, Figures, Group, Partition, Raised, Refused};
use crate::lower::emit::{Refusal, Region, home};
use crate::memory::align;
use mlxc_ir::graph::ValueId;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Which pairs are tried. Greedy growth by gain alone would tear a norm apart to feed half of it to a product, so
/// chains close before anchors reach for them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Neighbours without an anchor.
    Maps,
    /// An anchor and what follows it.
    Epilogues,
    /// Every neighbour.
    Prologues,
    /// Groups that read one value and do not depend on each other.
    Siblings,
}

/// Grows the kernels of a space, or leaves every node alone.
///
/// # Errors
/// A refusal where a single node has no kernel at all.
pub(super) fn grow(space: &Space<'_>, fuse: bool) -> Result<Partition, Refusal> {
    let mut search = Search {
        space,
        groups: Groups::default(),
        copied: Region::new(),
        next: 0,
        paths: Paths::default(),
        peak: 0,
        refused: Vec::new(),
        raised: Vec::new(),
    };
    for n in space.starts() {
        let group = space.group(BTreeSet::from([n]), &search.copied)?;
        search.add(Rc::new(group));
    }
    search.paths = Paths::new(&search.groups, &space.graph);
    search.peak = peak(space, &search.groups, &search.groups.order(&space.graph));
    if fuse {
        for stage in [Stage::Maps, Stage::Epilogues, Stage::Prologues] {
            search.grow(stage);
        }
        search.recompute();
        search.grow(Stage::Siblings);
        settle(&mut search.groups, &mut search.copied, space);
    }
    Ok(search.finish())
}

struct Search<'s, 'a> {
    space: &'s Space<'a>,
    groups: Groups,
    /// Nodes that every reader computes for itself.
    copied: Region,
    next: u32,
    /// Dependencies of the groups as they are now.
    paths: Paths,
    /// Most bytes live at one kernel, as the groups are now.
    peak: u64,
    refused: Vec<Refused>,
    raised: Vec<Raised>,
}

/// A pair of groups that was tried.
enum Tried {
    /// No kernel of both, or none that pays.
    Refused,
    /// The kernel of both and the seconds it gains; with the peak at which its turn came in vain, and what it would have been,
    /// if it did.
    Built { group: Rc<Group>, gain: f64, in_vain: Option<[u64; 2]> },
}

impl Search<'_, '_> {
    fn add(&mut self, group: Rc<Group>) -> u32 {
        let id = self.next;
        self.groups.insert(id, group);
        self.next += 1;
        id
    }

    fn graph(&self) -> &Graph {
        &self.space.graph
    }

    fn names(&self, group: u32) -> Vec<String> {
        self.groups[group].nodes.iter().map(|n| self.space.f.value_name(ValueId::of(*n as usize))).collect()
    }

    fn refuse(&mut self, a: u32, b: u32, code: &str, text: String, figures: Figures) {
        let refused = Refused { first: self.names(a), second: self.names(b), code: code.into(), text, figures };
        self.refused.push(refused);
    }

    fn apart(&self, a: u32, b: u32) -> Figures {
        Figures { apart: self.groups[a].cost + self.groups[b].cost, together: None, peak: None }
    }

    /// The pairs worth trying: producers with consumers, or siblings that read one value.
    fn pairs(&self, stage: Stage) -> BTreeSet<(u32, u32)> {
        let mut out = BTreeSet::new();
        let anchored = |g: &u32| self.groups[*g].built.template != "map";
        let called = |g: &u32| self.groups[*g].built.template == CALL;
        if stage != Stage::Siblings {
            for id in self.groups.ids().filter(|g| !called(g)) {
                let fits = |p: &u32| match stage {
                    _ if called(p) => false,
                    Stage::Maps => !anchored(p) && !anchored(&id),
                    Stage::Epilogues => !anchored(&id),
                    _ => true,
                };
                out.extend(self.groups.before(self.graph(), id).into_iter().filter(fits).map(|p| (p, id)));
            }
            return out;
        }
        let f = self.space.f;
        let inputs = |g: &Group| -> BTreeSet<ValueId> {
            let outputs: BTreeSet<ValueId> = g.outputs.iter().map(|v| home(f, *v)).collect();
            g.built.bindings.iter().map(|b| b.value).filter(|v| !outputs.contains(v)).collect()
        };
        let mut readers: BTreeMap<ValueId, Vec<u32>> = BTreeMap::new();
        for id in self.groups.ids().filter(|g| !called(g)) {
            for v in inputs(&self.groups[id]).into_iter().filter(|v| f.ty(*v).rank() > 0) {
                readers.entry(v).or_default().push(id);
            }
        }
        for all in readers.values() {
            for (i, a) in all.iter().enumerate() {
                let apart = |b: &&u32| !self.paths.reaches(*a, **b) && !self.paths.reaches(**b, *a);
                out.extend(all[i + 1..].iter().filter(apart).map(|b| (*a, *b)));
            }
        }
        out
    }

    fn grow(&mut self, stage: Stage) {
        let mut tried: BTreeMap<(u32, u32), Tried> = BTreeMap::new();
        loop {
            let pairs = self.pairs(stage);
            tried.retain(|p, _| pairs.contains(p));
            for (a, b) in &pairs {
                if let std::collections::btree_map::Entry::Vacant(open) = tried.entry((*a, *b)) {
                    open.insert(self.merge(*a, *b));
                }
            }
            let best = tried
                .iter()
                .filter_map(|(p, t)| match t {
                    Tried::Built { gain, in_vain: None, .. } => Some((*p, *gain)),
                    _ => None,
                })
                .max_by(|(p, x), (q, y)| x.total_cmp(y).then(q.cmp(p)));
            let Some(((a, b), _)) = best else {
                // What did not pay at another peak may pay now.
                let mut again = false;
                for t in tried.values_mut() {
                    if let Tried::Built { in_vain, .. } = t {
                        again |= in_vain.take_if(|[at, _]| *at != self.peak).is_some();
                    }
                }
                if again {
                    continue;
                }
                break;
            };
            // A merge elsewhere may have closed a path since this pair was tried.
            if stage != Stage::Siblings && self.paths.indirect(a, b) {
                self.refuse_cycle(a, b);
                tried.insert((a, b), Tried::Refused);
                continue;
            }
            if let Some(Tried::Built { group, gain, .. }) = tried.remove(&(a, b))
                && let Err(after) = self.take(a, b, &group, gain)
            {
                tried.insert((a, b), Tried::Built { group, gain, in_vain: Some([self.peak, after]) });
            }
        }
        for ((a, b), t) in tried {
            if let Tried::Built { group, in_vain: Some(peak), .. } = t {
                self.refuse_loss(a, b, &group, peak);
            }
        }
    }

    fn refuse_cycle(&mut self, a: u32, b: u32) {
        let figures = self.apart(a, b);
        self.refuse(a, b, "cycle", "the merge would need its own result".into(), figures);
    }

    /// Seconds that a change of the peak is worth.
    fn worth(&self, after: u64) -> f64 {
        (self.peak as f64 - after as f64) * byte_cost(self.space.target)
    }

    /// Puts the kernel of both in the place of two, if time and memory together gain; else gives the peak that it would
    /// have brought.
    fn take(&mut self, a: u32, b: u32, group: &Rc<Group>, gain: f64) -> Result<(), u64> {
        let mut groups = self.groups.clone();
        groups.remove(a);
        groups.remove(b);
        groups.insert(self.next, group.clone());
        let order = groups.order(self.graph());
        if order.len() != groups.ids().count() {
            return Err(u64::MAX);
        }
        let after = peak(self.space, &groups, &order);
        if gain + self.worth(after) <= 0.0 {
            return Err(after);
        }
        if after > self.peak {
            let (first, second, apart) = (self.names(a), self.names(b), self.apart(a, b).apart);
            self.raised.push(Raised { first, second, apart, gain, peak: [self.peak, after] });
        }
        self.groups = groups;
        self.next += 1;
        self.peak = after;
        self.paths = Paths::new(&self.groups, self.graph());
        Ok(())
    }

    /// Notes a merge whose kernel exists and does not pay.
    fn refuse_loss(&mut self, a: u32, b: u32, group: &Group, peak: [u64; 2]) {
        let [now, after] = peak;
        if after == u64::MAX {
            return self.refuse_cycle(a, b);
        }
        let mut figures = self.apart(a, b);
        figures.together = Some(group.cost);
        figures.peak = Some(peak);
        if after <= now {
            return self.refuse_cost(a, b, figures);
        }
        let gain = (figures.apart - group.cost) * 1e6;
        let text = format!(
            "one kernel would gain {gain:.2} µs and raise the peak of scratch memory from {now} to {after} bytes"
        );
        self.refuse(a, b, "memory", text, figures);
    }

    fn refuse_cost(&mut self, a: u32, b: u32, figures: Figures) {
        let us = |s: f64| s * 1e6;
        let together = us(figures.together.unwrap_or(f64::INFINITY));
        let text = format!("one kernel would take {together:.2} µs, two take {:.2} µs", us(figures.apart));
        self.refuse(a, b, "cost", text, figures);
    }

    /// Bytes that two groups store and one would not: more than the peak can fall by.
    fn spared(&self, a: u32, b: u32, group: &Group) -> u64 {
        let f = self.space.f;
        let both = self.groups[a].outputs.iter().chain(&self.groups[b].outputs);
        both.filter(|v| !group.outputs.contains(v)).map(|v| align(f.ty(*v).max_bytes(&f.symbols))).sum()
    }

    fn merge(&mut self, a: u32, b: u32) -> Tried {
        if self.paths.indirect(a, b) {
            self.refuse_cycle(a, b);
            return Tried::Refused;
        }
        let mut figures = self.apart(a, b);
        let nodes: Region = self.groups[a].nodes.union(&self.groups[b].nodes).copied().collect();
        match self.space.group(nodes, &self.copied) {
            Err(r) => self.refuse(a, b, r.code, r.text, figures),
            Ok(group) => {
                let gain = figures.apart - group.cost;
                let most = gain + self.spared(a, b, &group) as f64 * byte_cost(self.space.target);
                if most > 0.0 {
                    return Tried::Built { group: Rc::new(group), gain, in_vain: None };
                }
                figures.together = Some(group.cost);
                self.refuse_cost(a, b, figures);
            }
        }
        Tried::Refused
    }

    /// Copies a producer into each of its consumers where that costs less than its memory.
    fn recompute(&mut self) {
        loop {
            let ids: Vec<u32> = self.groups.ids().collect();
            let changed = ids.into_iter().any(|id| self.copy_into_consumers(id));
            if !changed {
                return;
            }
        }
    }

    fn copy_into_consumers(&mut self, id: u32) -> bool {
        let producer = self.groups[id].clone();
        if producer.built.template == CALL || !producer.nodes.iter().all(|n| self.space.may_be_copied(*n)) {
            return false;
        }
        let reads = |g: &u32| *g != id && self.groups.before(self.graph(), *g).contains(&id);
        let consumers: Vec<u32> = self.groups.ids().filter(reads).collect();
        if consumers.is_empty() || consumers.iter().any(|c| self.groups[*c].built.template == CALL) {
            return false;
        }
        let mut groups = self.groups.clone();
        groups.remove(id);
        let apart = producer.cost + consumers.iter().map(|c| self.groups[*c].cost).sum::<f64>();
        let mut gain = apart;
        for c in &consumers {
            let nodes: Region = self.groups[*c].nodes.union(&producer.nodes).copied().collect();
            let outputs = self.groups[*c].outputs.clone();
            let Ok(group) = self.space.group_with(nodes, outputs) else { return false };
            gain -= group.cost;
            groups.insert(*c, Rc::new(group));
        }
        let after = peak(self.space, &groups, &groups.order(self.graph()));
        if gain + self.worth(after) <= 0.0 {
            return false;
        }
        if after > self.peak {
            let second = consumers.iter().flat_map(|c| self.names(*c)).collect();
            self.raised.push(Raised { first: self.names(id), second, apart, gain, peak: [self.peak, after] });
        }
        self.copied.extend(&producer.nodes);
        self.groups = groups;
        self.peak = after;
        self.paths = Paths::new(&self.groups, self.graph());
        true
    }

    fn finish(self) -> Partition {
        let objective = Objective::of(self.space, &self.groups);
        let order = self.groups.order(self.graph());
        assert_eq!(order.len(), self.groups.ids().count(), "groups are acyclic: no merge closes a path");
        let groups = order.into_iter().map(|id| Rc::unwrap_or_clone(self.groups[id].clone())).collect();
        Partition { groups, refused: self.refused, raised: self.raised, objective }
    }
}
