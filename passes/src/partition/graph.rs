//! Dependencies between the nodes that compute, with views and constants looked through.

use super::stored_root;
use crate::lower::emit::{home, is_free};
use mlxc_ir::graph::{Function, Op, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// Every result of a node.
pub(super) fn results(f: &Function, node: u32) -> impl Iterator<Item = ValueId> {
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
pub(super) struct Graph {
    pub compute: Vec<u32>,
    /// Computing nodes that read a node's value.
    pub consumers: BTreeMap<u32, BTreeSet<u32>>,
    /// Computing nodes whose values a node reads.
    pub producers: BTreeMap<u32, BTreeSet<u32>>,
    /// Nodes that read the state version a node replaces.
    pub readers: BTreeMap<u32, BTreeSet<u32>>,
    pub roots: BTreeSet<ValueId>,
}

impl Graph {
    pub fn new(f: &Function) -> Self {
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
