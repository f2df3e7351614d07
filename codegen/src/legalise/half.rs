//! Arithmetic on f16 and bf16 where the target only stores them: computed in f32 and rounded once. What remains
//! on half types is moving them about, and casts from and to f32.

use mlxc_ir::kernel::{BinaryOp, ExprId, ExprKind, Kernel, LaneFn, SubgroupOp, Type, UnaryOp};
use mlxc_ir::profile::TargetProfile;
use mlxc_ir::{DType, Diagnostic};

use super::compute::{Compute, V};
use super::rewrite::{Rule, Site, rewrite};

pub(super) fn run(kernel: &mut Kernel, profile: &TargetProfile) -> Result<(), Diagnostic> {
    rewrite(kernel, &mut ThroughF32 { f64: profile.arithmetic.contains(&DType::F64) })
}

struct ThroughF32 {
    /// Integers may be rounded by way of f64.
    f64: bool,
}

fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

fn cast(kernel: &mut Kernel, e: ExprId, to: DType) -> ExprId {
    let ty = kernel.expr(e).ty.with_dtype(to);
    kernel.push_expr(ExprKind::Cast(e), ty)
}

impl Rule for ThroughF32 {
    fn expression(&mut self, at: &mut Site<'_>, id: ExprId) -> Result<ExprId, Diagnostic> {
        let expr = at.kernel.expr(id);
        let (kind, ty) = (expr.kind.clone(), expr.ty);
        Ok(match &kind {
            ExprKind::Unary(UnaryOp::Neg | UnaryOp::Abs, a) if is_half(ty.dtype()) && self.f64 => {
                sign(at, matches!(kind, ExprKind::Unary(UnaryOp::Neg, _)), *a, ty)
            }
            ExprKind::Unary(..)
            | ExprKind::Binary(..)
            | ExprKind::Fma(..)
            | ExprKind::Mad(..)
            | ExprKind::Math(..)
            | ExprKind::Lanes(..)
            | ExprKind::Subgroup(SubgroupOp::Fold(_), _)
                if is_half(ty.dtype()) =>
            {
                let wide = kind.map_operands(&mut |e| cast(at.kernel, e, DType::F32));
                let wide = at.kernel.push_expr(wide, ty.with_dtype(DType::F32));
                cast(at.kernel, wide, ty.dtype())
            }
            ExprKind::Fold(op, a) if is_half(ty.dtype()) => fold(at, op.binary(), *a, ty.dtype()),
            ExprKind::Compare(by, a, b) if is_half(at.kernel.expr(*a).ty.dtype()) => {
                let (a, b) = (cast(at.kernel, *a, DType::F32), cast(at.kernel, *b, DType::F32));
                at.kernel.push_expr(ExprKind::Compare(*by, a, b), ty)
            }
            ExprKind::FromIndex(i) if is_half(ty.dtype()) => {
                let integer = if self.f64 { DType::I64 } else { DType::I32 };
                let exact = at.kernel.push_expr(ExprKind::FromIndex(*i), Type::scalar(integer));
                self.narrow(at, exact, ty)
            }
            ExprKind::Table(f) if is_half(ty.dtype()) && !self.f64 => {
                let exact = at.kernel.push_expr(ExprKind::Table(*f), ty.with_dtype(DType::I32));
                self.narrow(at, exact, ty)
            }
            ExprKind::Cast(a) if is_half(ty.dtype()) => match at.kernel.expr(*a).ty.dtype() {
                DType::F32 => id,
                from if from == ty.dtype() => *a,
                _ => self.narrow(at, *a, ty),
            },
            ExprKind::Cast(a) if is_half(at.kernel.expr(*a).ty.dtype()) && ty.dtype() != DType::F32 => {
                let wide = cast(at.kernel, *a, DType::F32);
                cast(at.kernel, wide, ty.dtype())
            }
            _ => id,
        })
    }
}

/// Halves combined again and again, each sum rounded to the half type.
fn fold(at: &mut Site<'_>, op: BinaryOp, a: ExprId, dtype: DType) -> ExprId {
    let mut whole = a;
    let mut lanes = at.kernel.expr(a).ty.lanes();
    while lanes > 1 {
        let all = at.bind(whole);
        lanes /= 2;
        let ty = Type::vector(dtype, lanes);
        let [low, high] = [0, i64::from(lanes)].map(|first| {
            let whole = at.get(all);
            let half = run_of(at, whole, first, lanes);
            cast(at.kernel, half, DType::F32)
        });
        let sum = at.kernel.push_expr(ExprKind::Binary(op, low, high), ty.with_dtype(DType::F32));
        whole = cast(at.kernel, sum, dtype);
    }
    whole
}

