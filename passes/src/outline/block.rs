//! One block: repetitions checked to be equal, and where to cut them.
//!
//! Two repetitions are equal if their nodes are, pair by pair, and each operand is either the node of the same place
//! in its own repetition or comes from outside. What comes from outside may differ: it becomes a parameter.

use crate::lower::emit::home;
use mlxc_ir::graph::{BinaryOp, Function, Op, Param, Role, UnaryOp, ValueId};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// What every repetition may copy, because it costs nothing to have twice.
pub struct Outside {
    /// By node: a literal, a host scalar, or a view or cheap op of such.
    pub copied: Vec<bool>,
}

impl Outside {
    /// Looks through a function.
    pub fn of(f: &Function) -> Self {
        let mut copied = vec![false; f.nodes.len()];
        for (i, node) in f.nodes.iter().enumerate() {
            copied[i] = match &node.op {
                Op::Param(p) => matches!(f.params[*p as usize].role, Role::Scalar(_)),
                Op::Full { .. } | Op::Constant(_) | Op::Iota { .. } | Op::FromSize { .. } => true,
                op => is_cheap(op) && node.inputs.iter().all(|v| copied[v.node as usize]),
            };
        }
        Outside { copied }
    }
}

/// Ops that cost less than keeping their result in memory between blocks.
fn is_cheap(op: &Op) -> bool {
    match op {
        Op::Unary(op) => matches!(op, UnaryOp::Negative | UnaryOp::LogicalNot),
        Op::Binary(op) => matches!(
            op,
            BinaryOp::Add
                | BinaryOp::Subtract
                | BinaryOp::Multiply
                | BinaryOp::Maximum
                | BinaryOp::Minimum
                | BinaryOp::LogicalAnd
                | BinaryOp::LogicalOr
        ),
        Op::Compare(_) | Op::Select | Op::Cast(_) => true,
        op => op.is_view(),
    }
}

/// The nodes that repetitions are looked for in, operands before users: what is copied and parameters left out. With
/// `shared_first`, what depends on no weight and no state comes first, so that a value computed in the first block for
/// all of them does not make that block unlike the others.
pub fn order(f: &Function, outside: &Outside, shared_first: bool) -> Vec<u32> {
    let mut own = vec![false; f.nodes.len()];
    for (i, node) in f.nodes.iter().enumerate() {
        own[i] = match &node.op {
            Op::Param(p) => matches!(f.params[*p as usize].role, Role::Weight(_) | Role::State(_)),
            _ => node.inputs.iter().any(|v| own[v.node as usize]),
        };
    }
    let all: Vec<u32> = (0..f.nodes.len())
        .filter(|i| !outside.copied[*i] && !matches!(f.nodes[*i].op, Op::Param(_)))
        .map(|i| i as u32)
        .collect();
    if !shared_first {
        return all;
    }
    let (own, shared): (Vec<u32>, Vec<u32>) = all.into_iter().partition(|i| own[*i as usize]);
    shared.into_iter().chain(own).collect()
}

/// A number for each node that equal nodes of two repetitions share.
pub fn keys(f: &Function, order: &[u32]) -> Vec<u64> {
    order
        .iter()
        .map(|i| {
            let node = &f.nodes[*i as usize];
            let mut h = DefaultHasher::new();
            node.op.hash(&mut h);
            node.types.hash(&mut h);
            node.inputs.iter().for_each(|v| f.ty(*v).hash(&mut h));
            h.finish()
        })
        .collect()
}

/// Where a block's node finds an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A result of a node of the block, by its place.
    Inside(usize, u32),
    /// A parameter of the block.
    Slot(usize),
    /// A value that the block computes anew, by its number in the function.
    Copied(ValueId),
}

/// Repetitions that are equal, and what passes between them and the rest.
#[derive(Clone, Debug)]
pub struct Block {
    /// Place of the first node in the order.
    pub start: usize,
    /// Nodes of one repetition.
    pub period: usize,
    /// Number of repetitions.
    pub count: usize,
    /// Operands of each node.
    pub operands: Vec<Vec<Operand>>,
    /// Arguments of each parameter, one for each repetition.
    pub slots: Vec<Vec<ValueId>>,
    /// Values needed outside, state versions excluded: place and result.
    pub results: Vec<(usize, u32)>,
    /// State parameters that the block replaces, each with the place of its last version.
    pub updates: Vec<(usize, usize)>,
    /// Bytes that cross the cut between two repetitions.
    crossing: u64,
}

impl Block {
    /// Nodes that need not be compiled again.
    pub fn saved(&self) -> usize {
        (self.count - 1) * self.period
    }

