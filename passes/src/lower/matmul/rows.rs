//! The left factor in the order a register tile reads it.

use crate::lower::coord::Coord;
use crate::lower::elementwise::compute;
use crate::lower::emit::{Emitter, Lowered};
use crate::lower::tiles::RegisterTile;
use crate::lower::transpose::transpose;
use mlxc_ir::graph::ValueId;
use mlxc_ir::kernel::{Group, Ix, KernelBuilder, Reg, Type, Val};
use mlxc_ir::{DType, Range, Size, TargetProfile};

/// Rows of a task at most: what is read of the weight serves all of them.
pub(super) const BLOCK: i64 = 128;
/// Inner elements packed at a time at most, and what their number is a multiple of.
const CHUNK: i64 = 512;
const CHUNK_UNIT: i64 = 64;

/// Extents of a product and of its tiles.
pub(super) struct Shape {
    pub rows: Size,
    pub k: i64,
    pub dtype: DType,
    /// Rows of a register tile.
    pub mr: i64,
    /// Tiles of a task.
    pub tiles: i64,
    /// f32 lanes.
    pub lanes: i64,
    /// Elements of one dot-product step along the inner axis.
    pub pair: i64,
    /// Inner extent that is packed at a time.
    pub chunk: i64,
    /// Inner elements from one of a step to the next; 1 for neighbours.
    pub apart: i64,
    /// 8-bit digits that an input is written in, four inputs to a step; 0 for floats.
    pub digits: i64,
    /// The matrix tile that register tiles are made of, if they are.
    pub tile: Option<RegisterTile>,
}

impl Shape {
    /// True for a product of a single row.
    pub fn is_one_row(&self) -> bool {
        self.rows.as_const() == Some(1)
    }

    /// The shape with so many tiles a task, or as many as there are.
    pub fn with_tiles(self, e: &Emitter<'_, '_>, tiles: i64) -> Self {
        let most = (e.size_max(&self.rows) as i64 + self.mr - 1) / self.mr;
        Shape { tiles: tiles.min(most).max(1), ..self }
    }

    /// Rows of a task.
    pub fn rows_block(&self) -> i64 {
        self.mr * self.tiles
    }

    /// dtype of packed elements: those of a step share a word.
    fn packed_dtype(&self) -> DType {
        if self.pair == 1 { compute(self.dtype) } else { DType::U32 }
    }

    /// Inner elements of one step of a register tile.
    pub fn depth(&self) -> i64 {
        self.tile.map_or(self.pair, |t| t.depth())
    }

    /// Steps along the inner axis of `len` elements.
    pub fn steps(&self, len: i64) -> i64 {
        (len + self.pair - 1) / self.pair
    }

    /// A row of the product, the last one for rows past the end.
    pub fn within<'k>(&self, e: &mut Emitter<'k, '_>, row: Coord) -> Lowered<Coord> {
        if self.rows.as_const().is_some_and(|m| m % self.rows_block() == 0) {
            return Ok(row);
        }
        let most = e.size_max(&self.rows) as i64;
        let (at, rows) = (e.ix(&row), e.size(&self.rows)?);
        Ok(e.index(at.min(rows - 1), Range::new(0, (most - 1).max(0)), 1))
    }

    /// Group memory for the packed rows: `[tile, step, row]`, a tile for each digit, or whole matrix tiles `[tile of rows, step, row, element]`.
    pub fn memory<'k>(&self, e: &Emitter<'k, '_>) -> Group<'k> {
        if let Some(t) = self.tile {
            return t.left(e.k, "rows", self.rows_block(), self.chunk);
        }
        e.k.group("rows", self.packed_dtype(), &[self.tiles * self.digits.max(1), self.steps(self.chunk), self.mr])
    }

    /// Tiles of block `q` that hold rows of the product.
    pub fn live_tiles<'k>(&self, e: &mut Emitter<'k, '_>, q: &Coord) -> Lowered<Ix<'k>> {
        let all = e.k.int(self.tiles);
        if self.tiles == 1 || self.rows.as_const().is_some_and(|m| m % self.rows_block() == 0) {
            return Ok(all);
        }
        let (first, rows) = (e.ix(&q.scale(self.rows_block())), e.size(&self.rows)?);
        let live = (rows - first).ceil_div(self.mr).min(all);
        Ok(e.k.let_index("live", live))
    }
}

