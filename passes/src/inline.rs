//! Calls back into what they stand for.

use mlxc_ir::Diagnostic;
use mlxc_ir::graph::{FunctionBuilder, Module, Op, ValueId};
use std::collections::HashMap;

/// Replaces every call by the nodes of its block; blocks are dropped.
///
/// # Errors
/// None for a verified module; the type says so for callers in a chain.
pub fn inline(module: &Module) -> Result<Module, Diagnostic> {
    let mut functions = Vec::new();
    for f in module.functions.iter().filter(|f| !f.is_block) {
        let mut to = FunctionBuilder::like(f);
        let mut made: HashMap<ValueId, ValueId> = HashMap::new();
        for (i, node) in f.nodes.iter().enumerate() {
            let inputs: Vec<ValueId> = node.inputs.iter().map(|v| made[v]).collect();
            let values = match &node.op {
                Op::Param(p) => {
                    let p = &f.params[*p as usize];
                    vec![to.param(&p.name, p.role, p.ty.clone(), node.at.clone())]
                }
                Op::Call { function, .. } => expand(module, *function, &inputs, &mut to),
                op => to.raw(op.clone(), &inputs, node.types.to_vec(), node.at.clone()),
            };
            if let (Some(name), false) = (&node.name, matches!(node.op, Op::Call { .. })) {
                to.name(values[0], name.clone());
            }
            for (k, v) in values.into_iter().enumerate() {
                made.insert(ValueId { node: i as u32, index: k as u32 }, v);
            }
        }
        for r in &f.results {
            to.result(r.name.clone(), made[&r.value]);
        }
        for (p, v) in &f.updates {
            to.update(*p, made[v]);
        }
        functions.push(to.finish());
    }
    Ok(Module { weights: module.weights.clone(), states: module.states.clone(), functions })
}

/// Appends the nodes of a block; gives its results, then its updates.
fn expand(module: &Module, function: u32, args: &[ValueId], to: &mut FunctionBuilder) -> Vec<ValueId> {
    let g = &module.functions[function as usize];
    let mut made: HashMap<ValueId, ValueId> = HashMap::new();
    for (i, node) in g.nodes.iter().enumerate() {
        let values = match &node.op {
            Op::Param(p) => vec![args[*p as usize]],
            op => {
                let inputs: Vec<ValueId> = node.inputs.iter().map(|v| made[v]).collect();
                let values = to.raw(op.clone(), &inputs, node.types.to_vec(), node.at.clone());
                if let Some(name) = &node.name {
                    to.name(values[0], name.clone());
                }
                values
            }
        };
        for (k, v) in values.into_iter().enumerate() {
            made.insert(ValueId { node: i as u32, index: k as u32 }, v);
        }
    }
    g.roots().map(|v| made[&v]).collect()
}
