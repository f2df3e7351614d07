//! Outlining: the layers of a model become one block function, called once for each.
//!
//! The nodes of an entry are read as a sequence of signatures (op, types, kinds of operands). The longest periodic
//! stretch of it is the candidate; of all ways to cut it into periods, the one where fewest bytes cross is taken, and
//! the repetitions are compared node by node. Weights and states become parameters; constants that repeat stay
//! inside. The first and last repetition stay in the entry, where they may fuse with what stands before and after, so that
//! no kernel is lost at the ends; all others are calls of one block.

use crate::lower::emit::home;
use mlxc_ir::Diagnostic;
use mlxc_ir::graph::{Function, FunctionBuilder, Module, Op, Role, ValueId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Fewest calls worth a block.
const CALLS: usize = 2;
/// Repetitions left in the entry at each end.
const PEELED: usize = 1;

/// Outlines the repeated blocks of every entry.
///
/// # Errors
/// What inference says; none for a verified module.
pub fn outline(module: &Module) -> Result<Module, Diagnostic> {
    let mut out = module.clone();
    for i in 0..module.functions.len() {
        if module.functions[i].is_block {
            continue;
        }
        // A model may have several stacks of layers.
        for round in 0..4 {
            let next = out.functions.len() as u32;
            let f = &out.functions[i];
            let name = if round == 0 { format!("{}.block", f.name) } else { format!("{}.block{}", f.name, round + 1) };
            let Some((entry, block)) = outline_once(f, next, &name)? else { break };
            out.functions[i] = entry;
            out.functions.push(block);
        }
    }
    Ok(out)
}

/// A node without operands is made anew wherever it is used; it belongs to no repetition.
fn is_leaf(f: &Function, node: usize) -> bool {
    f.nodes[node].inputs.is_empty()
}

/// What two repetitions must agree on before they are compared exactly. Calls agree with nothing.
fn signatures(f: &Function, sequence: &[usize]) -> Vec<u64> {
    let mut known: HashMap<String, u64> = HashMap::new();
    sequence
        .iter()
        .map(|n| {
            let node = &f.nodes[*n];
            let unique = if matches!(node.op, Op::Call { .. }) { *n } else { usize::MAX };
            let operands: Vec<(char, &mlxc_ir::graph::TensorType)> = node
                .inputs
                .iter()
                .map(|v| {
                    let kind = match f.param_of(*v).map(|p| p.role) {
                        Some(Role::Weight(_)) => 'w',
                        Some(Role::State(_)) => 's',
                        Some(_) => 'p',
                        None if is_leaf(f, v.node as usize) => 'c',
                        None => 'v',
                    };
                    (kind, f.ty(*v))
                })
                .collect();
            let text = format!("{:?} {:?} {:?} {unique}", node.op, node.types, operands);
            let next = known.len() as u64;
            *known.entry(text).or_insert(next)
        })
        .collect()
}

/// A stretch of the sequence that repeats: first position, period, repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    start: usize,
    period: usize,
    count: usize,
}

/// The periodic stretches that cover most, smaller periods first.
fn runs(signature: &[u64]) -> Vec<Run> {
    let n = signature.len();
    let mut best: Vec<Run> = Vec::new();
    let mut most = 0;
    for period in 2..=n / (CALLS + 2 * PEELED) {
        let mut i = 0;
        while i + period < n {
            let mut length = 0;
            while i + length + period < n && signature[i + length] == signature[i + length + period] {
                length += 1;
            }
            let count = length / period + 1;
            if count >= CALLS + 2 * PEELED {
                // Every way to cut the stretch into whole periods.
                let slack = length - (count - 1) * period;
                let covered = count * period;
                if covered > most {
                    most = covered;
                    best.clear();
                }
                if covered == most && best.first().is_none_or(|r| r.period == period) {
                    best.extend((0..=slack).map(|s| Run { start: i + s, period, count }));
                }
                // One repetition less may be cut anywhere.
                if covered == most && count > CALLS + 2 * PEELED && best.first().is_some_and(|r| r.period == period) {
                    best.extend((slack + 1..period).map(|s| Run { start: i + s, period, count: count - 1 }));
                }
            }
            i += length + 1;
        }
    }
    best
}