/// The shape of a product with panels.
pub(super) fn shape(
    e: &Emitter<'_, '_>,
    profile: &TargetProfile,
    rows: Size,
    k: i64,
    dtype: DType,
    pair: i64,
) -> Shape {
    let most = e.size_max(&rows) as i64;
    let block = most.clamp(1, BLOCK);
    let (tiles, mr) = even(block, register_rows(profile, block));
    let bytes = mr * tiles * if pair == 2 { 2 } else { 4 };
    let room = (profile.limits.group_bytes as i64 / 2 / bytes / CHUNK_UNIT * CHUNK_UNIT).clamp(CHUNK_UNIT, CHUNK);
    // One row is read where it is packed.
    let chunk = if most == 1 || k <= room { k } else { room };
    Shape { rows, k, dtype, mr, tiles, lanes: i64::from(e.width), pair, chunk, apart: 1, digits: 0, tile: None }
}

/// Tiles of a block of rows, of at most so many each, and their rows: together they hold the block and little else.
pub(super) fn even(block: i64, tallest: i64) -> (i64, i64) {
    let block = block.max(1);
    let tiles = (block + tallest - 1) / tallest;
    (tiles, (block + tiles - 1) / tiles)
}

/// Rows of a register tile two vectors wide: accumulators, two vectors of columns and a broadcast fill the register file.
pub(super) fn register_rows(profile: &TargetProfile, most: i64) -> i64 {
    ((i64::from(profile.registers) - 3) / 2).min(14).min(most.max(1))
}

/// Sets the segments of group memory to zero.
pub(super) fn clear<'k>(k: &'k KernelBuilder, s: &Shape, staged: Group<'k>, segments: i64, width: i64) {
    let lanes = s.lanes as u8;
    k.for_("segment", k.int(0), k.int(segments), 1, false, |segment| {
        k.for_("r", k.int(0), k.int(s.rows_block()), 1, false, |r| {
            k.for_("c", k.int(0), k.int(width), s.lanes, false, |c| {
                staged.at([segment, r, c]).vec(lanes).store(k.constant(0.0, compute(s.dtype)).splat(lanes));
            });
        });
    });
}

/// Calls for each stretch of the inner axis that is packed at a time, with its start and length.
pub(super) fn chunks<'k, 'f>(
    e: &mut Emitter<'k, 'f>,
    s: &Shape,
    mut each: impl FnMut(&mut Emitter<'k, 'f>, &Coord, i64) -> Lowered<()>,
) -> Lowered<()> {
    let full = s.k / s.chunk;
    let hi = e.k.int(full);
    e.each("chunk", hi, Range::new(0, full - 1), 1, false, |e, i| each(e, &i.scale(s.chunk), s.chunk))?;
    if s.k % s.chunk != 0 {
        let base = Coord::constant(full * s.chunk);
        e.scoped(1.0, |e| each(e, &base, s.k % s.chunk))?;
    }
    Ok(())
}

/// Sums of the packed values over groups of so many, `[group, row]`.
#[derive(Clone, Copy)]
pub(super) struct Sums<'k> {
    pub memory: Group<'k>,
    pub group: i64,
}

/// Adds one step of the inner axis to a register tile: the packed rows of tile `t`, each times two vectors of columns.
pub(super) fn accumulate<'k>(
    k: &'k KernelBuilder,
    s: &Shape,
    acc: Reg<'k>,
    memory: Group<'k>,
    (t, step): (Ix<'k>, Ix<'k>),
    columns: [Val<'k>; 2],
) {
    let lanes = s.lanes as u8;
    k.for_("i", k.int(0), k.int(s.mr), 1, true, |i| {
        let a = memory.at([t, step, i]).load().splat(lanes);
        let a = k.let_(
            "a",
            match s.pair {
                1 => a,
                2 => a.bits(Type::vector(DType::BF16, 2 * lanes)),
                _ => a.bits(Type::vector(DType::I8, 4 * lanes)),
            },
        );
        for (j, b) in columns.iter().enumerate() {
            let j = k.int(j as i64);
            let sum = acc.get([i, j]);
            acc.set(
                [i, j],
                match s.pair {
                    1 => a.mad(*b, sum),
                    2 => sum.dot2(a, *b),
                    _ => sum.dot4(*b, a),
                },
            );
        }
    });
}

