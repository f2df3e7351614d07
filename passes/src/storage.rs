//! How weights and states are stored: which are merged, and in what order their elements lie.
//!
//! A weight has one stored layout for all its readers. Concatenations of weights (which merging sibling products
//! makes) become weights of their own, written once when the package is made; so does a weight that is only read in
//! another shape, such as a convolution's, which is a matrix to its product.

use crate::lower::{attention, emit::home, matmul};
use crate::rewrite::Rewriter;
use mlxc_ir::graph::{Dense, Function, Module, Node, Op, Param, Role, TensorType, ValueId, Weight};
use mlxc_ir::profile::TargetKind;
use mlxc_ir::{Diagnostic, Layout, TargetProfile};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a stored weight's elements come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A weight of the checkpoint, by its number in the traced module.
    Original(u32),
    /// Weights one after another, by their numbers: joined along the first axis, or one in another shape.
    Joined(Vec<u32>),
    /// Rows of another, which has `rows`.
    Rows {
        /// What they are rows of.
        of: Box<Source>,
        /// How many that has.
        rows: u64,
        /// First of them.
        first: u64,
        /// How many they are.
        count: u64,
    },
    /// A constant of the graph.
    Constant(Arc<Dense>),
}

/// A weight made of others: its parts, one after another, and its type.
#[derive(Clone, PartialEq, Eq)]
struct Derived {
    parts: Vec<u32>,
    ty: TensorType,
}

/// Turns every concatenation of weights, and every weight read in one other shape only, into one weight. Gives the new module and, for each of its weights, the source.
///
/// # Errors
/// What inference says; none for a verified module.
pub fn join_weights(module: &Module) -> Result<(Module, Vec<Source>), Diagnostic> {
    let mut joins = Joins {
        weights: module.weights.clone(),
        sources: (0..module.weights.len() as u32).map(Source::Original).collect(),
    };
    let constant = constant_params(module);
    // Blocks first: a new parameter of a block is a new argument of its callers.
    let mut added: BTreeMap<u32, Vec<Derived>> = BTreeMap::new();
    let mut functions = module.functions.clone();
    for (i, f) in module.functions.iter().enumerate().filter(|(_, f)| f.is_block) {
        let (g, new) = join_in_block(f, &constant[i])?;
        functions[i] = g;
        added.insert(i as u32, new);
    }
    for (i, f) in module.functions.iter().enumerate().filter(|(_, f)| !f.is_block) {
        functions[i] = joins.join_in_entry(f, &added)?;
    }
    Ok((Module { weights: joins.weights, states: module.states.clone(), functions }, joins.sources))
}

/// For each function, whether each parameter is a weight wherever the function is called.
pub fn constant_params(module: &Module) -> Vec<Vec<bool>> {
    let mut out: Vec<Vec<bool>> = module
        .functions
        .iter()
        .map(|f| f.params.iter().map(|p| matches!(p.role, Role::Weight(_) | Role::Block)).collect())
        .collect();
    for f in &module.functions {
        for node in &f.nodes {
            let Op::Call { function, .. } = node.op else { continue };
            for (i, v) in node.inputs.iter().enumerate() {
                let weight = f.param_of(*v).is_some_and(|p| matches!(p.role, Role::Weight(_)));
                out[function as usize][i] &= weight;
            }
        }
    }
    out
}

/// The parameters a concatenation along the first axis joins, or the one that nothing but a product reads, as a matrix;
/// if `allowed` admits every one.
fn derived(f: &Function, at: usize, allowed: impl Fn(u32) -> bool) -> Option<Derived> {
    let node = &f.nodes[at];
    let readers = |v: ValueId| f.nodes.iter().filter(move |n| n.inputs.contains(&v));
    match &node.op {
        Op::Concat { axis: 0 } => {}
        Op::Reshape { shape } if shape.len() == 2 => {
            let (weight, matrix) = (node.inputs[0], ValueId::of(at));
            let factor = |n: &Node| matches!(n.op, Op::MatMul { .. }) && n.inputs[1] == matrix && n.inputs[0] != matrix;
            let kept = f.roots().any(|v| v == weight || v == matrix);
            if kept || readers(weight).count() != 1 || !readers(matrix).all(factor) {
                return None;
            }
        }
        _ => return None,
    }
    let parts = node.inputs.iter().map(|v| match f.node(*v).op {
        Op::Param(p) if allowed(p) => Some(p),
        _ => None,
    });
    Some(Derived { parts: parts.collect::<Option<_>>()?, ty: node.types[0].clone() })
}