fn outline_once(f: &Function, function: u32, name: &str) -> Result<Option<(Function, Function)>, Diagnostic> {
    let sequence: Vec<usize> = (0..f.nodes.len()).filter(|n| !is_leaf(f, *n)).collect();
    let mut candidates: Vec<(usize, u64, usize, Plan)> = Vec::new();
    for run in runs(&signatures(f, &sequence)) {
        if let Some(plan) = Plan::new(f, &sequence, run) {
            // Most repetitions first, then fewest bytes across the cut, then the earliest cut.
            candidates.push((usize::MAX - plan.count, plan.crossing(f), run.start, plan));
        }
    }
    candidates.sort_by_key(|(a, b, c, _)| (*a, *b, *c));
    let Some((.., plan)) = candidates.into_iter().next() else { return Ok(None) };
    let block = plan.block(f, name)?;
    let entry = plan.entry(f, &block, function)?;
    Ok(Some((entry, block)))
}

/// Where an operand from outside a repetition comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    /// The value in each repetition.
    values: Vec<ValueId>,
}

/// An outlining that has been checked.
struct Plan {
    /// Nodes of each outlined repetition, in order.
    blocks: Vec<Vec<usize>>,
    count: usize,
    /// Values from outside, in order of first use.
    slots: Vec<Slot>,
    /// Results needed outside, as (position in the block, result).
    outputs: Vec<(usize, u32)>,
    /// State updates: (slot, position in the block).
    updates: Vec<(usize, usize)>,
}

impl Plan {
    fn new(f: &Function, sequence: &[usize], run: Run) -> Option<Plan> {
        let all: Vec<Vec<usize>> = (0..run.count)
            .map(|k| sequence[run.start + k * run.period..run.start + (k + 1) * run.period].to_vec())
            .collect();
        let blocks: Vec<Vec<usize>> = all[PEELED..all.len().checked_sub(PEELED)?].to_vec();
        if blocks.len() < CALLS {
            return None;
        }
        // A block is worth a function for its products; chains of cheap ops fuse better in the open.
        let heavy = |n: &usize| matches!(f.nodes[*n].op, Op::MatMul { .. } | Op::Int8MatMul { .. } | Op::Sdpa { .. });
        if !blocks[0].iter().any(heavy) {
            return None;
        }
        let slots = slots(f, &blocks)?;
        let mut plan = Plan { count: blocks.len(), slots, outputs: Vec::new(), updates: Vec::new(), blocks };
        let places = plan.places();
        plan.find_updates(f)?;
        plan.find_outputs(f, &places)?;
        Some(plan)
    }

    /// Repetition and position of every node of the blocks.
    fn places(&self) -> HashMap<usize, (usize, usize)> {
        let numbered = |(k, nodes): (usize, &Vec<usize>)| {
            nodes.iter().enumerate().map(move |(i, n)| (*n, (k, i))).collect::<Vec<_>>()
        };
        self.blocks.iter().enumerate().flat_map(numbered).collect()
    }

