//! One row times quantised rows, in the checkpoint's own order.
//!
//! A lane takes a run of codes of one group: it reads their words and the inputs they meet once for four weight rows.
//! Codes multiply as the exact small numbers they are; scale and bias are applied once a run, to the dot product and to
//! the sum of its inputs.

use super::{Product, TEAM, TILE};
use crate::lower::coord::Coord;
use crate::lower::dequantize::{decode, field, scale};
use crate::lower::emit::{Emitter, Lowered, Refusal, Team};
use crate::lower::matmul::quantized::Weight;
use mlxc_ir::graph::ValueId;
use mlxc_ir::kernel::{Access, Buf, Ix, Type, Val};
use mlxc_ir::{DType, Scheme, Size};

/// Codes a lane takes at a time, where words allow.
const RUN: i64 = 16;

/// A quantised weight in a kernel.
pub(super) struct Codes<'k> {
    picked: Option<(ValueId, ValueId)>,
    scheme: Scheme,
    words: Buf<'k>,
    scales: Buf<'k>,
    biases: Option<Buf<'k>>,
    /// Codes of a run and the words that hold them.
    run: (i64, i64),
    inner: i64,
}

/// The matrix a batch multiplies with, where there are several.
pub(super) struct Picked<'k>(Option<Ix<'k>>);

impl<'k> Codes<'k> {
    /// `None` where runs do not divide the rows: the emitter then dequantises code by code.
    pub(super) fn new(e: &mut Emitter<'k, '_>, w: &Weight, inner: &Size) -> Lowered<Option<Self>> {
        let Some(inner) = inner.as_const() else { return Ok(None) };
        let (codes, words) = w.scheme.block();
        let (codes, words) = (i64::from(codes), i64::from(words));
        let times = (RUN / codes).max(1);
        let run = (codes * times, words * times);
        if inner % run.0 != 0 || i64::from(w.scheme.group()) % run.0 != 0 {
            return Ok(None);
        }
        let mut buffer = |v: ValueId| {
            let shape = e.f.ty(v).shape.clone();
            e.buffer(v, &shape, Access::Read)
        };
        let (words, scales) = (buffer(w.words)?, buffer(w.scales)?);
        let biases = w.biases.map(&mut buffer).transpose()?;
        Ok(Some(Codes { picked: w.picked, scheme: w.scheme, words, scales, biases, run, inner }))
    }

    pub(super) fn pick(&self, e: &mut Emitter<'k, '_>, batch: &[Coord]) -> Lowered<Picked<'k>> {
        let Some((indices, values)) = self.picked else { return Ok(Picked(None)) };
        let at = e.gathered(values, indices, 0, batch)?;
        let at = at.ok_or_else(|| Refusal::new("lanes", "indices differ from lane to lane"))?;
        Ok(Picked(Some(e.ix(&at))))
    }

    /// A lane's part of the dot products of the row with some weight rows.
    pub(super) fn dots(
        &self,
        e: &mut Emitter<'k, '_>,
        p: &Product<'_, 'k>,
        picked: &Picked<'k>,
        rows: &[Ix<'k>],
    ) -> Lowered<Vec<Val<'k>>> {
        let k = e.k;
        let (codes, words) = self.run;
        let acc = k.reg("acc", DType::F32, &[rows.len() as u32], Some(k.constant(0.0, DType::F32)));
        let team = Team { lanes: TEAM as u32, at: k.lane().rem(TEAM) };
        let place = |n: Ix<'k>, at: Ix<'k>| match picked.0 {
            Some(m) => vec![m, n, at],
            None => vec![n, at],
        };
        e.lane_loop("run", &Size::constant(self.inner / codes), team, 1, &mut |e, c| {
            let mut inputs = Vec::new();
            for j in 0..codes / TILE {
                let at = c.scale(codes).offset(j * TILE).plus(&e.lane(), 1);
                let x = e.emit(p.a, &p.place(&Coord::constant(0), &at, !p.transpose_a))?;
                inputs.push(k.bound("x", if x.ty().lanes() == 1 { x.splat(TILE as u8) } else { x }));
            }
            let sum = self.biases.map(|_| {
                let all = inputs[1..].iter().fold(inputs[0], |s, x| s + *x);
                k.let_("sum", all.hsum())
            });
            let at = e.ix(&c);
            let first = k.let_index("word", at * words);
            let group = k.let_index("group", at.div(i64::from(self.scheme.group()) / codes));
            for (i, n) in rows.iter().enumerate() {
                let loaded = self.load(e, &place(*n, first));
                let dot = self.multiply(e, &loaded, &inputs);
                let stored = k.let_("scale", scale(self.scheme, self.scales.at(place(*n, group)).load()));
                let i = k.int(i as i64);
                let mut next = dot.mad(stored.cast(DType::F32), acc.get([i]));
                if let (Some(biases), Some(sum)) = (self.biases, sum) {
                    let bias = biases.at(place(*n, group)).load().cast(DType::F32);
                    next = bias.mad(sum, next);
                }
                acc.set([i], next);
            }
            Ok(())
        })?;
        Ok((0..rows.len()).map(|i| k.bound("own", acc.get([k.int(i as i64)]))).collect())
    }

    /// The words of a run.
    fn load(&self, e: &Emitter<'k, '_>, at: &[Ix<'k>]) -> Vec<Val<'k>> {
        let k = e.k;
        let words = self.run.1;
        let vector = if matches!(words, 2 | 4) { words } else { 1 };
        if vector > 1 {
            let all = k.let_("words", self.words.at(at).vec(vector as u8).load());
            return (0..words).map(|i| all.extract(k.int(i))).collect();
        }
        let (last, lead) = at.split_last().expect("words have axes");
        let word = |i: i64| {
            let mut at = lead.to_vec();
            at.push(*last + i);
            k.let_("w", self.words.at(&at).load())
        };
        (0..words).map(word).collect()
    }

    /// The dot product of a run's codes with its inputs, four at a time.
    fn multiply(&self, e: &Emitter<'k, '_>, words: &[Val<'k>], inputs: &[Val<'k>]) -> Val<'k> {
        let k = e.k;
        let bits = i64::from(self.scheme.bits());
        let (block_codes, block_words) = self.scheme.block();
        let (block_codes, block_words) = (i64::from(block_codes), i64::from(block_words));
        let four = Type::vector(DType::U32, TILE as u8);
        let total = k.var("dots", k.constant(0.0, DType::F32).splat(TILE as u8));
        for (j, x) in inputs.iter().enumerate() {
            let slot = j as i64 * TILE;
            let (block, slot) = (slot / block_codes, slot % block_codes);
            let own = &words[(block * block_words) as usize..((block + 1) * block_words) as usize];
            let code = if 32 % bits == 0 {
                // Four codes of one word.
                let (word, shift) = (slot * bits / 32, slot * bits % 32);
                let shifts = k.table(four, |l| l * bits + shift);
                let mask = k.int_constant((1 << bits) - 1, DType::U32).splat(TILE as u8);
                (own[word as usize].splat(TILE as u8) >> shifts) & mask
            } else {
                let codes: Vec<Val<'k>> =
                    (0..TILE).map(|l| field(k, own, (slot + l) as u32, self.scheme.bits())).collect();
                k.vector(&codes)
            };
            let value = k.let_("codes", decode(self.scheme, k.let_("bits", code)));
            total.set(value.mad(*x, total.get()));
        }
        k.let_("partial", total.get().hsum())
    }
}
