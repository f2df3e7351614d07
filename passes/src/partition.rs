//! Partition: which nodes become which kernel.
//!
//! Every node that computes starts alone; pairs of neighbours merge, the largest gain first, as long as one kernel
//! of both exists and is cheaper than two. Whether it exists is answered by building it, and what it costs by the work the
//! build counted: bytes over bandwidth, operations over rate, and the launch. A refused merge keeps its reason.

mod groups;

use crate::lower::emit::{Refusal, Region, Target, home, is_free};
use crate::lower::map::Built;
use crate::lower::{attention, line, map, matmul, product};
use groups::Groups;
use mlxc_ir::graph::{Function, Op, ValueId};
use mlxc_ir::kernel::Kernel;
use mlxc_ir::profile::TargetKind;
use mlxc_package::MAX_GROUP_BYTES;
use std::collections::{BTreeMap, BTreeSet};

/// Nodes that become one kernel.
#[derive(Clone, Debug)]
pub struct Group {
    /// Nodes computed; free nodes and cheap producers may stand in several groups.
    pub nodes: Region,
    /// Values other groups or the caller need, in memory.
    pub outputs: Vec<ValueId>,
    /// The kernel.
    pub built: Built,
    /// Estimated seconds.
    pub cost: f64,
}

/// The template name of a group that is one call.
pub const CALL: &str = "call";

/// Why two groups stayed apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// Names of the values of the producing side.
    pub first: Vec<String>,
    /// Names of the values of the consuming side.
    pub second: Vec<String>,
    /// Stable code: a lowering refusal's, `cycle` or `cost`.
    pub code: String,
    /// A sentence.
    pub text: String,
}

/// The kernels of a function, in an order that respects their data.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Groups, producers first.
    pub groups: Vec<Group>,
    /// Merges that were tried and refused.
    pub refused: Vec<Refused>,
}

/// Splits a function into kernels.
///
/// # Errors
/// A refusal where a single node has no kernel at all.
pub fn partition(f: &Function, target: &Target<'_>, fuse: bool) -> Result<Partition, Refusal> {
    let graph = Graph::new(f);
    let mut search = Search { f, target, graph, groups: Groups::default(), next: 0, refused: Vec::new() };
    let views = search.graph.roots.iter().map(|v| v.node).filter(|n| is_free(f, *n));
    let starts: BTreeSet<u32> = search.graph.compute.iter().copied().chain(views).collect();
    for n in starts {
        search.start(BTreeSet::from([n]))?;
    }
    if fuse {
        for stage in [Stage::Maps, Stage::Epilogues, Stage::Prologues] {
            search.grow(stage);
        }
        search.recompute();
        search.grow(Stage::Siblings);
    }
    Ok(search.finish())
}

/// The value a root is stored as: a reshape only renames memory.
pub fn stored_root(f: &Function, mut v: ValueId) -> ValueId {
    while let Op::Reshape { .. } = f.node(v).op {
        let x = f.node(v).inputs[0];
        if is_free(f, x.node) && !matches!(f.node(x).op, Op::Reshape { .. }) {
            break;
        }
        v = x;
    }
    v
}

/// Every result of a node.
fn results(f: &Function, node: u32) -> impl Iterator<Item = ValueId> {
    (0..f.nodes[node as usize].types.len() as u32).map(move |index| ValueId { node, index })
}

/// The state versions a node replaces.
fn replaced_versions(f: &Function, node: u32) -> Vec<ValueId> {
    let n = &f.nodes[node as usize];
    match &n.op {
        Op::SliceUpdate { .. } if home(f, ValueId::of(node as usize)) != ValueId::of(node as usize) => {
            vec![n.inputs[0]]
        }
        Op::Call { updates, .. } => updates.iter().map(|p| n.inputs[*p as usize]).collect(),
        _ => Vec::new(),
    }
}

/// Data and order dependencies between computing nodes, free nodes looked through.
struct Graph {
    compute: Vec<u32>,
    /// Computing nodes that read a node's value.
    consumers: BTreeMap<u32, BTreeSet<u32>>,
    /// Computing nodes whose values a node reads.
    producers: BTreeMap<u32, BTreeSet<u32>>,
    /// Nodes that read the state version a node replaces.
    readers: BTreeMap<u32, BTreeSet<u32>>,
    roots: BTreeSet<ValueId>,
}