    /// For each state that a block writes, its slot and its last version there: the same in every repetition. A state
    /// may pass through several blocks, so that only the last one's version is the entry's update.
    fn find_updates(&mut self, f: &Function) -> Option<()> {
        let mut per_block: Vec<BTreeSet<(usize, usize)>> = vec![BTreeSet::new(); self.blocks.len()];
        for (k, nodes) in self.blocks.iter().enumerate() {
            let mut last: BTreeMap<ValueId, usize> = BTreeMap::new();
            for (at, n) in nodes.iter().enumerate() {
                let root = home(f, ValueId::of(*n));
                if matches!(f.nodes[*n].op, Op::SliceUpdate { .. }) && root != ValueId::of(*n) {
                    last.insert(root, at);
                }
            }
            for (root, at) in last {
                let mut versions =
                    self.slots.iter().enumerate().filter(|(_, s)| home(f, s.values[k]) == root).map(|(i, _)| i);
                let slot = versions.next()?;
                // An older version beside it would be read after its update.
                if versions.next().is_some() {
                    return None;
                }
                per_block[k].insert((slot, at));
            }
        }
        if per_block.windows(2).any(|w| w[0] != w[1]) {
            return None;
        }
        self.updates = per_block[0].iter().copied().collect();
        Some(())
    }

    fn find_outputs(&mut self, f: &Function, places: &HashMap<usize, (usize, usize)>) -> Option<()> {
        let mut needed: BTreeSet<(usize, u32)> = BTreeSet::new();
        let updates: BTreeSet<usize> = self.updates.iter().map(|(_, at)| *at).collect();
        let mut need = |v: &ValueId, reader: Option<usize>| {
            if let Some((k, at)) = places.get(&(v.node as usize))
                && reader != Some(*k)
                && !updates.contains(at)
            {
                needed.insert((*at, v.index));
            }
        };
        for (i, node) in f.nodes.iter().enumerate() {
            let reader = places.get(&i).map(|(k, _)| *k);
            node.inputs.iter().for_each(|v| need(v, reader));
        }
        f.results.iter().for_each(|r| need(&r.value, None));
        // A version that the block itself replaces is no result.
        let version = |at: usize, index: u32| {
            let v = ValueId { node: self.blocks[0][at] as u32, index };
            home(f, v) != v
        };
        if needed.iter().any(|(at, index)| version(*at, *index)) {
            return None;
        }
        self.outputs = needed.into_iter().collect();
        Some(())
    }

    /// Bytes of computed values that enter and leave a block.
    fn crossing(&self, f: &Function) -> u64 {
        let bytes = |v: ValueId| f.ty(v).max_bytes(&f.symbols);
        // A state stays where it is, whichever version is passed.
        let computed = |s: &&Slot| f.param_of(home(f, s.values[0])).is_none();
        let inputs = self.slots.iter().filter(computed).map(|s| bytes(s.values[0]));
        let outputs = self.outputs.iter().map(|(at, i)| bytes(ValueId { node: self.blocks[0][*at] as u32, index: *i }));
        inputs.chain(outputs).sum()
    }

    fn block(&self, f: &Function, name: &str) -> Result<Function, Diagnostic> {
        let mut b = FunctionBuilder::like(f);
        b.function_mut().name = name.into();
        b.function_mut().is_block = true;
        let mut map: HashMap<ValueId, ValueId> = HashMap::new();
        let mut names = BTreeSet::new();
        for (i, slot) in self.slots.iter().enumerate() {
            let v = slot.values[0];
            let role = match f.param_of(v).map(|p| p.role) {
                Some(Role::Scalar(id)) => Role::Scalar(id),
                _ => Role::Block,
            };
            let mut wanted = self.slot_name(f, slot).unwrap_or_else(|| format!("argument{i}"));
            if !names.insert(wanted.clone()) {
                wanted = format!("{wanted}.{i}");
                names.insert(wanted.clone());
            }
            map.insert(v, b.param(&wanted, role, f.ty(v).clone(), f.node(v).at.clone()));
        }
        for n in &self.blocks[0] {
            copy(f, *n, &mut b, &mut map)?;
        }
        for (at, index) in &self.outputs {
            let old = ValueId { node: self.blocks[0][*at] as u32, index: *index };
            b.result(f.value_name(old), map[&old]);
        }
        for (slot, at) in &self.updates {
            b.update(*slot as u32, map[&ValueId::of(self.blocks[0][*at])]);
        }
        Ok(b.finish())
    }

