//! Several rows: a stretch of codes is unpacked into panels in group memory, which serve every tile of rows of the task.

use super::{Codes, digits};
use crate::lower::coord::Coord;
use crate::lower::dequantize::{decode, field, scale};
use crate::lower::emit::{Emitter, Lowered};
use crate::lower::matmul::rows::{self, Shape, Sums};
use crate::lower::tiles::RegisterTile;
use crate::lower::transpose::transpose;
use mlxc_ir::graph::ValueId;
use mlxc_ir::kernel::{Buf, Group, Ix, KernelBuilder, Type, Val};
use mlxc_ir::{DType, Range};

/// Groups whose products in matrix tiles wait for their scales together.
const WAITING: i64 = 4;

/// A block of rows and the group memory of its products.
pub(in crate::lower::matmul) struct Rows<'a, 'k> {
    a: ValueId,
    s: &'a Shape,
    q: &'a Coord,
    memory: Group<'k>,
    sums: Option<Sums<'k>>,
    /// `[step, half, lane]`, codes of a step sharing a word; of matrix tiles `[step, element of a pair of columns]`.
    codes: Group<'k>,
    /// f32 `[group, row, column]`: products of a few groups and one register tile, where matrix tiles make them.
    products: Option<(RegisterTile, Group<'k>)>,
    /// f32 `[group, half, lane]`.
    scales: Group<'k>,
    biases: Option<Group<'k>>,
    digits: Option<DigitScales<'k>>,
    live: Ix<'k>,
}

/// What the digits of the packed rows count.
struct DigitScales<'k> {
    /// f32 `[group, digit, row]`.
    scales: Group<'k>,
    /// A group's inputs, on their way into digits.
    inputs: Group<'k>,
}

impl<'k> Rows<'_, 'k> {
    /// Two vectors of unpacked columns at one step.
    fn columns(&self, k: &'k KernelBuilder, step: Ix<'k>, ty: Type) -> [Val<'k>; 2] {
        let load = |half: i64| self.codes.at([step, k.int(half), k.int(0)]).vec(self.s.lanes as u8).load().bits(ty);
        [k.let_("b0", load(0)), k.let_("b1", load(1))]
    }

    /// Scales and biases of a group, of one vector of columns.
    fn of_group(&self, k: &'k KernelBuilder, h: Ix<'k>, half: Ix<'k>) -> (Val<'k>, Option<Val<'k>>) {
        let load = |m: Group<'k>| m.at([h, half, k.int(0)]).vec(self.s.lanes as u8).load();
        (k.let_("scales", load(self.scales)), self.biases.map(|b| k.let_("biases", load(b))))
    }
}