impl Graph {
    fn new(f: &Function) -> Self {
        let mut live = vec![false; f.nodes.len()];
        f.roots().for_each(|v| live[v.node as usize] = true);
        for i in (0..f.nodes.len()).rev() {
            if live[i] {
                f.nodes[i].inputs.iter().for_each(|v| live[v.node as usize] = true);
            }
        }
        let compute: Vec<u32> =
            (0..f.nodes.len()).filter(|i| live[*i] && !is_free(f, *i as u32)).map(|i| i as u32).collect();
        // What a call takes lies in memory, like a result.
        let calls = f.nodes.iter().filter(|n| matches!(n.op, Op::Call { .. }));
        let arguments = calls.flat_map(|n| n.inputs.iter().copied());
        let arguments = arguments.filter(|v| f.param_of(home(f, *v)).is_none());
        let roots = f.roots().chain(arguments).map(|v| stored_root(f, v));
        // What has no elements is stored nowhere, and a state that stays as it is stands where it is.
        let kept = |v: &ValueId| matches!(f.node(*v).op, Op::Param(p) if f.updates.contains(&(p, *v)));
        let stored = |v: &ValueId| f.ty(*v).max_bytes(&f.symbols) > 0 && !kept(v);
        let roots: BTreeSet<ValueId> = roots.filter(stored).collect();
        let mut consumers: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        let mut producers: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        // What each free node stands for: the computing nodes behind it.
        let mut behind: Vec<BTreeSet<u32>> = vec![BTreeSet::new(); f.nodes.len()];
        let mut readers: BTreeMap<ValueId, Vec<u32>> = BTreeMap::new();
        let mut params: Vec<BTreeSet<ValueId>> = vec![BTreeSet::new(); f.nodes.len()];
        for i in 0..f.nodes.len() {
            let node = &f.nodes[i];
            let mut sources = BTreeSet::new();
            let mut states = BTreeSet::new();
            for v in &node.inputs {
                sources.extend(behind[v.node as usize].iter().copied());
                states.extend(params[v.node as usize].iter().copied());
            }
            if is_free(f, i as u32) {
                if roots.contains(&ValueId::of(i)) {
                    // A root that is a view is stored by a kernel: its producer's, or one of its own.
                    for s in &sources {
                        consumers.entry(*s).or_default().insert(i as u32);
                    }
                    producers.insert(i as u32, sources.clone());
                }
                behind[i] = sources;
                if matches!(node.op, Op::Param(_)) {
                    states.insert(ValueId::of(i));
                }
                params[i] = states;
                continue;
            }
            behind[i] = BTreeSet::from([i as u32]);
            // A version of a state is read through its own node.
            params[i] = results(f, i as u32).filter(|v| home(f, *v) != *v).collect();
            if !live[i] {
                continue;
            }
            for s in &sources {
                consumers.entry(*s).or_default().insert(i as u32);
            }
            producers.entry(i as u32).or_default().extend(sources);
            for v in states {
                readers.entry(v).or_default().push(i as u32);
            }
        }
        let mut replaced: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for i in &compute {
            for old in replaced_versions(f, *i) {
                for r in readers.get(&old).into_iter().flatten().filter(|r| *r != i) {
                    replaced.entry(*i).or_default().insert(*r);
                }
            }
        }
        Graph { compute, consumers, producers, readers: replaced, roots }
    }
}

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

struct Search<'a> {
    f: &'a Function,
    target: &'a Target<'a>,
    graph: Graph,
    groups: Groups,
    next: u32,
    refused: Vec<Refused>,
}

