//! Many rows: packed stretches of both factors, multiplied by lanes or matrix units.

use super::pack::Side;
use super::{How, MATRIX, Plan, Product, TEAM, TILE};
use crate::lower::coord::Coord;
use crate::lower::emit::{Emitter, Lowered};
use mlxc_ir::kernel::{BarrierScope, Builtin, Group, Ix, KernelBuilder, Reg, TileOrder, TileRole, Type};
use mlxc_ir::{DType, Range};

/// Group memory for stretches of both factors, the same for every part of the columns.
#[derive(Clone, Copy)]
pub(super) struct Packed<'k> {
    left: Group<'k>,
    right: Group<'k>,
    left_major: bool,
    right_major: bool,
}

impl<'k> Packed<'k> {
    pub(super) fn new(k: &'k KernelBuilder, p: &Plan, transpose_a: bool, transpose_b: bool) -> Option<Self> {
        let (left_major, right_major) = match p.how {
            How::Row => return None,
            How::Registers => (false, false),
            // Memory as the factor has it, so that packing stores vectors.
            How::Matrix => (!transpose_a, transpose_b),
        };
        let shape = |major: bool, n: i64| if major { [n, p.depth] } else { [p.depth, n] };
        Some(Packed {
            left: k.group("left", DType::F32, &shape(left_major, p.rows)),
            right: k.group("right", DType::F32, &shape(right_major, p.segments * p.width)),
            left_major,
            right_major,
        })
    }
}

/// Packed memory and where results are kept.
struct Tiles<'k> {
    left: Group<'k>,
    right: Group<'k>,
    /// Right columns stand first in their memory.
    right_major: bool,
    left_major: bool,
    acc: Reg<'k>,
    /// First row and column of a lane's or subgroup's results.
    row: Ix<'k>,
    column: Ix<'k>,
}

