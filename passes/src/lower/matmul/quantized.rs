//! Products with quantised rows, kept in the checkpoint's own order.
//!
//! Codes multiply as the exact small numbers they are; scale and bias are applied once a group, to the dot product and to
//! the sum of the group's inputs: `Σ x (s c + b) = s Σ x c + b Σ x`. So activations are exact and no weight is rounded.
//!
//! One row reads each weight row as a stream of words. A word holds several codes, so the row of inputs is permuted
//! once a task instead of the codes: input `(step, lane, slot)` stands where the words' lanes and bit positions meet it.
//! More rows unpack a stretch of codes into panels in group memory, which serve every tile of rows of the task.

use super::rows::{self, Shape, Sums};
use super::{is_weight, pair, tiles};
use crate::lower::coord::Coord;
use crate::lower::dequantize::{decode, field, scale};
use crate::lower::emit::{Emitter, Lowered, Refusal};
use mlxc_ir::graph::{Function, Node, Op, ValueId};
use mlxc_ir::kernel::{Access, Buf, Group, Ix, KernelBuilder, PlaceRef, Type, Val, Var};
use mlxc_ir::{DType, QuantMode, Range, Scheme, Size, TargetProfile};

/// Bytes between a word that is read and one that is asked for meanwhile; measured, 4 to 16 KiB do as well.
const AHEAD: i64 = 8 << 10;

/// A quantised weight `[N, K]`, or matrices `[E, N, K]` of which each batch takes the one its index names.
#[derive(Clone, Debug)]
pub(in crate::lower) struct Weight {
    /// The indices, and the value they pick from.
    pub picked: Option<(ValueId, ValueId)>,
    pub scheme: Scheme,
    pub words: ValueId,
    pub scales: ValueId,
    pub biases: Option<ValueId>,
}

/// The quantised weight a product reads as its right factor.
pub(in crate::lower) fn operand(f: &Function, node: u32) -> Option<Weight> {
    let n = &f.nodes[node as usize];
    let Op::MatMul { transpose_a: false, transpose_b: true } = n.op else { return None };
    let product = &n.types[0];
    let (values, picked) = match f.node(n.inputs[1]) {
        // Each batch is one row with a matrix of its own.
        Node { op: Op::Gather { axis: 0 }, inputs, .. }
            if product.rank() == 3 && product.shape[1].as_const() == Some(1) && f.ty(inputs[1]).rank() == 1 =>
        {
            (inputs[0], Some((inputs[1], inputs[0])))
        }
        _ if product.rank() == 2 => (n.inputs[1], None),
        _ => return None,
    };
    let b = f.node(values);
    let Op::Dequantize { scheme, .. } = b.op else { return None };
    let weights = b.inputs.iter().all(|v| is_weight(f, *v).is_some());
    let (words, scales, biases) = (b.inputs[0], b.inputs[1], b.inputs.get(2).copied());
    (weights && product.dtype != DType::F64).then_some(Weight { picked, scheme, words, scales, biases })
}

/// Columns of a task of one row: enough that permuting the row is little beside them, and several tasks.
pub(super) fn columns_of_a_task(columns: i64, block: i64) -> i64 {
    (columns / 8).clamp(2 * block, 16 * block)
}

impl Weight {
    /// The shape of a product with this weight.
    pub(super) fn shape(
        &self,
        e: &Emitter<'_, '_>,
        profile: &TargetProfile,
        rows: Size,
        k: i64,
        dtype: DType,
    ) -> Shape {
        let most = e.size_max(&rows) as i64;
        let tile = tiles::shape_of(profile, dtype, most, k);
        if let Some(tile) = tile.filter(|t| self.scheme.group() % u32::from(t.depth) == 0) {
            return tiles::shape(e, tile, rows, k, i64::from(self.scheme.group()));
        }
        let (mr, pair) = (rows::register_rows(profile, most), pair(profile, dtype));
        // A stretch of codes of two vectors is 64 KiB.
        let bytes = if pair == 2 { 2 } else { 4 };
        let widest = (64 << 10) / (2 * i64::from(e.width) * bytes) / 128 * 128;
        let chunk = if most == 1 { k } else { k.min(widest.max(128)) };
        let room = (profile.limits.group_bytes as i64 / 2).max(1);
        let tiles = (room / (chunk * mr * bytes).max(1)).clamp(1, 9).min((most + mr - 1) / mr).max(1);
        Shape { rows, k, dtype, mr, tiles, lanes: i64::from(e.width), pair, chunk, tile: None }
    }
}