impl Search<'_> {
    fn start(&mut self, nodes: Region) -> Result<(), Refusal> {
        let group = self.try_group(nodes)?;
        self.groups.insert(self.next, group);
        self.next += 1;
        Ok(())
    }

    /// Values of the nodes that something outside needs.
    fn outputs(&self, nodes: &Region) -> Vec<ValueId> {
        let used = |n: &u32| self.graph.consumers.get(n).is_some_and(|c| c.iter().any(|c| !nodes.contains(c)));
        nodes.iter().flat_map(|n| results(self.f, *n).filter(move |v| used(n) || self.is_kept(*v))).collect()
    }

    /// True for roots and for state versions, which are stored whoever reads them.
    fn is_kept(&self, v: ValueId) -> bool {
        self.graph.roots.contains(&v) || home(self.f, v) != v
    }

    fn try_group(&self, nodes: Region) -> Result<Group, Refusal> {
        let outputs = self.outputs(&nodes);
        if nodes.iter().any(|n| matches!(self.f.nodes[*n as usize].op, Op::Call { .. })) {
            let work = crate::lower::emit::Work::default();
            let built = Built { kernel: Kernel::new("call"), bindings: Vec::new(), work, template: CALL };
            return Ok(Group { nodes, outputs, built, cost: 0.0 });
        }
        let built = build(self.f, self.target, &nodes, &outputs)?;
        let limits = &self.target.profile.limits;
        if built.bindings.len() > limits.buffers as usize {
            let text = format!("{} buffers exceed the target's {}", built.bindings.len(), limits.buffers);
            return Err(Refusal::new("buffers", text));
        }
        let cost = cost(&built, self.target);
        Ok(Group { nodes, outputs, built, cost })
    }

    /// Groups that must run before a group: those that store what it reads, and those that read a state it replaces.
    fn before(&self, id: u32) -> BTreeSet<u32> {
        let nodes = &self.groups[id].nodes;
        let outside = |edges: &BTreeMap<u32, BTreeSet<u32>>| -> BTreeSet<u32> {
            let needs = nodes.iter().filter_map(|n| edges.get(n)).flatten();
            needs.filter(|n| !nodes.contains(n)).copied().collect()
        };
        let (data, reads) = (outside(&self.graph.producers), outside(&self.graph.readers));
        let stored = data.into_iter().flat_map(|n| self.groups.storing(n));
        let read = reads.into_iter().flat_map(|n| self.groups.computing(n));
        stored.chain(read).filter(|other| *other != id).collect()
    }

    /// True if a path leads from `from` to `to` through a third group.
    fn indirect(&self, from: u32, to: u32) -> bool {
        let mut stack: Vec<u32> = self.before(to).into_iter().filter(|g| *g != from).collect();
        let mut seen = BTreeSet::new();
        while let Some(g) = stack.pop() {
            if g == from {
                return true;
            }
            if seen.insert(g) {
                stack.extend(self.before(g));
            }
        }
        false
    }

    fn reaches(&self, from: u32, to: u32) -> bool {
        self.before(to).contains(&from) || self.indirect(from, to)
    }

    fn names(&self, group: u32) -> Vec<String> {
        self.groups[group].nodes.iter().map(|n| self.f.value_name(ValueId::of(*n as usize))).collect()
    }

    fn refuse(&mut self, a: u32, b: u32, code: &str, text: String) {
        let refused = Refused { first: self.names(a), second: self.names(b), code: code.into(), text };
        self.refused.push(refused);
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
                out.extend(self.before(id).into_iter().filter(fits).map(|p| (p, id)));
            }
            return out;
        }
        let inputs = |g: &Group| -> BTreeSet<ValueId> {
            let outputs: BTreeSet<ValueId> = g.outputs.iter().map(|v| home(self.f, *v)).collect();
            g.built.bindings.iter().map(|b| b.value).filter(|v| !outputs.contains(v)).collect()
        };
        let ids: Vec<u32> = self.groups.ids().filter(|g| !called(g)).collect();
        for (i, a) in ids.iter().enumerate() {
            let mine = inputs(&self.groups[*a]);
            for b in &ids[i + 1..] {
                let shared = inputs(&self.groups[*b]).intersection(&mine).any(|v| self.f.ty(*v).rank() > 0);
                if shared && !self.reaches(*a, *b) && !self.reaches(*b, *a) {
                    out.insert((*a, *b));
                }
            }
        }
        out
    }

    fn grow(&mut self, stage: Stage) {
        let mut tried: BTreeMap<(u32, u32), Option<(Group, f64)>> = BTreeMap::new();
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
                .filter_map(|(p, m)| m.as_ref().map(|(_, gain)| (*p, *gain)))
                .max_by(|(p, x), (q, y)| x.total_cmp(y).then(q.cmp(p)));
            let Some(((a, b), _)) = best else { return };
            // A merge elsewhere may have closed a path since this pair was tried.
            if stage != Stage::Siblings && self.indirect(a, b) {
                self.refuse(a, b, "cycle", "the merge would need its own result".into());
                tried.insert((a, b), None);
                continue;
            }
            let Some(Some((group, _))) = tried.remove(&(a, b)) else { return };
            self.groups.remove(a);
            self.groups.remove(b);
            self.groups.insert(self.next, group);
            self.next += 1;
        }
    }

    fn merge(&mut self, a: u32, b: u32) -> Option<(Group, f64)> {
        if self.indirect(a, b) {
            self.refuse(a, b, "cycle", "the merge would need its own result".into());
            return None;
        }
        let nodes: Region = self.groups[a].nodes.union(&self.groups[b].nodes).copied().collect();
        match self.try_group(nodes) {
            Err(r) => {
                self.refuse(a, b, r.code, r.text);
                None
            }
            Ok(group) => {
                let apart = self.groups[a].cost + self.groups[b].cost;
                let gain = apart - group.cost;
                if gain > 0.0 {
                    return Some((group, gain));
                }
                let us = |s: f64| s * 1e6;
                let text = format!("one kernel would take {:.2} µs, two take {:.2} µs", us(group.cost), us(apart));
                self.refuse(a, b, "cost", text);
                None
            }
        }
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
        let f = self.f;
        let keeps = producer.built.template == CALL
            || producer.outputs.iter().any(|v| self.is_kept(*v))
            || producer.nodes.iter().any(|n| !f.nodes[*n as usize].op.is_elementwise());
        if keeps {
            return false;
        }
        let consumers: Vec<u32> = self.groups.ids().filter(|g| *g != id && self.before(*g).contains(&id)).collect();
        if consumers.iter().any(|c| self.groups[*c].built.template == CALL) {
            return false;
        }
        let mut merged = Vec::new();
        let mut gain = producer.cost;
        for c in &consumers {
            let nodes: Region = self.groups[*c].nodes.union(&producer.nodes).copied().collect();
            let outputs = self.groups[*c].outputs.clone();
            let Ok(built) = build(f, self.target, &nodes, &outputs) else { return false };
            let cost = cost(&built, self.target);
            gain += self.groups[*c].cost - cost;
            merged.push(Group { nodes, outputs, built, cost });
        }
        if gain <= 0.0 || consumers.is_empty() {
            return false;
        }
        self.groups.remove(id);
        for (c, group) in consumers.into_iter().zip(merged) {
            self.groups.insert(c, group);
        }
        true
    }

    /// Groups in dependency order, ties by their first node.
    fn finish(self) -> Partition {
        let mut left: Vec<(u32, u32)> =
            self.groups.iter().map(|(id, g)| (g.nodes.last().copied().unwrap_or(0), id)).collect();
        left.sort_unstable();
        let needs: BTreeMap<u32, BTreeSet<u32>> = self.groups.ids().map(|id| (id, self.before(id))).collect();
        let mut done = BTreeSet::new();
        let mut order = Vec::new();
        while !left.is_empty() {
            let at = left
                .iter()
                .position(|(_, id)| needs[id].iter().all(|p| done.contains(p)))
                .expect("groups are acyclic: no merge closes a path");
            let (_, id) = left.remove(at);
            done.insert(id);
            order.push(id);
        }
        let mut groups = self.groups;
        let groups = order.into_iter().filter_map(|id| groups.remove(id)).collect();
        Partition { groups, refused: self.refused }
    }
}

