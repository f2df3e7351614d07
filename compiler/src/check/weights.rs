//! Weights that are stored and not read: in the checkpoint and not in the graph, or in the graph and without an effect.

use super::Finding;
use crate::checkpoint;
use crate::weights::Checkpoint;
use mlxc_ir::graph::{Function, Module, Op, Role};
use mlxc_ir::{Diagnostic, Location};

/// All tensors of a checkpoint that no layer reads.
pub(super) fn unread(checkpoint: &Checkpoint, module: &Module) -> Vec<Finding> {
    let one = |name: &str| {
        let file = checkpoint.file_of(name).map(|p| p.display().to_string()).unwrap_or_default();
        let d = Diagnostic::new(983, format!("the checkpoint has a tensor that no layer reads: `{name}`"))
            .at(Location::new(file, 0, 0))
            .expected("tensors of the model that the config describes")
            .found(format!("`{name}`"))
            .note("compiling refuses it: its part of the model would be left out");
        Finding::warning(d)
    };
    checkpoint::unread(checkpoint, module).into_iter().map(one).collect()
}

/// Weights that are declared and that no result or new state depends on.
pub(super) fn dead(module: &Module) -> Vec<Finding> {
    let mut live = vec![false; module.weights.len()];
    for f in &module.functions {
        for node in reached(f) {
            if let Op::Param(i) = f.nodes[node].op
                && let Role::Weight(w) = f.params[i as usize].role
            {
                live[w as usize] = true;
            }
        }
    }
    let mut out = Vec::new();
    for (w, weight) in module.weights.iter().enumerate().filter(|(w, _)| !live[*w]) {
        let mut d = Diagnostic::new(984, format!("no result depends on weight `{}`", weight.name))
            .expected("a weight that a result or a state is computed from")
            .found(format!("{} of {} bytes", weight.ty.display(&[]), weight.ty.max_bytes(&[])))
            .note("take its declaration out, or use what is computed from it");
        if let Some(at) = module.functions.iter().find_map(|f| declared(f, w as u32)) {
            d = d.at(at);
        }
        out.push(Finding::warning(d));
    }
    out
}

/// Nodes that a function's results and new states are computed from.
fn reached(f: &Function) -> Vec<usize> {
    let mut seen = vec![false; f.nodes.len()];
    let mut stack: Vec<u32> = f.roots().map(|v| v.node).collect();
    while let Some(n) = stack.pop() {
        if !std::mem::replace(&mut seen[n as usize], true) {
            stack.extend(f.nodes[n as usize].inputs.iter().map(|v| v.node));
        }
    }
    (0..seen.len()).filter(|n| seen[*n]).collect()
}

/// Where a function declares a weight.
fn declared(f: &Function, weight: u32) -> Option<Location> {
    let is = |op: &Op| matches!(op, Op::Param(i) if f.params[*i as usize].role == Role::Weight(weight));
    f.nodes.iter().find(|n| is(&n.op))?.at.clone()
}
