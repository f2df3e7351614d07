//! The builder's handles and their operators.

use super::{Inner, KernelBuilder, State};
use crate::kernel::ops::{BinaryOp, Comparison, FoldOp, MathFn, SubgroupOp, UnaryOp};
use crate::kernel::types::*;
use mlxc_package::DType;
use smallvec::SmallVec;
use std::cell::RefMut;
use std::ops;

/// An index expression being built.
#[derive(Clone, Copy)]
pub struct Ix<'k> {
    pub(super) k: &'k KernelBuilder,
    pub(super) id: IndexId,
}

/// A value being built; evaluated where a statement uses it.
#[derive(Clone, Copy)]
pub struct Val<'k> {
    pub(super) k: &'k KernelBuilder,
    pub(super) id: ExprId,
}

/// A buffer.
#[derive(Clone, Copy)]
pub struct Buf<'k> {
    pub(super) k: &'k KernelBuilder,
    pub(super) id: BufferId,
}

/// A group array.
#[derive(Clone, Copy)]
pub struct Group<'k> {
    pub(super) k: &'k KernelBuilder,
    pub(super) id: GroupId,
}

/// A `var`.
#[derive(Clone, Copy)]
pub struct Var<'k> {
    pub(super) k: &'k KernelBuilder,
    pub(super) id: LocalId,
}

/// A register array.
#[derive(Clone, Copy)]
pub struct Reg<'k> {
    pub(super) k: &'k KernelBuilder,
    pub(super) id: LocalId,
}

/// A place in a buffer or group array.
#[derive(Clone)]
pub struct PlaceRef<'k> {
    k: &'k KernelBuilder,
    place: Place,
}

impl<'k> Ix<'k> {
    /// The handle in the kernel being built.
    pub fn id(self) -> IndexId {
        self.id
    }

    /// The value, if it is a constant.
    pub fn as_const(self) -> Option<i64> {
        self.k.inner().kernel.index.as_const(self.id)
    }

    fn with(self, f: impl FnOnce(&mut crate::kernel::IndexArena) -> IndexId) -> Self {
        let id = f(&mut self.k.inner().kernel.index);
        Ix { k: self.k, id }
    }

    /// Quotient by a constant of at least 1.
    #[allow(clippy::should_implement_trait)] // `/` would look like it took any index
    pub fn div(self, by: i64) -> Self {
        assert!(by >= 1, "index divisors are at least 1");
        self.with(|a| a.div(self.id, by))
    }

    /// Remainder by a constant of at least 1.
    #[allow(clippy::should_implement_trait)] // as above
    pub fn rem(self, by: i64) -> Self {
        assert!(by >= 1, "index divisors are at least 1");
        self.with(|a| a.modulo(self.id, by))
    }

    /// Quotient by a constant of at least 1, rounded up.
    pub fn ceil_div(self, by: i64) -> Self {
        assert!(by >= 1, "index divisors are at least 1");
        self.with(|a| a.ceil_div(self.id, by))
    }

    /// Quotient by a scalar with a positive lower bound.
    pub fn div_by(self, by: Ix<'k>) -> Self {
        self.with(|a| a.div_by(self.id, by.id))
    }

    /// The smaller.
    pub fn min(self, other: Ix<'k>) -> Self {
        self.with(|a| a.min(self.id, other.id))
    }

    /// The larger.
    pub fn max(self, other: Ix<'k>) -> Self {
        self.with(|a| a.max(self.id, other.id))
    }

