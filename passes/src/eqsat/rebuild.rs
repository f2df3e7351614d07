//! From a saturated e-graph back to a function: the chosen nodes in an order that respects states.
//!
//! Nodes keep the user's names and places where their class has any; a node that is new takes the place of the first
//! node that reads it. Nodes that read a version of a state come before the barrier that replaces it.

use super::Report;
use super::cost::cost;
use super::extract::{Candidate, Problem, extract, reached, total};
use super::graph::{ENode, Graph, Head};
use crate::lower::emit::home;
use egg::{Id, Language};
use mlxc_ir::graph::{Function, FunctionBuilder, Op, ValueId};
use mlxc_ir::{Diagnostic, Location};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// The cheapest function of the graph, with its cost in the report.
///
/// # Errors
/// `MLXC0332` where the chosen nodes cannot be ordered.
pub fn rebuild(g: &Graph<'_>, values: &[SmallVec<[Id; 1]>], report: &mut Report) -> Result<Function, Diagnostic> {
    let f = g.analysis.function;
    let unordered = |what: &str| {
        Diagnostic::new(332, format!("the values of `{}` cannot be put in an order", f.name))
            .expected("every version of a state read before its update")
            .found(what)
    };
    let mut classes: Vec<Id> = g.classes().map(|c| c.id).collect();
    classes.sort_unstable();
    let number: BTreeMap<Id, usize> = classes.iter().enumerate().map(|(i, id)| (*id, i)).collect();
    let at = |id: Id| number[&g.find(id)];
    let first: BTreeSet<ENode> = f.nodes.iter().enumerate().map(|(i, node)| original(g, values, i, &node.op)).collect();
    let nodes: Vec<Vec<ENode>> = classes.iter().map(|id| g[*id].iter().map(|n| canonical(g, n)).collect()).collect();
    let problem = Problem {
        classes: classes
            .iter()
            .zip(&nodes)
            .map(|(id, nodes)| {
                let candidate = |n: &ENode| Candidate {
                    cost: cost(g, *id, n),
                    label: label(&n.head),
                    children: n.children().iter().map(|c| at(*c)).collect(),
                };
                nodes.iter().map(candidate).collect()
            })
            .collect(),
        // The operands of barriers are children of barriers, which the roots need or nothing does.
        roots: f.roots().map(|v| at(values[v.node as usize][v.index as usize])).collect(),
    };
    let before: Vec<Option<usize>> =
        nodes.iter().map(|n| n.iter().position(|n| first.contains(n) || matches!(n.head, Head::Proj(_)))).collect();
    report.cost_before = total(&problem, &before).unwrap_or(u64::MAX);
    let best = extract(&problem).ok_or_else(|| unordered("a cycle"))?;
    report.cost_after = best.cost;
    // The function as it came is a choice too.
    let choice = if report.cost_before < best.cost { before } else { best.choice };
    let live = reached(&problem, &choice);
    let chosen: Vec<Option<&ENode>> =
        choice.iter().zip(&nodes).zip(&live).map(|((k, n), live)| k.filter(|_| *live).map(|k| &n[k])).collect();

    let mut origin: Vec<Origin> = vec![Origin::default(); classes.len()];
    for (i, node) in f.nodes.iter().enumerate() {
        for id in &values[i] {
            let o = &mut origin[at(*id)];
            o.at = o.at.take().or_else(|| node.at.clone());
        }
        let o = &mut origin[at(values[i][0])];
        o.name = o.name.take().or_else(|| node.name.clone());
    }
    let mut e = Emitter {
        g,
        f,
        classes: &classes,
        at: &at,
        chosen: &chosen,
        origin: &origin,
        before: replacements(f, values, &at, &chosen),
        to: FunctionBuilder::like(f),
        made: vec![None; classes.len()],
        open: vec![false; classes.len()],
    };
    e.parameters(values);
    for (i, _) in f.nodes.iter().enumerate() {
        for id in &values[i] {
            if live[at(*id)] {
                e.emit(at(*id)).map_err(|class| unordered(&format!("`{}` among what it needs", e.describe(class))))?;
            }
        }
    }
    let value = |v: ValueId| e.made[at(values[v.node as usize][v.index as usize])];
    let missing = || unordered("a result that nothing computes");
    let results: Option<Vec<ValueId>> = f.results.iter().map(|r| value(r.value)).collect();
    let updates: Option<Vec<ValueId>> = f.updates.iter().map(|(_, v)| value(*v)).collect();
    let (results, updates) = (results.ok_or_else(missing)?, updates.ok_or_else(missing)?);
    for (r, v) in f.results.iter().zip(results) {
        e.to.result(r.name.clone(), v);
    }
    for ((p, _), v) in f.updates.iter().zip(updates) {
        e.to.update(*p, v);
    }
    Ok(e.to.finish())
}

fn canonical(g: &Graph<'_>, n: &ENode) -> ENode {
    n.clone().map_children(|c| g.find(c))
}

/// The e-node a node of the function went in as.
fn original(g: &Graph<'_>, values: &[SmallVec<[Id; 1]>], i: usize, op: &Op) -> ENode {
    let node = &g.analysis.function.nodes[i];
    let children = node.inputs.iter().map(|v| g.find(values[v.node as usize][v.index as usize])).collect();
    let head = match op {
        Op::Param(_) | Op::Constant(_) => Head::Leaf(i as u32),
        Op::Call { .. } | Op::SliceUpdate { .. } => Head::Barrier(i as u32),
        op => Head::Op(op.clone()),
    };
    ENode { head, children }
}