/// Lanes of a vector from `first` on.
fn run_of(at: &mut Site<'_>, whole: ExprId, first: i64, lanes: u8) -> ExprId {
    let dtype = at.kernel.expr(whole).ty.dtype();
    let name = at.index_name();
    let kernel = &mut *at.kernel;
    let first = kernel.index.constant(first);
    if lanes == 1 {
        return kernel.push_expr(ExprKind::Extract(whole, first), Type::scalar(dtype));
    }
    let var = kernel.push_var(name);
    let l = kernel.index.var(var);
    let body = kernel.index.add(l, first);
    kernel.push_expr(ExprKind::Shuffle(whole, LaneFn { var, body }), Type::vector(dtype, lanes))
}

/// Changes or clears the sign bit.
fn sign(at: &mut Site<'_>, negate: bool, a: ExprId, ty: Type) -> ExprId {
    let (op, mask) = if negate { (BinaryOp::Xor, 0x8000) } else { (BinaryOp::And, 0x7FFF) };
    let bits = ty.with_dtype(DType::U16);
    let kernel = &mut *at.kernel;
    let a = kernel.push_expr(ExprKind::Bits(a), bits);
    let mut mask = kernel.push_expr(ExprKind::Const(mask), Type::scalar(DType::U16));
    if ty.lanes() > 1 {
        mask = kernel.push_expr(ExprKind::Splat(mask), bits);
    }
    let changed = kernel.push_expr(ExprKind::Binary(op, a, mask), bits);
    kernel.push_expr(ExprKind::Bits(changed), ty)
}

impl ThroughF32 {
    /// A cast to a half type from anything, rounded once.
    fn narrow(&self, at: &mut Site<'_>, a: ExprId, ty: Type) -> ExprId {
        let wide = match at.kernel.expr(a).ty.dtype() {
            DType::F64 => odd(at, a, ty.lanes()),
            // f64 holds 32-bit integers, and the odd rounding keeps the half type's from rounding again.
            DType::I32 | DType::U32 | DType::I64 | DType::U64 if self.f64 => {
                let exact = cast(at.kernel, a, DType::F64);
                odd(at, exact, ty.lanes())
            }
            DType::I32 | DType::U32 | DType::I64 | DType::U64 => odd_of_integer(at, a, ty.lanes()),
            _ => cast(at.kernel, a, DType::F32),
        };
        cast(at.kernel, wide, ty.dtype())
    }
}

/// An integer to f32, rounded to odd without a wider float. Where the way back saturates, the nearest f32 is a power
/// of two that the half types hold or exceed, and is kept.
fn odd_of_integer(at: &mut Site<'_>, a: ExprId, lanes: u8) -> ExprId {
    let dtype = at.kernel.expr(a).ty.dtype();
    let mut m = Compute::new(at, lanes);
    let zero = V::Const { bits: 0, dtype };
    let exact = m.take(a);
    let near = m.cast(exact, DType::F32);
    let back = m.cast(near, dtype);
    let (less, more) = (m.lt(back, exact), m.gt(back, exact));
    let negative = m.lt(exact, zero);
    let bits = m.bits(near, DType::U32);
    let (away, toward) = (m.add(bits, V::U32(1)), m.sub(bits, V::U32(1)));
    let up = m.select(negative, toward, away);
    let down = m.select(negative, away, toward);
    let moved = m.select(more, down, bits);
    let moved = m.select(less, up, moved);
    let low = m.and(bits, V::U32(1));
    let even = m.eq(low, V::U32(0));
    let odd = m.select(even, moved, bits);
    let odd = m.bits(odd, DType::F32);
    m.expr(odd)
}

/// f64 to f32, rounded to odd: a later rounding to 11 bits or fewer is then as if it were the only one
/// (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
fn odd(at: &mut Site<'_>, a: ExprId, lanes: u8) -> ExprId {
    let mut m = Compute::new(at, lanes);
    let exact = m.take(a);
    let near = m.cast(exact, DType::F32);
    let odd = to_odd(&mut m, near, exact);
    m.expr(odd)
}

/// The odd one of the two f32 around an f64, given the nearest; the nearest if it is exact.
pub(super) fn to_odd(m: &mut Compute<'_, '_>, near: V, exact: V) -> V {
    let back = m.cast(near, DType::F64);
    let (size, back) = (m.abs(exact), m.abs(back));
    let (below, above) = (m.lt(back, size), m.gt(back, size));
    let bits = m.bits(near, DType::U32);
    let low = m.and(bits, V::U32(1));
    let even = m.eq(low, V::U32(0));
    let (up, down) = (m.add(bits, V::U32(1)), m.sub(bits, V::U32(1)));
    let moved = m.select(above, down, bits);
    let moved = m.select(below, up, moved);
    let odd = m.select(even, moved, bits);
    m.bits(odd, DType::F32)
}
