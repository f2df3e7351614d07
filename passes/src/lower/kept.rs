//! Rows kept in group memory: dear values that a reduction over a row computes and the row's results need again.

use crate::lower::coord::Coord;
use crate::lower::elementwise::{self, compute};
use crate::lower::emit::{Emitter, Region};
use mlxc_ir::DType;
use mlxc_ir::graph::{Function, Op, ValueId};
use mlxc_ir::kernel::{Group, Ix, Val};
use std::collections::BTreeSet;

/// Operations on an element from which storing and loading it is cheaper than computing it again.
const DEAR: f64 = 16.0;
/// Rows may take so much of group memory, so that they stay near beside what streams by.
const SHARE: u64 = 4;

/// A row of a value.
pub(super) struct KeptRow<'k> {
    value: ValueId,
    array: Group<'k>,
    /// Coordinates of the row.
    row: Vec<Coord>,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Empty,
    /// The pass in hand may store it.
    Filling,
    /// The pass in hand stores it.
    Stored,
    Full,
}

impl<'k> Emitter<'k, '_> {
    /// Chooses the rows to keep, from the reductions that are computed once a row and what is computed after them.
    pub(super) fn keep_rows(&mut self, reductions: &[(ValueId, Vec<Coord>)], outputs: &[ValueId], row: &[Coord]) {
        let reduced: BTreeSet<ValueId> = reductions.iter().map(|(v, _)| *v).collect();
        let mut after = BTreeSet::new();
        for v in outputs {
            elements(self.f, self.region, *v, &reduced, &mut after);
        }
        let mut left = self.target.profile.limits.group_bytes / SHARE;
        for (v, _) in reductions {
            let node = self.f.node(*v);
            let Op::Reduce { axes, .. } = &node.op else { continue };
            let x = node.inputs[0];
            let rank = self.f.ty(x).rank();
            if rank != row.len() + 1 || *axes != [rank as u32 - 1] {
                continue;
            }
            let mut before = BTreeSet::new();
            elements(self.f, self.region, x, &reduced, &mut before);
            // The last of a chain stands for all of it.
            let dear = before.iter().rev().copied().find(|v| after.contains(v) && self.is_dear(*v, &reduced));
            let Some(value) = dear.filter(|v| self.kept_rows.iter().all(|k| k.value != *v)) else { continue };
            let ty = self.f.ty(value);
            let Some(n) = ty.shape[rank - 1].as_const() else { continue };
            let dtype = compute(ty.dtype);
            let bytes = n as u64 * dtype.bytes();
            if bytes <= left {
                left -= bytes;
                let array = self.k.group(&format!("{}_row", self.local_name(value)), dtype, &[n]);
                self.kept_rows.push(KeptRow { value, array, row: row.to_vec(), state: State::Empty });
            }
        }
    }

    /// True for values that are worth keeping.
    fn is_dear(&self, v: ValueId, reduced: &BTreeSet<ValueId>) -> bool {
        let mut chain = BTreeSet::new();
        elements(self.f, self.region, v, reduced, &mut chain);
        let one = |v: &ValueId| match &self.f.node(*v).op {
            Op::Unary(op) => elementwise::unary_flops(*op),
            Op::Binary(op) => elementwise::binary_flops(*op),
            Op::Gated(a) => elementwise::unary_flops(a.unary()) + 1.0,
            _ => 1.0,
        };
        self.f.ty(v).dtype != DType::Bool && chain.iter().map(one).sum::<f64>() >= DEAR
    }

    /// The elements of a kept row at coordinates, if the row is full.
    pub(super) fn kept(&mut self, v: ValueId, coords: &[Coord]) -> Option<Val<'k>> {
        let array = self.kept_row(v, coords, State::Full)?.array;
        let at = self.row_place(coords);
        let place = array.at([at]);
        let value = match self.tail {
            None => place.vec(self.width).load(),
            Some(n) => place.first(self.width, n).load(),
        };
        Some(self.k.let_(&self.local_name(v), value))
    }

    /// Stores elements of a row that is being filled.
    pub(super) fn fill(&mut self, v: ValueId, coords: &[Coord], value: Val<'k>) {
        let found = self.kept_row(v, coords, State::Filling).or_else(|| self.kept_row(v, coords, State::Stored));
        let Some(array) = found.map(|k| k.array) else { return };
        let at = self.row_place(coords);
        let value = if value.ty().lanes() == 1 { value.splat(self.width) } else { value };
        let place = array.at([at]);
        match self.tail {
            None => place.vec(self.width).store(value),
            Some(n) => place.first(self.width, n).store(value),
        }
        self.kept_rows.iter_mut().filter(|k| k.value == v).for_each(|k| k.state = State::Stored);
    }

    fn kept_row(&self, v: ValueId, coords: &[Coord], state: State) -> Option<&KeptRow<'k>> {
        let found = self.kept_rows.iter().find(|k| k.value == v && k.state == state)?;
        let (_, row) = coords.split_last()?;
        (row == found.row && self.is_vector(coords) && self.is_contiguous(coords)).then_some(found)
    }

    fn row_place(&mut self, coords: &[Coord]) -> Ix<'k> {
        let base = self.base(&coords[coords.len() - 1..]);
        self.ix(&base[0])
    }

    /// A pass over whole rows of values begins: empty rows of what they are computed from are filled in it.
    pub(super) fn fill_rows(&mut self, values: &[ValueId]) {
        let mut inside = BTreeSet::new();
        values.iter().for_each(|v| elements(self.f, self.region, *v, &BTreeSet::new(), &mut inside));
        for k in self.kept_rows.iter_mut().filter(|k| k.state == State::Empty && inside.contains(&k.value)) {
            k.state = State::Filling;
        }
    }

    /// The pass is over.
    pub(super) fn rows_are_full(&mut self) {
        for k in &mut self.kept_rows {
            k.state = match k.state {
                State::Stored => State::Full,
                State::Filling => State::Empty,
                other => other,
            };
        }
    }
}

/// Values that an element of `v` is computed from at its own coordinates, itself included, as far as `stop`.
fn elements(f: &Function, region: &Region, v: ValueId, stop: &BTreeSet<ValueId>, out: &mut BTreeSet<ValueId>) {
    let node = f.node(v);
    let pointwise = node.op.is_elementwise() || matches!(node.op, Op::Gated(_));
    if !region.contains(&v.node) || stop.contains(&v) || !pointwise || !out.insert(v) {
        return;
    }
    for x in node.inputs.iter().filter(|x| f.ty(**x).shape == f.ty(v).shape) {
        elements(f, region, *x, stop, out);
    }
}