/// Packs `len` inner elements from `base` on, of the `live` tiles of block `q`, into memory.
pub(super) fn pack<'k>(
    e: &mut Emitter<'k, '_>,
    a: ValueId,
    s: &Shape,
    (q, live): (&Coord, Ix<'k>),
    memory: Group<'k>,
    (base, len): (&Coord, i64),
    sums: Option<Sums<'k>>,
) -> Lowered<()> {
    if s.tile.is_none() && s.pair == 1 && s.mr > 1 && sums.is_none() {
        return pack_turned(e, a, s, (q, live), memory, (base, len));
    }
    let mr = e.k.int(s.mr);
    e.each("t", live, Range::new(0, s.tiles - 1), 1, false, |e, t| {
        e.each("i", mr, Range::new(0, s.mr - 1), 1, false, |e, i| {
            let local = t.scale(s.mr).plus(&i, 1);
            let row = q.scale(s.rows_block()).plus(&local, 1);
            let at = [e.ix(&t), e.ix(&i)];
            let place = e.ix(&local);
            let row_loop = |e: &mut Emitter<'k, '_>| {
                let Some(sums) = sums else {
                    return stretch(e, a, s, &row, (memory, at), base, &Coord::constant(0), len, &mut |_, _| {});
                };
                let groups = len / sums.group;
                let hi = e.k.int(groups);
                e.each("h", hi, Range::new(0, groups - 1), 1, false, |e, h| {
                    let zero = e.k.constant(0.0, DType::F32).splat(e.width);
                    let total = e.k.var("sum", zero);
                    stretch(e, a, s, &row, (memory, at), base, &h.scale(sums.group), sums.group, &mut |_, x| {
                        total.set(total.get() + x);
                    })?;
                    let h = e.ix(&h);
                    sums.memory.at([h, place]).store(total.get().hsum());
                    Ok(())
                })
            };
            if s.rows.as_const().is_some_and(|m| m % s.rows_block() == 0) {
                return row_loop(e);
            }
            // Rows past the end are zero: their products are computed and not stored.
            let (m, hi) = (e.ix(&row), e.size(&s.rows)?);
            let mut result = Ok(());
            let k = e.k;
            k.if_else(
                m.lt(hi),
                || result = e.scoped(1.0, row_loop),
                || {
                    let zero = if s.tile.is_some() {
                        k.constant(0.0, s.dtype).splat(s.lanes as u8)
                    } else if s.pair == 2 {
                        k.int_constant(0, DType::U32)
                    } else {
                        k.constant(0.0, compute(s.dtype))
                    };
                    match s.tile {
                        Some(t) => k.for_("k", k.int(0), k.int(len / t.depth()), 1, false, |c| {
                            for l in (0..t.depth()).step_by(s.lanes as usize) {
                                let row = at[0] * s.mr + at[1];
                                t.in_left(memory, row, c, k.int(l)).vec(s.lanes as u8).store(zero);
                            }
                        }),
                        None => k.for_("k", k.int(0), k.int(s.steps(len)), 1, false, |c| {
                            memory.at([at[0], c, at[1]]).store(zero);
                        }),
                    }
                    if let Some(sums) = sums {
                        k.for_("h", k.int(0), k.int(len / sums.group), 1, false, |h| {
                            sums.memory.at([h, place]).store(k.constant(0.0, DType::F32));
                        });
                    }
                },
            );
            result
        })
    })
}