    /// The best cut of a stretch that repeats: fewest bytes across, then most repetitions, then the first.
    pub fn choose(
        f: &Function,
        outside: &Outside,
        order: &[u32],
        start: usize,
        length: usize,
        period: usize,
    ) -> Option<Block> {
        let anchor = |i: &u32| matches!(f.nodes[*i as usize].op, Op::MatMul { .. } | Op::Sdpa { .. });
        if !order[start..start + length].iter().any(anchor) {
            return None;
        }
        let mut place = vec![None; f.nodes.len()];
        for (at, i) in order.iter().enumerate() {
            place[*i as usize] = Some(at);
        }
        let users = f.users();
        let walk = Walk { f, outside, order, place, users };
        (0..period)
            .filter_map(|shift| walk.block(start + shift, period, (length - shift) / period))
            .min_by_key(|b| (b.crossing, std::cmp::Reverse(b.count), b.start))
    }
}

struct Walk<'a> {
    f: &'a Function,
    outside: &'a Outside,
    order: &'a [u32],
    /// Place of each node in the order.
    place: Vec<Option<usize>>,
    users: Vec<Vec<u32>>,
}

/// An operand as far as repetitions must agree on it.
#[derive(PartialEq)]
enum Link {
    Inside(usize, u32),
    Outside { is_state: bool },
}

