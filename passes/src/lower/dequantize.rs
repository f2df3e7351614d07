//! Values of quantised rows: fields of words, codes as floats, stored scales as floats.

use crate::lower::coord::Coord;
use crate::lower::elementwise::compute;
use crate::lower::emit::{Emitter, Lowered};
use mlxc_ir::graph::{Op, ValueId};
use mlxc_ir::kernel::{KernelBuilder, Type, Val};
use mlxc_ir::{DType, QuantMode, Range, Scheme};

/// Code `slot` of a block of u32 words (or of vectors of such blocks).
pub(super) fn field<'k>(k: &'k KernelBuilder, words: &[Val<'k>], slot: u32, bits: u32) -> Val<'k> {
    let (word, shift) = ((slot * bits / 32) as usize, slot * bits % 32);
    let constant = |v: u32| constant_like(k, words[word], i64::from(v));
    let low = if shift == 0 { words[word] } else { words[word] >> constant(shift) };
    if shift + bits == 32 {
        return low;
    }
    let joined = if shift + bits > 32 { low | (words[word + 1] << constant(32 - shift)) } else { low };
    joined & constant((1 << bits) - 1)
}

fn constant_like<'k>(k: &'k KernelBuilder, like: Val<'k>, value: i64) -> Val<'k> {
    let c = k.int_constant(value, like.dtype());
    if like.ty().lanes() == 1 { c } else { c.splat(like.ty().lanes()) }
}

/// The f32 value of a u32 code before its scale.
pub(super) fn decode<'k>(scheme: Scheme, code: Val<'k>) -> Val<'k> {
    match scheme.mode() {
        // A code fits an i32, whose conversion every target has.
        QuantMode::Affine => code.bits(like(code, DType::I32)).cast(DType::F32),
        QuantMode::Mxfp8 => small_float(code, 3, 7),
        QuantMode::Mxfp4 | QuantMode::Nvfp4 => small_float(code, 1, 1),
    }
}

/// Stored scales as f32.
pub(super) fn scale<'k>(scheme: Scheme, stored: Val<'k>) -> Val<'k> {
    let k = stored.builder();
    match scheme.mode() {
        QuantMode::Affine => stored.cast(DType::F32),
        QuantMode::Nvfp4 => small_float(stored.cast(DType::U32), 3, 7),
        QuantMode::Mxfp4 | QuantMode::Mxfp8 => {
            // E8M0: an exponent alone; the smallest is a subnormal.
            let exponent = stored.cast(DType::U32);
            let zero = exponent.eq(constant_like(k, exponent, 0));
            let bits = exponent << constant_like(k, exponent, 23);
            zero.select(constant_like(k, exponent, 0x0040_0000), bits).bits(like(exponent, DType::F32))
        }
    }
}

fn like(v: Val<'_>, dtype: DType) -> Type {
    if v.ty().lanes() == 1 { Type::scalar(dtype) } else { Type::vector(dtype, v.ty().lanes()) }
}

/// A small float in the low bits of a u32: its bits at f32's place, and the exponents' bias made good by a factor.
fn small_float<'k>(code: Val<'k>, mantissa: u32, bias: i32) -> Val<'k> {
    let k = code.builder();
    let code = k.let_("code", code);
    let exponent_bits = if mantissa == 3 { 4 } else { 2 };
    let magnitude = constant_like(k, code, (1 << (mantissa + exponent_bits)) - 1);
    let sign = constant_like(k, code, 1 << (mantissa + exponent_bits));
    let place = constant_like(k, code, i64::from(23 - mantissa));
    let to_sign = constant_like(k, code, i64::from(31 - mantissa - exponent_bits));
    let float = like(code, DType::F32);
    let factor = k.constant(f64::from(127 - bias).exp2(), DType::F32);
    let factor = if code.ty().lanes() == 1 { factor } else { factor.splat(code.ty().lanes()) };
    let value = ((code & magnitude) << place).bits(float) * factor;
    (value.bits(like(code, DType::U32)) | ((code & sign) << to_sign)).bits(float)
}

