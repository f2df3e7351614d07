//! Stretches of a factor in group memory.

use super::{Product, TILE, divides};
use crate::lower::coord::Coord;
use crate::lower::emit::{Emitter, Lowered, Team};
use mlxc_ir::graph::ValueId;
use mlxc_ir::kernel::{Group, Ix};
use mlxc_ir::{DType, Range, Size};

/// Rows of a left factor or columns of a right one, in the order that the multiplication reads.
pub(super) struct Side<'a, 'k> {
    pub value: ValueId,
    /// First row or column.
    pub first: &'a Coord,
    /// How many are packed.
    pub count: i64,
    /// How many there are.
    pub extent: &'a Size,
    /// True if the inner axis is the last in memory.
    pub inner_last: bool,
    /// `[inner, major]`, or `[major, inner]` if `major_first`.
    pub memory: Group<'k>,
    pub major_first: bool,
    /// Where its rows or columns begin in the memory.
    pub offset: i64,
}

impl<'k> Product<'_, 'k> {
    /// Packs the inner elements from `from` on; those past the end are zero.
    pub(super) fn pack(&self, e: &mut Emitter<'k, '_>, side: &Side<'_, 'k>, from: &Coord) -> Lowered<()> {
        let depth = self.plan.depth;
        // Vectors run along the axis that is last in memory.
        let along = if side.inner_last { &self.inner } else { side.extent };
        let run = if side.inner_last { depth } else { side.count };
        let aligned = side.inner_last || e.space.div_rem(side.first, TILE).1.as_const() == Some(0);
        let width = if divides(along, TILE) && run % TILE == 0 && aligned { TILE } else { 1 };
        let outer = std::mem::replace(&mut e.width, width as u8);
        let result = self.pack_in(e, side, from, width);
        e.width = outer;
        result
    }

    fn pack_in(&self, e: &mut Emitter<'k, '_>, side: &Side<'_, 'k>, from: &Coord, w: i64) -> Lowered<()> {
        let k = e.k;
        let depth = self.plan.depth;
        let run = if side.inner_last { depth } else { side.count } / w;
        let items = side.count * depth / w;
        let team = Team { lanes: self.plan.lanes as u32, at: k.lane() };
        e.lane_loop("item", &Size::constant(items), team, 1, &mut |e, item| {
            let item = e.ix(&item);
            let (slow, fast) = (item.div(run), item.rem(run) * w);
            let (major, inner) = if side.inner_last { (slow, fast) } else { (fast, slow) };
            let (i, d) = (k.let_index("i", major), k.let_index("d", inner));
            let steps = |along: bool| if along { w } else { 1 };
            let inner_step = steps(side.inner_last);
            let local = e.index(d, Range::new(0, depth - inner_step), inner_step);
            let inner = from.plus(&local, 1);
            let major = self.major(e, side, i, steps(!side.inner_last))?;
            let lane = e.lane();
            let (at_major, at_inner) = if side.inner_last {
                (major.0.clone(), inner.plus(&lane, 1))
            } else {
                (major.0.plus(&lane, 1), inner.clone())
            };
            let mut inside = major.1;
            if !divides(&self.inner, depth) {
                let (c, n) = (e.ix(&inner), e.size(&self.inner)?);
                let here = c.lt(n);
                inside = Some(inside.map_or(here, |x| x & here));
            }
            let zero = k.constant(0.0, DType::F32);
            let emit = |e: &mut Emitter<'k, '_>| {
                let x = e.emit(side.value, &self.place(&at_major, &at_inner, side.inner_last))?;
                Ok(if i64::from(x.ty().lanes()) == w { x } else { x.splat(w as u8) })
            };
            let value = match inside {
                None => emit(e)?,
                Some(inside) => {
                    let out = k.var("element", zero.splat(w as u8));
                    let mut result = Ok(());
                    k.if_(inside, || {
                        result = e.scoped(1.0, emit).map(|x| out.set(x));
                    });
                    result?;
                    out.get()
                }
            };
            let value = k.bound("packed", value);
            // Where lanes lie along the first axis of the memory, they are stored one by one.
            let major_at = i + side.offset;
            let vector = w > 1 && side.inner_last == side.major_first;
            for t in 0..if vector { 1 } else { w } {
                let (i, d) = if side.inner_last { (major_at, d + t) } else { (major_at + t, d) };
                let at = if side.major_first { [i, d] } else { [d, i] };
                let place = side.memory.at(at);
                if vector {
                    place.vec(w as u8).store(value);
                } else {
                    place.store(if w == 1 { value } else { value.extract(k.int(t)) });
                }
            }
            Ok(())
        })
    }

    /// A row or column, and where it exists. Single ones past the last repeat it; vectors are left out.
    fn major(
        &self,
        e: &mut Emitter<'k, '_>,
        side: &Side<'_, 'k>,
        i: Ix<'k>,
        step: i64,
    ) -> Lowered<(Coord, Option<mlxc_ir::kernel::Val<'k>>)> {
        let most = e.space.range(side.first).hi + side.count;
        if side.extent.as_const().is_some_and(|n| most <= n) {
            let local = e.index(i, Range::new(0, side.count - step), step);
            return Ok((side.first.plus(&local, 1), None));
        }
        let n = e.size(side.extent)?;
        let last = (e.size_max(side.extent) as i64 - 1).max(0);
        let at = e.ix(side.first) + i;
        if step == 1 {
            let at = e.k.let_index("at", at.min(n - 1));
            return Ok((e.index(at, Range::new(0, last), 1), None));
        }
        let at = e.k.let_index("at", at);
        Ok((e.index(at, Range::new(0, (last + 1 - step).max(0)), step), Some(at.lt(n))))
    }
}