    /// The part of the repetitions' names after what differs; the value's own name where it is not a parameter.
    fn slot_name(&self, f: &Function, slot: &Slot) -> Option<String> {
        if f.param_of(slot.values[0]).is_none() {
            return Some(format!("{}.in", f.value_name(slot.values[0])));
        }
        let names: Vec<Vec<&str>> =
            slot.values.iter().map(|v| f.param_of(*v).map(|p| p.name.split('.').collect())).collect::<Option<_>>()?;
        let first = &names[0];
        if names.iter().all(|n| n == first) {
            return Some(first.join("."));
        }
        let differs = (0..first.len()).rev().find(|i| names.iter().any(|n| n.get(*i) != first.get(*i)))?;
        let suffix = first[differs + 1..].join(".");
        (!suffix.is_empty()).then_some(suffix)
    }

    fn entry(&self, f: &Function, block: &Function, function: u32) -> Result<Function, Diagnostic> {
        let mut b = FunctionBuilder::like(f);
        let mut map: HashMap<ValueId, ValueId> = HashMap::new();
        for (i, p) in f.params.iter().enumerate() {
            let Some(n) = f.nodes.iter().position(|n| n.op == Op::Param(i as u32)) else { continue };
            map.insert(ValueId::of(n), b.param(&p.name, p.role, p.ty.clone(), f.nodes[n].at.clone()));
        }
        let owner: BTreeMap<usize, usize> =
            self.blocks.iter().enumerate().flat_map(|(k, nodes)| nodes.iter().map(move |n| (*n, k))).collect();
        let mut called = BTreeSet::new();
        for n in (0..f.nodes.len()).filter(|n| !is_leaf(f, *n)) {
            let Some(k) = owner.get(&n) else {
                copy(f, n, &mut b, &mut map)?;
                continue;
            };
            if !called.insert(*k) {
                continue;
            }
            let mut args = Vec::with_capacity(self.slots.len());
            for slot in &self.slots {
                args.push(value(f, slot.values[*k], &mut b, &mut map)?);
            }
            let made = b.call(function, block, &args, f.nodes[n].at.clone());
            let old =
                self.outputs.iter().map(|(at, index)| ValueId { node: self.blocks[*k][*at] as u32, index: *index });
            let updated = self.updates.iter().map(|(_, at)| ValueId::of(self.blocks[*k][*at]));
            map.extend(old.chain(updated).zip(made));
        }
        for r in &f.results {
            let v = value(f, r.value, &mut b, &mut map)?;
            b.result(r.name.clone(), v);
        }
        for (p, v) in &f.updates {
            let v = value(f, *v, &mut b, &mut map)?;
            b.update(*p, v);
        }
        Ok(b.finish())
    }
}