fn join_in_block(f: &Function, constant: &[bool]) -> Result<(Function, Vec<Derived>), Diagnostic> {
    let mut new: Vec<Derived> = Vec::new();
    let out = Rewriter::new(f).run(|r, at, node| {
        let Some(weight) = derived(f, at, |p| constant[p as usize]) else { return Ok(None) };
        let name = join_names(weight.parts.iter().map(|p| &*f.params[*p as usize].name));
        let v = r.to.param(&name, Role::Block, node.types[0].clone(), node.at.clone());
        new.push(weight);
        Ok(Some(vec![v]))
    })?;
    Ok((out, new))
}

struct Joins {
    weights: Vec<Weight>,
    sources: Vec<Source>,
}

impl Joins {
    /// The weight made of others, made once.
    fn weight(&mut self, made: Derived) -> u32 {
        let source = Source::Joined(made.parts);
        let known = self.sources.iter().zip(&self.weights).position(|(s, w)| *s == source && w.ty == made.ty);
        if let Some(i) = known {
            return i as u32;
        }
        let Source::Joined(parts) = &source else { unreachable!("made above") };
        let base = match parts.as_slice() {
            [one] => matrix_name(&self.weights[*one as usize].name),
            _ => join_names(parts.iter().map(|p| &*self.weights[*p as usize].name)),
        };
        let taken = |name: &str| self.weights.iter().any(|w| &*w.name == name);
        let numbered = (2..).map(|i| format!("{base}{i}"));
        let name = std::iter::once(base.clone()).chain(numbered).find(|n| !taken(n)).expect("there are names enough");
        self.weights.push(Weight { name: name.into(), ty: made.ty });
        self.sources.push(source);
        self.weights.len() as u32 - 1
    }

    fn join_in_entry(&mut self, f: &Function, added: &BTreeMap<u32, Vec<Derived>>) -> Result<Function, Diagnostic> {
        let number = |v: ValueId| match f.param_of(v) {
            Some(Param { role: Role::Weight(w), .. }) => Some(*w),
            _ => None,
        };
        let mut declared: BTreeMap<u32, ValueId> = BTreeMap::new();
        Rewriter::new(f).run(|r, at, node| {
            let mut declare = |r: &mut Rewriter<'_>, made: Derived| {
                let w = self.weight(made);
                *declared.entry(w).or_insert_with(|| {
                    let weight = &self.weights[w as usize];
                    r.to.param(&weight.name, Role::Weight(w), weight.ty.clone(), None)
                })
            };
            let is_weight = |p: u32| matches!(f.params[p as usize].role, Role::Weight(_));
            if let Some(made) = derived(f, at, is_weight) {
                let parts = node.inputs.iter().filter_map(|v| number(*v)).collect();
                return Ok(Some(vec![declare(r, Derived { parts, ..made })]));
            }
            let Op::Call { function, .. } = &node.op else { return Ok(None) };
            let new = added.get(function).map(Vec::as_slice).unwrap_or_default();
            let mut inputs: Vec<ValueId> = node.inputs.iter().map(|v| r.map(*v)).collect();
            for made in new {
                let parts: Option<Vec<u32>> = made.parts.iter().map(|p| number(node.inputs[*p as usize])).collect();
                let parts = parts.expect("a parameter is joined only where every caller passes weights");
                inputs.push(declare(r, Derived { parts, ty: made.ty.clone() }));
            }
            Ok(Some(r.to.raw(node.op.clone(), &inputs, node.types.to_vec(), node.at.clone())))
        })
    }
}

/// `conv.matrix` of `conv.weight`.
fn matrix_name(name: &str) -> String {
    format!("{}.matrix", name.trim_end_matches(".weight"))
}

/// `a.{x,y,z}.weight` of names that differ in one place; else the names joined by `+`.
fn join_names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<Vec<&str>> = names.map(|n| n.split('.').collect()).collect();
    let Some(first) = names.first() else { return String::new() };
    let same_length = names.iter().all(|n| n.len() == first.len());
    let differing: Vec<usize> = (0..first.len()).filter(|i| names.iter().any(|n| n.get(*i) != first.get(*i))).collect();
    if let (true, [at]) = (same_length, differing.as_slice()) {
        let choices: Vec<&str> = names.iter().map(|n| n[*at]).collect();
        let mut out: Vec<String> = first.iter().map(|s| (*s).to_string()).collect();
        out[*at] = format!("{{{}}}", choices.join(","));
        return out.join(".");
    }
    names.iter().map(|n| n.join(".")).collect::<Vec<_>>().join("+")
}

/// Storage orders of a module's weights and states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layouts {
    /// By weight.
    pub weights: Vec<Layout>,
    /// By state.
    pub states: Vec<Layout>,
    /// By function, for its parameters that are not row-major.
    pub params: Vec<BTreeMap<u32, Layout>>,
}