/// Estimated seconds of a kernel.
pub fn cost(built: &Built, target: &Target<'_>) -> f64 {
    let r = &target.profile.rates;
    built.work.bytes / r.copy_bytes
        + built.work.flops / r.f32_flops
        + built.work.dot_flops / r.f32_flops
        + r.launch_seconds
}

/// Builds the kernel of a set of nodes with the template their anchor asks for.
///
/// # Errors
/// A refusal where no template fits.
pub fn build(f: &Function, target: &Target<'_>, nodes: &Region, outputs: &[ValueId]) -> Result<Built, Refusal> {
    let mut products = Vec::new();
    let mut attentions = Vec::new();
    let mut lines = Vec::new();
    let mut computed = Vec::new();
    for n in nodes {
        match &f.nodes[*n as usize].op {
            op if line::is_anchor(op) => lines.push(*n),
            Op::Sdpa { .. } => attentions.push(*n),
            Op::MatMul { .. } if matmul::fits(f, target, *n) => products.push(*n),
            Op::MatMul { .. } if product::fits(f, *n) => computed.push(*n),
            _ => {}
        }
    }
    let name = name(f, nodes, outputs);
    let built = match (products.as_slice(), attentions.as_slice(), lines.as_slice()) {
        ([], [], []) => match computed.as_slice() {
            [] => map::build(f, target, nodes, outputs, &name),
            [n] => match product::build(f, target, nodes, *n, outputs, &name).and_then(|b| proved(b, target)) {
                // Alone it has a kernel in any case.
                Err(_) if nodes.len() == 1 => map::build(f, target, nodes, outputs, &name),
                built => built,
            },
            _ => Err(Refusal::new("anchors", "a kernel has one product")),
        },
        _ if !computed.is_empty() => Err(Refusal::new("anchors", "a kernel has one product")),
        ([], [], [n]) => line::build(f, target, nodes, *n, outputs, &name),
        ([p], [], []) if reduces_before(f, nodes, *p) => {
            Err(Refusal::new("recompute", "every task of the product would repeat a reduction over its rows"))
        }
        ([p], [], []) => match matmul::build(f, target, nodes, *p, outputs, &name).and_then(|b| proved(b, target)) {
            Err(_) if nodes.len() == 1 => map::build(f, target, nodes, outputs, &name),
            built => built,
        },
        ([], [a], []) => attention::build(f, target, nodes, *a, outputs, &name),
        _ => Err(Refusal::new("anchors", "a kernel has one product, attention, scan, sort or scatter")),
    }?;
    proved(built, target)
}

