//! Loops over the vectors of a row, in blocks of several where the row is several whole blocks.
//!
//! The vectors of a block do not wait for each other, so their latencies overlap; and what they store is stored
//! together, a run of whole cache lines.

use crate::lower::coord::Coord;
use crate::lower::emit::{Emitter, Lowered};
use mlxc_ir::kernel::{Ix, KernelBuilder, Reg, Val, Var};
use mlxc_ir::{Range, Size};

/// Vectors of a block: as many as hide the latency of a sum, few enough that their values stay in registers.
const VECTORS: i64 = 4;

/// The vectors of one iteration.
pub(super) struct Block {
    /// The first one's place, with its lane.
    first: Coord,
    /// How many.
    pub(super) vectors: u32,
    /// Every lane is an element.
    pub(super) full: bool,
    /// The loop may be split further.
    splits: bool,
}

impl Block {
    /// Emits for each vector; `body` gets its place with its lane, and its number.
    pub(super) fn each<'k>(
        &self,
        e: &mut Emitter<'k, '_>,
        body: &mut dyn FnMut(&mut Emitter<'k, '_>, Coord, Ix<'k>) -> Lowered<()>,
    ) -> Lowered<()> {
        let mut at = |e: &mut Emitter<'k, '_>, c: Coord, number: Ix<'k>| {
            if self.splits {
                e.columns.extend_from_slice(&c.terms);
            }
            body(e, c, number)
        };
        if self.vectors == 1 {
            let number = e.k.int(0);
            return at(e, self.first.clone(), number);
        }
        let (count, width) = (i64::from(self.vectors), i64::from(e.width));
        let hi = e.k.int(count);
        e.each("i", hi, Range::new(0, count - 1), 1, true, |e, i| {
            let number = e.ix(&i);
            at(e, self.first.plus(&i, width), number)
        })
    }
}

impl<'k> Emitter<'k, '_> {
    /// Vectors of each block over an extent: one where there would not be several whole blocks.
    pub(super) fn block_vectors(&self, extent: &Size) -> u32 {
        let block = VECTORS * i64::from(self.width);
        if self.width > 1 && extent.as_const().is_some_and(|n| n > block && n % block == 0) {
            VECTORS as u32
        } else {
            1
        }
    }

    /// As [`Emitter::vector_loop`], in blocks and from `base` on.
    pub(super) fn block_loop(
        &mut self,
        name: &str,
        extent: &Size,
        base: &Coord,
        body: &mut dyn FnMut(&mut Self, Block) -> Lowered<()>,
    ) -> Lowered<()> {
        let vectors = self.block_vectors(extent);
        let block = |c: Coord, full| Block { first: base.plus(&c, 1), vectors, full, splits: false };
        if vectors == 1 {
            return self.vector_loop(name, extent, &mut |e, c, full| body(e, block(c, full)));
        }
        let (hi, step) = (self.size(extent)?, i64::from(vectors) * i64::from(self.width));
        let most = self.size_max(extent) as i64;
        let lane = self.lane();
        self.each(name, hi, Range::new(0, most - step), step, false, |e, c| body(e, block(c.plus(&lane, 1), true)))
    }

    /// As [`Emitter::split_vector_loop`], in blocks.
    pub(super) fn split_block_loop(
        &mut self,
        name: &str,
        extent: &Size,
        factors: &[i64],
        body: &mut dyn FnMut(&mut Self, Block) -> Lowered<()>,
    ) -> Lowered<()> {
        self.split_parts(extent, factors, Coord::constant(0), &mut |e, extent, base| {
            e.block_loop(name, extent, &base, &mut |e, block| body(e, Block { splits: true, ..block }))
        })
    }
}

/// A variable for each vector of a block.
pub(super) enum Running<'k> {
    /// Of the only vector.
    One(Var<'k>),
    /// Of so many vectors.
    Each(Reg<'k>, u32),
}

impl<'k> Running<'k> {
    pub(super) fn new(k: &'k KernelBuilder, name: &str, start: Val<'k>, vectors: u32) -> Self {
        match vectors {
            1 => Running::One(k.var(name, start)),
            n => Running::Each(k.reg(name, start.ty(), &[n], Some(start)), n),
        }
    }

    pub(super) fn get(&self, number: Ix<'k>) -> Val<'k> {
        match self {
            Running::One(var) => var.get(),
            Running::Each(reg, _) => reg.get([number]),
        }
    }

    pub(super) fn set(&self, number: Ix<'k>, value: Val<'k>) {
        match self {
            Running::One(var) => var.set(value),
            Running::Each(reg, _) => reg.set([number], value),
        }
    }

    /// All of them in one, in pairs.
    pub(super) fn combined(&self, k: &'k KernelBuilder, combine: impl Fn(Val<'k>, Val<'k>) -> Val<'k>) -> Val<'k> {
        let count = if let Running::Each(_, n) = self { i64::from(*n) } else { 1 };
        let mut left: Vec<_> = (0..count).map(|i| self.get(k.int(i))).collect();
        while left.len() > 1 {
            left = left.chunks(2).map(|p| if let [a, b] = p { combine(*a, *b) } else { p[0] }).collect();
        }
        left[0]
    }
}
