//! Values of types that the target does not store: every value, local and register of such a type becomes a 32-bit
//! *carrier*, `u32` with the bits zero-extended or `i32` sign-extended for signed integers. The narrow type stays in
//! memory only. A load is `u32(as<u16>(x[…]))` or `u32(x[…])`, a store `x[…] = as<bf16>(u16(v))` or `x[…] = u8(v)`;
//! [`super::words`] finds these forms, and a writer prints them as accesses of words.

use std::collections::BTreeMap;

use mlxc_ir::kernel::{BinaryOp, ExprId, ExprKind, FoldOp, Kernel, Local, LocalId, Stmt, SubgroupOp, Type, UnaryOp};
use mlxc_ir::profile::TargetProfile;
use mlxc_ir::{DType, Diagnostic};
use smallvec::SmallVec;

use crate::legalise::refuse;
use crate::legalise::rewrite::{Rule, Site, rewrite};

pub(super) fn run(kernel: &mut Kernel, profile: &TargetProfile) -> Result<(), Diagnostic> {
    let narrow = |d: DType| is_narrow(profile, d);
    let mut locals = BTreeMap::new();
    for (i, Local { ty, .. }) in kernel.locals.iter_mut().enumerate() {
        if narrow(ty.dtype()) && !ty.is_tile() {
            locals.insert(LocalId::new(i), *ty);
            *ty = ty.with_dtype(carrier(ty.dtype()));
        }
    }
    rewrite(kernel, &mut Carriers { narrow: &narrow, locals, types: BTreeMap::new() })
}

/// True for types of less than 32 bits that the target cannot store.
pub(super) fn is_narrow(profile: &TargetProfile, dtype: DType) -> bool {
    dtype != DType::Bool && dtype.bytes() < 4 && !profile.storage.contains(&dtype)
}

/// What values of a narrow type are held in.
fn carrier(dtype: DType) -> DType {
    if dtype.is_signed_int() { DType::I32 } else { DType::U32 }
}

struct Carriers<'n> {
    narrow: &'n dyn Fn(DType) -> bool,
    /// Types that locals had.
    locals: BTreeMap<LocalId, Type>,
    /// Types that values had.
    types: BTreeMap<ExprId, Type>,
}

impl Rule for Carriers<'_> {
    fn expression(&mut self, at: &mut Site<'_>, id: ExprId) -> Result<ExprId, Diagnostic> {
        let expr = at.kernel.expr(id).clone();
        let ty = match &expr.kind {
            ExprKind::Get(local, _) => self.locals.get(local).copied().unwrap_or(expr.ty),
            _ => expr.ty,
        };
        let (to, is_narrow) = (ty.dtype(), (self.narrow)(ty.dtype()));
        let wide = ty.with_dtype(carrier(to));
        let new = match expr.kind {
            ExprKind::Cast(a) => self.cast(at, a, ty)?.unwrap_or(id),
            ExprKind::Bits(a) => self.bits(at, a, ty)?.unwrap_or(id),
            _ if !is_narrow => return Ok(id),
            ExprKind::Load(..) => loaded(at, id, wide),
            ExprKind::Const(bits) => {
                let bits = match to.is_signed_int() {
                    true => extended(bits, to),
                    false => bits,
                };
                at.kernel.push_expr(ExprKind::Const(bits), wide)
            }
            ExprKind::FromIndex(_) | ExprKind::Table(_) => {
                let value = at.kernel.push_expr(expr.kind, wide);
                wrapped(at, value, to)
            }
            ExprKind::Unary(UnaryOp::Neg | UnaryOp::Not | UnaryOp::Abs, _)
            | ExprKind::Binary(BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Shl, ..)
            | ExprKind::Lanes(FoldOp::Add, ..)
            | ExprKind::Subgroup(SubgroupOp::Fold(FoldOp::Add), _) => {
                let value = at.kernel.push_expr(expr.kind, wide);
                wrapped(at, value, to)
            }
            ExprKind::Arg(_) | ExprKind::Lut(..) => return Err(refuse(at.kernel, format!("a value of {ty}"))),
            kind => at.kernel.push_expr(kind, wide),
        };
        self.types.insert(new, ty);
        Ok(new)
    }

    fn statement(&mut self, at: &mut Site<'_>, stmt: Stmt) -> Result<Option<Stmt>, Diagnostic> {
        let Stmt::Store { place, value, nontemporal } = stmt else { return Ok(Some(stmt)) };
        let ty = at.kernel.place_type(&place);
        if !(self.narrow)(ty.dtype()) {
            return Ok(Some(Stmt::Store { place, value, nontemporal }));
        }
        let value = if ty.dtype().is_float() {
            let half = at.cast(value, DType::U16);
            at.kernel.push_expr(ExprKind::Bits(half), ty)
        } else {
            at.cast(value, ty.dtype())
        };
        Ok(Some(Stmt::Store { place, value, nontemporal }))
    }
}

