//! Writing block functions and their calls.

use super::block::{Block, Operand, Outside};
use crate::rewrite::remove_dead;
use mlxc_ir::Diagnostic;
use mlxc_ir::graph::{Function, FunctionBuilder, Op, Role, ValueId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The function with calls in place of its repetitions, and the blocks; they are numbered from `first`.
pub fn emit(
    f: &Function,
    outside: &Outside,
    order: &[u32],
    blocks: &[Block],
    first: u32,
) -> Result<(Function, Vec<Function>), Diagnostic> {
    let mut names = BTreeSet::new();
    let functions: Vec<Function> = blocks.iter().map(|b| block_function(f, order, b, &mut names)).collect();
    let mut to = FunctionBuilder::like(f);
    let mut made: HashMap<ValueId, ValueId> = HashMap::new();
    for (i, p) in f.params.iter().enumerate() {
        let node = f.nodes.iter().position(|n| n.op == Op::Param(i as u32));
        let v = to.param(&p.name, p.role, p.ty.clone(), node.and_then(|n| f.nodes[n].at.clone()));
        if let Some(n) = node {
            made.insert(ValueId::of(n), v);
        }
    }
    let copies = (0..f.nodes.len()).filter(|i| outside.copied[*i] && !matches!(f.nodes[*i].op, Op::Param(_)));
    copies.for_each(|i| copy(f, i, &mut to, &mut made));
    let mut at = 0;
    while at < order.len() {
        let Some(b) = blocks.iter().position(|b| b.start == at) else {
            copy(f, order[at] as usize, &mut to, &mut made);
            at += 1;
            continue;
        };
        let block = &blocks[b];
        for r in 0..block.count {
            let begin = at + r * block.period;
            let args: Vec<ValueId> = block.slots.iter().map(|t| made[&t[r]]).collect();
            let place = f.nodes[order[begin] as usize].at.clone();
            let values = to.call(first + b as u32, &functions[b], &args, place);
            let last = block.updates.iter().map(|(_, j)| (*j, 0));
            for ((j, index), v) in block.results.iter().copied().chain(last).zip(values) {
                made.insert(ValueId { node: order[begin + j], index }, v);
            }
        }
        at += block.count * block.period;
    }
    for r in &f.results {
        to.result(r.name.clone(), made[&r.value]);
    }
    for (p, v) in &f.updates {
        to.update(*p, made[v]);
    }
    Ok((remove_dead(&to.finish())?, functions))
}

/// Copies a node as it is.
fn copy(f: &Function, i: usize, to: &mut FunctionBuilder, made: &mut HashMap<ValueId, ValueId>) {
    let node = &f.nodes[i];
    let inputs: Vec<ValueId> = node.inputs.iter().map(|v| made[v]).collect();
    let values = to.raw(node.op.clone(), &inputs, node.types.to_vec(), node.at.clone());
    if let Some(name) = &node.name {
        to.name(values[0], name.clone());
    }
    made.extend(values.into_iter().enumerate().map(|(k, v)| (ValueId { node: i as u32, index: k as u32 }, v)));
}

fn block_function(f: &Function, order: &[u32], block: &Block, taken: &mut BTreeSet<String>) -> Function {
    let mut b = FunctionBuilder::like(f);
    let nodes = &order[block.start..][..block.period];
    let mut names = BTreeSet::new();
    let mut copies: HashMap<ValueId, ValueId> = HashMap::new();
    let mut slots = Vec::with_capacity(block.slots.len());
    for tuple in &block.slots {
        let given: Vec<String> = tuple.iter().map(|v| f.value_name(*v)).collect();
        let name = unique(&mut names, &common_name(&given).unwrap_or_else(|| "x".into()));
        let role = match f.param_of(tuple[0]).map(|p| p.role) {
            Some(Role::Scalar(id)) => Role::Scalar(id),
            _ => Role::Block,
        };
        let v = b.param(&name, role, f.ty(tuple[0]).clone(), f.node(tuple[0]).at.clone());
        if let Role::Scalar(_) = role {
            copies.insert(tuple[0], v);
        }
        slots.push(v);
    }
    let mut made: Vec<Vec<ValueId>> = Vec::with_capacity(nodes.len());
    for (j, i) in nodes.iter().enumerate() {
        let node = &f.nodes[*i as usize];
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for operand in &block.operands[j] {
            inputs.push(match operand {
                Operand::Inside(at, index) => made[*at][*index as usize],
                Operand::Slot(i) => slots[*i],
                Operand::Copied(v) => copy_cone(f, *v, &mut b, &mut copies),
            });
        }
        let values = b.raw(node.op.clone(), &inputs, node.types.to_vec(), node.at.clone());
        let given: Option<Vec<String>> = (0..block.count)
            .map(|r| Some(f.nodes[order[block.start + r * block.period + j] as usize].name.as_ref()?.to_string()))
            .collect();
        if let Some(name) = given.and_then(|n| common_name(&n)) {
            b.name(values[0], name);
        }
        made.push(values);
    }
    let mut results = BTreeSet::new();
    for (j, index) in &block.results {
        let v = made[*j][*index as usize];
        let name: Arc<str> = unique(&mut results, &b.function().value_name(v)).into();
        b.result(name, v);
    }
    for (slot, j) in &block.updates {
        b.update(*slot as u32, made[*j][0]);
    }
    let mut out = b.finish();
    out.is_block = true;
    out.name = unique(taken, &format!("{}.{}", f.name, group_name(f, block)));
    out
}

/// A value that the block computes anew, with all it needs.
fn copy_cone(f: &Function, v: ValueId, b: &mut FunctionBuilder, copies: &mut HashMap<ValueId, ValueId>) -> ValueId {
    if let Some(v) = copies.get(&v) {
        return *v;
    }
    let node = f.node(v);
    let inputs: Vec<ValueId> = node.inputs.iter().map(|v| copy_cone(f, *v, b, copies)).collect();
    let values = b.raw(node.op.clone(), &inputs, node.types.to_vec(), node.at.clone());
    if let Some(name) = &node.name {
        b.name(values[0], name.clone());
    }
    copies.insert(v, values[v.index as usize]);
    values[v.index as usize]
}

/// What names of one thing in several repetitions have in common: `q.weight` of `layers.0.q.weight`,
/// `layers.1.q.weight`; `layer` of `layer_0`, `layer_1`.
fn common_name(names: &[String]) -> Option<String> {
    let first = names.first()?;
    if names.iter().all(|n| n == first) {
        return Some(first.clone());
    }
    let split: Vec<Vec<&str>> = names.iter().map(|n| n.split('.').collect()).collect();
    let shortest = split.iter().map(Vec::len).min()?;
    let from_end = |k: usize, n: &Vec<&str>| n[n.len() - 1 - k].to_string();
    let same = (0..shortest).take_while(|k| split.iter().all(|n| from_end(*k, n) == from_end(*k, &split[0]))).count();
    if same > 0 {
        return Some(split[0][split[0].len() - same..].join("."));
    }
    let prefix = names
        .iter()
        .fold(first.len(), |n, name| first.bytes().zip(name.bytes()).take(n).take_while(|(a, b)| a == b).count());
    let stem = first.get(..prefix)?.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '_' | '.' | '-'));
    (!stem.is_empty()).then(|| stem.to_string())
}

