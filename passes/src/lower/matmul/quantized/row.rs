//! One row: the weight's words are read as a stream, and the row of inputs is permuted to meet them.

use super::{Codes, digits};
use crate::lower::coord::Coord;
use crate::lower::dequantize::{decode, field, scale};
use crate::lower::emit::{Emitter, Lowered, Refusal};
use crate::lower::matmul::rows::Shape;
use mlxc_ir::graph::ValueId;
use mlxc_ir::kernel::{Buf, Group, Ix, KernelBuilder, PlaceRef, Type, Val, Var};
use mlxc_ir::{DType, Range};

/// Bytes between a word that is read and one that is asked for meanwhile; measured, 4 to 16 KiB do as well.
const AHEAD: i64 = 8 << 10;

/// One row of inputs, permuted.
pub(in crate::lower::matmul) struct Row<'k> {
    /// bf16 `[step, slot, 2 * lane + half]` where a table makes bf16 of codes, u32 `[step, digit and step of four, lane]`
    /// where 8-bit integers multiply, else f32 `[step, slot, lane]`.
    x: Group<'k>,
    table: Option<Val<'k>>,
    /// The digits of an input and what the codes of a step stand apart; no digits for floats.
    digits: (i64, i64),
    /// Scales of each group's digits.
    scales: Option<Group<'k>>,
    /// Sums of each group's inputs.
    sums: Option<Group<'k>>,
    /// The row's place in a batch.
    batch: Vec<Coord>,
    /// The matrix it multiplies with, where there are several.
    matrix: Option<Ix<'k>>,
}

impl<'k> Row<'k> {
    /// A place in a buffer of the weight.
    fn place(&self, b: Buf<'k>, n: Ix<'k>, at: Ix<'k>) -> PlaceRef<'k> {
        match self.matrix {
            Some(m) => b.at([m, n, at]),
            None => b.at([n, at]),
        }
    }
}

impl<'k> Codes<'k> {
    /// Permutes the row, and sums its groups.
    pub fn pack_row(&self, e: &mut Emitter<'k, '_>, a: ValueId, s: &Shape, batch: &[Coord]) -> Lowered<Row<'k>> {
        let matrix = match self.picked {
            Some((indices, values)) => {
                let at = e.gathered(values, indices, 0, batch)?;
                Some(e.ix(&at.ok_or_else(|| Refusal::new("lanes", "indices differ from lane to lane"))?))
            }
            None => None,
        };
        let (k, w) = (e.k, s.lanes);
        let (codes, _) = self.block();
        let step = w * codes;
        let steps = (s.k + step - 1) / step;
        let table = self.table(e, s).map(|t| k.let_("values", t));
        let (slots, lanes, dtype) = match table {
            Some(_) => (codes / 2, 2 * w, DType::BF16),
            None if s.digits > 0 => (s.digits * s.apart, w, DType::U32),
            None => (codes, w, DType::F32),
        };
        let x = k.group("x", dtype, &[steps, slots, lanes]);
        let groups = s.k / self.group();
        let per_group = |name: &str| k.group(name, DType::F32, &[(groups + w - 1) / w * w]);
        let sums = self.biases.map(|_| per_group("sums"));
        let scales = (s.digits > 0).then(|| per_group("x_scales"));
        if s.k % step != 0 {
            // Lanes past the end of the row multiply with zero.
            let last = k.int(steps - 1);
            k.for_("slot", k.int(0), k.int(slots), 1, false, |slot| {
                let zero = if dtype == DType::U32 { k.int_constant(0, dtype) } else { k.constant(0.0, dtype) };
                x.at([last, slot, k.int(0)]).vec(lanes as u8).store(zero.splat(lanes as u8));
            });
        }
        for padded in [sums, scales].into_iter().flatten().filter(|_| groups % w != 0) {
            let zero = k.constant(0.0, DType::F32).splat(w as u8);
            padded.at([k.int(groups / w * w)]).vec(w as u8).store(zero);
        }
        let row = Row { x, table, digits: (s.digits, s.apart), scales, sums, batch: batch.to_vec(), matrix };
        if let Some(scales) = scales {
            self.split_row(e, a, s, &row, scales)?;
            return Ok(row);
        }
        let per_step = (step / self.group()).max(1);
        let steps_of_group = (self.group() / step).max(1);
        // Groups of whole steps, then those of a last step that is not full.
        let full = groups / per_step;
        for (first, count, within) in [(0, full, per_step), (full, 1, groups % per_step)] {
            if count == 0 || within == 0 {
                continue;
            }
            let hi = k.int(count);
            e.each("s", hi, Range::new(0, count - 1), 1, false, |e, at| {
                let at = at.offset(first);
                let hi = k.int(within);
                e.each("h", hi, Range::new(0, within - 1), 1, false, |e, h| {
                    let group = at.scale(per_step).plus(&h, 1);
                    let total = k.var("sum", k.constant(0.0, DType::F32).splat(e.width));
                    let hi = k.int(steps_of_group);
                    e.each("u", hi, Range::new(0, steps_of_group - 1), 1, false, |e, u| {
                        let place = (at.scale(steps_of_group).plus(&u, 1), h.scale(self.group() / codes));
                        let base = group.scale(self.group()).plus(&u, step);
                        self.permute(e, a, s, &row, place, &base, &total)
                    })?;
                    if let Some(sums) = sums {
                        let group = e.ix(&group);
                        sums.at([group]).store(total.get().hsum());
                    }
                    Ok(())
                })
            })?;
        }
        Ok(row)
    }