impl Carriers<'_> {
    /// The type a value had.
    fn ty(&self, kernel: &Kernel, id: ExprId) -> Type {
        self.types.get(&id).copied().unwrap_or(kernel.expr(id).ty)
    }

    /// A value cast from or to a narrow type; `None` for other casts.
    fn cast(&self, at: &mut Site<'_>, a: ExprId, ty: Type) -> Result<Option<ExprId>, Diagnostic> {
        let (from, to) = (self.ty(at.kernel, a).dtype(), ty.dtype());
        let [of_narrow, to_narrow] = [from, to].map(|d| (self.narrow)(d));
        if !of_narrow && !to_narrow {
            return Ok(None);
        }
        let half = |d: DType, narrow: bool| narrow && d.is_float();
        if half(from, of_narrow) || half(to, to_narrow) {
            // Others were made of integers by `convert`, or go through f32 by `half`.
            return match (from, to) {
                (DType::BF16, DType::F32) => {
                    let sixteen = at.constant(16, ty.with_dtype(DType::U32));
                    let word = at.binary(BinaryOp::Shl, a, sixteen);
                    Ok(Some(at.kernel.push_expr(ExprKind::Bits(word), ty)))
                }
                (from, to) if from == to => Ok(Some(a)),
                _ => Err(refuse(at.kernel, format!("a cast of {from} to {to}"))),
            };
        }
        let value = at.cast(a, if to_narrow { carrier(to) } else { to });
        // Whatever floats and predicates become is in range by now, and so is what a narrower type holds.
        let fits = !from.is_int() || of_narrow && from.bytes() < to.bytes() && !from.is_signed_int();
        Ok(Some(if to_narrow && !fits { wrapped(at, value, to) } else { value }))
    }

    /// The bits of a value as another type where either is narrow; `None` elsewhere.
    fn bits(&self, at: &mut Site<'_>, a: ExprId, ty: Type) -> Result<Option<ExprId>, Diagnostic> {
        let (from, to) = (self.ty(at.kernel, a), ty);
        let [of_narrow, to_narrow] = [from, to].map(|t| (self.narrow)(t.dtype()));
        // f16 among words: a pair and its word is the one form that writers know.
        let [of_half, to_half] = [from, to].map(|t| t.dtype() == DType::F16 && (self.narrow)(DType::U16));
        if !of_narrow && !to_narrow && of_half == to_half {
            return Ok(None);
        }
        let [a_bits, b_bits] = [from, to].map(|t| t.dtype().bytes() as u32 * 8);
        if a_bits > 32 || b_bits > 32 {
            return Err(refuse(at.kernel, format!("the bits of {from} as {to}")));
        }
        // A narrow type beside one that is stored natively: both are 16 bits, and two of the native one are a word.
        let raw = if of_narrow {
            let word = at.cast(a, DType::U32);
            if from.dtype().is_signed_int() { masked(at, word, a_bits) } else { word }
        } else if a_bits == 16 {
            halves_to_words(at, a, from)
        } else {
            at.kernel.push_expr(ExprKind::Bits(a), from.with_dtype(DType::U32))
        };
        let raw = regrouped(at, raw, a_bits, b_bits, to.lanes());
        Ok(Some(if to_narrow {
            if to.dtype().is_signed_int() { wrapped(at, raw, to.dtype()) } else { raw }
        } else if b_bits == 16 {
            words_to_halves(at, raw, to)
        } else {
            at.kernel.push_expr(ExprKind::Bits(raw), to)
        }))
    }
}