impl<'k> Product<'_, 'k> {
    /// The products of a block of rows with the columns of each segment, left in group memory.
    pub(super) fn tiles(&self, e: &mut Emitter<'k, '_>, from: &[Coord]) -> Lowered<()> {
        let k = e.k;
        let p = self.plan;
        let t = self.memory(e);
        let hi = e.size(&self.inner)?;
        let most = e.size_max(&self.inner) as i64;
        let range = Range::new(0, (most - 1).max(0) / p.depth * p.depth);
        e.each("k", hi, range, p.depth, false, |e, at| {
            let left = Side {
                value: self.a,
                first: &self.row,
                count: p.rows,
                extent: &self.rows,
                inner_last: !self.transpose_a,
                memory: t.left,
                major_first: t.left_major,
                offset: 0,
            };
            self.pack(e, &left, &at)?;
            for (segment, first) in from.iter().enumerate() {
                let right = Side {
                    value: self.b,
                    first,
                    count: p.width,
                    extent: &self.columns,
                    inner_last: self.transpose_b,
                    memory: t.right,
                    major_first: t.right_major,
                    offset: segment as i64 * p.width,
                };
                self.pack(e, &right, &at)?;
            }
            k.barrier(BarrierScope::Group);
            match p.how {
                How::Matrix => self.add_matrices(e, &t),
                _ => self.add_registers(e, &t),
            }
            k.barrier(BarrierScope::Group);
            Ok(())
        })?;
        match p.how {
            How::Matrix => self.store_matrices(e, &t),
            _ => self.store_registers(e, &t),
        }
        Ok(())
    }

    fn memory(&self, e: &Emitter<'k, '_>) -> Tiles<'k> {
        let k = e.k;
        let p = self.plan;
        let across = p.segments * p.width;
        let zero = k.constant(0.0, DType::F32);
        let Packed { left, right, left_major, right_major } = self.packed.expect("tiles are packed");
        if p.how == How::Matrix {
            let tall = p.rows / 2 / MATRIX;
            let wide = across / 2 / MATRIX;
            let ty = Type::Tile { dtype: DType::F32, rows: MATRIX as u8, columns: MATRIX as u8, role: TileRole::C };
            let id = k.let_index("part", k.builtin(Builtin::SubgroupId));
            return Tiles {
                left,
                right,
                right_major,
                left_major,
                acc: k.reg("acc", ty, &[tall as u32, wide as u32], Some(zero.fill(ty))),
                row: k.let_index("row0", id.div(2) * (tall * MATRIX)),
                column: k.let_index("column0", id.rem(2) * (wide * MATRIX)),
            };
        }
        let lane = k.lane();
        Tiles {
            left,
            right,
            right_major,
            left_major,
            acc: k.reg("acc", Type::vector(DType::F32, TILE as u8), &[TILE as u32], Some(zero)),
            row: k.let_index("row0", lane.div(across / TILE) * TILE),
            column: k.let_index("column0", lane.rem(across / TILE) * TILE),
        }
    }

    /// Adds a packed stretch to four rows of four columns.
    fn add_registers(&self, e: &Emitter<'k, '_>, t: &Tiles<'k>) {
        let k = e.k;
        k.for_("d", k.int(0), k.int(self.plan.depth), 1, false, |d| {
            let a = k.let_("a", t.left.at([d, t.row]).vec(TILE as u8).load());
            let b = k.let_("b", t.right.at([d, t.column]).vec(TILE as u8).load());
            k.for_("i", k.int(0), k.int(TILE), 1, true, |i| {
                t.acc.set([i], a.extract(i).splat(TILE as u8).mad(b, t.acc.get([i])));
            });
        });
    }

    fn store_registers(&self, e: &Emitter<'k, '_>, t: &Tiles<'k>) {
        let k = e.k;
        let (segment, column) = (t.column.div(self.plan.width), t.column.rem(self.plan.width));
        k.for_("i", k.int(0), k.int(TILE), 1, true, |i| {
            let sums = e.rounded(t.acc.get([i]), self.dtype);
            self.staged.at([segment, t.row + i, column]).vec(TILE as u8).store(sums);
        });
    }

    /// Adds a packed stretch to a quarter of the block, in matrix tiles.
    fn add_matrices(&self, e: &Emitter<'k, '_>, t: &Tiles<'k>) {
        let k = e.k;
        let p = self.plan;
        let (tall, wide) = (p.rows / 2 / MATRIX, p.segments * p.width / 2 / MATRIX);
        let m = MATRIX as u8;
        k.for_("d", k.int(0), k.int(p.depth), MATRIX, false, |d| {
            k.for_("i", k.int(0), k.int(tall), 1, true, |i| {
                let row = t.row + i * MATRIX;
                let at = if t.left_major { [row, d] } else { [d, row] };
                let a = k.let_("a", t.left.at(at).tile(m, m).load_tile(TileRole::A, order(t.left_major)));
                k.for_("j", k.int(0), k.int(wide), 1, true, |j| {
                    let column = t.column + j * MATRIX;
                    let at = if t.right_major { [column, d] } else { [d, column] };
                    let b = t.right.at(at).tile(m, m).load_tile(TileRole::B, order(!t.right_major));
                    t.acc.set([i, j], a.mma(b, t.acc.get([i, j])));
                });
            });
        });
    }

    fn store_matrices(&self, e: &Emitter<'k, '_>, t: &Tiles<'k>) {
        let k = e.k;
        let p = self.plan;
        let (tall, wide) = (p.rows / 2 / MATRIX, p.segments * p.width / 2 / MATRIX);
        let m = MATRIX as u8;
        k.for_("i", k.int(0), k.int(tall), 1, true, |i| {
            k.for_("j", k.int(0), k.int(wide), 1, true, |j| {
                let column = t.column + j * MATRIX;
                let place = [column.div(p.width), t.row + i * MATRIX, column.rem(p.width)];
                self.staged.at(place).tile(m, m).store(t.acc.get([i, j]));
            });
        });
        debug_assert_eq!(p.lanes, 4 * TEAM, "four subgroups share a block");
    }
}

/// How packed memory holds a tile.
fn order(rows: bool) -> TileOrder {
    if rows { TileOrder::Rows } else { TileOrder::Columns }
}