    /// Writes the row in digits where the words' lanes meet them.
    fn split_row(
        &self,
        e: &mut Emitter<'k, '_>,
        a: ValueId,
        s: &Shape,
        row: &Row<'k>,
        scales: Group<'k>,
    ) -> Lowered<()> {
        let (k, w) = (e.k, s.lanes);
        let (group, groups) = (self.group(), s.k / self.group());
        let inputs = k.group("inputs", DType::F32, &[group]);
        let (vectors, words) = (group / w, w / (4 * s.apart));
        let hi = k.int(groups);
        e.each("h", hi, Range::new(0, groups - 1), 1, false, |e, h| {
            let mut place = row.batch.clone();
            place.push(Coord::constant(0));
            let from = h.scale(group);
            let split = digits::split(e, a, s, &place, (&from, group), inputs, &mut |e, v, d, packed| {
                let (step, lane) = e.space.div_rem(&h.scale(vectors * words).plus(v, words), w);
                let (step, lane) = (e.ix(&step), e.ix(&lane));
                for j in 0..s.apart {
                    let place = row.x.at([step, k.int(d * s.apart + j), lane]);
                    match words {
                        1 => place.store(packed.extract(k.int(j))),
                        n => place.vec(n as u8).store(packed.shuffle(n as u8, |l| l + j * n)),
                    }
                }
                Ok(())
            })?;
            let h = e.ix(&h);
            let last = k.constant(digits::weight(s.digits - 1), DType::F32);
            scales.at([h]).store(if s.digits > 1 { split.scale * last } else { split.scale });
            if let Some(sums) = row.sums {
                sums.at([h]).store(split.sum);
            }
            Ok(())
        })
    }

    /// Permutes the inputs of one group, or of one step where a group has several, from `base` on: to a step, from one
    /// of its lanes on. Adds them to `total`.
    fn permute(
        &self,
        e: &mut Emitter<'k, '_>,
        a: ValueId,
        s: &Shape,
        row: &Row<'k>,
        (step, lane): (Coord, Coord),
        base: &Coord,
        total: &Var<'k>,
    ) -> Lowered<()> {
        let (k, w) = (e.k, s.lanes);
        let (codes, _) = self.block();
        let inputs = self.group().min(w * codes);
        // A vector of inputs covers several lanes' words, or a lane's words take several vectors.
        let (lanes, vectors) = ((w / codes).max(1), (codes / w).max(1));
        let (hi, step) = (k.int(inputs / w / vectors), e.ix(&step));
        e.each("v", hi, Range::new(0, inputs / w / vectors - 1), 1, false, |e, v| {
            for part in 0..vectors {
                let at = base.plus(&v, w * vectors).offset(part * w).plus(&e.lane(), 1);
                let mut place = row.batch.clone();
                place.extend([Coord::constant(0), at]);
                let value = e.emit(a, &place)?;
                let value = if value.ty().lanes() == 1 { value.splat(e.width) } else { value };
                let value = k.let_("x_row", if s.dtype == DType::BF16 { value.cast(DType::BF16) } else { value });
                if row.sums.is_some() {
                    total.set(total.get() + value.cast(DType::F32));
                }
                let value = if row.table.is_some() { value } else { k.let_("x_wide", value.cast(DType::F32)) };
                let first = e.ix(&lane.plus(&v, lanes));
                for i in 0..w {
                    let (lane, code) = (first + i / codes, (part * w + i) % codes);
                    let place = if row.table.is_some() {
                        [step, k.int(code % (codes / 2)), lane * 2 + code / (codes / 2)]
                    } else {
                        [step, k.int(code), lane]
                    };
                    row.x.at(place).store(value.extract(k.int(i)));
                }
            }
            Ok(())
        })
    }

