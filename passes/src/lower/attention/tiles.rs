//! Attention of many queries in the target's own matrix tiles.
//!
//! Queries, and a chunk's keys and values, are packed as tiles read them. Scores are kept in f32; the weights multiply
//! as two bf16 numbers each, what rounding takes from the first being the second, so that they keep 16 bits.

use super::{Memory, Plan, Task, hide};
use crate::lower::coord::Coord;
use crate::lower::emit::{Emitter, Lowered};
use crate::lower::tiles::{PAIR, RegisterTile, native};
use crate::lower::transpose::transpose;
use mlxc_ir::graph::{Function, ValueId};
use mlxc_ir::kernel::{Group, Ix, KernelBuilder, Type, Val};
use mlxc_ir::{DType, Layout, Range};

/// Query rows of a task: keys and values are packed once for all of them.
const ROWS: i64 = 64;
/// Most rows of a task, where query heads that share keys make more than [`ROWS`].
const MOST_ROWS: i64 = 128;

/// Queries of a task and the register tile, if the attention of `values` (queries, keys, values) fits tiles.
pub(super) fn plan(
    f: &Function,
    e: &Emitter<'_, '_>,
    values: [ValueId; 3],
    group: i64,
    queries: i64,
) -> Option<(i64, RegisterTile)> {
    let dtype = f.ty(values[0]).dtype;
    let extent = |v: ValueId| f.ty(v).shape[3].as_const();
    let (d, dv) = (extent(values[0])?, extent(values[2])?);
    let tile = native(e.target.profile, dtype, d).and_then(|t| native(e.target.profile, dtype, dv).map(|_| t))?;
    let lanes = i64::from(e.width);
    let side = i64::from(tile.rows);
    if lanes != side || values.iter().any(|v| f.ty(*v).dtype != dtype) || queries * group < side {
        return None;
    }
    let tile = RegisterTile::of_rows(tile, queries * group);
    // As few queries as fill register tiles, or as many as fill a task.
    let few = tile.rows() / gcd(group, tile.rows());
    let block = few * (ROWS / (group * few)).max(1);
    (group * block <= MOST_ROWS).then_some((block, tile))
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Group memory beside scores and output.
#[derive(Clone, Copy)]
pub(super) struct Tiled<'k> {
    pub tile: RegisterTile,
    pub query: Group<'k>,
    /// Pairs of elements of a chunk's keys, `[pair, 2 * key]`.
    keys: Group<'k>,
    /// Pairs of a chunk's values, `[pair of keys, 2 * element]`.
    values: Group<'k>,
    /// Weights, and what rounding took from them.
    high: Group<'k>,
    low: Group<'k>,
}

impl<'k> Tiled<'k> {
    pub fn new(k: &'k KernelBuilder, p: &Plan, tile: RegisterTile) -> Self {
        let dtype = tile.tile.input;
        Tiled {
            tile,
            query: tile.left(k, "query", p.rows, p.d),
            keys: k.group("keys", dtype, &[p.d / PAIR, PAIR * p.chunk]),
            values: k.group("values", dtype, &[p.chunk / PAIR, PAIR * p.dv]),
            high: tile.left(k, "high", p.rows, p.chunk),
            low: tile.left(k, "low", p.rows, p.chunk),
        }
    }

    /// Stores a vector of a query, of elements from `d` on.
    pub fn put_query(&self, row: Ix<'k>, d: Ix<'k>, x: Val<'k>) {
        let place = self.tile.in_left(self.query, row, d.div(self.tile.depth()), d.rem(self.tile.depth()));
        place.vec(x.ty().lanes()).store(x.cast(self.tile.tile.input));
    }