/// The values each repetition takes from outside, if all repetitions are equal otherwise.
fn slots(f: &Function, blocks: &[Vec<usize>]) -> Option<Vec<Slot>> {
    let place: Vec<HashMap<usize, usize>> =
        blocks.iter().map(|b| b.iter().enumerate().map(|(i, n)| (*n, i)).collect()).collect();
    let mut out: Vec<Slot> = Vec::new();
    for (at, first) in blocks[0].iter().enumerate() {
        let node = &f.nodes[*first];
        for (o, v) in node.inputs.iter().enumerate() {
            let same: Vec<ValueId> =
                blocks.iter().map(|b| f.nodes[b[at]].inputs.get(o).copied()).collect::<Option<_>>()?;
            if let Some(inner) = place[0].get(&(v.node as usize)) {
                let agree = same
                    .iter()
                    .zip(&place)
                    .all(|(w, p)| p.get(&(w.node as usize)) == Some(inner) && w.index == v.index);
                if !agree {
                    return None;
                }
                continue;
            }
            if same.iter().zip(&place).any(|(w, p)| p.contains_key(&(w.node as usize))) {
                return None;
            }
            if is_leaf(f, v.node as usize) && f.param_of(*v).is_none() {
                let op = &f.node(*v).op;
                if same.iter().all(|w| f.node(*w).op == *op) {
                    continue;
                }
            }
            if same.iter().any(|w| f.ty(*w) != f.ty(*v)) {
                return None;
            }
            // Inputs and host scalars are the same in all; weights, states and computed values may differ.
            let fixed = |w: &ValueId| matches!(f.param_of(*w).map(|p| p.role), Some(Role::Input | Role::Scalar(_)));
            if same.iter().any(fixed) && same.iter().any(|w| w != v) {
                return None;
            }
            match out.iter().find(|s| s.values[0] == *v) {
                Some(known) if known.values == same => {}
                Some(_) => return None,
                None => out.push(Slot { values: same }),
            }
        }
    }
    // Two slots that are one value in the first repetition only cannot be told apart; two that are one value in a later
    // one may stay two parameters, unless they are states, which have one successor.
    let states = |s: &Slot| matches!(f.param_of(s.values[0]).map(|p| p.role), Some(Role::State(_)));
    let mut seen = BTreeSet::new();
    for s in out.iter().filter(|s| states(s)) {
        if !s.values.iter().all(|v| seen.insert(*v)) {
            return None;
        }
    }
    Some(out)
}

/// The new value of an old one; leaves are made where they are first needed.
fn value(
    f: &Function,
    v: ValueId,
    b: &mut FunctionBuilder,
    map: &mut HashMap<ValueId, ValueId>,
) -> Result<ValueId, Diagnostic> {
    if let Some(new) = map.get(&v) {
        return Ok(*new);
    }
    let node = f.node(v);
    let new = b.node(node.op.clone(), &[], node.at.clone())?;
    if let Some(name) = &node.name {
        b.name(new, name.clone());
    }
    map.insert(v, new);
    Ok(new)
}

