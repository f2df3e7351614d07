//! A grid of independent items, one for each lane.

use super::{GROUP, power_of_two};
use crate::lower::coord::Coord;
use crate::lower::emit::{Emitter, Lowered};
use mlxc_ir::kernel::{Ix, Subgroup};
use mlxc_ir::{Range, Size};

/// One axis of a grid of items.
#[derive(Clone)]
pub(in crate::lower) struct Axis<'k> {
    /// Name in text.
    pub name: String,
    /// How many.
    pub extent: Ix<'k>,
    /// How many at most.
    pub most: i64,
}

impl<'k> Emitter<'k, '_> {
    /// A phase in which every item is some lane's; `body` gets the item's place along each axis.
    ///
    /// Lanes run along the last axis, and along the one before where the last is short.
    pub(in crate::lower) fn each_item(
        &mut self,
        phase: &str,
        grid: &[Axis<'k>],
        body: impl FnOnce(&mut Self, &[Ix<'k>]) -> Lowered<()>,
    ) -> Lowered<()> {
        let k = self.k;
        let most = |back: usize| grid.len().checked_sub(back).map_or(1, |i| grid[i].most.max(1));
        let columns = power_of_two(most(1), GROUP);
        let rows = power_of_two(most(2), GROUP / columns);
        let share = |i: usize| match grid.len() - i {
            1 => i64::from(columns),
            2 => i64::from(rows),
            _ => 1,
        };
        let axes: Vec<(&str, Ix<'k>)> =
            grid.iter().enumerate().map(|(i, a)| (a.name.as_str(), a.extent.ceil_div(share(i)))).collect();
        let mut result = Ok(());
        k.phase(phase, &axes, columns * rows, Subgroup::None, |ix| {
            let lane = k.lane();
            let mut at = ix.to_vec();
            let mut inside = None;
            for (i, axis) in grid.iter().enumerate() {
                let n = share(i);
                if n == 1 {
                    continue;
                }
                let own = match (grid.len() - i, rows) {
                    (1, 1) => lane,
                    (1, _) => lane.rem(i64::from(columns)),
                    _ => lane.div(i64::from(columns)),
                };
                at[i] = k.let_index(&axis.name, ix[i] * n + own);
                if axis.extent.as_const().is_none_or(|e| e % n != 0) {
                    let here = at[i].lt(axis.extent);
                    inside = Some(inside.map_or(here, |w| w & here));
                }
            }
            match inside {
                None => result = self.scoped(1.0, |e| body(e, &at)),
                Some(inside) => k.if_(inside, || result = self.scoped(1.0, |e| body(e, &at))),
            }
        });
        result
    }

    /// The axes of a shape, an item an element.
    pub(in crate::lower) fn element_axes(&mut self, shape: &[Size]) -> Lowered<Vec<Axis<'k>>> {
        let axis = |(i, d): (usize, &Size)| {
            let most = self.size_max(d).max(1.0) as i64;
            Ok(Axis { name: format!("i{i}"), extent: self.size(d)?, most })
        };
        shape.iter().enumerate().map(axis).collect()
    }

    /// Places along such axes as coordinates.
    pub(in crate::lower) fn element_coords(&mut self, axes: &[Axis<'k>], ix: &[Ix<'k>]) -> Vec<Coord> {
        axes.iter().zip(ix).map(|(a, i)| self.index(*i, Range::new(0, a.most - 1), 1)).collect()
    }

    /// An element of a row of `extent` from its number in steps of `w`: a sum of parts, as the splits cut the row.
    pub(in crate::lower) fn split_number(&mut self, number: Ix<'k>, extent: i64, splits: &[i64], w: i64) -> Coord {
        let k = self.k;
        let mut rest = number;
        let mut extent = extent;
        let mut out = Coord::constant(0);
        for s in splits.iter().filter(|s| **s > 1) {
            if *s >= extent || extent % s != 0 {
                continue;
            }
            let part = k.let_index("part", rest.div(s / w));
            let c = self.index(part, Range::new(0, extent / s - 1), 1);
            out = out.plus(&c, *s);
            rest = rest.rem(s / w);
            extent = *s;
        }
        let last = k.let_index("c", rest * w);
        let c = self.index(last, Range::new(0, extent - w), w);
        out.plus(&c, 1)
    }
}
