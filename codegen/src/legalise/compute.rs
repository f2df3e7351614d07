//! Writing arithmetic as Kernel IR statements: every operation is a `let` ahead of the statement in hand, so
//! results may be used any number of times.

use mlxc_ir::DType;
use mlxc_ir::kernel::{BinaryOp, Comparison, ExprId, ExprKind, FoldOp, LocalId, LocalKind, Stmt, Type, UnaryOp};
use smallvec::SmallVec;

use super::rewrite::Site;

/// A value of the computation: bound, or a constant that is the same in every lane.
#[derive(Clone, Copy)]
pub(super) enum V {
    Bound(LocalId),
    F32(f32),
    F64(f64),
    U32(u32),
    I32(i32),
    U64(u64),
    Const { bits: u64, dtype: DType },
}

/// A computation on values of one width.
pub(super) struct Compute<'s, 'k> {
    site: &'s mut Site<'k>,
    lanes: u8,
    /// The target computes in f64.
    pub(super) f64: bool,
    /// The target's compiler may reassociate floats.
    pub(super) folds: bool,
}

macro_rules! binary {
    ($($name:ident $op:ident),* $(,)?) => {$(
        pub(super) fn $name(&mut self, a: V, b: V) -> V {
            self.binary(BinaryOp::$op, a, b)
        }
    )*};
}

macro_rules! unary {
    ($($name:ident $op:ident),* $(,)?) => {$(
        pub(super) fn $name(&mut self, a: V) -> V {
            self.unary(UnaryOp::$op, a)
        }
    )*};
}

macro_rules! compare {
    ($($name:ident $op:ident),* $(,)?) => {$(
        pub(super) fn $name(&mut self, a: V, b: V) -> V {
            let (x, y) = (self.expr(a), self.expr(b));
            let ty = Type::vector(DType::Bool, self.lanes);
            self.bound(ExprKind::Compare(Comparison::$op, x, y), ty)
        }
    )*};
}

impl<'s, 'k> Compute<'s, 'k> {
    pub(super) fn new(site: &'s mut Site<'k>, lanes: u8) -> Self {
        Compute { site, lanes, f64: true, folds: false }
    }

    /// Binds an expression of the kernel.
    pub(super) fn take(&mut self, e: ExprId) -> V {
        V::Bound(self.site.bind(e))
    }

    /// An expression that reads the value; every call makes a new one.
    pub(super) fn expr(&mut self, v: V) -> ExprId {
        let (bits, dtype) = match v {
            V::Bound(local) => return self.site.get(local),
            V::F32(x) => (u64::from(x.to_bits()), DType::F32),
            V::F64(x) => (x.to_bits(), DType::F64),
            V::U32(x) => (u64::from(x), DType::U32),
            V::I32(x) => (u64::from(x as u32), DType::I32),
            V::U64(x) => (x, DType::U64),
            V::Const { bits, dtype } => (bits, dtype),
        };
        let one = self.site.kernel.push_expr(ExprKind::Const(bits), Type::scalar(dtype));
        if self.lanes == 1 {
            one
        } else {
            self.site.kernel.push_expr(ExprKind::Splat(one), Type::vector(dtype, self.lanes))
        }
    }

    fn dtype(&self, v: V) -> DType {
        match v {
            V::Bound(local) => self.site.kernel.local(local).ty.dtype(),
            V::F32(_) => DType::F32,
            V::F64(_) => DType::F64,
            V::U32(_) => DType::U32,
            V::I32(_) => DType::I32,
            V::U64(_) => DType::U64,
            V::Const { dtype, .. } => dtype,
        }
    }

    fn bound(&mut self, kind: ExprKind, ty: Type) -> V {
        let e = self.site.kernel.push_expr(kind, ty);
        V::Bound(self.site.bind(e))
    }

    fn binary(&mut self, op: BinaryOp, a: V, b: V) -> V {
        let ty = Type::vector(self.dtype(a), self.lanes);
        let (x, y) = (self.expr(a), self.expr(b));
        self.bound(ExprKind::Binary(op, x, y), ty)
    }

    fn unary(&mut self, op: UnaryOp, a: V) -> V {
        let ty = Type::vector(self.dtype(a), self.lanes);
        let x = self.expr(a);
        self.bound(ExprKind::Unary(op, x), ty)
    }

    binary! { add Add, sub Sub, mul Mul, div Div, rem Rem, and And, or Or, xor Xor, shl Shl, shr Shr, min Min, max Max }
    unary! { neg Neg, not Not, abs Abs, sqrt Sqrt, floor Floor, rint Rint, trunc Trunc }
    compare! { eq Eq, ne Ne, lt Lt, le Le, gt Gt, ge Ge }

    /// a·b + c, as accurate as the target likes.
    pub(super) fn mad(&mut self, a: V, b: V, c: V) -> V {
        let ty = Type::vector(self.dtype(a), self.lanes);
        let (x, y, z) = (self.expr(a), self.expr(b), self.expr(c));
        self.bound(ExprKind::Mad(x, y, z), ty)
    }