/// Chooses storage orders: panels for the right factors of products and for key caches.
///
/// # Errors
/// `MLXC0310` a block that is called with parameters of different orders.
pub fn layouts(module: &Module, profile: &TargetProfile) -> Result<Layouts, Diagnostic> {
    let mut wanted: Vec<BTreeMap<u32, Layout>> = module.functions.iter().map(|f| wanted(f, profile)).collect();
    let mut out = Layouts {
        weights: vec![Layout::RowMajor; module.weights.len()],
        states: vec![Layout::RowMajor; module.states.len()],
        params: Vec::new(),
    };
    // A block's wish is its callers' wish.
    for (i, f) in module.functions.iter().enumerate() {
        for node in &f.nodes {
            let Op::Call { function, .. } = node.op else { continue };
            let inner = wanted[function as usize].clone();
            for (p, layout) in inner {
                if let Op::Param(q) = f.node(home(f, node.inputs[p as usize])).op {
                    wanted[i].insert(q, layout);
                }
            }
        }
    }
    for (f, w) in module.functions.iter().zip(&wanted) {
        for (p, layout) in w {
            match f.params[*p as usize].role {
                Role::Weight(n) => out.weights[n as usize] = *layout,
                Role::State(n) => out.states[n as usize] = *layout,
                _ => {}
            }
        }
    }
    out.params = vec![BTreeMap::new(); module.functions.len()];
    for (i, f) in module.functions.iter().enumerate().filter(|(_, f)| !f.is_block) {
        for (p, param) in f.params.iter().enumerate() {
            let layout = match param.role {
                Role::Weight(n) => out.weights[n as usize],
                Role::State(n) => out.states[n as usize],
                _ => Layout::RowMajor,
            };
            if layout != Layout::RowMajor {
                out.params[i].insert(p as u32, layout);
            }
        }
    }
    let mut seen: BTreeMap<(u32, u32), Layout> = BTreeMap::new();
    for (i, f) in module.functions.iter().enumerate().filter(|(_, f)| !f.is_block) {
        for node in &f.nodes {
            let Op::Call { function, .. } = node.op else { continue };
            for (p, v) in node.inputs.iter().enumerate() {
                let Op::Param(q) = f.node(home(f, *v)).op else { continue };
                let layout = out.params[i].get(&q).copied().unwrap_or_default();
                let known = *seen.entry((function, p as u32)).or_insert(layout);
                if known != layout {
                    let g = &module.functions[function as usize];
                    return Err(Diagnostic::new(310, format!("`{}` is called with different storage orders", g.name))
                        .expected(format!("{known:?} for `{}`", g.params[p].name))
                        .found(format!("{layout:?}")));
                }
            }
        }
    }
    for ((function, p), layout) in seen {
        if layout != Layout::RowMajor {
            out.params[function as usize].insert(p, layout);
        }
    }
    Ok(out)
}

/// The storage orders a function's own nodes want of its parameters, by parameter.
pub fn wanted(f: &Function, profile: &TargetProfile) -> BTreeMap<u32, Layout> {
    let mut out = BTreeMap::new();
    // GPUs pack while they multiply, from the order that everything else reads as well.
    if profile.kind == TargetKind::Gpu {
        return out;
    }
    for (i, node) in f.nodes.iter().enumerate() {
        if let Some(p) = matmul::weight_operand(f, i as u32) {
            out.insert(p, matmul::panels(profile, f.params[p as usize].ty.dtype));
        }
        if let Op::Sdpa { .. } = node.op {
            key_states(f, node.inputs[1], &mut |p| {
                out.insert(p, attention::key_panels(profile));
            });
        }
    }
    out
}

/// The states that keys are, or are computed from token by token.
fn key_states(f: &Function, keys: ValueId, found: &mut impl FnMut(u32)) {
    let at = home(f, keys);
    let node = f.node(at);
    match &node.op {
        Op::Param(p) => {
            let state = matches!(f.params[*p as usize].role, Role::State(_)) || f.updates.iter().any(|(u, _)| u == p);
            if state && f.ty(at).rank() == 4 {
                found(*p);
            }
        }
        op if op.is_elementwise() || matches!(op, Op::Broadcast { .. }) => {
            node.inputs.iter().for_each(|v| key_states(f, *v, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_names_show_what_differs() {
        let names = ["m.0.q.weight", "m.0.k.weight", "m.0.v.weight"];
        assert_eq!(join_names(names.into_iter()), "m.0.{q,k,v}.weight");
        assert_eq!(join_names(["a.b", "c"].into_iter()), "a.b+c");
    }
}