impl<'k> Codes<'k> {
    /// Group memory for the products of block `q`.
    pub fn begin_rows<'a>(
        &self,
        e: &mut Emitter<'k, '_>,
        a: ValueId,
        s: &'a Shape,
        q: &'a Coord,
    ) -> Lowered<Rows<'a, 'k>> {
        let (k, w) = (e.k, s.lanes);
        let groups = s.chunk / self.group();
        let dtype = if s.pair == 1 { DType::F32 } else { DType::U32 };
        let per_group = |name: &str| k.group(name, DType::F32, &[groups, 2, w]);
        Ok(Rows {
            a,
            s,
            q,
            memory: s.memory(e),
            sums: self
                .biases
                .map(|_| Sums { memory: k.group("sums", DType::F32, &[groups, s.rows_block()]), group: self.group() }),
            codes: match s.tile {
                Some(t) => k.group("codes", t.tile.input, &[s.steps(s.chunk), 2 * s.pair * w]),
                None => k.group("codes", dtype, &[s.steps(s.chunk), 2, w]),
            },
            products: s.tile.map(|t| (t, k.group("products", DType::F32, &[WAITING, t.rows(), t.columns()]))),
            scales: per_group("scales"),
            biases: self.biases.map(|_| per_group("biases")),
            digits: (s.digits > 0).then(|| DigitScales {
                scales: k.group("x_scales", DType::F32, &[groups, s.digits, s.rows_block()]),
                inputs: k.group("inputs", DType::F32, &[self.group()]),
            }),
            live: s.live_tiles(e, q)?,
        })
    }

    /// Multiplies the rows with `width` columns from each of `from` on.
    pub fn multiply_rows(
        &self,
        e: &mut Emitter<'k, '_>,
        rows: &Rows<'_, 'k>,
        staged: Group<'k>,
        from: &[Coord],
        width: i64,
    ) -> Lowered<()> {
        rows::clear(e.k, rows.s, staged, from.len() as i64, width);
        rows::chunks(e, rows.s, |e, base, len| self.chunk(e, rows, staged, from, width, base, len))
    }

    /// Adds the products of one stretch of the inner axis.
    fn chunk(
        &self,
        e: &mut Emitter<'k, '_>,
        rows: &Rows<'_, 'k>,
        staged: Group<'k>,
        from: &[Coord],
        width: i64,
        base: &Coord,
        len: i64,
    ) -> Lowered<()> {
        let s = rows.s;
        match &rows.digits {
            Some(d) => self.split_rows(e, rows, d, base, len)?,
            None => rows::pack(e, rows.a, s, (rows.q, rows.live), rows.memory, (base, len), rows.sums)?,
        }
        let block = 2 * s.lanes;
        for (segment, from) in from.iter().enumerate() {
            let count = e.k.int(width / block);
            e.each("p", count, Range::new(0, width / block - 1), 1, false, |e, p| {
                self.unpack(e, rows, &from.plus(&p, block), base, len)?;
                let column = e.ix(&p.scale(block));
                let segment = segment as i64;
                match (rows.products, &rows.digits) {
                    (Some(tiles), _) => self.multiply_tiles(e, rows, tiles, staged, segment, column, len),
                    (None, Some(d)) => self.multiply_digits(e, rows, d, staged, segment, column, len),
                    (None, None) => self.multiply_panel(e, rows, staged, segment, column, len),
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Packs the rows in digits. Rows past the end repeat the last one: their products are computed and not stored.
    fn split_rows(
        &self,
        e: &mut Emitter<'k, '_>,
        rows: &Rows<'_, 'k>,
        d: &DigitScales<'k>,
        base: &Coord,
        len: i64,
    ) -> Lowered<()> {
        let (k, s, group) = (e.k, rows.s, self.group());
        let (mr, groups) = (k.int(s.mr), len / group);
        e.each("t", rows.live, Range::new(0, s.tiles - 1), 1, false, |e, t| {
            e.each("i", mr, Range::new(0, s.mr - 1), 1, false, |e, i| {
                let local = t.scale(s.mr).plus(&i, 1);
                let row = s.within(e, rows.q.scale(s.rows_block()).plus(&local, 1))?;
                let (t, i, place) = (e.ix(&t), e.ix(&i), e.ix(&local));
                let hi = k.int(groups);
                e.each("h", hi, Range::new(0, groups - 1), 1, false, |e, h| {
                    let from = base.plus(&h, group);
                    let first = e.ix(&h) * (group / 4);
                    let words = s.lanes / (4 * s.apart);
                    let row = std::slice::from_ref(&row);
                    let split = digits::split(e, rows.a, s, row, (&from, group), d.inputs, &mut |e, v, d, packed| {
                        let step = first + e.ix(v) * (s.lanes / 4);
                        for l in 0..s.lanes / 4 {
                            // Ordered by step, then by word: the other way round here.
                            let to = step + (l % words * s.apart + l / words);
                            rows.memory.at([t * s.digits + d, to, i]).store(packed.extract(k.int(l)));
                        }
                        Ok(())
                    })?;
                    let h = e.ix(&h);
                    for n in 0..s.digits {
                        let share = k.constant(digits::weight(n), DType::F32);
                        d.scales.at([h, k.int(n), place]).store(split.scale * share);
                    }
                    if let Some(sums) = rows.sums {
                        sums.memory.at([h, place]).store(split.sum);
                    }
                    Ok(())
                })
            })
        })
    }

    /// Unpacks codes, scales and biases of two vectors of columns.
    fn unpack(
        &self,
        e: &mut Emitter<'k, '_>,
        rows: &Rows<'_, 'k>,
        column: &Coord,
        base: &Coord,
        len: i64,
    ) -> Lowered<()> {
        let (k, s) = (e.k, rows.s);
        let w = s.lanes;
        let (codes, words) = self.block();
        let most = e.space.range(column).hi + 2 * w - 1;
        let (first_block, _) = e.space.div_rem(base, codes);
        let (first_group, _) = e.space.div_rem(base, self.group());
        let (first_block, first_group) = (e.ix(&first_block), e.ix(&first_group));
        let table = self.table(e, s).map(|t| k.let_("values", t));
        let hi = k.int(2);
        e.each("half", hi, Range::new(0, 1), 1, false, |e, half| {
            let start = e.ix(&column.plus(&half, w));
            let half = e.ix(&half);
            let gather = |b: Buf<'k>, at: Ix<'k>| {
                let of = |l: i64| b.at([self.column(e, start + l, most), at]).load();
                k.vector(&(0..w).map(of).collect::<Vec<_>>())
            };
            let each_pair = |block: Ix<'k>, vectors: &[Val<'k>]| {
                for c in (0..codes / s.pair).map(|c| c * s.pair) {
                    let step = block * (codes / s.pair) + c / s.pair;
                    let value = self.unpacked(k, s, table, vectors, c);
                    if s.tile.is_some() {
                        let pairs = Type::vector(s.dtype, (s.pair * w) as u8);
                        let place = rows.codes.at([step, half * (s.pair * w)]);
                        place.vec(pairs.lanes()).store(value.bits(pairs));
                    } else {
                        rows.codes.at([step, half, k.int(0)]).vec(w as u8).store(value);
                    }
                }
            };
            if (s.tile.is_some() || s.digits > 0) && words == 1 && len % (w * codes) == 0 {
                // A vector of each column's words, turned: a vector of each word's columns.
                k.for_("b", k.int(0), k.int(len / codes), w, false, |b| {
                    let turned = k.reg("words", Type::vector(DType::U32, w as u8), &[w as u32], None);
                    k.for_("l", k.int(0), k.int(w), 1, true, |l| {
                        let place = self.words.at([self.column(e, start + l, most), first_block + b]);
                        turned.set([l], place.vec(w as u8).load());
                    });
                    transpose(k, turned, w);
                    k.for_("l", k.int(0), k.int(w), 1, true, |l| each_pair(b + l, &[turned.get([l])]));
                });
            } else {
                k.for_("b", k.int(0), k.int(len / codes), 1, false, |b| {
                    let vectors: Vec<Val<'k>> = (0..words)
                        .map(|j| k.let_("packed", gather(self.words, (first_block + b) * words + j)))
                        .collect();
                    each_pair(b, &vectors);
                });
            }
            k.for_("h", k.int(0), k.int(len / self.group()), 1, false, |h| {
                let place = [h, half, k.int(0)];
                let at = first_group + h;
                rows.scales.at(place).vec(w as u8).store(scale(self.scheme, gather(self.scales, at)));
                if let (Some(from), Some(to)) = (self.biases, rows.biases) {
                    to.at(place).vec(w as u8).store(gather(from, at).cast(DType::F32));
                }
            });
            Ok(())
        })
    }

    /// Code `slot` of each lane's block as f32, or it and the next as a pair of bf16.
    fn unpacked(
        &self,
        k: &'k KernelBuilder,
        s: &Shape,
        table: Option<Val<'k>>,
        words: &[Val<'k>],
        slot: i64,
    ) -> Val<'k> {
        let lanes = s.lanes as u8;
        let constant = |v: i64| k.int_constant(v, DType::U32).splat(lanes);
        let (word, bits) = (Type::vector(DType::U32, lanes), i64::from(self.scheme.bits()));
        if s.digits > 0 {
            return digits::codes(k, self.scheme, words[0], slot / s.pair);
        }
        if let Some(table) = table.filter(|_| s.apart > 1) {
            // The low bits of each half choose, so the pair is a code of each half of the word.
            let slot = slot / s.pair;
            let index = if slot == 0 { words[0] } else { words[0] >> constant(slot * bits) };
            return table.lut(index.bits(Type::vector(DType::U16, 2 * lanes))).bits(word);
        }
        if let Some(table) = table {
            // The low bits of each half choose: the second code moves to the upper half, whatever follows it.
            let both = k.let_("pair", if slot == 0 { words[0] } else { words[0] >> constant(slot * bits) });
            let index = (both & constant(0xffff)) | (both << constant(16 - bits));
            return table.lut(index.bits(Type::vector(DType::U16, 2 * lanes))).bits(word);
        }
        let value = |c: i64| decode(self.scheme, field(k, words, c as u32, self.scheme.bits()));
        if s.pair == 1 {
            return value(slot);
        }
        // Codes are exact in bf16: the upper halves of the f32s.
        (value(slot).bits(word) >> constant(16)) | (value(slot + 1).bits(word) & constant(0xffff_0000))
    }

    /// Multiplies every tile of rows with the unpacked columns.
    fn multiply_panel(
        &self,
        e: &Emitter<'k, '_>,
        rows: &Rows<'_, 'k>,
        staged: Group<'k>,
        segment: i64,
        column: Ix<'k>,
        len: i64,
    ) {
        let (k, s) = (e.k, rows.s);
        let lanes = s.lanes as u8;
        let steps = self.group() / s.pair;
        let columns = if s.pair == 2 { Type::vector(DType::BF16, 2 * lanes) } else { Type::vector(DType::F32, lanes) };
        k.for_("t", k.int(0), rows.live, 1, false, |t| {
            k.for_("h", k.int(0), k.int(len / self.group()), 1, false, |h| {
                let zero = k.constant(0.0, DType::F32);
                let acc = k.reg("acc", Type::vector(DType::F32, lanes), &[s.mr as u32, 2], Some(zero));
                k.for_("k", k.int(0), k.int(steps), 1, false, |c| {
                    let b = rows.columns(k, h * steps + c, columns);
                    rows::accumulate(k, s, acc, rows.memory, (t, h * steps + c), b);
                });
                for j in 0..2 {
                    let half = k.int(j);
                    let (scales, biases) = rows.of_group(k, h, half);
                    k.for_("i", k.int(0), k.int(s.mr), 1, true, |i| {
                        let place = [k.int(segment), t * s.mr + i, column + j * s.lanes];
                        let sum = acc.get([i, half]).mad(scales, staged.at(place).vec(lanes).load());
                        let sum = match (biases, rows.sums) {
                            (Some(b), Some(x)) => b.mad(x.memory.at([h, t * s.mr + i]).load().splat(lanes), sum),
                            _ => sum,
                        };
                        staged.at(place).vec(lanes).store(sum);
                    });
                }
            });
        });
    }

    /// Multiplies every tile of rows, in digits, with the unpacked columns. Sums of all groups stay in registers.
    fn multiply_digits(
        &self,
        e: &Emitter<'k, '_>,
        rows: &Rows<'_, 'k>,
        digits: &DigitScales<'k>,
        staged: Group<'k>,
        segment: i64,
        column: Ix<'k>,
        len: i64,
    ) {
        let (k, s) = (e.k, rows.s);
        let lanes = s.lanes as u8;
        let steps = self.group() / s.pair;
        let columns = Type::vector(DType::U8, 4 * lanes);
        k.for_("t", k.int(0), rows.live, 1, false, |t| {
            let tile = |dtype| k.reg("acc", Type::vector(dtype, lanes), &[s.mr as u32, 2], None);
            let each = |body: &dyn Fn(Ix<'k>, i64)| {
                k.for_("i", k.int(0), k.int(s.mr), 1, true, |i| [0, 1].into_iter().for_each(|j| body(i, j)));
            };
            let place = |i: Ix<'k>, j: i64| staged.at([k.int(segment), t * s.mr + i, column + j * s.lanes]).vec(lanes);
            let sums = tile(DType::F32);
            each(&|i, j| sums.set([i, k.int(j)], place(i, j).load()));
            k.for_("h", k.int(0), k.int(len / self.group()), 1, false, |h| {
                for part in 0..s.digits {
                    let acc = tile(DType::I32);
                    let zero = k.int_constant(0, DType::I32).splat(lanes);
                    each(&|i, j| acc.set([i, k.int(j)], zero));
                    k.for_("k", k.int(0), k.int(steps), 1, false, |c| {
                        let b = rows.columns(k, h * steps + c, columns);
                        rows::accumulate(k, s, acc, rows.memory, (t * s.digits + part, h * steps + c), b);
                    });
                    let of_group = [0, 1].map(|j| rows.of_group(k, h, k.int(j)));
                    each(&|i, j| {
                        let (at, row) = ([i, k.int(j)], t * s.mr + i);
                        let (scales, biases) = of_group[j as usize];
                        let counts = digits.scales.at([h, k.int(part), row]).load().splat(lanes);
                        let sum = (acc.get(at).cast(DType::F32) * counts).mad(scales, sums.get(at));
                        sums.set(
                            at,
                            match (biases.filter(|_| part == 0), rows.sums) {
                                (Some(b), Some(x)) => b.mad(x.memory.at([h, row]).load().splat(lanes), sum),
                                _ => sum,
                            },
                        );
                    });
                }
            });
            each(&|i, j| place(i, j).store(sums.get([i, k.int(j)])));
        });
    }

    /// Multiplies every register tile of rows with the unpacked columns, in matrix tiles.
    fn multiply_tiles(
        &self,
        e: &Emitter<'k, '_>,
        rows: &Rows<'_, 'k>,
        (tile, products): (RegisterTile, Group<'k>),
        staged: Group<'k>,
        segment: i64,
        column: Ix<'k>,
        len: i64,
    ) {
        let (k, s) = (e.k, rows.s);
        let (lanes, group) = (s.lanes as u8, self.group());
        let groups = len / group;
        let waiting = [WAITING, 2, 1].into_iter().find(|n| groups % n == 0).expect("one divides");
        k.for_("t", k.int(0), rows.live, 1, false, |t| {
            k.for_("h", k.int(0), k.int(groups), waiting, false, |h| {
                k.for_("g", k.int(0), k.int(waiting), 1, false, |g| {
                    let acc = tile.accumulators(k, None);
                    let first = (h + g) * (group / s.pair);
                    let right = |step: Ix<'k>, element: i64| rows.codes.at([first + step, k.int(element)]);
                    let left = (rows.memory, t, (h + g) * (group / tile.depth()));
                    tile.multiply(k, acc, left, &right, group, &|_| {});
                    tile.store(k, acc, &|i, j| products.at([g, i, k.int(j)]));
                });
                let load = |m: Group<'k>, name: &str| -> Vec<[Val<'k>; 2]> {
                    let at = |g: i64, j: i64| m.at([h + g, k.int(j), k.int(0)]).vec(lanes).load();
                    (0..waiting).map(|g| [0, 1].map(|j| k.let_(name, at(g, j)))).collect()
                };
                let scales = load(rows.scales, "scales");
                let biases = rows.biases.map(|b| load(b, "biases"));
                k.for_("i", k.int(0), k.int(s.mr), 1, false, |i| {
                    let row = t * s.mr + i;
                    let of_row = |x: Sums<'k>| -> Vec<Val<'k>> {
                        let at = |g: i64| x.memory.at([h + g, row]).load().splat(lanes);
                        (0..waiting).map(|g| k.let_("x", at(g))).collect()
                    };
                    let x = rows.sums.map(of_row);
                    for j in 0..2usize {
                        let place = || staged.at([k.int(segment), row, column + j as i64 * s.lanes]).vec(lanes);
                        let mut sum = place().load();
                        for g in 0..waiting as usize {
                            let product = products.at([k.int(g as i64), i, k.int(j as i64 * s.lanes)]).vec(lanes);
                            sum = product.load().mad(scales[g][j], sum);
                            if let (Some(b), Some(x)) = (&biases, &x) {
                                sum = b[g][j].mad(x[g], sum);
                            }
                        }
                        place().store(sum);
                    }
                });
            });
        });
    }
}
