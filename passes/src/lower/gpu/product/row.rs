//! One row: teams of lanes, each with four dot products at a time.

use super::{Product, TEAM, TILE, divides};
use crate::lower::coord::Coord;
use crate::lower::emit::{Emitter, Lowered, Team};
use mlxc_ir::kernel::{FoldOp, Ix, Type, Val};
use mlxc_ir::{DType, Range};

impl<'k> Product<'_, 'k> {
    /// The columns of a block, four to a team at a time. `dots` gives each lane's part of the dot products with some
    /// columns.
    pub(super) fn row(
        &self,
        e: &mut Emitter<'k, '_>,
        from: &[Coord],
        dots: &mut dyn FnMut(&mut Emitter<'k, '_>, &[Ix<'k>]) -> Lowered<Vec<Val<'k>>>,
    ) -> Lowered<()> {
        let k = e.k;
        let teams = self.plan.lanes / TEAM;
        let across = self.plan.width;
        // Columns a team has of each segment.
        let each = (across + teams - 1) / teams;
        let at_once = [TILE, 2, 1].into_iter().find(|n| *n <= each).unwrap_or(1);
        let turns = (each + at_once - 1) / at_once;
        let team = k.let_index("team", k.lane().div(TEAM));
        for (segment, first) in from.iter().enumerate() {
            let mut result = Ok(());
            let mut turn = |e: &mut Emitter<'k, '_>, t: Ix<'k>| -> Lowered<()> {
                let start = k.let_index("column", (t * teams + team) * at_once);
                let base = e.ix(first);
                let mut columns = Vec::new();
                for i in 0..at_once {
                    // Teams without columns of their own repeat the block's last: all lanes take part in sums.
                    let local =
                        if across % (teams * at_once) == 0 { start + i } else { (start + i).min(k.int(across - 1)) };
                    let n = self.clamped(e, base + local, first, across, &self.columns)?;
                    columns.push(k.let_index("n", n));
                }
                let parts = dots(e, &columns)?;
                // One exchange between lanes for all of a team's columns.
                let own = if parts.len() == 1 { parts[0] } else { k.vector(&parts) };
                let all = k.let_("dots", k.bound("own", own).lanes(FoldOp::Add, TEAM as u32));
                let sums: Vec<Val<'k>> = match parts.len() {
                    1 => vec![all],
                    n => (0..n as i64).map(|i| all.extract(k.int(i))).collect(),
                };
                let one = k.lane().rem(TEAM).eq(k.int(0));
                k.if_(one, || {
                    for (i, sum) in sums.iter().enumerate() {
                        let local = start + i as i64;
                        let place = [k.int(segment as i64), k.int(0), local];
                        let rounded = if self.dtype == DType::F32 { *sum } else { e.rounded(*sum, self.dtype) };
                        if across % (teams * at_once) == 0 {
                            self.staged.at(place).store(rounded);
                        } else {
                            k.if_(local.lt(k.int(across)), || self.staged.at(place).store(rounded));
                        }
                    }
                });
                Ok(())
            };
            // What a team does is counted for all of them.
            let all = (teams * turns) as f64;
            if turns == 1 {
                e.scoped(all, |e| turn(e, k.int(0)))?;
                continue;
            }
            k.for_("t", k.int(0), k.int(turns), 1, false, |t| result = e.scoped(all, |e| turn(e, t)));
            result?;
        }
        Ok(())
    }

    /// A lane's part of the dot products of the row with some columns of any right factor.
    pub(super) fn dots(&self, e: &mut Emitter<'k, '_>, columns: &[Ix<'k>]) -> Lowered<Vec<Val<'k>>> {
        let k = e.k;
        let most = (e.size_max(&self.columns) as i64 - 1).max(0);
        let at: Vec<Coord> = columns.iter().map(|n| e.index(*n, Range::new(0, most), 1)).collect();
        let whole = divides(&self.inner, TILE);
        let width = if whole { TILE as u8 } else { 1 };
        let acc = k.reg("acc", Type::vector(DType::F32, width), &[at.len() as u32], Some(k.constant(0.0, DType::F32)));
        let team = Team { lanes: TEAM as u32, at: k.lane().rem(TEAM) };
        let outer = std::mem::replace(&mut e.width, width);
        let result = e.lane_loop("c", &self.inner, team, i64::from(width), &mut |e, c| {
            let c = c.plus(&e.lane(), 1);
            let zero = Coord::constant(0);
            let x = e.emit(self.a, &self.place(&zero, &c, !self.transpose_a))?;
            let x = k.bound("x", if x.ty().lanes() == width { x } else { x.splat(width) });
            for (i, n) in at.iter().enumerate() {
                let w = e.emit(self.b, &self.place(n, &c, self.transpose_b))?;
                let i = k.int(i as i64);
                acc.set([i], x.mad(w, acc.get([i])));
            }
            Ok(())
        });
        e.width = outer;
        result?;
        Ok((0..at.len()).map(|i| k.bound("own", acc.get([k.int(i as i64)]).hsum())).collect())
    }
}
