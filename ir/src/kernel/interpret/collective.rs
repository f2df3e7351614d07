//! Operations that lanes do together: reductions, exchanges and matrix tiles.

use super::Machine;
use super::arith;
use super::eval::Indices;
use super::exec::Bits;
use crate::Diagnostic;
use crate::kernel::ops::{FoldOp, SubgroupOp};
use crate::kernel::scalar;
use crate::kernel::types::*;
use mlxc_package::DType;
use smallvec::SmallVec;

impl Machine<'_> {
    /// All-reduce over aligned runs, in one seeded order for all of them.
    pub(super) fn fold_lanes(&mut self, op: FoldOp, d: DType, v: Bits, n: usize, run: usize) -> Bits {
        let run = run.clamp(1, self.lanes);
        let mut order: Vec<usize> = (0..run).collect();
        for i in (1..run).rev() {
            order.swap(i, (self.draw() % (i as u64 + 1)) as usize);
        }
        let mut out = v.clone();
        for start in (0..self.lanes).step_by(run) {
            for e in 0..n {
                let mut members = order.iter().map(|l| start + l).filter(|l| *l < self.lanes).map(|l| v[l * n + e]);
                let first = members.next().unwrap_or(0);
                let sum = members.fold(first, |s, x| arith::binary(op.binary(), d, s, x).unwrap_or(s));
                for lane in start..(start + run).min(self.lanes) {
                    out[lane * n + e] = sum;
                }
            }
        }
        out
    }

    pub(super) fn subgroup(&mut self, op: SubgroupOp, d: DType, v: Bits, n: usize) -> Result<Bits, Diagnostic> {
        let width = self.width;
        let by = match op {
            SubgroupOp::Fold(op) => return Ok(self.fold_lanes(op, d, v, n, width)),
            SubgroupOp::Any => return Ok(self.fold_lanes(FoldOp::Or, d, v, n, width)),
            SubgroupOp::All => return Ok(self.fold_lanes(FoldOp::And, d, v, n, width)),
            SubgroupOp::Broadcast(by) | SubgroupOp::Exchange(by) => usize::from(by),
        };
        let mut out = v.clone();
        for lane in 0..self.lanes {
            let (start, at) = (lane / width * width, lane % width);
            let from = start + if matches!(op, SubgroupOp::Broadcast(_)) { by } else { at ^ by };
            if from >= (start + width).min(self.lanes) {
                return Err(Diagnostic::new(554, "a lane outside the subgroup is asked for").found(from.to_string()));
            }
            out[lane * n..(lane + 1) * n].copy_from_slice(&v[from * n..(from + 1) * n]);
        }
        Ok(out)
    }

    /// Where a tile lies in memory for each subgroup; its lanes must agree.
    fn tile_origins(&mut self, place: &Place, mask: &[bool]) -> Result<Vec<SmallVec<[i64; 4]>>, Diagnostic> {
        self.converged(mask, "a tile access")?;
        let at = self.place_indices(place, mask)?;
        let mut out = Vec::new();
        for start in (0..self.lanes).step_by(self.width) {
            let origin: SmallVec<[i64; 4]> = at.iter().map(|i| i.at(start)).collect();
            let agree = (start..(start + self.width).min(self.lanes))
                .all(|l| at.iter().zip(&origin).all(|(i, o)| i.at(l) == *o));
            if !agree {
                return Err(Diagnostic::new(555, "the address of a tile differs inside a subgroup"));
            }
            out.push(origin);
        }
        Ok(out)
    }

    /// A lane to answer for an element of a tile; which it is differs between targets.
    fn owner(&self, subgroup: usize, element: usize) -> usize {
        (subgroup * self.width + element % self.width).min(self.lanes - 1)
    }

    pub(super) fn load_tile(
        &mut self,
        place: &Place,
        order: TileOrder,
        ty: Type,
        mask: &[bool],
    ) -> Result<Bits, Diagnostic> {
        let Type::Tile { rows, columns, .. } = ty else {
            return Err(Diagnostic::new(503, "a tile load gives a tile"));
        };
        let origins = self.tile_origins(place, mask)?;
        let rank = place.at.len();
        let mut out = Bits::new();
        for (subgroup, origin) in origins.iter().enumerate() {
            for e in 0..usize::from(rows) * usize::from(columns) {
                let (i, j) = order.place(e / usize::from(columns), e % usize::from(columns));
                let mut at = origin.clone();
                at[rank - 2] += i as i64;
                at[rank - 1] += j as i64;
                let who = self.toucher(place.memory, self.owner(subgroup, e));
                let array = self.array(place.memory)?;
                let offset = array.offset(&at)?;
                out.push(array.load(offset, &who)?);
            }
        }
        Ok(out)
    }

    pub(super) fn store_tile(
        &mut self,
        place: &Place,
        rows: u8,
        columns: u8,
        v: &Bits,
        mask: &[bool],
    ) -> Result<(), Diagnostic> {
        let origins = self.tile_origins(place, mask)?;
        let rank = place.at.len();
        let n = usize::from(rows) * usize::from(columns);
        for (subgroup, origin) in origins.iter().enumerate() {
            for e in 0..n {
                let mut at = origin.clone();
                at[rank - 2] += (e / usize::from(columns)) as i64;
                at[rank - 1] += (e % usize::from(columns)) as i64;
                let who = self.toucher(place.memory, self.owner(subgroup, e));
                let array = self.array(place.memory)?;
                let offset = array.offset(&at)?;
                array.store(offset, v[subgroup * n + e], &who)?;
            }
        }
        Ok(())
    }

    /// c + a·b with exact products and sums in f32 (f64 for f64, wrapping for i32), in one of two orders.
    pub(super) fn mma(&mut self, a: ExprId, b: ExprId, c: ExprId, mask: &[bool]) -> Result<Bits, Diagnostic> {
        self.converged(mask, "mma")?;
        let (ta, tb, tc) = (self.k.expr(a).ty, self.k.expr(b).ty, self.k.expr(c).ty);
        let (Type::Tile { rows, columns: depth, .. }, Type::Tile { columns, .. }) = (ta, tb) else {
            return Err(Diagnostic::new(503, "mma takes tiles"));
        };
        let (rows, columns, depth) = (usize::from(rows), usize::from(columns), usize::from(depth));
        let (a, b, c) = (self.eval(a, mask)?, self.eval(b, mask)?, self.eval(c, mask)?);
        let descending = self.draw() & 1 == 0;
        let d = tc.dtype();
        let mut out = c;
        for (at, sum) in out.iter_mut().enumerate() {
            let (tile, e) = (at / (rows * columns), at % (rows * columns));
            let (i, j) = (e / columns, e % columns);
            let mut s = scalar::to_f64(d, *sum);
            for t in 0..depth {
                let t = if descending { depth - 1 - t } else { t };
                let x = scalar::to_f64(ta.dtype(), a[tile * rows * depth + i * depth + t]);
                let y = scalar::to_f64(tb.dtype(), b[tile * depth * columns + t * columns + j]);
                s += x * y;
                if d == DType::F32 {
                    s = f64::from(s as f32);
                }
            }
            // Integer sums are exact in f64, and wrap.
            *sum = scalar::from_f64(d, if d == DType::I32 { f64::from(s as i64 as i32) } else { s });
        }
        Ok(out)
    }

    pub(super) fn tile_map(
        &mut self,
        tile: ExprId,
        row: VarId,
        column: VarId,
        element: LocalId,
        body: ExprId,
        mask: &[bool],
    ) -> Result<Bits, Diagnostic> {
        self.converged(mask, "tile.map")?;
        let Type::Tile { rows, columns, .. } = self.k.expr(tile).ty else {
            return Err(Diagnostic::new(503, "tile.map takes a tile"));
        };
        let mut v = self.eval(tile, mask)?;
        let n = usize::from(rows) * usize::from(columns);
        let subgroups = v.len() / n;
        for e in 0..n {
            self.vars[row.index()] = Indices::One((e / usize::from(columns)) as i64);
            self.vars[column.index()] = Indices::One((e % usize::from(columns)) as i64);
            let mut owners: SmallVec<[bool; 16]> = SmallVec::from_elem(false, self.lanes);
            (0..subgroups).for_each(|s| owners[self.owner(s, e)] = true);
            let slot = &mut self.locals[element.index()];
            slot.defined = SmallVec::from_elem(true, self.lanes);
            slot.data = (0..self.lanes).map(|l| v[l / self.width * n + e]).collect();
            let new = self.eval(body, &owners)?;
            for s in 0..subgroups {
                v[s * n + e] = new[self.owner(s, e)];
            }
        }
        Ok(v)
    }
}