/// The weight's memory in a kernel.
pub(super) struct Codes<'k> {
    picked: Option<(ValueId, ValueId)>,
    scheme: Scheme,
    words: Buf<'k>,
    scales: Buf<'k>,
    biases: Option<Buf<'k>>,
    columns: i64,
    k: i64,
}

/// One row of inputs, permuted.
pub(super) struct Row<'k> {
    /// bf16 `[step, slot, 2 * lane + half]` where a table makes bf16 of codes, else f32 `[step, slot, lane]`.
    x: Group<'k>,
    table: Option<Val<'k>>,
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

/// A block of rows and the group memory of its products.
pub(super) struct Rows<'a, 'k> {
    a: ValueId,
    s: &'a Shape,
    q: &'a Coord,
    memory: Group<'k>,
    sums: Option<Sums<'k>>,
    /// `[step, half, lane]`, pairs sharing a word; of matrix tiles `[step, element of a pair of columns]`.
    codes: Group<'k>,
    /// f32 `[row, column]`: products of one group and register tile, where matrix tiles make them.
    products: Option<Group<'k>>,
    /// f32 `[group, half, lane]`.
    scales: Group<'k>,
    biases: Option<Group<'k>>,
    live: Ix<'k>,
}

impl<'k> Codes<'k> {
    pub fn new(e: &mut Emitter<'k, '_>, w: &Weight, s: &Shape, columns: i64) -> Lowered<Self> {
        let mut buffer = |v: ValueId| {
            let shape = e.f.ty(v).shape.clone();
            e.buffer(v, &shape, Access::Read)
        };
        Ok(Codes {
            picked: w.picked,
            scheme: w.scheme,
            words: buffer(w.words)?,
            scales: buffer(w.scales)?,
            biases: w.biases.map(&mut buffer).transpose()?,
            columns,
            k: s.k,
        })
    }

    fn group(&self) -> i64 {
        i64::from(self.scheme.group())
    }

    /// Codes of a lane, and the words that hold them.
    fn block(&self) -> (i64, i64) {
        let (codes, words) = self.scheme.block();
        (i64::from(codes), i64::from(words))
    }

    /// A column of the weight; blocks past the last column repeat it.
    fn column(&self, e: &Emitter<'k, '_>, at: Ix<'k>, most: i64) -> Ix<'k> {
        if most < self.columns { at } else { at.min(e.k.int(self.columns - 1)) }
    }

    /// Operations that unpack every code once for each block of rows. Counted whole, like the products: what a part
    /// of the columns costs must not depend on how many outputs share it.
    pub fn unpacking(&self, row_blocks: i64) -> f64 {
        3.0 * (self.columns * self.k * row_blocks) as f64
    }

    // --- one row ---------------------------------------------------------------------------------------------

    /// bf16 values of the codes, repeated so that only a code's own bits choose.
    fn table(&self, e: &Emitter<'k, '_>, s: &Shape) -> Option<Val<'k>> {
        if s.pair != 2 || !matches!(self.scheme.bits(), 2 | 4) {
            return None;
        }
        let codes = 1 << self.scheme.bits();
        let n = 2 * e.width;
        Some(if self.scheme.mode() == QuantMode::Affine {
            e.k.table(Type::vector(DType::BF16, n), |l| l.rem(codes))
        } else {
            let value = |l: i64| e.k.constant(f64::from(self.scheme.code((l % codes) as u32)), DType::BF16);
            e.k.vector(&(0..i64::from(n)).map(value).collect::<Vec<_>>())
        })
    }

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
        let x = match table {
            Some(_) => k.group("x", DType::BF16, &[steps, codes / 2, 2 * w]),
            None => k.group("x", DType::F32, &[steps, codes, w]),
        };
        let groups = s.k / self.group();
        let sums = self.biases.map(|_| k.group("sums", DType::F32, &[(groups + w - 1) / w * w]));
        if s.k % step != 0 {
            // Lanes past the end of the row multiply with zero.
            let last = k.int(steps - 1);
            let (slots, lanes, dtype) =
                if table.is_some() { (codes / 2, 2 * w, DType::BF16) } else { (codes, w, DType::F32) };
            k.for_("slot", k.int(0), k.int(slots), 1, false, |slot| {
                let zero = k.constant(0.0, dtype).splat(lanes as u8);
                x.at([last, slot, k.int(0)]).vec(lanes as u8).store(zero);
            });
        }
        if let Some(sums) = sums.filter(|_| groups % w != 0) {
            let zero = k.constant(0.0, DType::F32).splat(w as u8);
            sums.at([k.int(groups / w * w)]).vec(w as u8).store(zero);
        }
        let row = Row { x, table, sums, batch: batch.to_vec(), matrix };
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
                let scales = k.let_("scales", scale(self.scheme, load(self.scales)));
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

