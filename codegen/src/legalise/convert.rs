//! Casts between f32 and the half types where the target has no instruction for them, as integer arithmetic.

use mlxc_ir::kernel::{ExprId, ExprKind, Kernel};
use mlxc_ir::profile::{Feature, TargetKind, TargetProfile};
use mlxc_ir::{DType, Diagnostic};

use super::compute::{Compute, V};
use super::rewrite::{Rule, Site, rewrite};

pub(super) fn run(kernel: &mut Kernel, profile: &TargetProfile) -> Result<(), Diagnostic> {
    // A GPU converts the types it can store; the features are those of CPUs.
    let native = |feature, dtype| match profile.kind {
        TargetKind::Cpu => profile.has(feature),
        TargetKind::Gpu => profile.storage.contains(&dtype),
    };
    let bf16 = !native(Feature::Bf16Convert, DType::BF16);
    let f16 = !native(Feature::F16Convert, DType::F16);
    rewrite(kernel, &mut ByHand { bf16, f16, flushes: profile.slack.flushes })
}

struct ByHand {
    bf16: bool,
    f16: bool,
    /// Subnormal f32 may become 0.
    flushes: bool,
}

impl Rule for ByHand {
    fn expression(&mut self, at: &mut Site<'_>, id: ExprId) -> Result<ExprId, Diagnostic> {
        let ExprKind::Cast(a) = at.kernel.expr(id).kind else { return Ok(id) };
        let (from, to) = (at.kernel.expr(a).ty.dtype(), at.kernel.expr(id).ty.dtype());
        let how: fn(&mut Compute<'_, '_>, V) -> V = match (from, to) {
            // bf16 to f32 is a shift everywhere.
            (DType::F32, DType::BF16) if self.bf16 => to_bf16,
            (DType::F32, DType::F16) if self.f16 => to_f16,
            (DType::F16, DType::F32) if self.f16 && self.flushes => from_f16_without_subnormals,
            (DType::F16, DType::F32) if self.f16 => from_f16,
            _ => return Ok(id),
        };
        let lanes = at.kernel.expr(id).ty.lanes();
        let mut m = Compute::new(at, lanes);
        let a = m.take(a);
        let cast = how(&mut m, a);
        Ok(m.expr(cast))
    }
}

/// Nearest even: half an ulp less one, plus the last kept bit, carries exactly when it should.
fn to_bf16(m: &mut Compute<'_, '_>, a: V) -> V {
    let bits = m.bits(a, DType::U32);
    let high = m.shr(bits, V::U32(16));
    let last = m.and(high, V::U32(1));
    let rounding = m.add(last, V::U32(0x7FFF));
    let rounded = m.add(bits, rounding);
    let rounded = m.shr(rounded, V::U32(16));
    let quiet = m.or(high, V::U32(0x40));
    let nan = m.ne(a, a);
    let word = m.select(nan, quiet, rounded);
    let word = m.cast(word, DType::U16);
    m.bits(word, DType::BF16)
}

/// Nearest even. Subnormal results come from adding 0.5, whose ulp is that of the smallest f16.
fn to_f16(m: &mut Compute<'_, '_>, a: V) -> V {
    let bits = m.bits(a, DType::U32);
    let sign = m.and(bits, V::U32(0x8000_0000));
    let sign = m.shr(sign, V::U32(16));
    let size = m.and(bits, V::U32(0x7FFF_FFFF));

    let high = m.shr(size, V::U32(13));
    let last = m.and(high, V::U32(1));
    // Rebias the exponent by 15 − 127 and round, in one wrapping sum.
    let normal = m.add(size, V::U32(0xC800_0FFF));
    let normal = m.add(normal, last);
    let normal = m.shr(normal, V::U32(13));

    let small = m.bits(size, DType::F32);
    let small = m.add(small, V::F32(0.5));
    let small = m.bits(small, DType::U32);
    let small = m.sub(small, V::U32(0.5f32.to_bits()));

    let tiny = m.lt(size, V::U32(113 << 23));
    let word = m.select(tiny, small, normal);
    let large = m.ge(size, V::U32(143 << 23));
    let word = m.select(large, V::U32(0x7C00), word);
    let nan = m.gt(size, V::U32(0x7F80_0000));
    let word = m.select(nan, V::U32(0x7E00), word);
    let word = m.or(word, sign);
    let word = m.cast(word, DType::U16);
    m.bits(word, DType::F16)
}

/// Subnormals are integers of 2⁻²⁴, and all others move into place; no f32 on the way is subnormal.
fn from_f16_without_subnormals(m: &mut Compute<'_, '_>, a: V) -> V {
    let bits = m.bits(a, DType::U16);
    let bits = m.cast(bits, DType::U32);
    let sign = m.and(bits, V::U32(0x8000));
    let sign = m.shl(sign, V::U32(16));
    let size = m.and(bits, V::U32(0x7FFF));
    let moved = m.shl(size, V::U32(13));
    let normal = m.add(moved, V::U32(112 << 23));
    let small = m.cast(size, DType::F32);
    let small = m.mul(small, V::F32(f32::from_bits((127 - 24) << 23)));
    let small = m.bits(small, DType::U32);
    let special = m.or(moved, V::U32(0x7F80_0000));
    let is_small = m.lt(size, V::U32(0x400));
    let word = m.select(is_small, small, normal);
    let is_special = m.ge(size, V::U32(0x7C00));
    let word = m.select(is_special, special, word);
    let word = m.or(word, sign);
    m.bits(word, DType::F32)
}

/// The fields moved into place are an f32 that is 2¹¹² too small; subnormals come right by the product.
fn from_f16(m: &mut Compute<'_, '_>, a: V) -> V {
    let bits = m.bits(a, DType::U16);
    let bits = m.cast(bits, DType::U32);
    let sign = m.and(bits, V::U32(0x8000));
    let sign = m.shl(sign, V::U32(16));
    let size = m.and(bits, V::U32(0x7FFF));
    let moved = m.shl(size, V::U32(13));
    let scaled = m.bits(moved, DType::F32);
    let scaled = m.mul(scaled, V::F32(f32::from_bits((127 + 112) << 23)));
    let scaled = m.bits(scaled, DType::U32);
    let special = m.or(moved, V::U32(0x7F80_0000));
    let is_special = m.ge(size, V::U32(0x7C00));
    let word = m.select(is_special, special, scaled);
    let word = m.or(word, sign);
    m.bits(word, DType::F32)
}