/// The canonical load: the carrier of what lies in memory.
fn loaded(at: &mut Site<'_>, load: ExprId, wide: Type) -> ExprId {
    let ty = at.kernel.expr(load).ty;
    let integer = match ty.dtype().is_float() {
        true => at.kernel.push_expr(ExprKind::Bits(load), ty.with_dtype(DType::U16)),
        false => load,
    };
    at.kernel.push_expr(ExprKind::Cast(integer), wide)
}

/// Bits of a narrow signed integer as those of an i32.
fn extended(bits: u64, dtype: DType) -> u64 {
    let unused = 64 - dtype.bytes() as u32 * 8;
    u64::from((((bits << unused) as i64) >> unused) as i32 as u32)
}

/// The carrier of a 32-bit value's low bits, as the carrier type of `to`.
fn wrapped(at: &mut Site<'_>, value: ExprId, to: DType) -> ExprId {
    let value = at.cast(value, carrier(to));
    let bits = to.bytes() as u32 * 8;
    if !to.is_signed_int() {
        return masked(at, value, bits);
    }
    let by = at.constant(i64::from(32 - bits), at.kernel.expr(value).ty);
    let high = at.binary(BinaryOp::Shl, value, by);
    at.binary(BinaryOp::Shr, high, by)
}

/// The low bits of a u32.
fn masked(at: &mut Site<'_>, value: ExprId, bits: u32) -> ExprId {
    let mask = at.constant((1i64 << bits) - 1, at.kernel.expr(value).ty);
    at.binary(BinaryOp::And, value, mask)
}

/// Elements of `from` bits, zero-extended, as `lanes` elements of `to` bits.
fn regrouped(at: &mut Site<'_>, raw: ExprId, from: u32, to: u32, lanes: u8) -> ExprId {
    if from == to {
        return raw;
    }
    let u32s = |n| Type::vector(DType::U32, n);
    let raw = at.bind(raw);
    let count = u8::try_from(from.max(to) / from.min(to)).unwrap_or(1);
    let part = |at: &mut Site<'_>, i: u8| {
        let whole = at.get(raw);
        at.element(whole, i)
    };
    let elements: SmallVec<[ExprId; 4]> = (0..lanes)
        .map(|l| {
            if from < to {
                let first = part(at, l * count);
                (1..count).fold(first, |word, k| {
                    let (next, by) = (part(at, l * count + k), at.constant(i64::from(from) * i64::from(k), u32s(1)));
                    let shifted = at.binary(BinaryOp::Shl, next, by);
                    at.binary(BinaryOp::Or, word, shifted)
                })
            } else {
                let (word, by) = (part(at, l / count), at.constant(i64::from(to) * i64::from(l % count), u32s(1)));
                let shifted = at.binary(BinaryOp::Shr, word, by);
                masked(at, shifted, to)
            }
        })
        .collect();
    if lanes == 1 { elements[0] } else { at.kernel.push_expr(ExprKind::Vector(elements), u32s(lanes)) }
}

/// Native 16-bit elements, each in a word of its own.
fn halves_to_words(at: &mut Site<'_>, a: ExprId, ty: Type) -> ExprId {
    let a = at.bind(a);
    let words: SmallVec<[ExprId; 4]> = (0..ty.lanes())
        .map(|l| {
            let whole = at.get(a);
            let low = at.element(whole, l);
            let zero = at.constant(0, Type::scalar(ty.dtype()));
            let pair = ExprKind::Vector(SmallVec::from_slice(&[low, zero]));
            let pair = at.kernel.push_expr(pair, Type::vector(ty.dtype(), 2));
            at.kernel.push_expr(ExprKind::Bits(pair), Type::scalar(DType::U32))
        })
        .collect();
    if ty.lanes() == 1 { words[0] } else { at.kernel.push_expr(ExprKind::Vector(words), ty.with_dtype(DType::U32)) }
}

/// The low half of each word as a native 16-bit element.
fn words_to_halves(at: &mut Site<'_>, raw: ExprId, ty: Type) -> ExprId {
    let raw = at.bind(raw);
    let halves: SmallVec<[ExprId; 4]> = (0..ty.lanes())
        .map(|l| {
            let whole = at.get(raw);
            let word = at.element(whole, l);
            let pair = at.kernel.push_expr(ExprKind::Bits(word), Type::vector(ty.dtype(), 2));
            at.element(pair, 0)
        })
        .collect();
    if ty.lanes() == 1 { halves[0] } else { at.kernel.push_expr(ExprKind::Vector(halves), ty) }
}