/// Packs as many rows at a time as a vector has lanes, turned. Rows past the end repeat the last one: their products are
/// computed and not stored.
fn pack_turned<'k>(
    e: &mut Emitter<'k, '_>,
    a: ValueId,
    s: &Shape,
    (q, live): (&Coord, Ix<'k>),
    memory: Group<'k>,
    (base, len): (&Coord, i64),
) -> Lowered<()> {
    let k = e.k;
    let (w, width) = (s.lanes, e.width);
    let dtype = compute(s.dtype);
    let several = k.group("several", dtype, &[w, w]);
    e.each("t", live, Range::new(0, s.tiles - 1), 1, false, |e, t| {
        e.vector_loop("k", &Size::constant(len), &mut |e, c, full| {
            let column = base.plus(&c, 1);
            let step = e.base(std::slice::from_ref(&c))[0].clone();
            let step = e.ix(&step);
            for first in (0..s.mr).step_by(w as usize) {
                let count = w.min(s.mr - first);
                let hi = k.int(count);
                e.each("i", hi, Range::new(0, count - 1), 1, false, |e, i| {
                    let row = q.scale(s.rows_block()).plus(&t, s.mr).plus(&i.offset(first), 1);
                    let row = s.within(e, row)?;
                    let value = e.emit(a, &[row, column.clone()])?;
                    let value = if value.ty().lanes() == 1 { value.splat(width) } else { value };
                    let i = e.ix(&i);
                    several.at([i, k.int(0)]).vec(width).store(value);
                    Ok(())
                })?;
                let turned = k.reg("turned", Type::vector(dtype, width), &[w as u32], None);
                k.for_("i", k.int(0), k.int(w), 1, true, |i| {
                    // Lanes past the tile's rows are not stored.
                    turned.set([i], several.at([i.min(k.int(count - 1)), k.int(0)]).vec(width).load());
                });
                transpose(k, turned, w);
                let steps = if full { w } else { len % w };
                let t = e.ix(&t);
                k.for_("i", k.int(0), k.int(steps), 1, true, |i| {
                    let place = memory.at([t, step + i, k.int(first)]);
                    let place = if count == w { place.vec(width) } else { place.first(width, k.int(count)) };
                    place.store(turned.get([i]));
                });
            }
            Ok(())
        })
    })
}

/// Packs one row's elements `base + first ..` in vectors; `see` gets each as it was rounded.
fn stretch<'k>(
    e: &mut Emitter<'k, '_>,
    a: ValueId,
    s: &Shape,
    row: &Coord,
    (memory, at): (Group<'k>, [Ix<'k>; 2]),
    base: &Coord,
    first: &Coord,
    len: i64,
    see: &mut dyn FnMut(&mut Emitter<'k, '_>, Val<'k>),
) -> Lowered<()> {
    e.vector_loop("k", &Size::constant(len), &mut |e, c, full| {
        let value = e.emit(a, &[row.clone(), base.plus(first, 1).plus(&c, 1)])?;
        let value = if value.ty().lanes() == 1 { value.splat(e.width) } else { value };
        let value = if s.pair == 2 { e.k.let_("x", value.cast(DType::BF16)) } else { value };
        see(e, if s.pair == 2 { value.cast(DType::F32) } else { value });
        let local = e.base(&[first.plus(&c, 1)])[0].clone();
        let tail = if full { None } else { Some(len % s.lanes) };
        scatter(e, memory, at, &local, value, s, tail);
        Ok(())
    })
}

/// Stores a vector of one row down the packed columns, or into its matrix tile.
fn scatter<'k>(
    e: &mut Emitter<'k, '_>,
    memory: Group<'k>,
    at: [Ix<'k>; 2],
    base: &Coord,
    value: Val<'k>,
    s: &Shape,
    tail: Option<i64>,
) {
    let k = e.k;
    if let Some(t) = s.tile {
        let value = match s.apart {
            1 => value,
            // Within blocks of twice the distance, the first half's elements take turns with the second's.
            a => value.shuffle(s.lanes as u8, |l| l.div(2 * a) * (2 * a) + l.rem(2) * a + l.rem(2 * a).div(2)),
        };
        let (step, element) = e.space.div_rem(base, t.depth());
        let (step, element) = (e.ix(&step), e.ix(&element));
        let row = at[0] * s.mr + at[1];
        return t.in_left(memory, row, step, element).vec(s.lanes as u8).store(value);
    }
    let (value, count) = if s.pair == 2 {
        (value.bits(Type::vector(DType::U32, (s.lanes / 2) as u8)), s.lanes / 2)
    } else {
        (value, s.lanes)
    };
    let value = k.let_("row", value);
    let live = tail.map_or(count, |n| (n + s.pair - 1) / s.pair);
    let (first, _) = e.space.div_rem(base, s.pair);
    let first = e.ix(&first);
    k.for_("l", k.int(0), k.int(live), 1, true, |l| {
        memory.at([at[0], first + l, at[1]]).store(value.extract(l));
    });
}
