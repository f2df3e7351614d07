//! Register tiles made of the target's own matrix tiles: one or two tiles of rows by two of columns, so that each tile that
//! is loaded serves two products and the accumulators of all stay in registers.

use mlxc_ir::DType;
use mlxc_ir::kernel::{Group, Ix, KernelBuilder, PlaceRef, Reg, TileOrder, TileRole, Type};
use mlxc_ir::profile::{TargetProfile, TileShape};

/// Rows of a weight's or key's pair: what a right factor interleaves.
pub(super) const PAIR: i64 = 2;

/// The tile that products of a dtype with so many inner elements are made of, if the target has one.
pub(super) fn native(profile: &TargetProfile, dtype: DType, k: i64) -> Option<TileShape> {
    let fits = |t: &&TileShape| {
        t.input == dtype && t.accumulator == DType::F32 && t.rows == t.columns && k % i64::from(t.depth) == 0
    };
    profile.tiles.iter().find(fits).copied().filter(|_| dtype == DType::BF16)
}

/// A register tile.
#[derive(Clone, Copy)]
pub(super) struct RegisterTile {
    pub tile: TileShape,
    /// Matrix tiles above each other.
    pub tall: i64,
}

/// Where memory holds a row and a column, counted from the register tile's.
pub(super) type At<'a, 'k> = dyn Fn(Ix<'k>, i64) -> PlaceRef<'k> + 'a;

impl RegisterTile {
    /// The tallest for so many rows.
    pub fn of_rows(tile: TileShape, rows: i64) -> Self {
        RegisterTile { tile, tall: if rows > i64::from(tile.rows) { 2 } else { 1 } }
    }

    fn side(self) -> i64 {
        i64::from(self.tile.rows)
    }

    pub fn rows(self) -> i64 {
        self.tall * self.side()
    }

    pub fn columns(self) -> i64 {
        2 * self.side()
    }

    pub fn depth(self) -> i64 {
        i64::from(self.tile.depth)
    }

    /// Group memory for so many rows of a left factor: `[tile of rows, step, row, element]`.
    pub fn left<'k>(self, k: &'k KernelBuilder, name: &str, rows: i64, inner: i64) -> Group<'k> {
        k.group(name, self.tile.input, &[rows / self.side(), inner / self.depth(), self.side(), self.depth()])
    }

    /// An element of a row of such memory.
    pub fn in_left<'k>(self, memory: Group<'k>, row: Ix<'k>, step: Ix<'k>, element: Ix<'k>) -> PlaceRef<'k> {
        memory.at([row.div(self.side()), step, row.rem(self.side()), element])
    }

    /// Accumulators: zero, or what memory has.
    pub fn accumulators<'k>(self, k: &'k KernelBuilder, from: Option<&At<'_, 'k>>) -> Reg<'k> {
        let n = self.tile.rows;
        let ty = Type::Tile { dtype: DType::F32, rows: n, columns: n, role: TileRole::C };
        let zero = from.is_none().then(|| k.constant(0.0, DType::F32).fill(ty));
        let acc = k.reg("acc", ty, &[self.tall as u32, 2], zero);
        if let Some(from) = from {
            self.each(k, |i, j, row, column| {
                acc.set([i, k.int(j)], from(row, column).tile(n, n).load_tile(TileRole::C, TileOrder::Rows));
            });
        }
        acc
    }

    /// Adds `len` inner elements, from a step of register tile `t` of a left factor on. `right` is where the columns' pairs
    /// of a step are, and an element of their row; `meanwhile` is called for each step.
    pub fn multiply<'k>(
        self,
        k: &'k KernelBuilder,
        acc: Reg<'k>,
        (left, t, first): (Group<'k>, Ix<'k>, Ix<'k>),
        right: &At<'_, 'k>,
        len: i64,
        meanwhile: &dyn Fn(Ix<'k>),
    ) {
        let n = self.tile.rows;
        k.for_("k", k.int(0), k.int(len / self.depth()), 1, false, |c| {
            meanwhile(c);
            let columns: Vec<_> = (0..2)
                .map(|j| {
                    let place = right(c * (self.depth() / PAIR), j * self.side() * PAIR);
                    let b = place.tile(self.tile.depth / PAIR as u8, n * PAIR as u8);
                    k.let_(&format!("b{j}"), b.load_tile(TileRole::B, TileOrder::Interleaved(PAIR as u8)))
                })
                .collect();
            k.for_("i", k.int(0), k.int(self.tall), 1, true, |i| {
                let place = left.at([t * self.tall + i, first + c, k.int(0), k.int(0)]);
                let a = k.let_("a", place.tile(n, self.tile.depth).load_tile(TileRole::A, TileOrder::Rows));
                for (j, b) in columns.iter().enumerate() {
                    let j = k.int(j as i64);
                    acc.set([i, j], a.mma(*b, acc.get([i, j])));
                }
            });
        });
    }

    /// Stores the accumulators.
    pub fn store<'k>(self, k: &'k KernelBuilder, acc: Reg<'k>, to: &At<'_, 'k>) {
        let n = self.tile.rows;
        self.each(k, |i, j, row, column| to(row, column).tile(n, n).store(acc.get([i, k.int(j)])));
    }

    /// Calls with the numbers of each tile, its first row and column.
    fn each<'k>(self, k: &'k KernelBuilder, each: impl Fn(Ix<'k>, i64, Ix<'k>, i64)) {
        k.for_("i", k.int(0), k.int(self.tall), 1, true, |i| {
            for j in 0..2 {
                each(i, j, i * self.side(), j * self.side());
            }
        });
    }
}
