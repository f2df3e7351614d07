//! Products in the target's own matrix tiles: which fit, and their shape.
//!
//! The inner axis is packed in stretches short enough for what one panel needs of them to stay in the first-level cache.

use super::rows::Shape;
use crate::lower::emit::Emitter;
use crate::lower::tiles::{PAIR, RegisterTile, native};
use mlxc_ir::profile::{TargetProfile, TileShape};
use mlxc_ir::{DType, Size};

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
    Shape {
        rows,
        k,
        dtype,
        mr,
        tiles,
        lanes: i64::from(e.width),
        pair: PAIR,
        chunk,
        apart: 1,
        digits: 0,
        tile: Some(tile),
    }
}