    /// Multiplies the row with `width` columns from `from` on.
    pub fn multiply_row(
        &self,
        e: &mut Emitter<'k, '_>,
        row: &Row<'k>,
        staged: Group<'k>,
        from: &Coord,
        segment: i64,
        width: i64,
    ) -> Lowered<()> {
        let k = e.k;
        let w = i64::from(e.width);
        let most = e.space.range(from).hi + width - 1;
        let (first, segment) = (e.ix(from), k.int(segment));
        let (codes, _) = self.block();
        // A chunk has as many groups as a vector has lanes.
        let steps = self.group() / codes;
        let groups = self.k / self.group();
        k.for_("c", k.int(0), k.int(width), 1, false, |c| {
            let n = k.let_index("n", self.column(e, first + c, most));
            let total = k.var("total", k.constant(0.0, DType::F32).splat(w as u8));
            let chunk = |at: Ix<'k>, count: i64| {
                let load = |b: Buf<'k>| {
                    let place = row.place(b, n, at);
                    if count == w { place.vec(w as u8).load() } else { place.first(w as u8, k.int(count)).load() }
                };
                let scales = scale(self.scheme, load(self.scales));
                let scales = match row.scales {
                    Some(x) => scales * x.at([at]).vec(w as u8).load(),
                    None => scales,
                };
                let scales = k.let_("scales", scales);
                if let (Some(biases), Some(sums)) = (self.biases, row.sums) {
                    let x = sums.at([at]).vec(w as u8).load();
                    total.set(load(biases).cast(DType::F32).mad(x, total.get()));
                }
                scales
            };
            let step = |at: Ix<'k>, u: Ix<'k>, live: i64, scales: Val<'k>| {
                let sum = self.step(k, row, n, at, live, w);
                let lanes = scales.shuffle(w as u8, |l| ((u * w + l) * codes).div(self.group()));
                total.set(sum.mad(lanes, total.get()));
            };
            if groups >= w {
                k.for_("chunk", k.int(0), k.int(groups / w), 1, false, |i| {
                    let scales = chunk(i * w, w);
                    k.for_("u", k.int(0), k.int(steps), 1, true, |u| step(i * steps + u, u, w, scales));
                });
            }
            let rest = groups % w;
            if rest > 0 {
                let full = groups / w;
                let scales = chunk(k.int(full * w), rest);
                let lanes = rest * steps;
                for u in 0..(lanes + w - 1) / w {
                    step(k.int(full * steps + u), k.int(u), (lanes - u * w).min(w), scales);
                }
            }
            staged.at([segment, k.int(0), c]).store(total.get().hsum());
        });
        Ok(())
    }

    /// The dot product of one vector of words with its inputs, a sum a lane; `live` lanes have words.
    fn step(&self, k: &'k KernelBuilder, row: &Row<'k>, n: Ix<'k>, at: Ix<'k>, live: i64, w: i64) -> Val<'k> {
        let (codes, words) = self.block();
        let lanes = w as u8;
        // A few rows ahead: one core alone reads faster than its own prefetchers ask.
        let row_bytes = self.k * i64::from(self.scheme.bits()) / 8;
        let ahead = (AHEAD / row_bytes.max(1)).clamp(1, 64);
        row.place(self.words, n + ahead, at * (w * words)).prefetch();
        let vectors: Vec<Val<'k>> = (0..words)
            .map(|j| {
                let v = if words == 1 {
                    let place = row.place(self.words, n, at * w);
                    if live == w { place.vec(lanes).load() } else { place.first(lanes, k.int(live)).load() }
                } else {
                    // Blocks of several words are far apart: one load a lane.
                    let of = |l: i64| row.place(self.words, n, (at * w + l.min(live - 1)) * words + j).load();
                    k.vector(&(0..w).map(of).collect::<Vec<_>>())
                };
                k.let_("packed", v)
            })
            .collect();
        if let (count @ 1.., apart) = row.digits {
            let mut sums = vec![k.int_constant(0, DType::I32).splat(lanes); count as usize];
            for j in 0..apart {
                let codes = k.let_("codes", digits::codes(k, self.scheme, vectors[0], j));
                for (d, sum) in (0..).zip(&mut sums) {
                    let x = row.x.at([at, k.int(d * apart + j), k.int(0)]).vec(lanes).load();
                    *sum = k.let_("sum", digits::dot(*sum, codes, x));
                }
            }
            return digits::joined(k, &sums).cast(DType::F32);
        }
        let zero = k.constant(0.0, DType::F32).splat(lanes);
        let sums = [k.var("even", zero), k.var("odd", zero)];
        let slots = if row.table.is_some() { codes / 2 } else { codes };
        for slot in 0..slots {
            let sum = &sums[slot as usize % 2];
            match row.table {
                Some(table) => {
                    let shift = k.int_constant(slot * i64::from(self.scheme.bits()), DType::U32).splat(lanes);
                    let index = (vectors[0] >> shift).bits(Type::vector(DType::U16, 2 * lanes));
                    let x = row.x.at([at, k.int(slot), k.int(0)]).vec(2 * lanes).load();
                    sum.set(sum.get().dot2(table.lut(index), x));
                }
                None => {
                    let code = field(k, &vectors, slot as u32, self.scheme.bits());
                    let x = row.x.at([at, k.int(slot), k.int(0)]).vec(lanes).load();
                    sum.set(decode(self.scheme, code).mad(x, sum.get()));
                }
            }
        }
        sums[0].get() + sums[1].get()
    }
}