/// What the weights of a block are called together: `layers` of `model.layers.0.q.weight`.
fn group_name(f: &Function, block: &Block) -> String {
    let numbered = block.slots.iter().filter(|t| t[0] != t[1] && f.param_of(t[0]).is_some()).find_map(|t| {
        let (a, b) = (f.value_name(t[0]), f.value_name(t[1]));
        let (a, b): (Vec<&str>, Vec<&str>) = (a.split('.').collect(), b.split('.').collect());
        let same = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
        (same > 0).then(|| a[same - 1].to_string())
    });
    numbered.unwrap_or_else(|| "block".into())
}

fn unique(taken: &mut BTreeSet<String>, name: &str) -> String {
    let free = std::iter::once(name.to_string())
        .chain((2..).map(|i| format!("{name}_{i}")))
        .find(|n| !taken.contains(n))
        .expect("there are names enough");
    taken.insert(free.clone());
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_what_repetitions_share() {
        let name = |names: &[&str]| common_name(&names.iter().map(|n| (*n).to_string()).collect::<Vec<_>>());
        assert_eq!(name(&["m.0.q.weight", "m.1.q.weight"]).as_deref(), Some("q.weight"));
        assert_eq!(name(&["layer_0", "layer_1", "layer_10"]).as_deref(), Some("layer"));
        assert_eq!(name(&["x", "x"]).as_deref(), Some("x"));
        assert_eq!(name(&["a", "b"]), None);
    }
}
