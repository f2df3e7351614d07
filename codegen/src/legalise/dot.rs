//! `dot2` and `dot4` where the target has no instruction for them: products of neighbours, one after another.
//! Their factors are exact in the accumulator's type.

use mlxc_ir::kernel::{BinaryOp, ExprId, ExprKind, Kernel, LaneFn, Type};
use mlxc_ir::profile::{Feature, TargetProfile};
use mlxc_ir::{DType, Diagnostic};

use super::compute::{Compute, V};
use super::rewrite::{Rule, Site, rewrite};

/// Lanes of the narrowest native dot.
const NARROWEST: u8 = 4;

pub(super) fn run(kernel: &mut Kernel, profile: &TargetProfile) -> Result<(), Diagnostic> {
    rewrite(kernel, &mut Products { bf16: profile.has(Feature::Bf16Dot), int8: profile.has(Feature::Int8Dot) })
}

struct Products {
    /// The target multiplies bf16 pairs.
    bf16: bool,
    /// The target multiplies four unsigned 8-bit integers with signed ones.
    int8: bool,
}

impl Rule for Products {
    fn expression(&mut self, at: &mut Site<'_>, id: ExprId) -> Result<ExprId, Diagnostic> {
        let ExprKind::Dot { terms, acc, a, b } = at.kernel.expr(id).kind else { return Ok(id) };
        let lanes = at.kernel.expr(id).ty.lanes();
        let pair = (at.kernel.expr(a).ty.dtype(), at.kernel.expr(b).ty.dtype());
        match pair {
            (DType::BF16, DType::BF16) if self.bf16 && lanes >= NARROWEST => Ok(id),
            (DType::BF16, DType::BF16) => Ok(halves_of_words(at, lanes, acc, a, b)),
            (DType::U8, DType::I8) if self.int8 && lanes >= NARROWEST => Ok(id),
            _ => Ok(neighbours(at, terms, lanes, acc, a, b)),
        }
    }
}

/// A bf16 is the upper half of an f32: the pair in a word is the word shifted, and the word masked.
fn halves_of_words(at: &mut Site<'_>, lanes: u8, acc: ExprId, a: ExprId, b: ExprId) -> ExprId {
    let words = Type::vector(DType::U32, lanes);
    let [a, b] = [a, b].map(|e| at.kernel.push_expr(ExprKind::Bits(e), words));
    let mut m = Compute::new(at, lanes);
    let (mut sum, a, b) = (m.take(acc), m.take(a), m.take(b));
    for low in [true, false] {
        let [x, y] = [a, b].map(|v| {
            let half = if low { m.shl(v, V::U32(16)) } else { m.and(v, V::U32(0xFFFF_0000)) };
            m.bits(half, DType::F32)
        });
        sum = m.mad(x, y, sum);
    }
    m.expr(sum)
}

/// Element `terms`·l + k of both factors, for each k.
fn neighbours(at: &mut Site<'_>, terms: u8, lanes: u8, acc: ExprId, a: ExprId, b: ExprId) -> ExprId {
    let acc_type = at.kernel.expr(acc).ty;
    let (a, b) = (at.bind(a), at.bind(b));
    let mut sum = acc;
    for k in 0..i64::from(terms) {
        let [x, y] = [a, b].map(|factor| {
            let whole = at.get(factor);
            let dtype = at.kernel.expr(whole).ty.dtype();
            let lane = at.index_name();
            let kernel = &mut *at.kernel;
            let var = kernel.push_var(lane);
            let l = kernel.index.var(var);
            let l = kernel.index.scale(l, i64::from(terms));
            let offset = kernel.index.constant(k);
            let body = kernel.index.add(l, offset);
            let some = if lanes == 1 {
                kernel.push_expr(ExprKind::Extract(whole, offset), Type::scalar(dtype))
            } else {
                kernel.push_expr(ExprKind::Shuffle(whole, LaneFn { var, body }), Type::vector(dtype, lanes))
            };
            kernel.push_expr(ExprKind::Cast(some), acc_type)
        });
        let kernel = &mut *at.kernel;
        sum = if acc_type.dtype().is_float() {
            kernel.push_expr(ExprKind::Mad(x, y, sum), acc_type)
        } else {
            let product = kernel.push_expr(ExprKind::Binary(BinaryOp::Mul, x, y), acc_type);
            kernel.push_expr(ExprKind::Binary(BinaryOp::Add, sum, product), acc_type)
        };
    }
    sum
}
