//! Sorts of long lines: a stable merge sort of positions in which every element finds its place by itself.
//!
//! A phase merges neighbouring runs: an element's rank in the merged run is its own place plus the number of elements of
//! the other run that come before it, which a binary search finds. Phases swap the result's memory and scratch memory, as
//! many as the largest extent needs (Satish, Harris and Garland, "Designing efficient sorting algorithms for manycore
//! GPUs", 2009, section 5).

use super::items::Axis;
use crate::lower::coord::Coord;
use crate::lower::elementwise;
use crate::lower::emit::{Emitter, Lowered};
use crate::lower::sort::before;
use mlxc_ir::graph::{Op, ValueId};
use mlxc_ir::kernel::{Access, Buf, Ix, Val};
use mlxc_ir::{DType, Range};

/// Elements from which merging with every lane is worth the launches.
pub(in crate::lower) const LONG: f64 = 64.0;

struct Sort<'k> {
    x: ValueId,
    axis: usize,
    axes: Vec<Axis<'k>>,
    n: Ix<'k>,
    most: i64,
}

/// Builds the kernel of an argsort.
pub(in crate::lower) fn build(e: &mut Emitter<'_, '_>, v: ValueId) -> Lowered<()> {
    let node = e.f.node(v);
    let Op::ArgSort { axis } = node.op else { unreachable!("called for sorts") };
    let shape = node.types[0].shape.clone();
    let out = e.buffer(v, &shape, Access::Update)?;
    let scratch = e.scratch(v)?;
    let axes = e.element_axes(&shape)?;
    let axis = axis as usize;
    let sort = Sort { x: node.inputs[0], axis, n: axes[axis].extent, most: axes[axis].most, axes };
    let mut runs = Vec::new();
    let mut run = 1;
    while run < sort.most {
        runs.push(run);
        run *= 2;
    }
    // The last merge writes the result.
    let (mut from, mut to) = if runs.len() % 2 == 0 { (out, scratch) } else { (scratch, out) };
    e.each_item("start", &sort.axes, |e, ix| {
        from.at(ix).store(ix[sort.axis].to_val(DType::U32));
        let elements: f64 = sort.axes.iter().map(|a| a.most as f64).product();
        e.work.flops += 24.0 * elements * runs.len() as f64;
        Ok(())
    })?;
    for run in runs {
        sort.merge(e, from, to, run)?;
        (from, to) = (to, from);
    }
    Ok(())
}

impl<'k> Sort<'k> {
    fn merge(&self, e: &mut Emitter<'k, '_>, from: Buf<'k>, to: Buf<'k>, run: i64) -> Lowered<()> {
        let k = e.k;
        e.each_item(&format!("merge{run}"), &self.axes, |e, ix| {
            let i = ix[self.axis];
            let pair = k.let_index("pair", i.div(2 * run) * (2 * run));
            let (position, value) = self.element(e, from, ix, i)?;
            // The other run, and this element's place in its own.
            let right = i.rem(2 * run).ge(k.int(run));
            let right = k.let_("right", right);
            let middle = k.let_index("middle", (pair + run).min(self.n));
            let end = k.let_index("end", (pair + 2 * run).min(self.n));
            let as_value = |i: Ix<'k>| i.to_val(DType::I32);
            let low = k.var("low", right.select(as_value(pair), as_value(middle)));
            let high = k.var("high", right.select(as_value(middle), as_value(end)));
            let first = k.let_("first", low.get());
            let one = k.int_constant(1, DType::I32);
            let mut result = Ok(());
            // A run of 2ᵏ elements takes k + 1 halvings.
            let steps = i64::from((run as u64).ilog2()) + 1;
            k.for_("step", k.int(0), k.int(steps), 1, false, |_| {
                result = e.scoped(1.0, |e| {
                    let open = k.let_("open", low.get().lt(high.get()));
                    let two = k.int_constant(1, DType::I32);
                    let half = k.let_("half", (low.get() + high.get()) >> two);
                    let at = k.let_index("probe", half.clamp_index(k.int(0), self.n));
                    let (_, other) = self.element(e, from, ix, at)?;
                    // Equal elements of the left run come first.
                    let other_first = boolean_select(right, !before(value, other), before(other, value));
                    let goes_up = k.let_("goes_up", open & other_first);
                    let goes_down = k.let_("goes_down", open & !other_first);
                    low.set(goes_up.select(half + one, low.get()));
                    high.set(goes_down.select(half, high.get()));
                    Ok(())
                });
            });
            result?;
            let own = as_value(i) - right.select(as_value(middle), as_value(pair));
            let rank = k.let_("rank", as_value(pair) + own + (low.get() - first));
            let mut place = ix.to_vec();
            place[self.axis] = k.let_index("place", rank.clamp_index(k.int(0), self.n));
            to.at(&place).store(position);
            Ok(())
        })
    }

    /// The position that stands at a place of a line, and the element it names.
    fn element(
        &self,
        e: &mut Emitter<'k, '_>,
        from: Buf<'k>,
        ix: &[Ix<'k>],
        at: Ix<'k>,
    ) -> Lowered<(Val<'k>, Val<'k>)> {
        let k = e.k;
        let mut place = ix.to_vec();
        place[self.axis] = at;
        let position = k.let_("position", from.at(&place).load());
        let named = k.let_index("named", position.clamp_index(k.int(0), self.n));
        let mut coords: Vec<Coord> = e.element_coords(&self.axes, ix);
        coords[self.axis] = e.index(named, Range::new(0, self.most - 1), 1);
        let value = e.emit(self.x, &coords)?;
        let bools = value.dtype() == DType::Bool;
        let value = if bools { elementwise::cast(k, value, DType::Bool, DType::I32) } else { value };
        Ok((position, k.bound("value", value)))
    }
}

fn boolean_select<'k>(condition: Val<'k>, a: Val<'k>, b: Val<'k>) -> Val<'k> {
    (condition & a) | (!condition & b)
}