    fn compare(self, op: Comparison, other: Ix<'k>) -> Val<'k> {
        self.k.value(ExprKind::CompareIndex(op, self.id, other.id), Type::scalar(DType::Bool))
    }

    /// `self < other`
    pub fn lt(self, other: Ix<'k>) -> Val<'k> {
        self.compare(Comparison::Lt, other)
    }

    /// `self <= other`
    pub fn le(self, other: Ix<'k>) -> Val<'k> {
        self.compare(Comparison::Le, other)
    }

    /// `self > other`
    pub fn gt(self, other: Ix<'k>) -> Val<'k> {
        self.compare(Comparison::Gt, other)
    }

    /// `self >= other`
    pub fn ge(self, other: Ix<'k>) -> Val<'k> {
        self.compare(Comparison::Ge, other)
    }

    /// `self == other`
    pub fn eq(self, other: Ix<'k>) -> Val<'k> {
        self.compare(Comparison::Eq, other)
    }

    /// The value as a scalar of an integer or float type; wraps or rounds.
    pub fn to_val(self, dtype: DType) -> Val<'k> {
        match self.as_const() {
            Some(c) => self.k.int_constant(c, dtype),
            None => self.k.value(ExprKind::FromIndex(self.id), dtype.into()),
        }
    }
}

impl<'k> ops::Add for Ix<'k> {
    type Output = Ix<'k>;

    fn add(self, other: Ix<'k>) -> Ix<'k> {
        self.with(|a| a.add(self.id, other.id))
    }
}

impl<'k> ops::Sub for Ix<'k> {
    type Output = Ix<'k>;

    fn sub(self, other: Ix<'k>) -> Ix<'k> {
        self.with(|a| a.sub(self.id, other.id))
    }
}

impl<'k> ops::Add<i64> for Ix<'k> {
    type Output = Ix<'k>;

    fn add(self, other: i64) -> Ix<'k> {
        self + self.k.int(other)
    }
}

impl<'k> ops::Sub<i64> for Ix<'k> {
    type Output = Ix<'k>;

    fn sub(self, other: i64) -> Ix<'k> {
        self - self.k.int(other)
    }
}

impl<'k> ops::Mul<i64> for Ix<'k> {
    type Output = Ix<'k>;

    fn mul(self, by: i64) -> Ix<'k> {
        self.with(|a| a.scale(self.id, by))
    }
}

impl<'k> ops::Add<Ix<'k>> for i64 {
    type Output = Ix<'k>;

    fn add(self, other: Ix<'k>) -> Ix<'k> {
        other + self
    }
}

impl<'k> ops::Mul<Ix<'k>> for i64 {
    type Output = Ix<'k>;

    fn mul(self, other: Ix<'k>) -> Ix<'k> {
        other * self
    }
}

/// One of the two must be a constant.
impl<'k> ops::Mul for Ix<'k> {
    type Output = Ix<'k>;

    fn mul(self, other: Ix<'k>) -> Ix<'k> {
        match (self.as_const(), other.as_const()) {
            (_, Some(c)) => self * c,
            (Some(c), _) => other * c,
            _ => panic!("index expressions multiply by constants only"),
        }
    }
}

impl<'k> Val<'k> {
    /// The handle in the kernel being built.
    pub fn id(self) -> ExprId {
        self.id
    }

    /// The kernel it is built in.
    pub fn builder(self) -> &'k KernelBuilder {
        self.k
    }

    /// Its type.
    pub fn ty(self) -> Type {
        self.k.inner().kernel.expr(self.id).ty
    }

    /// Element type.
    pub fn dtype(self) -> DType {
        self.ty().dtype()
    }

    /// The same value as this type where it is a scalar and the type a vector or tile of it.
    pub(super) fn fit(self, ty: Type) -> Self {
        let own = self.ty();
        if own == ty {
            return self;
        }
        assert!(own == Type::scalar(ty.dtype()), "a {own} where a {ty} is needed");
        self.k.value(ExprKind::Splat(self.id), ty)
    }

    fn same(self, other: Val<'k>) -> (Self, Self) {
        let (a, b) = (self.ty(), other.ty());
        if a == b {
            (self, other)
        } else if a.lanes() == 1 && !a.is_tile() {
            (self.fit(b), other)
        } else {
            (self, other.fit(a))
        }
    }

    fn binary(self, op: BinaryOp, other: Val<'k>) -> Self {
        let (a, b) = self.same(other);
        let (ty, d) = (a.ty(), a.dtype());
        let fine = !ty.is_tile()
            && match op {
                BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div => d != DType::Bool,
                BinaryOp::Min | BinaryOp::Max => d != DType::Bool,
                BinaryOp::Rem | BinaryOp::Shl | BinaryOp::Shr => d.is_int(),
                BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => !d.is_float(),
            };
        assert!(fine, "{} is not defined on {ty}", op.name(d));
        self.k.value(ExprKind::Binary(op, a.id, b.id), ty)
    }

    fn unary(self, op: UnaryOp) -> Self {
        self.k.value(ExprKind::Unary(op, self.id), self.ty())
    }

    fn compare(self, op: Comparison, other: Val<'k>) -> Self {
        let (a, b) = self.same(other);
        self.k.value(ExprKind::Compare(op, a.id, b.id), a.ty().with_dtype(DType::Bool))
    }

    /// A constant of this value's dtype.
    fn literal(self, value: f64) -> Self {
        self.k.constant(value, self.dtype())
    }

    /// Value cast.
    pub fn cast(self, to: DType) -> Self {
        let ty = self.ty();
        if ty.dtype() == to { self } else { self.k.value(ExprKind::Cast(self.id), ty.with_dtype(to)) }
    }

    /// `as<T>(x)`: the same bits; sizes must agree.
    pub fn bits(self, to: impl Into<Type>) -> Self {
        let (from, to) = (self.ty(), to.into());
        assert!(from.bits() == to.bits() && !from.is_tile() && !to.is_tile(), "as<{to}> of {from}: sizes differ");
        if from == to { self } else { self.k.value(ExprKind::Bits(self.id), to) }
    }

    /// An elementary function of one argument.
    pub fn math(self, f: MathFn) -> Self {
        assert!(f.arity() == 1 && self.dtype().is_float(), "{} takes one float", f.name());
        self.k.value(ExprKind::Math(f, SmallVec::from_slice(&[self.id])), self.ty())
    }

    /// An elementary function of two arguments.
    pub fn math2(self, f: MathFn, other: Val<'k>) -> Self {
        let (a, b) = self.same(other);
        assert!(f.arity() == 2 && a.dtype().is_float(), "{} takes two floats", f.name());
        self.k.value(ExprKind::Math(f, SmallVec::from_slice(&[a.id, b.id])), a.ty())
    }

    /// eˣ
    pub fn exp(self) -> Self {
        self.math(MathFn::Exp)
    }

    /// Natural logarithm.
    pub fn log(self) -> Self {
        self.math(MathFn::Log)
    }

    /// 1/√x
    pub fn rsqrt(self) -> Self {
        self.math(MathFn::Rsqrt)
    }

    /// √x, correctly rounded.
    pub fn sqrt(self) -> Self {
        self.unary(UnaryOp::Sqrt)
    }

    /// Absolute value.
    pub fn abs(self) -> Self {
        self.unary(UnaryOp::Abs)
    }

    /// Largest integer not above.
    pub fn floor(self) -> Self {
        self.unary(UnaryOp::Floor)
    }

    /// Smallest integer not below.
    pub fn ceil(self) -> Self {
        self.unary(UnaryOp::Ceil)
    }

    /// Integer part.
    pub fn trunc(self) -> Self {
        self.unary(UnaryOp::Trunc)
    }

    /// Nearest integer, ties to even.
    pub fn rint(self) -> Self {
        self.unary(UnaryOp::Rint)
    }

    /// `select(self > other, self, other)`
    pub fn max(self, other: Val<'k>) -> Self {
        self.binary(BinaryOp::Max, other)
    }

    /// `select(self < other, self, other)`
    pub fn min(self, other: Val<'k>) -> Self {
        self.binary(BinaryOp::Min, other)
    }

    /// `select(self, a, b)`, where self is a predicate.
    pub fn select(self, a: Val<'k>, b: Val<'k>) -> Self {
        let (a, b) = a.same(b);
        let (c, ty) = (self.ty(), a.ty());
        let fine = c.dtype() == DType::Bool && (c.lanes() == 1 || c.lanes() == ty.lanes());
        assert!(fine, "select of {ty} by {c}");
        self.k.value(ExprKind::Select(self.id, a.id, b.id), ty)
    }

    /// `fma(self, b, c)`: self·b + c, rounded once.
    pub fn fma(self, b: Val<'k>, c: Val<'k>) -> Self {
        let (a, b, c) = self.three(b, c);
        self.k.value(ExprKind::Fma(a.id, b.id, c.id), a.ty())
    }

    /// `mad(self, b, c)`: self·b + c, rounded once or twice.
    pub fn mad(self, b: Val<'k>, c: Val<'k>) -> Self {
        let (a, b, c) = self.three(b, c);
        self.k.value(ExprKind::Mad(a.id, b.id, c.id), a.ty())
    }

    fn three(self, b: Val<'k>, c: Val<'k>) -> (Self, Self, Self) {
        let wide = [self, b, c].into_iter().max_by_key(|v| v.ty().lanes()).expect("three values have a widest").ty();
        assert!(wide.dtype().is_float(), "fma and mad take floats");
        (self.fit(wide), b.fit(wide), c.fit(wide))
    }

    /// Every element of a vector of n is this scalar.
    pub fn splat(self, n: u8) -> Self {
        assert!(Type::lanes_allowed(u64::from(n)), "vectors have 2, 4, 8, 16, 32 or 64 elements");
        self.fit(Type::vector(self.dtype(), n))
    }

    /// Every element of a tile is this scalar.
    pub fn fill(self, tile: Type) -> Self {
        self.fit(tile)
    }

    /// Element i; i is constant after unrolling.
    pub fn extract(self, i: Ix<'k>) -> Self {
        self.k.value(ExprKind::Extract(self.id, i.id), Type::scalar(self.dtype()))
    }

    /// A vector of n whose element l is this vector's element f(l).
    pub fn shuffle(self, n: u8, f: impl FnOnce(Ix<'k>) -> Ix<'k>) -> Self {
        let f = self.k.lane_fn(f);
        self.k.value(ExprKind::Shuffle(self.id, f), Type::vector(self.dtype(), n))
    }

    /// Elements of this table (a power of two long) by number, modulo its length.
    pub fn lut(self, i: Val<'k>) -> Self {
        assert!(i.dtype().is_int(), "lut takes integer indices");
        self.k.value(ExprKind::Lut(self.id, i.id), Type::vector(self.dtype(), i.ty().lanes()))
    }

    fn fold(self, op: FoldOp) -> Self {
        if self.ty().lanes() == 1 {
            return self;
        }
        self.k.value(ExprKind::Fold(op, self.id), Type::scalar(self.dtype()))
    }

    /// Sum of the elements, halves combined again and again.
    pub fn hsum(self) -> Self {
        self.fold(FoldOp::Add)
    }

    /// Largest element.
    pub fn hmax(self) -> Self {
        self.fold(FoldOp::Max)
    }

    /// Smallest element.
    pub fn hmin(self) -> Self {
        self.fold(FoldOp::Min)
    }

    /// `dot2(self, a, b)`: self is f32, a and b bf16 or f16 of twice the lanes.
    pub fn dot2(self, a: Val<'k>, b: Val<'k>) -> Self {
        self.dot(2, DType::F32, a, b)
    }

    /// `dot4(self, a, b)`: self is i32, a and b 8-bit integers of four times the lanes.
    pub fn dot4(self, a: Val<'k>, b: Val<'k>) -> Self {
        self.dot(4, DType::I32, a, b)
    }

    fn dot(self, terms: u8, dtype: DType, a: Val<'k>, b: Val<'k>) -> Self {
        let lanes = a.ty().lanes() / terms;
        assert!(a.ty().lanes() == b.ty().lanes() && lanes > 0, "dot{terms} of {} and {}", a.ty(), b.ty());
        let ty = Type::vector(dtype, lanes);
        let acc = self.fit(ty);
        self.k.value(ExprKind::Dot { terms, acc: acc.id, a: a.id, b: b.id }, ty)
    }

    /// `lanes.op<n>(self)`: all-reduce over aligned runs of n lanes.
    pub fn lanes(self, op: FoldOp, n: u32) -> Self {
        self.k.value(ExprKind::Lanes(op, n, self.id), self.ty())
    }

    /// An operation over the subgroup.
    pub fn subgroup(self, op: SubgroupOp) -> Self {
        self.k.value(ExprKind::Subgroup(op, self.id), self.ty())
    }

    /// Lane 0's value.
    pub fn group_broadcast(self) -> Self {
        self.k.value(ExprKind::GroupBroadcast(self.id), self.ty())
    }

    /// `mma(self, b, c)`: c + self·b on tiles.
    pub fn mma(self, b: Val<'k>, c: Val<'k>) -> Self {
        self.k.value(ExprKind::Mma(self.id, b.id, c.id), c.ty())
    }

    /// `self < other`
    pub fn lt(self, other: Val<'k>) -> Self {
        self.compare(Comparison::Lt, other)
    }

    /// `self <= other`
    pub fn le(self, other: Val<'k>) -> Self {
        self.compare(Comparison::Le, other)
    }

    /// `self > other`
    pub fn gt(self, other: Val<'k>) -> Self {
        self.compare(Comparison::Gt, other)
    }

    /// `self >= other`
    pub fn ge(self, other: Val<'k>) -> Self {
        self.compare(Comparison::Ge, other)
    }

    /// `self == other`
    pub fn eq(self, other: Val<'k>) -> Self {
        self.compare(Comparison::Eq, other)
    }

    /// `self != other`, true for NaN.
    pub fn ne(self, other: Val<'k>) -> Self {
        self.compare(Comparison::Ne, other)
    }

    /// `idx(self, lo..hi)`: this integer clamped into `lo..=hi-1`, as an index.
    pub fn clamp_index(self, lo: Ix<'k>, hi: Ix<'k>) -> Ix<'k> {
        assert!(self.ty().lanes() == 1 && self.dtype().is_int(), "idx takes an integer scalar, not {}", self.ty());
        let id = self.k.inner().kernel.index.clamp(self.id, lo.id, hi.id);
        self.k.ix(id)
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $op:ident,)*) => {$(
        impl<'k> ops::$trait for Val<'k> {
            type Output = Val<'k>;

            fn $method(self, other: Val<'k>) -> Val<'k> {
                self.binary(BinaryOp::$op, other)
            }
        }

        /// With a constant of the value's own dtype.
        impl<'k> ops::$trait<f64> for Val<'k> {
            type Output = Val<'k>;

            fn $method(self, other: f64) -> Val<'k> {
                self.binary(BinaryOp::$op, self.literal(other))
            }
        }

        /// With a constant of the value's own dtype.
        impl<'k> ops::$trait<Val<'k>> for f64 {
            type Output = Val<'k>;

            fn $method(self, other: Val<'k>) -> Val<'k> {
                other.literal(self).binary(BinaryOp::$op, other)
            }
        }
    )*};
}

operators! {
    Add add Add,
    Sub sub Sub,
    Mul mul Mul,
    Div div Div,
}

macro_rules! bit_operators {
    ($($trait:ident $method:ident $op:ident,)*) => {$(
        impl<'k> ops::$trait for Val<'k> {
            type Output = Val<'k>;

            fn $method(self, other: Val<'k>) -> Val<'k> {
                self.binary(BinaryOp::$op, other)
            }
        }
    )*};
}

bit_operators! {
    Rem rem Rem,
    BitAnd bitand And,
    BitOr bitor Or,
    BitXor bitxor Xor,
    Shl shl Shl,
    Shr shr Shr,
}

impl<'k> ops::Neg for Val<'k> {
    type Output = Val<'k>;

    fn neg(self) -> Val<'k> {
        self.unary(UnaryOp::Neg)
    }
}

impl<'k> ops::Not for Val<'k> {
    type Output = Val<'k>;

    fn not(self) -> Val<'k> {
        self.unary(UnaryOp::Not)
    }
}

fn place<'k>(k: &'k KernelBuilder, memory: Memory, at: &[Ix<'k>]) -> PlaceRef<'k> {
    let rank = k.inner().kernel.memory_rank(memory);
    assert!(rank == at.len(), "{}: {} indices for {rank} axes", k.inner().kernel.memory_name(memory), at.len());
    PlaceRef { k, place: Place { memory, at: at.iter().map(|i| i.id).collect(), shape: Shape::One } }
}

impl<'k> Buf<'k> {
    /// The handle in the kernel being built.
    pub fn id(self) -> BufferId {
        self.id
    }

    /// Element type.
    pub fn dtype(self) -> DType {
        self.k.inner().kernel.buffer(self.id).dtype
    }

    /// One element; [`PlaceRef::vec`] and the others widen it.
    pub fn at(self, at: impl AsRef<[Ix<'k>]>) -> PlaceRef<'k> {
        place(self.k, Memory::Buffer(self.id), at.as_ref())
    }
}

impl<'k> Group<'k> {
    /// The handle in the kernel being built.
    pub fn id(self) -> GroupId {
        self.id
    }

    /// Element type.
    pub fn dtype(self) -> DType {
        self.k.inner().kernel.group(self.id).dtype
    }

    /// One element; [`PlaceRef::vec`] and the others widen it.
    pub fn at(self, at: impl AsRef<[Ix<'k>]>) -> PlaceRef<'k> {
        place(self.k, Memory::Group(self.id), at.as_ref())
    }
}

impl<'k> PlaceRef<'k> {
    fn shaped(mut self, shape: Shape) -> Self {
        self.place.shape = shape;
        self
    }

    /// n elements along the last axis; one element for n = 1.
    pub fn vec(self, n: u8) -> Self {
        assert!(Type::lanes_allowed(u64::from(n)), "vectors have 2, 4, 8, 16, 32 or 64 elements");
        self.shaped(if n == 1 { Shape::One } else { Shape::Vector(n) })
    }

    /// The first `count` of n elements along the last axis.
    pub fn first(self, n: u8, count: Ix<'k>) -> Self {
        assert!(n > 1 && Type::lanes_allowed(u64::from(n)), "vectors have 2, 4, 8, 16, 32 or 64 elements");
        self.shaped(Shape::First { lanes: n, count: count.id })
    }

    /// Rows and columns along the last two axes.
    pub fn tile(self, rows: u8, columns: u8) -> Self {
        assert!(self.place.at.len() >= 2, "a tile needs two axes");
        self.shaped(Shape::Tile(rows, columns))
    }

    /// The value there; evaluated where it is used.
    pub fn load(self) -> Val<'k> {
        let ty = self.k.inner().kernel.place_type(&self.place);
        assert!(!matches!(self.place.shape, Shape::Tile(..)), "tiles are loaded with load_tile");
        self.k.value(ExprKind::Load(self.place, None), ty)
    }

    /// As [`PlaceRef::load`] of a `first` place, with what the elements from `count` on read as.
    pub fn load_else(self, otherwise: Val<'k>) -> Val<'k> {
        let ty = self.k.inner().kernel.place_type(&self.place);
        assert!(matches!(self.place.shape, Shape::First { .. }), "only `first` loads have an else");
        let otherwise = otherwise.fit(ty);
        self.k.value(ExprKind::Load(self.place, Some(otherwise.id)), ty)
    }

    /// The tile that memory holds there in such an order.
    pub fn load_tile(self, role: TileRole, order: TileOrder) -> Val<'k> {
        let Shape::Tile(r, c) = self.place.shape else { panic!("load_tile takes a tile place") };
        let (rows, columns) = order.tile(r, c).expect("interleaved rows fit the place");
        let dtype = self.k.inner().kernel.memory_dtype(self.place.memory);
        let ty = Type::Tile { dtype, rows, columns, role };
        self.k.value(ExprKind::LoadTile { place: self.place, order }, ty)
    }

    fn begin(&self) -> RefMut<'k, Inner> {
        let mut inner = self.k.inner();
        inner.settle_place(&self.place);
        inner
    }

    fn emit_store(self, value: Val<'k>, nontemporal: bool) {
        let value = match self.place.shape {
            Shape::Tile(..) => {
                assert!(value.ty().is_tile(), "a tile place stores a tile");
                value
            }
            _ => {
                let ty = self.k.inner().kernel.place_type(&self.place);
                value.fit(ty)
            }
        };
        let mut inner = self.begin();
        let value = inner.settle(value.id);
        inner.wrote(State::Memory(self.place.memory));
        inner.push(Stmt::Store { place: self.place, value, nontemporal });
    }

    /// Stores; a scalar value fills a vector place.
    pub fn store(self, value: Val<'k>) {
        self.emit_store(value, false);
    }

    /// Stores with the hint that the data is not read again soon.
    pub fn store_nt(self, value: Val<'k>) {
        self.emit_store(value, true);
    }

    /// Hints that the place will be loaded; it may be out of range.
    pub fn prefetch(self) {
        let mut inner = self.begin();
        inner.push(Stmt::Prefetch(self.place));
    }

    /// Combines the element with a value, atomically and without result.
    pub fn atomic(self, op: FoldOp, value: Val<'k>) {
        assert!(self.place.shape == Shape::One, "atomics take one element");
        let ty = self.k.inner().kernel.place_type(&self.place);
        let value = value.fit(ty);
        let mut inner = self.begin();
        let value = inner.settle(value.id);
        inner.wrote(State::Memory(self.place.memory));
        inner.push(Stmt::Atomic(op, self.place, value));
    }
}

impl<'k> Var<'k> {
    /// Its value where it is used.
    pub fn get(self) -> Val<'k> {
        let ty = self.k.inner().kernel.local(self.id).ty;
        self.k.value(ExprKind::Get(self.id, SmallVec::new()), ty)
    }

    /// Assigns; a scalar fills a vector.
    pub fn set(self, value: Val<'k>) {
        assign(self.k, self.id, &[], value);
    }
}

impl<'k> Reg<'k> {
    /// The register's value where it is used.
    pub fn get(self, at: impl AsRef<[Ix<'k>]>) -> Val<'k> {
        let ty = self.k.inner().kernel.local(self.id).ty;
        let at = self.indices(at.as_ref());
        self.k.value(ExprKind::Get(self.id, at), ty)
    }

    /// Assigns one register; a scalar fills a vector or tile.
    pub fn set(self, at: impl AsRef<[Ix<'k>]>, value: Val<'k>) {
        let at = self.indices(at.as_ref());
        assign(self.k, self.id, &at, value);
    }

    fn indices(self, at: &[Ix<'k>]) -> SmallVec<[IndexId; 2]> {
        let inner = self.k.inner();
        let local = inner.kernel.local(self.id);
        let rank = match &local.kind {
            LocalKind::Reg(dims) => dims.len(),
            _ => 0,
        };
        assert!(rank == at.len(), "{}: {} indices for {rank} axes", local.name, at.len());
        at.iter().map(|i| i.id).collect()
    }
}

fn assign<'k>(k: &'k KernelBuilder, local: LocalId, at: &[IndexId], value: Val<'k>) {
    let ty = k.inner().kernel.local(local).ty;
    let value = value.fit(ty);
    let mut inner = k.inner();
    let value = inner.settle(value.id);
    inner.wrote(State::Local(local));
    inner.push(Stmt::Set(local, SmallVec::from_slice(at), value));
}