    /// a·b + c, rounded once.
    pub(super) fn fma(&mut self, a: V, b: V, c: V) -> V {
        let ty = Type::vector(self.dtype(a), self.lanes);
        let (x, y, z) = (self.expr(a), self.expr(b), self.expr(c));
        self.bound(ExprKind::Fma(x, y, z), ty)
    }

    /// Horner's rule in f32, highest power first.
    pub(super) fn polynomial(&mut self, x: V, coefficients: &[f32]) -> V {
        let (first, rest) = coefficients.split_first().expect("invariant: a polynomial has coefficients");
        rest.iter().fold(V::F32(*first), |sum, c| self.mad(sum, x, V::F32(*c)))
    }

    /// Horner's rule in f64, highest power first.
    pub(super) fn polynomial_f64(&mut self, x: V, coefficients: &[f64]) -> V {
        let (first, rest) = coefficients.split_first().expect("invariant: a polynomial has coefficients");
        rest.iter().fold(V::F64(*first), |sum, c| self.mad(sum, x, V::F64(*c)))
    }

    pub(super) fn select(&mut self, condition: V, yes: V, no: V) -> V {
        let ty = Type::vector(self.dtype(yes), self.lanes);
        let (c, x, y) = (self.expr(condition), self.expr(yes), self.expr(no));
        self.bound(ExprKind::Select(c, x, y), ty)
    }

    /// The same bits as another type of the same width.
    pub(super) fn bits(&mut self, v: V, to: DType) -> V {
        let x = self.expr(v);
        self.bound(ExprKind::Bits(x), Type::vector(to, self.lanes))
    }

    /// The value as another type.
    pub(super) fn cast(&mut self, v: V, to: DType) -> V {
        let x = self.expr(v);
        self.bound(ExprKind::Cast(x), Type::vector(to, self.lanes))
    }

    /// A variable that begins as this value.
    pub(super) fn variable(&mut self, v: V) -> V {
        let ty = Type::vector(self.dtype(v), self.lanes);
        let value = self.expr(v);
        let local = self.site.local(ty, LocalKind::Var);
        self.site.before.push(Stmt::Declare(local, Some(value)));
        V::Bound(local)
    }

    /// Assigns to a variable.
    pub(super) fn set(&mut self, variable: V, to: V) {
        let V::Bound(local) = variable else { panic!("invariant: constants are not assigned") };
        let value = self.expr(to);
        self.site.before.push(Stmt::Set(local, SmallVec::new(), value));
    }

    /// True if any lane is above a bound; NaN is not.
    pub(super) fn any_above(&mut self, v: V, bound: f32) -> ExprId {
        let mut value = self.expr(v);
        let dtype = self.dtype(v);
        if self.lanes > 1 {
            // The larger of NaN and a number is whichever stands second, so NaN first becomes 0.
            let ordered = self.eq(v, v);
            let number = self.select(ordered, v, V::F32(0.0));
            value = self.expr(number);
            value = self.site.kernel.push_expr(ExprKind::Fold(FoldOp::Max, value), Type::scalar(dtype));
        }
        let bound = self.site.kernel.push_expr(ExprKind::Const(u64::from(bound.to_bits())), Type::scalar(dtype));
        self.site.kernel.push_expr(ExprKind::Compare(Comparison::Gt, value, bound), Type::scalar(DType::Bool))
    }

    /// Computes so many times.
    pub(super) fn repeat(&mut self, times: i64, body: impl FnOnce(&mut Self)) {
        let outside = std::mem::take(&mut self.site.before);
        body(self);
        let body = std::mem::replace(&mut self.site.before, outside);
        let name = self.site.index_name();
        let kernel = &mut *self.site.kernel;
        let var = kernel.push_var(name);
        let (lo, hi) = (kernel.index.constant(0), kernel.index.constant(times));
        self.site.before.push(Stmt::For { var, lo, hi, step: 1, unroll: false, body });
    }

    /// Computes inside an `if`.
    pub(super) fn when(&mut self, cond: ExprId, then: impl FnOnce(&mut Self)) {
        let outside = std::mem::take(&mut self.site.before);
        then(self);
        let then = std::mem::replace(&mut self.site.before, outside);
        self.site.before.push(Stmt::If { cond, then, otherwise: Vec::new() });
    }

    /// The f32 `magnitude` (not negative) with the sign of `sign`.
    pub(super) fn with_sign(&mut self, magnitude: V, sign: V) -> V {
        let bits = self.bits(sign, DType::U32);
        let sign = self.and(bits, V::U32(0x8000_0000));
        let magnitude = self.bits(magnitude, DType::U32);
        let both = self.or(magnitude, sign);
        self.bits(both, DType::F32)
    }
}
