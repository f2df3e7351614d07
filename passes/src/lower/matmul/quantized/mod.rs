//! Products with quantised rows, kept in the checkpoint's own order.
//!
//! Codes multiply as the exact small numbers they are; scale and bias are applied once a group, to the dot product and to
//! the sum of the group's inputs: `Σ x (s c + b) = s Σ x c + b Σ x`. So no weight is rounded, and
//! activations only where they become digits (`digits.rs`).
//!
//! One row reads each weight row as a stream of words. A word holds several codes, so the row of inputs is permuted
//! once a task instead of the codes: input `(step, lane, slot)` stands where the words' lanes and bit positions meet it.
//! More rows unpack a stretch of codes into panels in group memory, which serve every tile of rows of the task.

mod digits;
mod row;
mod rows;

pub(super) use row::Row;
pub(super) use rows::Rows;

use super::rows::{BLOCK, Shape, even, register_rows};
use super::{is_weight, pair, tiles};
use crate::lower::emit::{Emitter, Lowered};
use mlxc_ir::graph::{Function, Node, Op, ValueId};
use mlxc_ir::kernel::{Access, Buf, Ix, Type, Val};
use mlxc_ir::profile::{Feature, TargetKind};
use mlxc_ir::{DType, QuantMode, Scheme, Size, TargetProfile};

/// A quantised weight `[N, K]`, or matrices `[E, N, K]` of which each batch takes the one its index names.
#[derive(Clone, Debug)]
pub(crate) struct Weight {
    /// The indices, and the value they pick from.
    pub picked: Option<(ValueId, ValueId)>,
    pub scheme: Scheme,
    pub words: ValueId,
    pub scales: ValueId,
    pub biases: Option<ValueId>,
    /// Inputs are rounded to 8-bit integers.
    pub int8: bool,
}

/// True if a product with 8-bit activations ([`Op::Int8MatMul`]) has a kernel of such products.
pub(crate) fn multiplies_int8(f: &Function, profile: &TargetProfile, node: u32) -> bool {
    let (n, ranges) = (&f.nodes[node as usize], f.ranges());
    let (product, a) = (&n.types[0], f.ty(n.inputs[0]));
    let rows = product.shape[product.rank() - 2].bounds(&ranges).hi;
    let k = a.shape[a.rank() - 1].as_const().unwrap_or(1);
    let tiled = tiles::shape_of(profile, product.dtype, rows, k).is_some();
    let weight = operand(f, node).filter(|_| profile.kind == TargetKind::Cpu);
    weight.is_some_and(|w| w.digits(profile, product.dtype, super::lanes(profile), tiled).is_some())
}

/// The quantised weight a product reads as its right factor.
pub(crate) fn operand(f: &Function, node: u32) -> Option<Weight> {
    let n = &f.nodes[node as usize];
    let int8 = matches!(n.op, Op::Int8MatMul { .. });
    if !int8 && n.op != (Op::MatMul { transpose_a: false, transpose_b: true }) {
        return None;
    }
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
    // Kernels round by the weight's groups.
    if matches!(n.op, Op::Int8MatMul { group } if group != scheme.group()) {
        return None;
    }
    let weights = b.inputs.iter().all(|v| is_weight(f, *v).is_some());
    let (words, scales, biases) = (b.inputs[0], b.inputs[1], b.inputs.get(2).copied());
    (weights && product.dtype != DType::F64).then_some(Weight { picked, scheme, words, scales, biases, int8 })
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
        if let Some(tile) = tile.filter(|t| self.scheme.group().is_multiple_of(u32::from(t.depth))) {
            let mut s = tiles::shape(e, tile, rows, k, i64::from(self.scheme.group()));
            let (codes, words) = self.scheme.block();
            let stretch = s.lanes * i64::from(codes);
            // Halves of a word meet in a pair, where whole vectors of words are unpacked with a table.
            if words == 1 && matches!(self.scheme.bits(), 2 | 4) && s.chunk % stretch == 0 && k % stretch == 0 {
                s.apart = i64::from(codes) / 2;
            }
            return s;
        }
        let lanes = i64::from(e.width);
        let (digits, apart) = self.digits(profile, dtype, lanes, tile.is_some()).unwrap_or((0, 1));
        let pair = if digits > 0 { 4 } else { pair(profile, dtype) };
        // Sums of digits stand beside the products of a group, and its scales and biases beside the columns.
        let tallest =
            if digits > 0 { ((i64::from(profile.registers) - 7) / 4).max(1) } else { register_rows(profile, BLOCK) };
        let (tiles, mr) = even(most.min(BLOCK), tallest);
        // A stretch of codes of two vectors is 64 KiB, one of bytes half of it.
        let bytes = 4 / pair;
        let stretch = if digits > 0 { 32 << 10 } else { 64 << 10 };
        let widest = stretch / (2 * lanes * bytes) / 128 * 128;
        let chunk = if most == 1 { k } else { k.min(widest.max(128)) };
        let room = (profile.limits.group_bytes as i64 / 2).max(1);
        let row_bytes = chunk * bytes * digits.max(1);
        let tiles = tiles.min(room / (mr * row_bytes).max(1)).max(1);
        Shape { rows, k, dtype, mr, tiles, lanes, pair, chunk, apart, digits, tile: None }
    }

    /// The digits of inputs and what codes of a step stand apart, if products of 8-bit integers take the least time. Those
    /// that matrix tiles could multiply are left to them, rounded or not.
    pub(super) fn digits(&self, profile: &TargetProfile, dtype: DType, lanes: i64, tiled: bool) -> Option<(i64, i64)> {
        let apart = digits::apart(self.scheme)?;
        let rates = &profile.rates;
        let others = if pair(profile, dtype) == 2 { rates.bf16_flops } else { rates.f32_flops };
        let fits = profile.has(Feature::Int8Dot) && lanes % (4 * apart) == 0 && !tiled;
        if self.int8 {
            return fits.then_some((1, apart));
        }
        // As much again as a digit pays for the splitting.
        let least = (digits::EXACT + 1) as f64 * others;
        (fits && rates.int8_ops > least).then_some((digits::EXACT, apart))
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

    /// bf16 values of the codes, repeated so that only a code's own bits choose.
    fn table(&self, e: &Emitter<'k, '_>, s: &Shape) -> Option<Val<'k>> {
        if s.pair != 2 || s.digits > 0 || !matches!(self.scheme.bits(), 2 | 4) {
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
}
