//! Inputs as 8-bit integers, for targets that multiply four of them with four codes in one instruction.
//!
//! The inputs of a group share a scale, its largest magnitude / 127, and each is written in digits of base 128: nearest
//! integers `d` from -127 to 127 with `x = scale * (d0 + d1 / 128 + d2 / 128²)`. One digit is what 8-bit activations are
//! (`Op::Int8MatMul`). Three leave an error of about 2^-21 of the group's largest input, and cost less than floats where integers
//! multiply more than four times as fast. Sums of integers are exact. Groups whose largest is below 2^-100 count as zeros.
//!
//! A step of four codes is a byte of a word and its neighbours: codes that stand `apart` from each other in the row.

use crate::lower::coord::Coord;
use crate::lower::emit::{Emitter, Lowered};
use crate::lower::matmul::rows::Shape;
use mlxc_ir::graph::ValueId;
use mlxc_ir::kernel::{Group, KernelBuilder, Type, Val};
use mlxc_ir::quantize::{INT8_LARGEST, INT8_LEAST};
use mlxc_ir::{DType, Range, Scheme};

/// Digits that stand for an f32.
pub(super) const EXACT: i64 = 3;
/// One digit is worth so many of the next.
const BASE: f64 = 128.0;
/// Added to an f32 below 2^22, it leaves the nearest integer in the low bits.
const TO_INTEGER: f64 = 12_582_912.0;

/// Codes from one of a step's four to the next, or nothing where codes are no integers or a word's bytes do not hold whole ones.
pub(super) fn apart(scheme: Scheme) -> Option<i64> {
    (scheme.has_biases() && matches!(scheme.bits(), 2 | 4 | 8)).then(|| 8 / i64::from(scheme.bits()))
}

/// Step `j` of the codes of words: four of u8 in each lane.
pub(super) fn codes<'k>(k: &'k KernelBuilder, scheme: Scheme, words: Val<'k>, j: i64) -> Val<'k> {
    let lanes = words.ty().lanes();
    let constant = |v: i64| k.int_constant(v, DType::U32).splat(lanes);
    let bits = i64::from(scheme.bits());
    let low = if j == 0 { words } else { words >> constant(j * bits) };
    if bits == 8 { low } else { low & constant(((1 << bits) - 1) * 0x0101_0101) }
}

/// `sum + codes * inputs`, four products in each lane.
pub(super) fn dot<'k>(sum: Val<'k>, codes: Val<'k>, inputs: Val<'k>) -> Val<'k> {
    let four = |dtype| Type::vector(dtype, 4 * codes.ty().lanes());
    sum.dot4(codes.bits(four(DType::U8)), inputs.bits(four(DType::I8)))
}

/// One sum from those of each digit, in units of the last digit. Sums of one word's codes leave room for it.
pub(super) fn joined<'k>(k: &'k KernelBuilder, sums: &[Val<'k>]) -> Val<'k> {
    let seven = k.int_constant(7, DType::I32).splat(sums[0].ty().lanes());
    sums[1..].iter().fold(sums[0], |high, low| (high << seven) + *low)
}

/// What digit `d` counts of the scale.
pub(super) fn weight(d: i64) -> f64 {
    BASE.powi(-(d as i32))
}

/// A group's scale, and the sum of what its digits stand for.
pub(super) struct Split<'k> {
    pub scale: Val<'k>,
    pub sum: Val<'k>,
}

/// Writes the inputs of a group of a row, from column `from` on, in digits. `store` gets each vector of them: its number in
/// the group, the digit, and its words, ordered by step and then by the word of codes that they meet.
pub(super) fn split<'k>(
    e: &mut Emitter<'k, '_>,
    a: ValueId,
    s: &Shape,
    row: &[Coord],
    (from, group): (&Coord, i64),
    inputs: Group<'k>,
    store: &mut dyn FnMut(&mut Emitter<'k, '_>, &Coord, i64, Val<'k>) -> Lowered<()>,
) -> Lowered<Split<'k>> {
    let (k, w) = (e.k, s.lanes);
    let lanes = w as u8;
    let vectors = group / w;
    let zero = k.constant(0.0, DType::F32);
    let largest = k.var("largest", zero.splat(lanes));
    let total = k.var("sum", zero.splat(lanes));
    let exact = s.digits > 1;
    let hi = k.int(vectors);
    e.each("v", hi, Range::new(0, vectors - 1), 1, false, |e, v| {
        let mut place = row.to_vec();
        place.push(from.plus(&v, w).plus(&e.lane(), 1));
        let value = e.emit(a, &place)?;
        let value = if value.ty().lanes() == 1 { value.splat(lanes) } else { value };
        let value = if s.dtype == DType::BF16 { value.cast(DType::BF16) } else { value };
        let value = k.let_("x", value.cast(DType::F32));
        largest.set(largest.get().max(value.abs()));
        if exact {
            total.set(total.get() + value);
        }
        let v = e.ix(&v);
        inputs.at([v * w]).vec(lanes).store(value);
        Ok(())
    })?;
    let largest = k.let_("largest", largest.get().hmax());
    let constant = |v: f64| k.constant(v, DType::F32);
    let none = k.let_("none", largest.lt(constant(f64::from(INT8_LEAST))));
    let most = f64::from(INT8_LARGEST);
    let per = k.let_("per", none.select(zero, constant(most) / largest));
    let scale = k.let_("scale", none.select(zero, largest * constant(f64::from(1.0 / INT8_LARGEST))));
    let hi = k.int(vectors);
    e.each("v", hi, Range::new(0, vectors - 1), 1, false, |e, v| {
        let at = e.ix(&v);
        let x = inputs.at([at * w]).vec(lanes).load();
        let mut rest = k.let_("rest", x * per.splat(lanes));
        let round = constant(TO_INTEGER).splat(lanes);
        // Words that the vector's inputs meet; each has a step for every `apart`.
        let (apart, words) = (s.apart, w / (4 * s.apart));
        for d in 0..s.digits {
            let rounded = k.let_("rounded", rest + round);
            let digit = k.let_("digit", rounded - round);
            if !exact {
                total.set(total.get() + digit);
            }
            let bytes = rounded.bits(Type::vector(DType::U32, lanes)).cast(DType::U8);
            let ordered = bytes.shuffle(lanes, |l| {
                let (step, word, i) = (l.div(4 * words), l.div(4).rem(words), l.rem(4));
                word * (4 * apart) + step + i * apart
            });
            let packed = k.let_("packed", ordered.bits(Type::vector(DType::U32, lanes / 4)));
            store(e, &v, d, packed)?;
            rest = k.let_("rest", (rest - digit) * constant(BASE).splat(lanes));
        }
        Ok(())
    })?;
    let sum = total.get().hsum();
    Ok(Split { scale, sum: if exact { sum } else { sum * scale } })
}