/// A kernel whose group memory can be had and whose every index is proved to be in range.
fn proved(built: Built, target: &Target<'_>) -> Result<Built, Refusal> {
    let statements = mlxc_ir::kernel::unrolled_statements(&built.kernel);
    if statements > mlxc_ir::kernel::STATEMENT_CAP {
        return Err(Refusal::new("size", format!("the kernel would have {statements} statements")));
    }
    let bytes = built.kernel.groups.iter().fold(0u64, |n, g| n.saturating_add(g.bytes()));
    // CPUs spill group memory to the next cache; GPUs have no more.
    let most = match target.profile.kind {
        TargetKind::Cpu => MAX_GROUP_BYTES,
        TargetKind::Gpu => target.profile.limits.group_bytes,
    };
    if bytes > most {
        return Err(Refusal::new("group-memory", format!("a task needs {bytes} bytes of group memory")));
    }
    if built.work.opaque > 0
        && let Err(d) = mlxc_ir::kernel::verify(&built.kernel)
    {
        let text = d.first().map_or_else(String::new, |d| d.message.clone());
        return Err(Refusal::new("unproved", format!("an index is not proved to be in range: {text}")));
    }
    Ok(built)
}

/// True if the product's left factor needs a reduction that stands in the same region.
fn reduces_before(f: &Function, nodes: &Region, product: u32) -> bool {
    let mut stack = vec![f.nodes[product as usize].inputs[0].node];
    let mut seen = BTreeSet::new();
    while let Some(n) = stack.pop() {
        if !seen.insert(n) || !(nodes.contains(&n) || is_free(f, n)) {
            continue;
        }
        if nodes.contains(&n)
            && matches!(f.nodes[n as usize].op, Op::Reduce { .. } | Op::ArgReduce { .. } | Op::MatMul { .. })
        {
            return true;
        }
        stack.extend(f.nodes[n as usize].inputs.iter().map(|v| v.node));
    }
    false
}

/// A kernel is named after its anchor (a product without a name after its weight), else its last output.
fn name(f: &Function, nodes: &Region, outputs: &[ValueId]) -> String {
    let anchor = nodes.iter().find(|n| matches!(f.nodes[**n as usize].op, Op::Sdpa { .. } | Op::MatMul { .. }));
    let v = match anchor {
        Some(n) => ValueId::of(*n as usize),
        None => outputs.last().copied().unwrap_or(ValueId::of(0)),
    };
    let weight = anchor.filter(|_| f.node(v).name.is_none()).and_then(|n| matmul::named_weight(f, *n));
    match weight {
        Some(p) => weight_name(&f.params[p as usize].name),
        None => crate::lower::emit::identifier(&f.value_name(v)),
    }
}

/// `self_attn.{q_proj,k_proj}.weight` gives `q_proj_k_proj`, and `conv.matrix` gives `conv`.
fn weight_name(name: &str) -> String {
    let name = name.trim_end_matches(".weight").trim_end_matches(".matrix");
    let part = name.rsplit('.').next().unwrap_or(name);
    let part = part.trim_matches(|c| c == '{' || c == '}');
    crate::lower::emit::identifier(part)
}