impl Walk<'_> {
    /// The longest run of equal repetitions from `start`, as a block.
    fn block(&self, start: usize, period: usize, count: usize) -> Option<Block> {
        let links: Vec<Vec<Link>> = (0..count).map(|r| self.links(start + r * period, period)).collect();
        let equal = |a: usize, b: usize| {
            links[a] == links[b]
                && (0..period).all(|j| {
                    let (x, y) = (self.node(start + a * period + j), self.node(start + b * period + j));
                    x.op == y.op && x.types == y.types
                })
        };
        let (mut best, mut from) = (0..0, 0);
        for r in 1..=count {
            if r == count || !equal(r - 1, r) {
                if r - from > best.len() {
                    best = from..r;
                }
                from = r;
            }
        }
        if best.len() < 2 {
            return None;
        }
        self.cut(start + best.start * period, period, best.len())
    }

    fn node(&self, place: usize) -> &mlxc_ir::graph::Node {
        &self.f.nodes[self.order[place] as usize]
    }

    /// The place within a repetition that begins at `start`, if the value is made there.
    fn inside(&self, v: ValueId, start: usize, period: usize) -> Option<usize> {
        self.place[v.node as usize]?.checked_sub(start).filter(|j| *j < period)
    }

    fn links(&self, start: usize, period: usize) -> Vec<Link> {
        let link = |v: &ValueId| match self.inside(*v, start, period) {
            Some(j) => Link::Inside(j, v.index),
            None => Link::Outside { is_state: self.state(*v).is_some() },
        };
        (start..start + period).flat_map(|at| self.node(at).inputs.iter().map(link)).collect()
    }

    /// The state that a value is a version of.
    fn state(&self, v: ValueId) -> Option<ValueId> {
        let root = home(self.f, v);
        match self.f.node(root).op {
            Op::Param(p) => {
                let state = matches!(self.f.params[p as usize].role, Role::State(_))
                    || self.f.updates.iter().any(|(u, _)| *u == p);
                state.then_some(root)
            }
            _ => None,
        }
    }

    /// The block of `count` equal repetitions from `start`; `None` where their interface is not one a call has.
    fn cut(&self, start: usize, period: usize, count: usize) -> Option<Block> {
        let mut slots: Vec<Vec<ValueId>> = Vec::new();
        let mut known: BTreeMap<Vec<ValueId>, usize> = BTreeMap::new();
        let mut slot = |slots: &mut Vec<Vec<ValueId>>, tuple: Vec<ValueId>| {
            *known.entry(tuple.clone()).or_insert_with(|| {
                slots.push(tuple);
                slots.len() - 1
            })
        };
        let mut operands = Vec::with_capacity(period);
        for j in 0..period {
            let mut mine = Vec::new();
            for (k, v) in self.node(start + j).inputs.iter().enumerate() {
                if let Some(at) = self.inside(*v, start, period) {
                    mine.push(Operand::Inside(at, v.index));
                    continue;
                }
                let tuple: Vec<ValueId> = (0..count).map(|r| self.node(start + r * period + j).inputs[k]).collect();
                let equal = tuple.iter().all(|x| self.equal(*x, *v));
                if equal && self.outside.copied[v.node as usize] {
                    // The host scalars it needs are parameters.
                    for scalar in self.scalars(*v) {
                        slot(&mut slots, vec![scalar; count]);
                    }
                    mine.push(Operand::Copied(*v));
                    continue;
                }
                let is_scalar =
                    |v: &ValueId| self.f.param_of(*v).is_some_and(|p: &Param| matches!(p.role, Role::Scalar(_)));
                if !equal && tuple.iter().any(is_scalar) {
                    return None;
                }
                mine.push(Operand::Slot(slot(&mut slots, tuple)));
            }
            operands.push(mine);
        }
        let updates = self.updates(start, period, &slots, count)?;
        let results = self.results(start, period, count, &updates)?;
        let bytes = |v: ValueId| self.f.ty(v).max_bytes(&self.f.symbols);
        let made = |(j, index): &(usize, u32)| bytes(ValueId { node: self.order[start + j], index: *index });
        let taken = slots.iter().filter_map(|t| t.last()).filter(|v| self.place[v.node as usize].is_some());
        let taken = taken.filter(|v| self.state(**v).is_none()).map(|v| bytes(*v));
        let crossing = results.iter().map(made).chain(taken).fold(0u64, u64::saturating_add);
        Some(Block { start, period, count, operands, slots, results, updates, crossing })
    }

    /// True for one value, and for two that every repetition may compute alike.
    fn equal(&self, a: ValueId, b: ValueId) -> bool {
        if a == b {
            return true;
        }
        let (x, y) = (self.f.node(a), self.f.node(b));
        self.outside.copied[a.node as usize]
            && self.outside.copied[b.node as usize]
            && !matches!(x.op, Op::Param(_))
            && a.index == b.index
            && x.op == y.op
            && x.inputs.len() == y.inputs.len()
            && x.inputs.iter().zip(&y.inputs).all(|(a, b)| self.equal(*a, *b))
    }

    /// Host scalars that a copied value is computed from.
    fn scalars(&self, v: ValueId) -> Vec<ValueId> {
        let node = self.f.node(v);
        if let Op::Param(_) = node.op {
            return vec![v];
        }
        node.inputs.iter().flat_map(|v| self.scalars(*v)).collect()
    }

    /// State parameters with the place of their last version, if each repetition has one version of each state.
    fn updates(
        &self,
        start: usize,
        period: usize,
        slots: &[Vec<ValueId>],
        count: usize,
    ) -> Option<Vec<(usize, usize)>> {
        let mut out = Vec::new();
        for r in 0..count {
            let homes: Vec<(usize, ValueId)> =
                slots.iter().enumerate().filter_map(|(i, t)| Some((i, self.state(t[r])?))).collect();
            let distinct: BTreeSet<ValueId> = homes.iter().map(|(_, h)| *h).collect();
            if distinct.len() < homes.len() {
                return None;
            }
            if r > 0 {
                continue;
            }
            for (i, state) in homes {
                let last = (0..period).rfind(|j| {
                    matches!(self.node(start + j).op, Op::SliceUpdate { .. })
                        && self.state(ValueId { node: self.order[start + j], index: 0 }) == Some(state)
                });
                if let Some(last) = last {
                    out.push((i, last));
                }
            }
        }
        Some(out)
    }

    /// Values of any repetition that something outside it reads.
    fn results(
        &self,
        start: usize,
        period: usize,
        count: usize,
        updates: &[(usize, usize)],
    ) -> Option<Vec<(usize, u32)>> {
        let mut needed: BTreeSet<(usize, u32)> = BTreeSet::new();
        let roots: BTreeSet<ValueId> = self.f.roots().collect();
        for at in start..start + count * period {
            let (r, j) = ((at - start) / period, (at - start) % period);
            let begin = start + r * period;
            let node = self.order[at];
            for index in 0..self.node(at).types.len() as u32 {
                let v = ValueId { node, index };
                let outside = |u: &u32| {
                    let user = ValueId::of(*u as usize);
                    self.inside(user, begin, period).is_none() && self.f.nodes[*u as usize].inputs.contains(&v)
                };
                if roots.contains(&v) || self.users[node as usize].iter().any(outside) {
                    needed.insert((j, index));
                }
            }
        }
        let mut out = Vec::new();
        for (j, index) in needed {
            let v = ValueId { node: self.order[start + j], index };
            if self.state(v).is_none() {
                out.push((j, index));
            } else if !updates.iter().any(|(_, last)| *last == j) {
                // A version that the block itself replaces is read outside.
                return None;
            }
        }
        Some(out)
    }
}
