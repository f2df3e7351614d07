//! Quotients of vectors by one number: products with its reciprocal, corrected to what division gives. A division of a
//! register takes as long as some thirty multiplications.
//!
//! With `r` the reciprocal rounded once and `q` the product rounded once, `q + (x - q d) r` with both sums rounded once is the
//! quotient rounded once (Markstein, IBM Journal of Research and Development 34(1), 1990, theorem 7). Dividends
//! below 2^-100 leave a rest that is no normal number: their quotients may be off by one unit in the last place. So may
//! those that round to the largest f32: they may become infinite. Divisors near the ends of the range are scaled first, so that their reciprocals are normal numbers.

use mlxc_ir::kernel::{BinaryOp, ExprId, ExprKind, Kernel, Type};
use mlxc_ir::profile::{Feature, TargetProfile};
use mlxc_ir::{DType, Diagnostic};

use super::compute::{Compute, V};
use super::rewrite::{Rule, Site, rewrite};

/// 2^64 and its reciprocal: divisors between them need no scaling.
const LARGE: f32 = 18_446_744_073_709_551_616.0;
const SMALL: f32 = 1.0 / LARGE;

pub(super) fn run(kernel: &mut Kernel, profile: &TargetProfile) -> Result<(), Diagnostic> {
    if profile.has(Feature::Fma) { rewrite(kernel, &mut ByReciprocal) } else { Ok(()) }
}

struct ByReciprocal;

impl Rule for ByReciprocal {
    fn expression(&mut self, at: &mut Site<'_>, id: ExprId) -> Result<ExprId, Diagnostic> {
        let ty = at.kernel.expr(id).ty;
        let ExprKind::Binary(BinaryOp::Div, x, by) = at.kernel.expr(id).kind else { return Ok(id) };
        let ExprKind::Splat(divisor) = at.kernel.expr(by).kind else { return Ok(id) };
        if ty.dtype() != DType::F32 || ty.lanes() == 1 {
            return Ok(id);
        }
        let scalars = {
            let mut m = Compute::new(at, 1);
            let divisor = m.take(divisor);
            let magnitude = m.abs(divisor);
            let (tiny, huge) = (m.lt(magnitude, V::F32(SMALL)), m.gt(magnitude, V::F32(LARGE)));
            let scale = m.select(huge, V::F32(SMALL), V::F32(1.0));
            let scale = m.select(tiny, V::F32(LARGE), scale);
            let divisor = m.mul(divisor, scale);
            let reciprocal = m.div(V::F32(1.0), divisor);
            [scale, divisor, reciprocal].map(|v| m.expr(v))
        };
        let splats = scalars.map(|e| at.kernel.push_expr(ExprKind::Splat(e), Type::vector(DType::F32, ty.lanes())));
        let mut m = Compute::new(at, ty.lanes());
        let [scale, divisor, reciprocal] = splats.map(|e| m.take(e));
        let x = m.take(x);
        let x = m.mul(x, scale);
        let near = m.mul(x, reciprocal);
        let less = m.neg(near);
        let rest = m.fma(less, divisor, x);
        let quotient = m.fma(rest, reciprocal, near);
        // Zeros, infinities and NaN are right already, and have no rest to add.
        let magnitude = m.abs(near);
        let (some, finite) = (m.gt(magnitude, V::F32(0.0)), m.lt(magnitude, V::F32(f32::INFINITY)));
        let quotient = m.select(finite, quotient, near);
        let quotient = m.select(some, quotient, near);
        Ok(m.expr(quotient))
    }
}
