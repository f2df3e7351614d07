//! Random bits as arithmetic on the number of an element: threefry2x32 in MLX's order, as the interpreter's `random` has it.

use crate::lower::coord::Coord;
use crate::lower::emit::{Emitter, Lowered};
use mlxc_ir::graph::ValueId;
use mlxc_ir::graph::interpret::random::{PARITY, ROTATIONS};
use mlxc_ir::kernel::Val;
use mlxc_ir::{DType, Size};

/// Operations of one hash, for the cost model.
const HASH_FLOPS: f64 = 110.0;

impl<'k> Emitter<'k, '_> {
    pub(super) fn random_bits(&mut self, v: ValueId, shape: &[Size], width: u32, coords: &[Coord]) -> Lowered<Val<'k>> {
        let (batch, inside) = coords.split_at(coords.len() - shape.len());
        if self.is_vector(batch) {
            return self.each_lane(coords, |e, c| e.emit(v, c));
        }
        let k = self.k;
        let keys = self.f.node(v).inputs[0];
        let mut key = Vec::with_capacity(2);
        for i in 0..2 {
            let mut at = batch.to_vec();
            at.push(Coord::constant(i));
            let word = self.emit(keys, &at)?;
            key.push(k.let_("key", word));
        }
        let u32 = |n: u32| k.int_constant(n.into(), DType::U32);
        // The number of the element within its key's, by wrapping arithmetic: shapes may be products of symbols.
        let (mut number, mut count) = (u32(0), u32(1));
        for (d, c) in shape.iter().zip(inside) {
            let extent = self.size(d)?.to_val(DType::U32);
            let c = self.iota(c, DType::U32)?;
            let scaled = self.both(number, extent, |a, b| a * b);
            number = self.both(scaled, c, |a, b| a + b);
            count = count * extent;
        }
        let words = k.let_("words", (count * u32(width) + u32(3)) / u32(4));
        let odd = words & u32(1);
        let half = words / u32(2);
        let split = k.let_("split", half + odd);
        let number = k.let_("number", number);
        let per_word = 4 / width;
        let word = if per_word == 1 { number } else { k.let_("word", number / self.like(u32(per_word), number)) };
        let fit = |e: &Self, x: Val<'k>| e.like(x, word);
        let first = k.let_("first", word.lt(fit(self, split)));
        let low = first.select(word, word - fit(self, split));
        let high = first.select(word + fit(self, split), word);
        // An odd word in the middle has a hash of its own.
        let alone = word.eq(fit(self, half)) & fit(self, odd).ne(fit(self, u32(0)));
        let high = alone.select(fit(self, u32(0)), high);
        self.count(HASH_FLOPS, coords);
        let (a, b) = self.threefry2x32([key[0], key[1]], low, high);
        let bits = first.select(a, b);
        if width == 4 {
            return Ok(bits);
        }
        let part = number % self.like(u32(per_word), number);
        let shifted = bits >> (part * self.like(u32(8 * width), number));
        let dtype = self.f.ty(v).dtype;
        let mask = self.like(u32((1 << (8 * width)) - 1), number);
        Ok((shifted & mask).cast(dtype))
    }

    fn like(&self, x: Val<'k>, other: Val<'k>) -> Val<'k> {
        if x.ty().lanes() == other.ty().lanes() { x } else { x.splat(other.ty().lanes()) }
    }

    fn both(&self, a: Val<'k>, b: Val<'k>, f: impl Fn(Val<'k>, Val<'k>) -> Val<'k>) -> Val<'k> {
        let wide = if a.ty().lanes() >= b.ty().lanes() { a } else { b };
        f(self.like(a, wide), self.like(b, wide))
    }

    fn threefry2x32(&self, key: [Val<'k>; 2], low: Val<'k>, high: Val<'k>) -> (Val<'k>, Val<'k>) {
        let k = self.k;
        let u32 = |n: u32| self.like(k.int_constant(n.into(), DType::U32), low);
        let parity = k.let_("parity", key[0] ^ key[1] ^ k.int_constant(PARITY.into(), DType::U32));
        let keys = [key[0], key[1], parity].map(|x| self.like(x, low));
        let (mut a, mut b) = (k.let_("a", low + keys[0]), k.let_("b", high + keys[1]));
        for group in 0..5u32 {
            for r in ROTATIONS[group as usize % 2] {
                a = k.let_("a", a + b);
                let turned = (b << u32(r)) | (b >> u32(32 - r));
                b = k.let_("b", turned ^ a);
            }
            let at = group as usize;
            a = k.let_("a", a + keys[(at + 1) % 3]);
            b = k.let_("b", b + keys[(at + 2) % 3] + u32(group + 1));
        }
        (a, b)
    }
}