    // --- rows ------------------------------------------------------------------------------------------------

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
        let dtype = if s.pair == 2 { DType::U32 } else { DType::F32 };
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
                Some(t) => k.group("codes", t.input, &[s.steps(s.chunk), 2 * s.pair * w]),
                None => k.group("codes", dtype, &[s.steps(s.chunk), 2, w]),
            },
            products: s.tile.map(|_| k.group("products", DType::F32, &[s.mr, 2 * w])),
            scales: per_group("scales"),
            biases: self.biases.map(|_| per_group("biases")),
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
        rows::pack(e, rows.a, s, (rows.q, rows.live), rows.memory, (base, len), rows.sums)?;
        let block = 2 * s.lanes;
        for (segment, from) in from.iter().enumerate() {
            let count = e.k.int(width / block);
            e.each("p", count, Range::new(0, width / block - 1), 1, false, |e, p| {
                self.unpack(e, rows, &from.plus(&p, block), base, len);
                let column = e.ix(&p.scale(block));
                match rows.products {
                    Some(products) => self.multiply_tiles(e, rows, products, staged, segment as i64, column, len),
                    None => self.multiply_panel(e, rows, staged, segment as i64, column, len),
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Unpacks codes, scales and biases of two vectors of columns.
    fn unpack(&self, e: &mut Emitter<'k, '_>, rows: &Rows<'_, 'k>, column: &Coord, base: &Coord, len: i64) {
        let (k, s) = (e.k, rows.s);
        let w = s.lanes;
        let (codes, words) = self.block();
        let most = e.space.range(column).hi + 2 * w - 1;
        let (first_block, _) = e.space.div_rem(base, codes);
        let (first_group, _) = e.space.div_rem(base, self.group());
        let (first_block, first_group) = (e.ix(&first_block), e.ix(&first_group));
        let table = self.table(e, s).map(|t| k.let_("values", t));
        for half in 0..2 {
            let columns: Vec<Ix<'k>> = (0..w)
                .map(|l| {
                    let at = e.ix(&column.offset(half * w + l));
                    self.column(e, at, most)
                })
                .collect();
            let gather = |b: Buf<'k>, at: Ix<'k>| {
                let parts: Vec<Val<'k>> = columns.iter().map(|n| b.at([*n, at]).load()).collect();
                k.vector(&parts)
            };
            k.for_("b", k.int(0), k.int(len / codes), 1, false, |b| {
                let vectors: Vec<Val<'k>> =
                    (0..words).map(|j| k.let_("packed", gather(self.words, (first_block + b) * words + j))).collect();
                for c in (0..codes).step_by(s.pair as usize) {
                    let (step, value) = (b * (codes / s.pair) + c / s.pair, self.unpacked(k, s, table, &vectors, c));
                    if s.tile.is_some() {
                        let pairs = Type::vector(s.dtype, (s.pair * w) as u8);
                        let place = rows.codes.at([step, k.int(half * s.pair * w)]);
                        place.vec(pairs.lanes()).store(value.bits(pairs));
                    } else {
                        rows.codes.at([step, k.int(half), k.int(0)]).vec(w as u8).store(value);
                    }
                }
            });
            k.for_("h", k.int(0), k.int(len / self.group()), 1, false, |h| {
                let place = [h, k.int(half), k.int(0)];
                let at = first_group + h;
                rows.scales.at(place).vec(w as u8).store(scale(self.scheme, gather(self.scales, at)));
                if let (Some(from), Some(to)) = (self.biases, rows.biases) {
                    to.at(place).vec(w as u8).store(gather(from, at).cast(DType::F32));
                }
            });
        }
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
        let pairs = Type::vector(DType::BF16, 2 * lanes);
        k.for_("t", k.int(0), rows.live, 1, false, |t| {
            k.for_("h", k.int(0), k.int(len / self.group()), 1, false, |h| {
                let zero = k.constant(0.0, DType::F32);
                let acc = k.reg("acc", Type::vector(DType::F32, lanes), &[s.mr as u32, 2], Some(zero));
                k.for_("k", k.int(0), k.int(steps), 1, false, |c| {
                    let at = h * steps + c;
                    let load = |half: i64| {
                        let b = rows.codes.at([at, k.int(half), k.int(0)]).vec(lanes).load();
                        if s.pair == 2 { b.bits(pairs) } else { b }
                    };
                    let b = [k.let_("b0", load(0)), k.let_("b1", load(1))];
                    rows::accumulate(k, s, acc, rows.memory, (t, at), b);
                });
                for j in 0..2 {
                    let half = k.int(j);
                    let scales = k.let_("scales", rows.scales.at([h, half, k.int(0)]).vec(lanes).load());
                    let biases = rows.biases.map(|b| k.let_("biases", b.at([h, half, k.int(0)]).vec(lanes).load()));
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

    /// Multiplies every register tile of rows with the unpacked columns, in matrix tiles.
    fn multiply_tiles(
        &self,
        e: &Emitter<'k, '_>,
        rows: &Rows<'_, 'k>,
        products: Group<'k>,
        staged: Group<'k>,
        segment: i64,
        column: Ix<'k>,
        len: i64,
    ) {
        let (k, s) = (e.k, rows.s);
        let (lanes, group) = (s.lanes as u8, self.group());
        let depth = s.tile.map_or(1, |t| i64::from(t.depth));
        k.for_("t", k.int(0), rows.live, 1, false, |t| {
            k.for_("h", k.int(0), k.int(len / group), 1, false, |h| {
                let acc = tiles::accumulators(k, s, None);
                let first = h * (group / s.pair);
                let right = |step: Ix<'k>, element: i64| rows.codes.at([first + step, k.int(element)]);
                tiles::multiply(k, s, acc, (rows.memory, t, h * (group / depth)), &right, group);
                tiles::store(k, s, acc, &|i, j| products.at([i, k.int(j)]));
                let load = |m: Group<'k>, name: &str| {
                    [0, 1].map(|j| k.let_(name, m.at([h, k.int(j), k.int(0)]).vec(lanes).load()))
                };
                let scales = load(rows.scales, "scales");
                let biases = rows.biases.map(|b| load(b, "biases"));
                k.for_("i", k.int(0), k.int(s.mr), 1, false, |i| {
                    let x = rows.sums.map(|x| k.let_("x", x.memory.at([h, t * s.mr + i]).load().splat(lanes)));
                    for j in 0..2 {
                        let place =
                            || staged.at([k.int(segment), t * s.mr + i, column + j as i64 * s.lanes]).vec(lanes);
                        let product = products.at([i, k.int(j as i64 * s.lanes)]).vec(lanes).load();
                        let sum = product.mad(scales[j], place().load());
                        place().store(match (biases, x) {
                            (Some(b), Some(x)) => b[j].mad(x, sum),
                            _ => sum,
                        });
                    }
                });
            });
        });
    }
}
