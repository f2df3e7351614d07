//! `mad` becomes `fma` where that is one instruction, else a product and a sum; `fma` without the instruction is
//! computed in f64.

use mlxc_ir::kernel::{BinaryOp, ExprId, ExprKind, Kernel};
use mlxc_ir::profile::{Feature, TargetKind, TargetProfile};
use mlxc_ir::{DType, Diagnostic};

use super::compute::{Compute, V};

use super::refuse;
use super::rewrite::{Rule, Site, rewrite};

pub(super) fn run(kernel: &mut Kernel, profile: &TargetProfile) -> Result<(), Diagnostic> {
    let emulated = profile.kind == TargetKind::Cpu;
    rewrite(kernel, &mut MultiplyAdd { fused: profile.has(Feature::Fma), emulated })
}

struct MultiplyAdd {
    fused: bool,
    /// `fma` without the instruction is computed in f64. GPUs have it by name, and fuse it or not.
    emulated: bool,
}

impl Rule for MultiplyAdd {
    fn expression(&mut self, at: &mut Site<'_>, id: ExprId) -> Result<ExprId, Diagnostic> {
        let ty = at.kernel.expr(id).ty;
        match at.kernel.expr(id).kind {
            ExprKind::Mad(a, b, c) if self.fused => Ok(at.kernel.push_expr(ExprKind::Fma(a, b, c), ty)),
            ExprKind::Mad(a, b, c) => {
                let product = at.kernel.push_expr(ExprKind::Binary(BinaryOp::Mul, a, b), ty);
                Ok(at.kernel.push_expr(ExprKind::Binary(BinaryOp::Add, product, c), ty))
            }
            ExprKind::Fma(a, b, c) if !self.fused && self.emulated => {
                if ty.dtype() != DType::F32 {
                    return Err(refuse(at.kernel, format!("fma of {ty}")));
                }
                Ok(emulate(at, [a, b, c], ty.lanes()))
            }
            _ => Ok(id),
        }
    }
}

/// The product of two f32 is exact in f64. The sum is rounded to odd, so that the last rounding is the only one.
fn emulate(at: &mut Site<'_>, operands: [ExprId; 3], lanes: u8) -> ExprId {
    let mut m = Compute::new(at, lanes);
    let [a, b, c] = operands.map(|e| {
        let v = m.take(e);
        m.cast(v, DType::F64)
    });
    let product = m.mul(a, b);
    let sum = m.add(product, c);
    // Knuth's two-sum: `error` is what the rounding of `sum` lost.
    let rest = m.sub(sum, product);
    let back = m.sub(sum, rest);
    let (left, right) = (m.sub(product, back), m.sub(c, rest));
    let error = m.add(left, right);
    let sum = odd_sum(&mut m, sum, error);
    let near = m.cast(sum, DType::F32);
    m.expr(near)
}

/// A rounded sum and its error, as the odd one of the two f64 around the exact sum.
fn odd_sum(m: &mut Compute<'_, '_>, sum: V, error: V) -> V {
    let bits = m.bits(sum, DType::U64);
    let low = m.and(bits, V::U64(1));
    let even = m.eq(low, V::U64(0));
    // Products of opposite signs mean that the exact sum is nearer to 0 than the rounded one.
    let same_way = m.mul(sum, error);
    let (larger, smaller) = (m.gt(same_way, V::F64(0.0)), m.lt(same_way, V::F64(0.0)));
    let (up, down) = (m.add(bits, V::U64(1)), m.sub(bits, V::U64(1)));
    let moved = m.select(smaller, down, bits);
    let moved = m.select(larger, up, moved);
    let odd = m.select(even, moved, bits);
    m.bits(odd, DType::F64)
}