    /// Adds one chunk to the output.
    pub fn chunk(
        &self,
        e: &mut Emitter<'k, '_>,
        p: &Plan,
        m: &Memory<'k>,
        task: &Task<'k>,
        base: &Coord,
        here: Ix<'k>,
    ) -> Lowered<()> {
        let k = e.k;
        let depth = self.tile.depth();
        // Whole tiles of keys: what is past the last one repeats it, and gets no weight.
        let wide = k.let_index("wide", here.ceil_div(depth));
        self.pack_keys(e, p, task, base, here, wide)?;
        let tiles = k.int(p.rows / self.tile.rows());
        k.for_("t", k.int(0), tiles, 1, false, |t| {
            k.for_("j", k.int(0), wide, 1, false, |j| {
                let acc = self.tile.accumulators(k, None);
                let right = |step: Ix<'k>, element: i64| self.keys.at([step, j * (PAIR * depth) + element]);
                self.tile.multiply(k, acc, (self.query, t, k.int(0)), &right, p.d, &|_| {});
                let to = |row: Ix<'k>, column: i64| m.scores.at([t * self.tile.rows() + row, j * depth + column]);
                self.tile.store(k, acc, &to);
            });
        });
        self.softmax(e, p, m, task, base, wide)?;
        self.pack_values(e, p, task, base, here, wide)?;
        k.for_("t", k.int(0), tiles, 1, false, |t| {
            k.for_("c", k.int(0), k.int(p.dv / self.tile.columns()), 1, false, |c| {
                let to = |row: Ix<'k>, column: i64| {
                    m.output.at([t * self.tile.rows() + row, c * self.tile.columns() + column])
                };
                let acc = self.tile.accumulators(k, Some(&to));
                k.for_("step", k.int(0), wide, 1, false, |step| {
                    let first = step * (depth / PAIR);
                    let right = |pair: Ix<'k>, element: i64| {
                        self.values.at([first + pair, c * (PAIR * self.tile.columns()) + element])
                    };
                    for weights in [self.high, self.low] {
                        self.tile.multiply(k, acc, (weights, t, step), &right, depth, &|_| {});
                    }
                });
                self.tile.store(k, acc, &to);
            });
        });
        // Two products of each weight.
        let products = 2.0 * (p.rows * p.chunk) as f64 * (p.d + 2 * p.dv) as f64;
        e.work.tile_flops += products * e.trips;
        Ok(())
    }

    /// Packs pairs of elements of the chunk's keys.
    fn pack_keys(
        &self,
        e: &mut Emitter<'k, '_>,
        p: &Plan,
        task: &Task<'k>,
        base: &Coord,
        here: Ix<'k>,
        wide: Ix<'k>,
    ) -> Lowered<()> {
        let k = e.k;
        let lanes = i64::from(e.width);
        let word = Type::vector(DType::U32, e.width);
        let pairs = Type::vector(self.tile.tile.input, 2 * e.width);
        let most = p.chunk / lanes;
        let panels = matches!(e.layout(e.home(p.k)), Layout::Blocked { .. });
        let vectors = wide * (self.tile.depth() / lanes);
        let load = |e: &mut Emitter<'k, '_>, key: Coord, d: Coord| -> Lowered<Val<'k>> {
            let x = e.emit(p.k, &[task.batch.clone(), task.head.clone(), key, d])?;
            Ok(if x.ty().lanes() == 1 { x.splat(e.width) } else { x })
        };
        e.each("j", vectors, Range::new(0, most - 1), 1, false, |e, j| {
            let column = e.ix(&j.scale(PAIR * lanes));
            if panels {
                // A panel has vectors of keys.
                let last = here.ceil_div(lanes) - 1;
                let panel = e.ix(&j).min(last);
                let keys = base.plus(&e.index(panel, Range::new(0, most - 1), 1), lanes).plus(&e.lane(), 1);
                return e.each("i", k.int(p.d / PAIR), Range::new(0, p.d / PAIR - 1), 1, false, |e, i| {
                    let even = load(e, keys.clone(), i.scale(PAIR))?;
                    let odd = load(e, keys.clone(), i.scale(PAIR).offset(1))?;
                    let at = [e.ix(&i), column];
                    self.keys.at(at).vec(pairs.lanes()).store(pair(k, even, odd).bits(pairs));
                    Ok(())
                });
            }
            // Pairs of a key lie together: sixteen of as many keys, turned.
            let step = PAIR * lanes;
            e.each("i", k.int(p.d / step), Range::new(0, p.d / step - 1), 1, false, |e, i| {
                let words = k.reg("words", word, &[lanes as u32], None);
                let mut result = Ok(());
                k.for_("l", k.int(0), k.int(lanes), 1, true, |l| {
                    let key = (e.ix(&j.scale(lanes)) + l).min(here - 1);
                    let key = base.plus(&e.index(key, Range::new(0, p.chunk - 1), 1), 1);
                    let mut half = |n: i64| {
                        let d = i.scale(step).offset(n * lanes).plus(&e.lane(), 1);
                        load(e, key.clone(), d).map(|x| x.cast(self.tile.tile.input))
                    };
                    match half(0).and_then(|low| Ok((low, half(1)?))) {
                        Ok((low, high)) => words.set([l], k.vector(&[low, high]).bits(word)),
                        Err(r) => result = Err(r),
                    }
                });
                result?;
                transpose(k, words, lanes);
                let first = e.ix(&i.scale(lanes));
                k.for_("l", k.int(0), k.int(lanes), 1, true, |l| {
                    self.keys.at([first + l, column]).vec(pairs.lanes()).store(words.get([l]).bits(pairs));
                });
                Ok(())
            })
        })
    }

    /// Packs pairs of the chunk's values.
    fn pack_values(
        &self,
        e: &mut Emitter<'k, '_>,
        p: &Plan,
        task: &Task<'k>,
        base: &Coord,
        here: Ix<'k>,
        wide: Ix<'k>,
    ) -> Lowered<()> {
        let k = e.k;
        let lanes = i64::from(e.width);
        let pairs = Type::vector(self.tile.tile.input, 2 * e.width);
        let most = p.chunk / PAIR;
        e.each("j", wide * (self.tile.depth() / PAIR), Range::new(0, most - 1), 1, false, |e, j| {
            let keys: Vec<Coord> = (0..PAIR)
                .map(|n| {
                    let key = (e.ix(&j.scale(PAIR)) + n).min(here - 1);
                    base.plus(&e.index(key, Range::new(0, p.chunk - 1), 1), 1)
                })
                .collect();
            e.each("d", k.int(p.dv / lanes), Range::new(0, p.dv / lanes - 1), 1, false, |e, d| {
                let mut of = |key: &Coord| {
                    let at = [task.batch.clone(), task.head.clone(), key.clone(), d.scale(lanes).plus(&e.lane(), 1)];
                    let x = e.emit(p.v, &at)?;
                    Ok(if x.ty().lanes() == 1 { x.splat(e.width) } else { x })
                };
                let value = pair(k, of(&keys[0])?, of(&keys[1])?);
                let at = [e.ix(&j), e.ix(&d.scale(PAIR * lanes))];
                self.values.at(at).vec(pairs.lanes()).store(value.bits(pairs));
                Ok(())
            })
        })
    }

    /// Hides keys, turns scores into weights and rescales what was summed before.
    fn softmax(
        &self,
        e: &mut Emitter<'k, '_>,
        p: &Plan,
        m: &Memory<'k>,
        task: &Task<'k>,
        base: &Coord,
        wide: Ix<'k>,
    ) -> Lowered<()> {
        let k = e.k;
        let width = e.width;
        let lanes = i64::from(width);
        let vectors = wide * (self.tile.depth() / lanes);
        let most = p.chunk / lanes;
        let narrow = self.tile.tile.input;
        e.each("r", k.int(p.rows), Range::new(0, p.rows - 1), 1, false, |e, row| {
            let r = e.ix(&row);
            let old = k.let_("old", m.most.at([r]).load());
            let peak = k.var("peak", old.splat(width));
            e.each("j", vectors, Range::new(0, most - 1), 1, false, |e, j| {
                let at = [r, e.ix(&j.scale(lanes))];
                let raw = k.let_("raw", m.scores.at(at).vec(width).load() * p.scale);
                let first = base.plus(&j, lanes);
                let number =
                    e.ix(&first).to_val(DType::I32).splat(width) + k.table(Type::vector(DType::I32, width), |l| l);
                let keys = first.plus(&e.lane(), 1);
                let score = hide(e, p, task, &row, &keys, number, raw)?;
                let score = k.let_("score", score);
                m.scores.at(at).vec(width).store(score);
                peak.set(score.max(peak.get()));
                Ok(())
            })?;
            let new = k.let_("new", peak.get().hmax());
            let total = k.var("total", k.constant(0.0, p.acc).splat(width));
            k.for_("j", k.int(0), vectors, 1, false, |j| {
                let score = m.scores.at([r, j * lanes]).vec(width).load();
                let weight = k.let_("weight", (score - new.splat(width)).exp());
                total.set(total.get() + weight);
                let high = k.let_("high_part", weight.cast(narrow));
                let (step, element) = ((j * lanes).div(self.tile.depth()), (j * lanes).rem(self.tile.depth()));
                self.tile.in_left(self.high, r, step, element).vec(width).store(high);
                let low = (weight - high.cast(p.acc)).cast(narrow);
                self.tile.in_left(self.low, r, step, element).vec(width).store(low);
            });
            e.work.flops += 26.0 * p.chunk as f64 * e.trips;
            let shrink = k.let_("shrink", (old - new).exp());
            let sum = k.let_("sum_new", m.sum.at([r]).load() * shrink + total.get().hsum());
            m.sum.at([r]).store(sum);
            m.most.at([r]).store(new);
            k.for_("d", k.int(0), k.int(p.dv / lanes), 1, false, |d| {
                let place = || m.output.at([r, d * lanes]).vec(width);
                place().store(place().load() * shrink.splat(width));
            });
            Ok(())
        })
    }
}

/// Two vectors of bf16 numbers in f32 as words of pairs: a bf16 is the upper half of an f32.
fn pair<'k>(k: &'k KernelBuilder, even: Val<'k>, odd: Val<'k>) -> Val<'k> {
    let word = Type::vector(DType::U32, even.ty().lanes());
    let constant = |v: i64| k.int_constant(v, DType::U32).splat(word.lanes());
    (even.bits(word) >> constant(16)) | (odd.bits(word) & constant(0xffff_0000))
}
