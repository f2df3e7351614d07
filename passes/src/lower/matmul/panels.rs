//! Products with a weight stored in panels.
//!
//! Several rows are packed a stretch of the inner axis at a time, short enough for the packed rows to stay in the second-level
//! cache whatever the inner extent is; sums wait in group memory meanwhile.

use super::rows::{self, Shape};
use crate::lower::coord::Coord;
use crate::lower::elementwise::compute;
use crate::lower::emit::{Emitter, Lowered};
use mlxc_ir::Range;
use mlxc_ir::graph::ValueId;
use mlxc_ir::kernel::{Access, Buf, Group, Ix, KernelBuilder, PlaceRef, Type};

/// A weight `[panel, k / pair, block * pair]`.
pub(super) struct Panels<'k> {
    buffer: Buf<'k>,
    block: i64,
}

/// One block of rows.
pub(super) struct Rows<'a, 'k> {
    a: ValueId,
    s: &'a Shape,
    q: &'a Coord,
    memory: Group<'k>,
    live: Ix<'k>,
}

/// Bytes of a cache line.
const LINE: i64 = 64;

impl<'k> Panels<'k> {
    fn bytes(&self) -> i64 {
        self.buffer.dtype().bytes() as i64
    }

    pub fn new(e: &mut Emitter<'k, '_>, weight: ValueId, block: i64) -> Lowered<Self> {
        let shape = e.f.ty(weight).shape.clone();
        Ok(Panels { buffer: e.buffer(weight, &shape, Access::Read)?, block })
    }

    /// Group memory for the rows of block `q`.
    pub fn begin<'a>(&self, e: &mut Emitter<'k, '_>, a: ValueId, s: &'a Shape, q: &'a Coord) -> Lowered<Rows<'a, 'k>> {
        Ok(Rows { a, s, q, memory: s.memory(e), live: s.live_tiles(e, q)? })
    }

    /// Multiplies the rows with `width` columns from each of `from` on, into the segments of group memory.
    pub fn multiply(
        &self,
        e: &mut Emitter<'k, '_>,
        rows: &Rows<'_, 'k>,
        staged: Group<'k>,
        from: &[Coord],
        width: i64,
    ) -> Lowered<()> {
        let s = rows.s;
        let one = s.chunk == s.k;
        if !one {
            rows::clear(e.k, s, staged, from.len() as i64, width);
        }
        rows::chunks(e, s, |e, base, len| {
            rows::pack(e, rows.a, s, (rows.q, rows.live), rows.memory, (base, len), None)?;
            let (first, _) = e.space.div_rem(base, s.pair);
            let first = e.ix(&first);
            for (segment, from) in from.iter().enumerate() {
                let (panel, _) = e.space.div_rem(from, self.block);
                let (k, count) = (e.k, width / self.block);
                let segment = k.int(segment as i64);
                e.each("p", k.int(count), Range::new(0, count - 1), 1, false, |e, p| {
                    let (from, at) = (e.ix(&panel), e.ix(&p));
                    let (panel, column) = (e.ix(&panel.plus(&p, 1)), e.ix(&p.scale(self.block)));
                    let row = (self.block * s.pair * self.bytes() / LINE).max(1);
                    let (lines, steps) = (row * s.depth() / s.pair, len / s.depth());
                    // The next panel, or the first one's next stretch where there is one.
                    let over = if one { k.int(0) } else { (at + 1).div(count) };
                    let (next, later) = (from + at + 1 - over * count, first + over * s.steps(len));
                    // One row reads each panel once: there is nothing to hide the wait behind.
                    let next = (s.mr > 1).then(|| (k.let_index("next", next), k.let_index("ahead", later)));
                    let ask = next.map(|(next, ahead)| {
                        move |line: Ix<'k>| {
                            let place = [next, ahead + line.div(row), line.rem(row) * (LINE / self.bytes())];
                            self.buffer.at(place).prefetch();
                        }
                    });
                    let ahead = ask.as_ref().map(|ask| Ahead { lines, steps, tiles: s.tiles, ask });
                    let meanwhile = |t: Ix<'k>, c: Ix<'k>| ahead.iter().for_each(|a| a.step(t, c));
                    k.for_("t", k.int(0), rows.live, 1, false, |t| {
                        let to = |i: Ix<'k>, j: i64| staged.at([segment, t * s.mr + i, column + j]);
                        let right = |step: Ix<'k>, j: i64| self.buffer.at([panel, first + step, k.int(j)]);
                        match s.tile {
                            Some(tile) => {
                                let acc = tile.accumulators(k, if one { None } else { Some(&to) });
                                tile.multiply(k, acc, (rows.memory, t, k.int(0)), &right, len, &|c| meanwhile(t, c));
                                tile.store(k, acc, &to);
                            }
                            None => vectors(k, s, (rows.memory, t), &right, len, &to, one, &|c| meanwhile(t, c)),
                        }
                    });
                    Ok(())
                })?;
            }
            Ok(())
        })
    }
}

/// What is asked for while a panel multiplies.
struct Ahead<'a, 'k> {
    /// Cache lines of a step of the inner axis, and such steps.
    lines: i64,
    steps: i64,
    /// Tiles of rows, each of which asks for its share.
    tiles: i64,
    /// Asks for a line of the next panel.
    ask: &'a dyn Fn(Ix<'k>),
}

impl<'k> Ahead<'_, 'k> {
    /// Asks for what step `c` of tile `t` has a share in: the hardware's prefetchers do not cross from panel to panel, and a
    /// panel read once for each tile is waited for the first time.
    fn step(&self, t: Ix<'k>, c: Ix<'k>) {
        let done = t * self.steps + c;
        let lines = (self.lines + self.tiles - 1) / self.tiles;
        if self.lines < self.tiles {
            return (self.ask)((done * self.lines).div(self.tiles));
        }
        (0..lines).for_each(|i| (self.ask)(done * lines + i));
    }
}

/// Adds `len` inner elements to a register tile of vectors, which starts from zero if there are no others.
fn vectors<'k>(
    k: &'k KernelBuilder,
    s: &Shape,
    (memory, t): (Group<'k>, Ix<'k>),
    right: &dyn Fn(Ix<'k>, i64) -> PlaceRef<'k>,
    len: i64,
    to: &dyn Fn(Ix<'k>, i64) -> PlaceRef<'k>,
    only: bool,
    meanwhile: &dyn Fn(Ix<'k>),
) {
    let lanes = s.lanes as u8;
    let acc_type = Type::vector(compute(s.dtype), lanes);
    let zero = only.then(|| k.constant(0.0, acc_type.dtype()));
    let acc = k.reg("acc", acc_type, &[s.mr as u32, 2], zero);
    if !only {
        k.for_("i", k.int(0), k.int(s.mr), 1, true, |i| {
            for j in 0..2 {
                acc.set([i, k.int(j)], to(i, j * s.lanes).vec(lanes).load());
            }
        });
    }
    k.for_("k", k.int(0), k.int(s.steps(len)), 1, false, |c| {
        let half = s.lanes * s.pair;
        let load = |j: i64| {
            let place = right(c, j * half).vec(half as u8);
            if s.pair == 2 { place.load() } else { place.load().cast(acc_type.dtype()) }
        };
        let b = [k.let_("b0", load(0)), k.let_("b1", load(1))];
        meanwhile(c);
        rows::accumulate(k, s, acc, memory, (t, c), b);
    });
    k.for_("i", k.int(0), k.int(s.mr), 1, true, |i| {
        for j in 0..2 {
            to(i, j * s.lanes).vec(lanes).store(acc.get([i, k.int(j)]));
        }
    });
}