impl<'k> Emitter<'k, '_> {
    /// The value of a dequantised row at coordinates.
    pub(super) fn dequantized(&mut self, v: ValueId, coords: &[Coord]) -> Lowered<Val<'k>> {
        let f = self.f;
        let node = f.node(v);
        let Op::Dequantize { scheme, dtype } = node.op else { unreachable!("called for dequantize") };
        let acc = compute(dtype);
        let n = coords.len();
        let place = |last: Coord| {
            let mut at = coords[..n - 1].to_vec();
            at.push(last);
            at
        };
        let Some(code) = self.codes(v, coords, scheme)? else {
            return self.each_lane(coords, |e, c| e.emit(v, c));
        };
        let value = decode(scheme, code);
        let value = self.k.let_("code_value", value);
        let base = self.base(&coords[n - 1..])[0].clone();
        let (group, _) = self.space.div_rem(&base, i64::from(scheme.group()));
        let at = place(group);
        let scales = self.emit(node.inputs[1], &at)?;
        let scales = if scheme.has_biases() { scales } else { scale(scheme, scales) };
        let wide =
            |x: Val<'k>| if value.ty().lanes() > 1 && x.ty().lanes() == 1 { x.splat(value.ty().lanes()) } else { x };
        let (value, scales) = (value.cast(acc), wide(scales.cast(acc)));
        let out = match node.inputs.get(2) {
            Some(biases) => {
                let biases = self.emit(*biases, &at)?;
                value.mad(scales, wide(biases.cast(acc)))
            }
            None => value * scales,
        };
        self.count(4.0, coords);
        Ok(self.rounded(out, dtype))
    }

    /// The codes at coordinates, as u32; `None` where the lanes do not lie in one run of whole words of one group.
    fn codes(&mut self, v: ValueId, coords: &[Coord], scheme: Scheme) -> Lowered<Option<Val<'k>>> {
        let words = self.f.node(v).inputs[0];
        let n = coords.len();
        let bits = i64::from(scheme.bits());
        if !self.is_vector(coords) {
            let (codes, per_block) = scheme.block();
            let (codes, per_block) = (i64::from(codes), i64::from(per_block));
            let (block, slot) = self.space.div_rem(&coords[n - 1], codes);
            let (word, shift) = self.space.div_rem(&slot.scale(bits), 32);
            let at = |e: &mut Self, word: Coord| {
                let mut at = coords[..n - 1].to_vec();
                at.push(block.scale(per_block).plus(&word, 1));
                e.emit(words, &at)
            };
            let low = at(self, word.clone())?;
            let amount = self.ix(&shift).to_val(DType::U32);
            let mut code = low >> amount;
            if per_block > 1 {
                // The rest of a code that crosses words; the last word of a block has no next.
                let next = self.ix(&word) + 1;
                let next = next.min(self.k.int(per_block - 1));
                let next = self.index(next, Range::new(0, per_block - 1), 1);
                let high = at(self, next)?;
                let one = self.k.int_constant(1, DType::U32);
                let back = self.k.int_constant(31, DType::U32) - amount;
                code = code | ((high << one) << back);
            }
            return Ok(Some(code & self.k.int_constant((1 << bits) - 1, DType::U32)));
        }
        let w = i64::from(self.width);
        let per_word = 32 / bits;
        let run = self.is_contiguous(coords) && self.tail.is_none() && 32 % bits == 0;
        if !run || w % per_word != 0 || i64::from(scheme.group()) % w != 0 {
            return Ok(None);
        }
        let base = self.base(&coords[n - 1..])[0].clone();
        let aligned = self.space.div_rem(&base, w).1.as_const() == Some(0);
        let (word, _) = self.space.div_rem(&base, per_word);
        let in_memory = matches!(self.f.node(words).op, Op::Param(_)) && !self.is_vector(&coords[..n - 1]);
        if !aligned || !in_memory {
            return Ok(None);
        }
        let count = (w / per_word) as u8;
        let mut at = coords[..n - 1].to_vec();
        at.push(word);
        let loaded = self.load_run(words, &at, count)?;
        let spread =
            if count == 1 { loaded.splat(self.width) } else { loaded.shuffle(self.width, |l| l.div(per_word)) };
        let shifts = self.k.table(Type::vector(DType::U32, self.width), |l| l.rem(per_word) * bits);
        Ok(Some((spread >> shifts) & constant_like(self.k, spread, (1 << bits) - 1)))
    }
}
