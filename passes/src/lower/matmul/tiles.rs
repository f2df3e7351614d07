//! Blocks of rows times panels in the target's own matrix tiles.
//!
//! A register tile is up to two tiles of rows by two of columns: four accumulators, and each tile that is loaded serves two
//! products. The inner axis is packed a stretch at a time, short enough for what one panel needs of it to stay in the
//! first-level cache; sums wait in group memory meanwhile.

use super::panels::Panels;
use super::rows::{self, Shape};
use crate::lower::coord::Coord;
use crate::lower::emit::{Emitter, Lowered};
use mlxc_ir::graph::ValueId;
use mlxc_ir::kernel::{Group, Ix, KernelBuilder, PlaceRef, Reg, TileOrder, TileRole, Type};
use mlxc_ir::profile::{TargetProfile, TileShape};
use mlxc_ir::{DType, Range, Size};

/// Register tiles of a block of rows at most.
const TALL: i64 = 4;
/// Inner elements packed at a time.
const CHUNK: i64 = 512;

/// The tile that products of bf16 with so many rows and inner elements are made of, if the target has one.
pub(super) fn shape_of(profile: &TargetProfile, dtype: DType, most_rows: i64, k: i64) -> Option<TileShape> {
    let fits = |t: &TileShape| {
        t.input == dtype && t.accumulator == DType::F32 && t.rows == t.columns && k % i64::from(t.depth) == 0
    };
    // One row reads its weights as fast without.
    profile.tiles.iter().copied().find(|t| most_rows > 1 && dtype == DType::BF16 && fits(t))
}

/// The shape of a product in tiles; `group` inner elements are packed together at least.
pub(super) fn shape(e: &Emitter<'_, '_>, tile: TileShape, rows: Size, k: i64, group: i64) -> Shape {
    let most = e.size_max(&rows) as i64;
    let tall = i64::from(tile.rows);
    let mr = if most > tall { 2 * tall } else { tall };
    let tiles = ((most + mr - 1) / mr).clamp(1, TALL);
    let chunk = if k <= CHUNK { k } else { (CHUNK / group).max(1) * group };
    Shape {
        rows,
        k,
        dtype: tile.input,
        mr,
        tiles,
        lanes: i64::from(e.width),
        pair: 2,
        chunk,
        apart: 1,
        tile: Some(tile),
    }
}

/// One block of rows.
pub(super) struct Rows<'a, 'k> {
    pub a: ValueId,
    pub s: &'a Shape,
    pub q: &'a Coord,
    pub memory: Group<'k>,
    pub live: Ix<'k>,
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
                        let acc = accumulators(k, s, if one { None } else { Some(&to) });
                        let right = |step: Ix<'k>, half: i64| self.buffer.at([panel, first + step, k.int(half)]);
                        multiply(k, s, acc, (rows.memory, t, k.int(0)), &right, len);
                        store(k, s, acc, &to);
                    });
                    Ok(())
                })?;
            }
            Ok(())
        })
    }
}

/// Accumulators of a register tile: zero, or what memory has from a row and a column of the tile on.
pub(super) fn accumulators<'k>(
    k: &'k KernelBuilder,
    s: &Shape,
    from: Option<&dyn Fn(Ix<'k>, i64) -> PlaceRef<'k>>,
) -> Reg<'k> {
    let n = s.tile_rows() as u8;
    let ty = Type::Tile { dtype: DType::F32, rows: n, columns: n, role: TileRole::C };
    let zero = from.is_none().then(|| k.constant(0.0, DType::F32).fill(ty));
    let acc = k.reg("acc", ty, &[s.tiles_of_rows() as u32, 2], zero);
    if let Some(from) = from {
        each_tile(k, s, |i, j, row, column| {
            acc.set([i, k.int(j)], from(row, column).tile(n, n).load_tile(TileRole::C, TileOrder::Rows));
        });
    }
    acc
}

/// Adds `len` inner elements, from an offset in the packed rows of register tile `t` on. `right` is where the columns'
/// pairs of such a step and element of a row are.
pub(super) fn multiply<'k>(
    k: &'k KernelBuilder,
    s: &Shape,
    acc: Reg<'k>,
    (memory, t, offset): (Group<'k>, Ix<'k>, Ix<'k>),
    right: &dyn Fn(Ix<'k>, i64) -> PlaceRef<'k>,
    len: i64,
) {
    let tile = s.tile.expect("called for tiles");
    let (n, depth) = (tile.rows, i64::from(tile.depth));
    let tall = s.tiles_of_rows();
    k.for_("k", k.int(0), k.int(len / depth), 1, false, |c| {
        let columns: Vec<_> = (0..2)
            .map(|j| {
                let place = right(c * (depth / s.pair), j * i64::from(n) * s.pair);
                let b = place.tile(tile.depth / s.pair as u8, n * s.pair as u8);
                k.let_(&format!("b{j}"), b.load_tile(TileRole::B, TileOrder::Interleaved(s.pair as u8)))
            })
            .collect();
        k.for_("i", k.int(0), k.int(tall), 1, true, |i| {
            let place = memory.at([t * tall + i, offset + c, k.int(0), k.int(0)]);
            let a = k.let_("a", place.tile(n, tile.depth).load_tile(TileRole::A, TileOrder::Rows));
            for (j, b) in columns.iter().enumerate() {
                let j = k.int(j as i64);
                acc.set([i, j], a.mma(*b, acc.get([i, j])));
            }
        });
    });
}

/// Stores the accumulators from a row and a column of memory on.
pub(super) fn store<'k>(k: &'k KernelBuilder, s: &Shape, acc: Reg<'k>, to: &dyn Fn(Ix<'k>, i64) -> PlaceRef<'k>) {
    let n = s.tile_rows() as u8;
    each_tile(k, s, |i, j, row, column| to(row, column).tile(n, n).store(acc.get([i, k.int(j)])));
}

/// Calls with the numbers of each tile, its first row and column.
fn each_tile<'k>(k: &'k KernelBuilder, s: &Shape, each: impl Fn(Ix<'k>, i64, Ix<'k>, i64)) {
    let n = s.tile_rows();
    k.for_("i", k.int(0), k.int(s.tiles_of_rows()), 1, true, |i| {
        for j in 0..2 {
            each(i, j, i * n, j * n);
        }
    });
}
