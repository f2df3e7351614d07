//! What partitions are made of: a function, its dependencies, and the kernel of any of its regions.

use super::graph::Graph;
use super::kernel::build;
use super::objective::cost;
use super::{CALL, Group};
use crate::lower::emit::{Refusal, Region, Target, Work, home, is_free};
use crate::lower::map::Built;
use mlxc_ir::graph::{Function, Op, Role, ValueId};
use mlxc_ir::kernel::Kernel;
use std::collections::BTreeSet;

/// A function to be partitioned.
pub(super) struct Space<'a> {
    pub f: &'a Function,
    pub target: &'a Target<'a>,
    pub graph: Graph,
    /// Parameters that are weights wherever the function is called.
    weights: &'a [bool],
}

impl<'a> Space<'a> {
    pub fn new(f: &'a Function, target: &'a Target<'a>, weights: &'a [bool]) -> Self {
        Space { f, target, graph: Graph::new(f), weights }
    }

    /// Nodes that start alone: those that compute, and views that must lie in memory.
    pub fn starts(&self) -> BTreeSet<u32> {
        let views = self.graph.roots.iter().map(|v| v.node).filter(|n| is_free(self.f, *n));
        self.graph.compute.iter().copied().chain(views).collect()
    }

    /// Values of the nodes that something outside needs; what is `copied` is computed anew wherever it is read.
    pub fn outputs(&self, nodes: &Region, copied: &Region) -> Vec<ValueId> {
        let used = |n: &u32| !copied.contains(n) && self.is_read_outside(*n, nodes, copied);
        nodes
            .iter()
            .flat_map(|n| super::graph::results(self.f, *n).filter(move |v| used(n) || self.is_kept(*v)))
            .collect()
    }

    /// Nodes that are stored or read by such, with the copies they need and no others.
    pub fn closed(&self, nodes: Region, copied: &Region) -> Region {
        let mut out: Region = nodes.difference(copied).copied().collect();
        let mut stack: Vec<u32> = out.iter().copied().collect();
        while let Some(n) = stack.pop() {
            for p in self.graph.producers.get(&n).into_iter().flatten() {
                if copied.contains(p) && out.insert(*p) {
                    stack.push(*p);
                }
            }
        }
        out
    }

    /// True if a node outside reads a node, itself or through copies that it computes.
    fn is_read_outside(&self, node: u32, nodes: &Region, copied: &Region) -> bool {
        let mut readers = self.graph.consumers.get(&node).into_iter().flatten();
        readers.any(|c| if copied.contains(c) { self.is_read_outside(*c, nodes, copied) } else { !nodes.contains(c) })
    }

    /// True for roots and for state versions, which are stored whoever reads them.
    pub fn is_kept(&self, v: ValueId) -> bool {
        self.graph.roots.contains(&v) || home(self.f, v) != v
    }

    /// True for a block's parameter that lies in the arena of whoever calls it.
    pub fn is_lent(&self, v: ValueId) -> bool {
        let Op::Param(p) = self.f.node(v).op else { return false };
        let is_state = self.f.updates.iter().any(|(u, _)| *u == p);
        let is_weight = self.weights.get(p as usize).copied().unwrap_or(false);
        self.f.params[p as usize].role == Role::Block && !is_state && !is_weight
    }

    /// True if a node may be computed by each of its readers instead of being stored.
    pub fn may_be_copied(&self, node: u32) -> bool {
        let op = &self.f.nodes[node as usize].op;
        (op.is_elementwise() || matches!(op, Op::Concat { .. } | Op::Pad { .. }))
            && !super::graph::results(self.f, node).any(|v| self.is_kept(v))
    }

    /// The kernel of some nodes.
    pub fn group(&self, nodes: Region, copied: &Region) -> Result<Group, Refusal> {
        let outputs = self.outputs(&nodes, copied);
        self.group_with(nodes, outputs)
    }

    /// The kernel of some nodes that stores some of their values.
    pub fn group_with(&self, nodes: Region, outputs: Vec<ValueId>) -> Result<Group, Refusal> {
        if nodes.iter().any(|n| matches!(self.f.nodes[*n as usize].op, Op::Call { .. })) {
            if nodes.len() > 1 {
                return Err(Refusal::new("call", "a call of a block is no part of a kernel"));
            }
            let built =
                Built { kernel: Kernel::new(CALL), bindings: Vec::new(), work: Work::default(), template: CALL };
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
}
