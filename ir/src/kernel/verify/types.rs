//! The typing rules, checked again for kernels that were not parsed.

use crate::kernel::ops::{BinaryOp, FoldOp, SubgroupOp, UnaryOp};
use crate::kernel::types::*;
use mlxc_package::DType;

/// What is wrong with the type of an expression, looking at its operands' types only.
pub(super) fn mistyped(k: &Kernel, id: ExprId) -> Option<String> {
    let e = k.expr(id);
    let (ty, d) = (e.ty, e.ty.dtype());
    let of = |x: &ExprId| k.expr(*x).ty;
    let scalar = Type::scalar(d);
    let value = !ty.is_tile();
    let numeric = value && d != DType::Bool;
    let sized = match ty {
        Type::Value { lanes, .. } => Type::lanes_allowed(u64::from(lanes)),
        Type::Tile { rows, columns, .. } => (1..=64).contains(&rows) && (1..=64).contains(&columns),
    };
    let fine = sized
        && match &e.kind {
            ExprKind::Const(bits) => ty == scalar && bits & !crate::kernel::scalar::mask(d) == 0,
            ExprKind::Arg(a) => k.args[a.index()].kind == ArgKind::Scalar(d) && ty == scalar,
            ExprKind::FromIndex(_) => ty == scalar && d != DType::Bool,
            ExprKind::CompareIndex(..) => ty == Type::scalar(DType::Bool),
            ExprKind::Get(local, _) => k.local(*local).ty == ty,
            ExprKind::Load(place, otherwise) => {
                k.place_type(place) == ty
                    && !matches!(place.shape, Shape::Tile(..))
                    && otherwise.is_none_or(|x| of(&x) == ty && matches!(place.shape, Shape::First { .. }))
            }
            ExprKind::LoadTile { place, order } => match (ty, place.shape) {
                (Type::Tile { dtype, rows, columns, .. }, Shape::Tile(r, c)) => {
                    order.tile(r, c) == Some((rows, columns)) && dtype == k.memory_dtype(place.memory)
                }
                _ => false,
            },
            ExprKind::Unary(op, a) => {
                of(a) == ty
                    && match op {
                        UnaryOp::Neg => numeric,
                        UnaryOp::Not => value && !d.is_float(),
                        UnaryOp::Abs => numeric,
                        _ => value && d.is_float(),
                    }
            }
            ExprKind::Binary(op, a, b) => {
                of(a) == ty
                    && of(b) == ty
                    && match op {
                        BinaryOp::Rem | BinaryOp::Shl | BinaryOp::Shr => value && d.is_int(),
                        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => value && !d.is_float(),
                        _ => numeric,
                    }
            }
            ExprKind::Compare(_, a, b) => of(a) == of(b) && !of(a).is_tile() && ty == of(a).with_dtype(DType::Bool),
            ExprKind::Fma(a, b, c) | ExprKind::Mad(a, b, c) => {
                value && d.is_float() && of(a) == ty && of(b) == ty && of(c) == ty
            }
            ExprKind::Select(c, a, b) => {
                let c = of(c);
                c.dtype() == DType::Bool
                    && !c.is_tile()
                    && (c.lanes() == 1 || c.lanes() == ty.lanes())
                    && of(a) == ty
                    && of(b) == ty
            }
            ExprKind::Cast(a) => of(a).with_dtype(d) == ty && value,
            ExprKind::Bits(a) => value && !of(a).is_tile() && of(a).bits() == ty.bits(),
            ExprKind::Splat(a) => of(a) == scalar,
            ExprKind::Vector(parts) => {
                let part = parts.first().map_or(scalar, of);
                value
                    && part.dtype() == d
                    && parts.len() * usize::from(part.lanes()) == usize::from(ty.lanes())
                    && parts.iter().all(|p| of(p) == part)
            }
            ExprKind::Table(_) => numeric,
            ExprKind::Extract(a, _) => ty == scalar && !of(a).is_tile() && of(a).dtype() == d,
            ExprKind::Shuffle(a, _) => value && !of(a).is_tile() && of(a).dtype() == d,
            ExprKind::Lut(t, i) => {
                value && of(t).dtype() == d && of(i).dtype().is_int() && of(i).lanes() == ty.lanes() && !of(t).is_tile()
            }
            ExprKind::Dot { terms, acc, a, b } => {
                let (ta, tb) = (of(a), of(b));
                let halves = |x: Type| matches!(x.dtype(), DType::BF16 | DType::F16);
                let kinds = match terms {
                    2 => halves(ta) && ta.dtype() == tb.dtype() && d == DType::F32,
                    4 => matches!(
                        (ta.dtype(), tb.dtype(), d),
                        (DType::U8 | DType::I8, DType::I8, DType::I32) | (DType::U8, DType::U8, DType::I32)
                    ),
                    _ => false,
                };
                kinds && value && of(acc) == ty && ta.lanes() == tb.lanes() && ta.lanes() == ty.lanes() * terms
            }
            ExprKind::Fold(op, a) => {
                ty == scalar && of(a).dtype() == d && !of(a).is_tile() && d != DType::Bool && op.folds_vectors()
            }
            ExprKind::Math(f, args) => {
                value && d.is_float() && args.len() == f.arity() && args.iter().all(|a| of(a) == ty)
            }
            ExprKind::Lanes(op, _, a) | ExprKind::Subgroup(SubgroupOp::Fold(op), a) => {
                value
                    && of(a) == ty
                    && match op {
                        FoldOp::Add | FoldOp::Min | FoldOp::Max => d != DType::Bool,
                        _ => !d.is_float(),
                    }
            }
            ExprKind::Subgroup(SubgroupOp::Any | SubgroupOp::All, a) => ty == Type::scalar(DType::Bool) && of(a) == ty,
            ExprKind::Subgroup(_, a) | ExprKind::GroupBroadcast(a) => value && of(a) == ty,
            ExprKind::Mma(a, b, c) => match (of(a), of(b), of(c)) {
                (
                    Type::Tile { rows, columns: depth, role: TileRole::A, dtype: da },
                    Type::Tile { rows: depth_b, columns, role: TileRole::B, dtype: db },
                    Type::Tile { rows: rows_c, columns: columns_c, role: TileRole::C, .. },
                ) => (rows, columns, depth, da) == (rows_c, columns_c, depth_b, db) && of(c) == ty,
                _ => false,
            },
            ExprKind::TileMap { tile, element, body, .. } => {
                ty.is_tile() && of(tile) == ty && of(body) == scalar && k.local(*element).ty == scalar
            }
        };
    (!fine).then(|| format!("an operation that gives {ty} does not fit its operands"))
}

impl FoldOp {
    /// True for those that `hsum`, `hmin` and `hmax` name.
    const fn folds_vectors(self) -> bool {
        matches!(self, FoldOp::Add | FoldOp::Min | FoldOp::Max)
    }
}
