//! Canonical form: equal values computed once, constants folded, identities applied, dead nodes dropped.
//!
//! Only rewrites that keep every bit of a finite result are made here (signed zeros included); whatever trades
//! rounding belongs to equality saturation. Nodes are visited once in order and built through `Canon::build`, which
//! simplifies, sorts commutative operands and then looks for an equal node. No rewrite looks through a node that
//! reads a replaced version of a state, so reads never move past the update that follows them.

mod empty;
mod fold;
mod scalar;
mod view;

pub(crate) use fold::evaluate;
pub(crate) use view::swaps_last;

use crate::lower::emit::home;
use crate::rewrite::remove_dead;
use mlxc_ir::graph::{Function, FunctionBuilder, Literal, Module, Node, Op, Role, TensorType, ValueId};
use mlxc_ir::{DType, Diagnostic, Location, Range, Size};
use smallvec::SmallVec;
use std::collections::{HashMap, HashSet};

/// Rounds after which a function counts as canonical; each finds what the last one's folding exposed.
const ROUNDS: usize = 4;

/// The canonical form of a function. Parameters stay, used or not.
///
/// # Errors
/// What inference says of a new node; none for a verified function.
pub fn canonicalise(f: &Function) -> Result<Function, Diagnostic> {
    let mut f = remove_dead(f)?;
    for _ in 0..ROUNDS {
        let next = remove_dead(&round(&f)?)?;
        if next == f {
            break;
        }
        f = next;
    }
    Ok(f)
}

/// Every function of a module in canonical form.
///
/// # Errors
/// As [`canonicalise`].
pub fn canonicalise_module(module: &Module) -> Result<Module, Diagnostic> {
    let functions = module.functions.iter().map(canonicalise).collect::<Result<_, _>>()?;
    Ok(Module { weights: module.weights.clone(), states: module.states.clone(), functions })
}

fn round(f: &Function) -> Result<Function, Diagnostic> {
    let mut c = Canon {
        to: FunctionBuilder::like(f),
        ranges: f.ranges(),
        known: HashMap::new(),
        replaced: HashSet::new(),
        at: None,
    };
    let mut values: Vec<SmallVec<[ValueId; 1]>> = Vec::with_capacity(f.nodes.len());
    for (i, node) in f.nodes.iter().enumerate() {
        let inputs: Vec<ValueId> = node.inputs.iter().map(|v| values[v.node as usize][v.index as usize]).collect();
        c.at.clone_from(&node.at);
        let made: SmallVec<[ValueId; 1]> = match &node.op {
            Op::Param(p) => {
                let p = &f.params[*p as usize];
                SmallVec::from_elem(c.to.param(&p.name, p.role, p.ty.clone(), node.at.clone()), 1)
            }
            Op::Call { updates, .. } => {
                let made = c.to.raw(node.op.clone(), &inputs, node.types.to_vec(), node.at.clone());
                c.replaced.extend(updates.iter().map(|p| inputs[*p as usize]));
                made.into()
            }
            op => {
                let v = c.build(op.clone(), &inputs)?;
                if matches!(op, Op::SliceUpdate { .. }) && home(f, ValueId::of(i)) != ValueId::of(i) {
                    c.replaced.insert(inputs[0]);
                }
                SmallVec::from_elem(v, 1)
            }
        };
        if let Some(name) = &node.name {
            let to = &mut c.to.function_mut().nodes[made[0].node as usize];
            if to.name.is_none() && !matches!(to.op, Op::Param(_)) {
                to.name = Some(name.clone());
            }
        }
        values.push(made);
    }
    for r in &f.results {
        c.to.result(r.name.clone(), values[r.value.node as usize][r.value.index as usize]);
    }
    for (p, v) in &f.updates {
        c.to.update(*p, values[v.node as usize][v.index as usize]);
    }
    Ok(c.to.finish())
}

/// What a node became.
enum Step {
    /// A value that exists.
    Value(ValueId),
    /// Another node, which is simplified in turn.
    Node(Op, Vec<ValueId>),
}

/// The answer of one set of identities.
type Simplified = Result<Option<Step>, Diagnostic>;

/// A function in canonical form, as far as it is built.
struct Canon {
    to: FunctionBuilder,
    ranges: Vec<Range>,
    known: HashMap<(Op, SmallVec<[ValueId; 3]>), ValueId>,
    /// State versions that have a successor by now.
    replaced: HashSet<ValueId>,
    /// The place of the node being rewritten.
    at: Option<Location>,
}

impl Canon {
    fn ty(&self, v: ValueId) -> &TensorType {
        self.to.function().ty(v)
    }

    fn shape(&self, v: ValueId) -> &[Size] {
        &self.ty(v).shape
    }

    fn dtype(&self, v: ValueId) -> DType {
        self.ty(v).dtype
    }

    /// The node behind a value, unless reading its operands here would read an old version of a state.
    fn def(&self, v: ValueId) -> Option<&Node> {
        let node = self.to.function().node(v);
        if node.inputs.iter().any(|i| self.replaced.contains(i)) { None } else { Some(node) }
    }

    /// The operator and first operand behind a value.
    fn unary_def(&self, v: ValueId) -> Option<(&Op, ValueId)> {
        let node = self.def(v)?;
        Some((&node.op, *node.inputs.first()?))
    }

    /// The value every element has, if the node says so.
    fn full(&self, v: ValueId) -> Option<Literal> {
        match &self.to.function().node(v).op {
            Op::Full { value, .. } => Some(*value),
            _ => None,
        }
    }

    /// True if `a - b` cannot be negative.
    fn at_least(&self, a: &Size, b: &Size) -> bool {
        a == b || (a.clone() - b.clone()).bounds(&self.ranges).lo >= 0
    }

    /// Appends a node in canonical form, or gives the value it equals.
    fn build(&mut self, op: Op, inputs: &[ValueId]) -> Result<ValueId, Diagnostic> {
        let (mut op, mut inputs) = (op, inputs.to_vec());
        loop {
            let mut step = empty::simplify(self, &op, &inputs)?;
            for rules in [scalar::simplify, view::simplify, fold::simplify] {
                step = match step {
                    None => rules(self, &op, &inputs)?,
                    found => found,
                };
            }
            match step {
                None => break,
                Some(Step::Value(v)) => return Ok(v),
                Some(Step::Node(o, i)) => (op, inputs) = (o, i),
            }
        }
        if matches!(&op, Op::Binary(o) if o.is_commutative()) {
            inputs.sort_by_key(|v| self.rank(*v));
        }
        let key = (op, SmallVec::from_slice(&inputs));
        if let Some(v) = self.known.get(&key) {
            return Ok(*v);
        }
        let v = self.to.node(key.0.clone(), &inputs, self.at.clone())?;
        self.known.insert(key, v);
        Ok(v)
    }

    /// Order of commutative operands: computed values and inputs, then weights, then constants. Weights have a rank
    /// of their own because where they are declared says nothing about the computation.
    fn rank(&self, v: ValueId) -> (u8, ValueId) {
        let f = self.to.function();
        let class = match &f.node(v).op {
            Op::Full { .. } => 3,
            Op::Constant(_) => 2,
            Op::Param(p) if matches!(f.params[*p as usize].role, Role::Weight(_)) => 1,
            _ => 0,
        };
        (class, v)
    }
}