/// A number for what a node computes; the same in every run.
fn label(head: &Head) -> u64 {
    let mut h = DefaultHasher::new();
    head.hash(&mut h);
    h.finish()
}

/// For each barrier's class, the classes that read a version it replaces.
fn replacements(
    f: &Function,
    values: &[SmallVec<[Id; 1]>],
    at: &dyn Fn(Id) -> usize,
    chosen: &[Option<&ENode>],
) -> BTreeMap<usize, BTreeSet<usize>> {
    let mut readers: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (class, n) in chosen.iter().enumerate() {
        for child in n.iter().flat_map(|n| n.children()) {
            readers.entry(at(*child)).or_default().insert(class);
        }
    }
    let mut out = BTreeMap::new();
    for (class, n) in chosen.iter().enumerate() {
        let Some(Head::Barrier(i)) = n.map(|n| &n.head) else { continue };
        let node = &f.nodes[*i as usize];
        let replaced: Vec<ValueId> = match &node.op {
            Op::Call { updates, .. } => updates.iter().map(|p| node.inputs[*p as usize]).collect(),
            _ if home(f, ValueId::of(*i as usize)) != ValueId::of(*i as usize) => vec![node.inputs[0]],
            _ => Vec::new(),
        };
        let mut before = BTreeSet::new();
        for v in replaced {
            before.extend(readers.get(&at(values[v.node as usize][v.index as usize])).into_iter().flatten());
        }
        before.remove(&class);
        out.insert(class, before);
    }
    out
}

/// What the user said of a class.
#[derive(Clone, Debug, Default)]
struct Origin {
    name: Option<Arc<str>>,
    at: Option<Location>,
}

struct Emitter<'a, 'f> {
    g: &'a Graph<'f>,
    f: &'f Function,
    /// Classes by number.
    classes: &'a [Id],
    at: &'a dyn Fn(Id) -> usize,
    chosen: &'a [Option<&'a ENode>],
    origin: &'a [Origin],
    before: BTreeMap<usize, BTreeSet<usize>>,
    to: FunctionBuilder,
    made: Vec<Option<ValueId>>,
    open: Vec<bool>,
}

impl Emitter<'_, '_> {
    /// Declares every parameter, in order.
    fn parameters(&mut self, values: &[SmallVec<[Id; 1]>]) {
        for (i, p) in self.f.params.iter().enumerate() {
            let node = self.f.nodes.iter().position(|n| n.op == Op::Param(i as u32));
            let place = node.and_then(|n| self.f.nodes[n].at.clone());
            let v = self.to.param(&p.name, p.role, p.ty.clone(), place);
            if let Some(n) = node {
                self.made[(self.at)(values[n][0])] = Some(v);
            }
        }
    }

    fn describe(&self, class: usize) -> String {
        let head = self.chosen[class].map(|n| n.discriminant()).unwrap_or("value");
        self.origin[class].name.as_ref().map_or_else(|| head.to_string(), ToString::to_string)
    }

    /// Emits a class after all it needs; fails with a class that needs itself.
    fn emit(&mut self, root: usize) -> Result<(), usize> {
        // A class, the place to give it, and whether its needs are met.
        let mut stack = vec![(root, None::<Location>, false)];
        while let Some((class, place, ready)) = stack.pop() {
            if self.made[class].is_some() {
                continue;
            }
            let place = self.origin[class].at.clone().or(place);
            let Some(node) = self.chosen[class] else { return Err(class) };
            if ready {
                self.node(class, node, place)?;
                self.open[class] = false;
                continue;
            }
            if std::mem::replace(&mut self.open[class], true) {
                return Err(class);
            }
            stack.push((class, place.clone(), true));
            let readers = self.before.get(&class).into_iter().flatten().copied();
            let needs: Vec<usize> = readers.chain(node.children().iter().map(|c| (self.at)(*c))).collect();
            for need in needs.into_iter().rev() {
                if self.made[need].is_none() {
                    if self.open[need] {
                        return Err(need);
                    }
                    stack.push((need, place.clone(), false));
                }
            }
        }
        Ok(())
    }

    fn node(&mut self, class: usize, node: &ENode, at: Option<Location>) -> Result<(), usize> {
        let inputs: Option<Vec<ValueId>> = node.children().iter().map(|c| self.made[(self.at)(*c)]).collect();
        let inputs = inputs.ok_or(class)?;
        let value = match &node.head {
            Head::Proj(i) => ValueId { node: inputs[0].node, index: *i },
            Head::Leaf(n) | Head::Barrier(n) => {
                let from = &self.f.nodes[*n as usize];
                self.to.raw(from.op.clone(), &inputs, from.types.to_vec(), at)[0]
            }
            Head::Op(op) => {
                let types = self.g[self.classes[class]].data.types.to_vec();
                self.to.raw(op.clone(), &inputs, types, at)[0]
            }
        };
        if let (Some(name), 0) = (&self.origin[class].name, value.index) {
            let made = &mut self.to.function_mut().nodes[value.node as usize];
            if made.name.is_none() && !matches!(made.op, Op::Param(_)) {
                made.name = Some(name.clone());
            }
        }
        self.made[class] = Some(value);
        Ok(())
    }
}
