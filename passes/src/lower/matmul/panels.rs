//! Products with a weight stored in panels.

use super::rows::{self, Shape};
use crate::lower::coord::Coord;
use crate::lower::elementwise::compute;
use crate::lower::emit::{Emitter, Lowered};
use mlxc_ir::Range;
use mlxc_ir::graph::ValueId;
use mlxc_ir::kernel::{Access, Buf, Group, Ix, Type};

/// A weight `[panel, k / pair, block * pair]`.
pub(super) struct Panels<'k> {
    pub(super) buffer: Buf<'k>,
    pub(super) block: i64,
}

/// One block of rows, packed.
pub(super) struct Packed<'a, 'k> {
    memory: Group<'k>,
    live: Ix<'k>,
    s: &'a Shape,
}

impl<'k> Panels<'k> {
    pub fn new(e: &mut Emitter<'k, '_>, weight: ValueId, block: i64) -> Lowered<Self> {
        let shape = e.f.ty(weight).shape.clone();
        Ok(Panels { buffer: e.buffer(weight, &shape, Access::Read)?, block })
    }

    /// Packs the rows of block `q`.
    pub fn begin<'a>(&self, e: &mut Emitter<'k, '_>, a: ValueId, s: &'a Shape, q: &Coord) -> Lowered<Packed<'a, 'k>> {
        let memory = s.memory(e);
        let live = s.live_tiles(e, q)?;
        rows::pack(e, a, s, (q, live), memory, (&Coord::constant(0), s.k), None)?;
        Ok(Packed { memory, live, s })
    }

    /// Multiplies the packed rows with the panels from column `from` on, into segment `segment` of group memory.
    pub fn multiply(
        &self,
        e: &mut Emitter<'k, '_>,
        packed: &Packed<'_, 'k>,
        staged: Group<'k>,
        from: &Coord,
        segment: i64,
        width: i64,
    ) -> Lowered<()> {
        let (k, s) = (e.k, packed.s);
        let (first, _) = e.space.div_rem(from, self.block);
        let count = k.int(width / self.block);
        let lanes = s.lanes as u8;
        let acc_type = Type::vector(compute(s.dtype), lanes);
        let steps = k.int(s.steps(s.k));
        let segment = k.int(segment);
        e.each("p", count, Range::new(0, width / self.block - 1), 1, false, |e, p| {
            let panel = e.ix(&first.plus(&p, 1));
            let column = e.ix(&p.scale(self.block));
            e.k.for_("t", e.k.int(0), packed.live, 1, false, |t| {
                let zero = k.constant(0.0, acc_type.dtype());
                let acc = k.reg("acc", acc_type, &[s.mr as u32, 2], Some(zero));
                k.for_("k", k.int(0), steps, 1, false, |c| {
                    let half = s.lanes * s.pair;
                    let load = |j: i64| {
                        let place = self.buffer.at([panel, c, k.int(j * half)]).vec(half as u8);
                        if s.pair == 2 { place.load() } else { place.load().cast(acc_type.dtype()) }
                    };
                    let b = [k.let_("b0", load(0)), k.let_("b1", load(1))];
                    rows::accumulate(k, s, acc, packed.memory, (t, c), b);
                });
                k.for_("i", k.int(0), k.int(s.mr), 1, true, |i| {
                    for j in 0..2 {
                        let at = [segment, t * s.mr + i, column + j * s.lanes];
                        staged.at(at).vec(lanes).store(acc.get([i, k.int(j)]));
                    }
                });
            });
            Ok(())
        })
    }
}
