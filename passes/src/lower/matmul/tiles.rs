//! Blocks of rows times panels in the target's own matrix tiles.
//!
//! A register tile is up to two tiles of rows by two of columns: four accumulators, and each tile that is loaded serves two
//! products. The inner axis is packed a stretch at a time, short enough for what one panel needs of it to stay in the
//! first-level cache; sums wait in group memory meanwhile.

use super::panels::Panels;
use super::rows::{self, Shape};
use crate::lower::coord::Coord;
use crate::lower::emit::{Emitter, Lowered};
use crate::lower::tiles::{PAIR, RegisterTile, native};
use mlxc_ir::graph::ValueId;
use mlxc_ir::kernel::{Group, Ix};
use mlxc_ir::profile::{TargetProfile, TileShape};
use mlxc_ir::{DType, Range, Size};

/// Register tiles of a block of rows at most.
const TALL: i64 = 4;
/// Inner elements packed at a time.
const CHUNK: i64 = 512;

/// The tile that products of a dtype with so many rows and inner elements are made of, if the target has one.
pub(super) fn shape_of(profile: &TargetProfile, dtype: DType, most_rows: i64, k: i64) -> Option<TileShape> {
    // One row reads its weights as fast without.
    native(profile, dtype, k).filter(|_| most_rows > 1)
}

/// The shape of a product in tiles; `group` inner elements are packed together at least.
pub(super) fn shape(e: &Emitter<'_, '_>, tile: TileShape, rows: Size, k: i64, group: i64) -> Shape {
    let most = e.size_max(&rows) as i64;
    let tile = RegisterTile::of_rows(tile, most);
    let mr = tile.rows();
    let tiles = ((most + mr - 1) / mr).clamp(1, TALL);
    let chunk = if k <= CHUNK { k } else { (CHUNK / group).max(1) * group };
    let dtype = tile.tile.input;
    Shape { rows, k, dtype, mr, tiles, lanes: i64::from(e.width), pair: PAIR, chunk, apart: 1, tile: Some(tile) }
}

/// One block of rows.
pub(super) struct Rows<'a, 'k> {
    pub a: ValueId,
    pub s: &'a Shape,
    pub q: &'a Coord,
    pub memory: Group<'k>,
    pub live: Ix<'k>,
    pub tile: RegisterTile,
}

impl<'k> Panels<'k> {
    /// Multiplies the rows with `width` columns from each of `from` on, into the segments of group memory.
    pub fn multiply_tiles(
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
                    let (panel, column) = (e.ix(&panel.plus(&p, 1)), e.ix(&p.scale(self.block)));
                    k.for_("t", k.int(0), rows.live, 1, false, |t| {
                        let to = |i: Ix<'k>, j: i64| staged.at([segment, t * s.mr + i, column + j]);
                        let acc = rows.tile.accumulators(k, if one { None } else { Some(&to) });
                        let right = |step: Ix<'k>, half: i64| self.buffer.at([panel, first + step, k.int(half)]);
                        rows.tile.multiply(k, acc, (rows.memory, t, k.int(0)), &right, len);
                        rows.tile.store(k, acc, &to);
                    });
                    Ok(())
                })?;
            }
            Ok(())
        })
    }
}
