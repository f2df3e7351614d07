//! What shading languages leave open about floats and division: NaN in comparisons, casts of floats to integers, and
//! the one quotient of signed integers that overflows.

use mlxc_ir::kernel::{BinaryOp, Comparison, ExprId, ExprKind, Kernel};
use mlxc_ir::profile::TargetProfile;
use mlxc_ir::{DType, Diagnostic};

use crate::legalise::compute::{Compute, V};
use crate::legalise::rewrite::{Rule, Site, rewrite};

pub(super) fn run(kernel: &mut Kernel, profile: &TargetProfile) -> Result<(), Diagnostic> {
    rewrite(kernel, &mut Defined { profile, finite: profile.slack.assumes_finite })
}

struct Defined<'p> {
    profile: &'p TargetProfile,
    /// Comparisons may assume that there is no NaN.
    finite: bool,
}

impl Rule for Defined<'_> {
    fn expression(&mut self, at: &mut Site<'_>, id: ExprId) -> Result<ExprId, Diagnostic> {
        let ty = at.kernel.expr(id).ty;
        Ok(match at.kernel.expr(id).kind {
            ExprKind::Compare(by @ (Comparison::Eq | Comparison::Ne), a, b)
                if self.finite && itself(at.kernel, a, b) && at.kernel.expr(a).ty.dtype() == DType::F32 =>
            {
                let mut m = Compute::new(at, ty.lanes());
                let a = m.take(a);
                let nan = is_nan(&mut m, a);
                match by {
                    Comparison::Ne => m.expr(nan),
                    _ => {
                        let number = m.not(nan);
                        m.expr(number)
                    }
                }
            }
            // Which of them are unordered is left open where there may be no NaN.
            ExprKind::Compare(Comparison::Ne, a, b) if self.finite && at.kernel.expr(a).ty.dtype().is_float() => {
                let mut m = Compute::new(at, ty.lanes());
                let (a, b) = (m.take(a), m.take(b));
                let equal = m.eq(a, b);
                let differ = m.not(equal);
                m.expr(differ)
            }
            // To a wider integer by the source's sign first: shader compilers disagree about doing both at once.
            ExprKind::Cast(a) if widens(at.kernel.expr(a).ty.dtype(), ty.dtype()) => {
                let same_sign = if ty.dtype() == DType::I64 { DType::U64 } else { DType::I64 };
                let mut m = Compute::new(at, ty.lanes());
                let a = m.take(a);
                let wide = m.cast(a, same_sign);
                let bits = m.bits(wide, ty.dtype());
                m.expr(bits)
            }
            ExprKind::Cast(a) if at.kernel.expr(a).ty.dtype() == DType::F32 && ty.dtype().is_int() => {
                let mut m = Compute::new(at, ty.lanes());
                let a = m.take(a);
                let integer = saturated(&mut m, a, ty.dtype(), self.finite);
                m.expr(integer)
            }
            ExprKind::Binary(op @ (BinaryOp::Div | BinaryOp::Rem), a, b)
                if ty.dtype().is_signed_int()
                    // What lies in words is divided as an i32, where it cannot overflow.
                    && self.profile.arithmetic.contains(&ty.dtype())
                    && !is_positive(at.kernel, b) =>
            {
                let dtype = ty.dtype();
                let [zero, one, minus] = [0, 1, -1].map(|v| integer(dtype, v));
                let mut m = Compute::new(at, ty.lanes());
                let (a, b) = (m.take(a), m.take(b));
                let negates = m.eq(b, minus);
                let divisor = m.select(negates, one, b);
                let (usual, negated) = match op {
                    BinaryOp::Div => (m.div(a, divisor), m.sub(zero, a)),
                    _ => (m.rem(a, divisor), zero),
                };
                let result = m.select(negates, negated, usual);
                m.expr(result)
            }
            _ => id,
        })
    }
}

/// True for casts of narrower integers to 64 bits of the other sign.
fn widens(from: DType, to: DType) -> bool {
    matches!(to, DType::I64 | DType::U64)
        && from.is_int()
        && from.bytes() < 8
        && from.is_signed_int() != to.is_signed_int()
}

/// The same local twice.
fn itself(kernel: &Kernel, a: ExprId, b: ExprId) -> bool {
    matches!(kernel.expr(a).kind, ExprKind::Get(..)) && kernel.expr(a) == kernel.expr(b)
}

fn is_nan(m: &mut Compute<'_, '_>, a: V) -> V {
    let bits = m.bits(a, DType::U32);
    let size = m.and(bits, V::U32(0x7FFF_FFFF));
    m.gt(size, V::U32(0x7F80_0000))
}

fn integer(dtype: DType, value: i64) -> V {
    V::Const { bits: crate::constant::of_integer(dtype, value), dtype }
}

/// Truncated and saturated, NaN as 0. Bounds of up to 24 bits are f32 themselves; of wider types the largest f32 in
/// range is cast and the bound selected above it.
fn saturated(m: &mut Compute<'_, '_>, a: V, dtype: DType, finite: bool) -> V {
    let bits = dtype.bytes() as i32 * 8;
    let (lo, top) = match dtype.is_signed_int() {
        true => (-(2f32.powi(bits - 1)), 2f32.powi(bits - 1)),
        false => (0.0, 2f32.powi(bits)),
    };
    let wide = bits > 16;
    let hi = if wide { f32::from_bits(top.to_bits() - 1) } else { top - 1.0 };
    let nan = if finite { is_nan(m, a) } else { m.ne(a, a) };
    let number = m.select(nan, V::F32(0.0), a);
    let low = m.max(number, V::F32(lo));
    let bounded = m.min(low, V::F32(hi));
    let cast = m.cast(bounded, dtype);
    if !wide {
        return cast;
    }
    let greatest = match (dtype.is_signed_int(), bits) {
        (true, 32) => i64::from(i32::MAX),
        (true, _) => i64::MAX,
        // All ones, in either width.
        (false, _) => -1,
    };
    let above = m.ge(number, V::F32(top));
    m.select(above, integer(dtype, greatest), cast)
}

/// A constant that is neither 0 nor negative.
fn is_positive(kernel: &Kernel, id: ExprId) -> bool {
    let expr = kernel.expr(id);
    match expr.kind {
        ExprKind::Splat(one) => is_positive(kernel, one),
        ExprKind::Const(bits) => bits != 0 && bits < 1 << (expr.ty.dtype().bytes() * 8 - 1),
        _ => false,
    }
}
