//! Elementary functions as statements. Coefficients were fitted for this crate (weighted minimax, rounded one
//! by one and refitted) except where a source is named; errors in ulp are the largest seen in the tests' sweeps.
//!
//! | function | ulp | function | ulp |
//! |---|---|---|---|
//! | `exp`, `exp2` | 1 | `sinh`, `cosh` | 2 |
//! | `expm1` | 2 | `tanh` | 2 |
//! | `log` | 1 | `asinh`, `acosh`, `atanh` | 2 |
//! | `log2`, `log10`, `log1p` | 2 | `erf` | 2 |
//! | `sin`, `cos` | 2 | `erfinv` | 4 |
//! | `tan` | 4 | `pow` | 1 |
//! | `asin` | 3 | `atan2` | 3 |
//! | `acos`, `atan` | 2 | `rsqrt` | 2 |
//! | `fmod` | 0 | | |
//!
//! One more without `fma`.
//!
//! Results that would be subnormal may be 0. Functions of f64 are in [`double`].

use mlxc_ir::kernel::{BinaryOp, ExprId, ExprKind, Kernel, MathFn, Type, UnaryOp};
use mlxc_ir::profile::TargetProfile;
use mlxc_ir::{DType, Diagnostic};

use super::compute::{Compute, V};
use super::refuse;
use super::rewrite::{Rule, Site, rewrite};

mod circular;
mod double;
mod error;
mod exponential;
mod hyperbolic;
mod inverse;
mod logarithm;
mod power;
mod remainder;
mod single;

pub(super) fn run(kernel: &mut Kernel, profile: &TargetProfile) -> Result<(), Diagnostic> {
    rewrite(kernel, &mut Elementary { profile })
}

struct Elementary<'p> {
    profile: &'p TargetProfile,
}

impl Rule for Elementary<'_> {
    fn expression(&mut self, at: &mut Site<'_>, id: ExprId) -> Result<ExprId, Diagnostic> {
        let ExprKind::Math(function, operands) = at.kernel.expr(id).kind.clone() else { return Ok(id) };
        let ty = at.kernel.expr(id).ty;
        if function == MathFn::Rsqrt {
            return Ok(reciprocal_root(at, operands[0], ty));
        }
        if !matches!(ty.dtype(), DType::F32 | DType::F64) {
            return Err(refuse(at.kernel, format!("{} of {ty}", function.name())));
        }
        if self.profile.math.contains_key(&function) {
            return Ok(id);
        }
        let mut m = Compute::new(at, ty.lanes());
        m.f64 = self.profile.arithmetic.contains(&DType::F64);
        m.folds = self.profile.slack.reassociates;
        let x = m.take(operands[0]);
        if ty.dtype() == DType::F64 {
            let y = operands.get(1).map(|y| m.take(*y));
            let result = double::function(&mut m, function, x, y);
            return Ok(m.expr(result));
        }
        let result = match function {
            MathFn::Exp => exponential::exp(&mut m, x),
            MathFn::Exp2 => exponential::exp2(&mut m, x),
            MathFn::Expm1 => exponential::expm1(&mut m, x),
            MathFn::Log => logarithm::log(&mut m, x),
            MathFn::Log2 => logarithm::log2(&mut m, x),
            MathFn::Log10 => logarithm::log10(&mut m, x),
            MathFn::Log1p => logarithm::log1p(&mut m, x),
            MathFn::Sin => circular::sin(&mut m, x),
            MathFn::Cos => circular::cos(&mut m, x),
            MathFn::Tan => circular::tan(&mut m, x),
            MathFn::Asin => inverse::asin(&mut m, x),
            MathFn::Acos => inverse::acos(&mut m, x),
            MathFn::Atan => inverse::atan(&mut m, x),
            MathFn::Sinh => hyperbolic::sinh(&mut m, x),
            MathFn::Cosh => hyperbolic::cosh(&mut m, x),
            MathFn::Tanh => hyperbolic::tanh(&mut m, x),
            MathFn::Asinh => hyperbolic::asinh(&mut m, x),
            MathFn::Acosh => hyperbolic::acosh(&mut m, x),
            MathFn::Atanh => hyperbolic::atanh(&mut m, x),
            MathFn::Erf => error::erf(&mut m, x),
            MathFn::Erfinv => error::erfinv(&mut m, x),
            MathFn::Pow => {
                let y = m.take(operands[1]);
                power::pow(&mut m, x, y)
            }
            MathFn::Fmod => {
                let divisor = m.take(operands[1]);
                remainder::fmod(&mut m, x, divisor)
            }
            MathFn::Atan2 => {
                let adjacent = m.take(operands[1]);
                inverse::atan2(&mut m, x, adjacent)
            }
            MathFn::Rsqrt => x,
        };
        Ok(m.expr(result))
    }
}

/// `1 / sqrt(x)`, two roundings.
fn reciprocal_root(at: &mut Site<'_>, x: ExprId, ty: Type) -> ExprId {
    let kernel = &mut *at.kernel;
    let one = if ty.dtype() == DType::F64 { 1f64.to_bits() } else { u64::from(1f32.to_bits()) };
    let mut one = kernel.push_expr(ExprKind::Const(one), Type::scalar(ty.dtype()));
    if ty.lanes() > 1 {
        one = kernel.push_expr(ExprKind::Splat(one), ty);
    }
    let root = kernel.push_expr(ExprKind::Unary(UnaryOp::Sqrt, x), ty);
    kernel.push_expr(ExprKind::Binary(BinaryOp::Div, one, root), ty)
}

/// `result`, but `x` itself where x² is 0 (so that f(x) rounds to x, sign of zero kept) or x is NaN.
fn or_itself(m: &mut Compute<'_, '_>, x: V, result: V) -> V {
    let square = m.mul(x, x);
    let usual = m.gt(square, V::F32(0.0));
    m.select(usual, result, x)
}