fn copy(
    f: &Function,
    n: usize,
    b: &mut FunctionBuilder,
    map: &mut HashMap<ValueId, ValueId>,
) -> Result<(), Diagnostic> {
    let node = &f.nodes[n];
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for v in &node.inputs {
        inputs.push(value(f, *v, b, map)?);
    }
    let made = b.raw(node.op.clone(), &inputs, node.types.to_vec(), node.at.clone());
    if let Some(name) = &node.name {
        b.name(made[0], name.clone());
    }
    map.extend(made.into_iter().enumerate().map(|(i, v)| (ValueId { node: n as u32, index: i as u32 }, v)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlxc_ir::DType;
    use mlxc_ir::graph::interpret::{self, Mode, Tensor};
    use mlxc_ir::graph::{BinaryOp, State, TensorType, UnaryOp, Weight, verify};

    /// `x = tanh(x W_i) + x c_i`, with a running state in each layer.
    fn stack(layers: i64, constant: &dyn Fn(i64) -> f64) -> Module {
        let mut b = FunctionBuilder::new("stack");
        let ty = TensorType::constant(DType::F64, &[3, 3]);
        let mut x = b.param("x", Role::Input, ty.clone(), None);
        let mut m = Module::default();
        let at = b.scalar("at", mlxc_ir::Range::new(0, 1), None).0;
        x = b.node(Op::Unary(UnaryOp::Exp), &[x], None).unwrap();
        for i in 0..layers {
            let w = b.param(&format!("layers.{i}.w"), Role::Weight(i as u32), ty.clone(), None);
            let s = b.param(
                &format!("layers.{i}.s"),
                Role::State(i as u32),
                TensorType::constant(DType::F64, &[4, 3]),
                None,
            );
            let p = b.function().params.len() as u32 - 1;
            m.weights.push(Weight { name: format!("layers.{i}.w").into(), ty: ty.clone() });
            m.states
                .push(State { name: format!("layers.{i}.s").into(), ty: TensorType::constant(DType::F64, &[4, 3]) });
            let y = b.node(Op::MatMul { transpose_a: false, transpose_b: false }, &[x, w], None).unwrap();
            let y = b.node(Op::Unary(UnaryOp::Tanh), &[y], None).unwrap();
            let s = b.node(Op::SliceUpdate { axes: vec![0] }, &[s, y, at], None).unwrap();
            b.update(p, s);
            let full = Op::Full {
                value: mlxc_ir::graph::Literal::float(constant(i)),
                dtype: DType::F64,
                shape: ty.shape.clone(),
            };
            let c = b.node(full, &[], None).unwrap();
            let z = b.node(Op::Binary(BinaryOp::Multiply), &[x, c], None).unwrap();
            x = b.node(Op::Binary(BinaryOp::Add), &[y, z], None).unwrap();
        }
        let y = b.node(Op::Unary(UnaryOp::Sin), &[x], None).unwrap();
        b.result("y", y);
        m.functions.push(b.finish());
        verify::verify(&m).unwrap();
        m
    }

    fn run(m: &Module) -> (Vec<Tensor>, Vec<(u32, Tensor)>) {
        let f = &m.functions[0];
        let args: Vec<Tensor> = f
            .params
            .iter()
            .enumerate()
            .map(|(i, p)| {
                let shape: Vec<usize> = p.ty.const_shape().unwrap().iter().map(|n| *n as usize).collect();
                if matches!(p.role, Role::Scalar(_)) {
                    return Tensor::ints(DType::I32, &[], &[1]);
                }
                let n = shape.iter().product::<usize>();
                Tensor::floats(
                    p.ty.dtype,
                    &shape,
                    &(0..n).map(|k| ((i * 31 + k * 7) % 13) as f64 / 13.0 - 0.4).collect::<Vec<_>>(),
                )
            })
            .collect();
        let out = interpret::run(m, f, &args, Mode::Reference).unwrap();
        (out.results, out.updates)
    }

    #[test]
    fn a_stack_of_layers_becomes_calls_of_one_block() {
        let m = stack(6, &|_| 0.5);
        let out = outline(&m).unwrap();
        verify::verify(&out).unwrap();
        assert_eq!(out.functions.len(), 2);
        let calls = out.functions[0].nodes.iter().filter(|n| matches!(n.op, Op::Call { .. })).count();
        assert_eq!(calls, 4);
        assert_eq!(run(&out), run(&m));
        let names: Vec<&str> = out.functions[1].params.iter().map(|p| &*p.name).collect();
        assert!(names.contains(&"w") && names.contains(&"s"), "{names:?}");
        // The work per function does not grow with depth.
        let deep = outline(&stack(40, &|_| 0.5)).unwrap();
        assert_eq!(deep.functions[1].nodes.len(), out.functions[1].nodes.len());
    }

    #[test]
    fn what_does_not_repeat_stays() {
        assert_eq!(outline(&stack(3, &|_| 0.5)).unwrap(), stack(3, &|_| 0.5));
        let m = stack(8, &|i| if i == 3 { 0.25 } else { 0.5 });
        let out = outline(&m).unwrap();
        verify::verify(&out).unwrap();
        assert_eq!(run(&out), run(&m));
    }

    #[test]
    fn a_constant_that_differs_becomes_an_argument_or_ends_the_run() {
        let m = stack(8, &|i| i as f64);
        let out = outline(&m).unwrap();
        verify::verify(&out).unwrap();
        assert_eq!(run(&out), run(&m));
    }

    #[test]
    fn runs_cover_the_longest_periodic_stretch() {
        let s: Vec<u64> = [9, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 8].to_vec();
        let r = runs(&s);
        assert!(r.contains(&Run { start: 1, period: 3, count: 4 }), "{r:?}");
        assert!(runs(&[1, 2, 3, 4, 5, 6, 7, 8]).is_empty());
    }
}
