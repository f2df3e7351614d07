//! Value expressions, each as the few instructions that mean it.

use inkwell::values::InstructionOpcode as Op;
use inkwell::{FloatPredicate, IntPredicate};
use mlxc_ir::DType;
use mlxc_ir::kernel::{
    ArgId, ArgKind, BinaryOp, Comparison, ExprId, ExprKind, FoldOp, LaneFn, LocalKind, Type, UnaryOp,
};

use super::memory::signed;
use super::phase::Writer;
use super::values::Value;
use crate::profiles::Native;

impl<'c> Writer<'_, 'c> {
    pub(super) fn value(&mut self, id: ExprId) -> Value<'c> {
        let legal = self.legal;
        let expr = legal.kernel().expr(id);
        let ty = expr.ty;
        match &expr.kind {
            ExprKind::Const(bits) => self.emit.bits(self.kind(ty), *bits),
            ExprKind::Arg(a) => self.args[a],
            ExprKind::FromIndex(i) => {
                let i = self.index(*i).into();
                self.convert(i, DType::I64, ty)
            }
            ExprKind::CompareIndex(by, a, b) => self.compare_index(*by, *a, *b),
            ExprKind::Get(local, at) => match self.kernel().local(*local).kind {
                LocalKind::Let => *self.lets.get(local).expect("invariant: the verifier found the name in scope"),
                _ => {
                    let slot = self.slot(*local, at);
                    self.emit.builder_load(self.kind(ty), slot)
                }
            },
            ExprKind::Load(place, otherwise) => self.load(place, *otherwise),
            ExprKind::Unary(op, a) => {
                let a = self.value(*a);
                self.unary(*op, ty, a)
            }
            ExprKind::Binary(op, a, b) => {
                let constant = self.is_constant(*b);
                let (a, b) = (self.value(*a), self.value(*b));
                self.binary(*op, ty, a, b, constant)
            }
            ExprKind::Compare(by, a, b) => {
                let dtype = self.kernel().expr(*a).ty.dtype();
                let (a, b) = (self.value(*a), self.value(*b));
                self.compare(*by, dtype, a, b)
            }
            ExprKind::Fma(a, b, c) => {
                let operands = [self.value(*a), self.value(*b), self.value(*c)];
                self.emit.value_of("llvm.fma", &[self.kind(ty)], &operands)
            }
            ExprKind::Select(c, a, b) => {
                let (c, a, b) = (self.value(*c), self.value(*a), self.value(*b));
                self.emit.select(c, a, b)
            }
            ExprKind::Cast(a) => {
                let from = self.kernel().expr(*a).ty.dtype();
                let a = self.value(*a);
                self.convert(a, from, ty)
            }
            ExprKind::Bits(a) => {
                let a = self.value(*a);
                self.emit.bit_cast(a, self.kind(ty))
            }
            ExprKind::Splat(a) => {
                let a = self.value(*a);
                self.emit.splat(a, ty.lanes().into())
            }
            ExprKind::Vector(parts) => {
                let vectors = parts.first().is_some_and(|p| self.kernel().expr(*p).ty.lanes() > 1);
                let parts: Vec<_> = parts.iter().map(|p| self.value(*p)).collect();
                if vectors { self.emit.concatenate(&parts) } else { self.emit.gather(&parts) }
            }
            ExprKind::Table(f) => {
                let element = Type::scalar(ty.dtype());
                let parts: Vec<_> = self
                    .lane_numbers(*f, ty.lanes())
                    .into_iter()
                    .map(|n| self.emit.bits(self.kind(element), crate::constant::of_integer(ty.dtype(), n)))
                    .collect();
                self.emit.gather(&parts)
            }
            ExprKind::Extract(a, i) => {
                let a = self.value(*a);
                let lane = self.constant_index(*i);
                self.emit.extract(a, lane as u32)
            }
            ExprKind::Shuffle(a, f) => {
                let a = self.value(*a);
                let lanes: Vec<u32> = self.lane_numbers(*f, ty.lanes()).into_iter().map(|n| n as u32).collect();
                self.emit.shuffle(a, &lanes)
            }
            ExprKind::Lut(table, i) => {
                let table_lanes = self.kernel().expr(*table).ty.lanes();
                let (table, i) = (self.value(*table), self.value(*i));
                self.look_up(table, table_lanes, i, ty)
            }
            ExprKind::Dot { terms, acc, a, b } => {
                let (acc, a, b) = (self.value(*acc), self.value(*a), self.value(*b));
                self.dot(*terms, acc, a, b, ty.lanes())
            }
            ExprKind::Fold(op, a) => {
                let from = self.kernel().expr(*a).ty;
                let a = self.value(*a);
                self.fold(*op, from, a)
            }
            ExprKind::LoadTile { .. }
            | ExprKind::Mad(..)
            | ExprKind::Math(..)
            | ExprKind::Lanes(..)
            | ExprKind::Subgroup(..)
            | ExprKind::GroupBroadcast(_)
            | ExprKind::Mma(..)
            | ExprKind::TileMap { .. } => panic!("invariant: legalise leaves none of these on CPUs"),
        }
    }

    /// A scalar argument from its word in the launch record.
    pub(super) fn scalar_argument(&self, arg: ArgId, word: Value<'c>) -> Value<'c> {
        let ArgKind::Scalar(dtype) = self.kernel().args[arg.index()].kind else {
            panic!("invariant: scalar arguments have a dtype")
        };
        if dtype == DType::Bool {
            let zero = self.emit.index(0).into();
            return self.emit.compare_ints(IntPredicate::NE, word, zero);
        }
        let bits = self.emit.int_type(dtype.bytes() as u32 * 8);
        let low = if dtype.bytes() == 8 { word } else { self.emit.cast(Op::Trunc, word, bits.into()) };
        self.emit.bit_cast(low, self.element(dtype))
    }

    fn is_constant(&self, id: ExprId) -> bool {
        match &self.kernel().expr(id).kind {
            ExprKind::Const(_) | ExprKind::Table(_) => true,
            ExprKind::Splat(a) => self.is_constant(*a),
            _ => false,
        }
    }

    /// What a lane function gives for each lane.
    fn lane_numbers(&mut self, f: LaneFn, lanes: u8) -> Vec<i64> {
        (0..i64::from(lanes))
            .map(|l| {
                self.vars.insert(f.var, self.emit.index(l));
                self.constant_index(f.body)
            })
            .collect()
    }

    fn unary(&self, op: UnaryOp, ty: Type, a: Value<'c>) -> Value<'c> {
        let kind = self.kind(ty);
        let float = ty.dtype().is_float();
        let call = |name| self.emit.value_of(name, &[kind], &[a]);
        match op {
            UnaryOp::Neg if float => self.emit.negate(a),
            UnaryOp::Neg => self.emit.binary(Op::Sub, self.emit.bits(kind, 0), a),
            UnaryOp::Not => self.emit.binary(Op::Xor, a, self.emit.bits(kind, u64::MAX)),
            UnaryOp::Abs if float => call("llvm.fabs"),
            UnaryOp::Abs if ty.dtype().is_signed_int() => {
                let wraps = self.emit.int_type(1).const_zero().into();
                self.emit.value_of("llvm.abs", &[kind], &[a, wraps])
            }
            UnaryOp::Abs => a,
            UnaryOp::Sqrt => call("llvm.sqrt"),
            UnaryOp::Floor => call("llvm.floor"),
            UnaryOp::Ceil => call("llvm.ceil"),
            UnaryOp::Trunc => call("llvm.trunc"),
            UnaryOp::Rint => call("llvm.roundeven"),
        }
    }

    fn binary(&self, op: BinaryOp, ty: Type, a: Value<'c>, b: Value<'c>, b_constant: bool) -> Value<'c> {
        let dtype = ty.dtype();
        let (float, signed_int) = (dtype.is_float(), dtype.is_signed_int());
        let code = match op {
            BinaryOp::Min | BinaryOp::Max => {
                let by = if op == BinaryOp::Min { Comparison::Lt } else { Comparison::Gt };
                let first = self.compare(by, dtype, a, b);
                return self.emit.select(first, a, b);
            }
            BinaryOp::Div | BinaryOp::Rem if signed_int && !b_constant => return self.divide(op, ty, a, b),
            BinaryOp::Add if float => Op::FAdd,
            BinaryOp::Sub if float => Op::FSub,
            BinaryOp::Mul if float => Op::FMul,
            BinaryOp::Div if float => Op::FDiv,
            BinaryOp::Add => Op::Add,
            BinaryOp::Sub => Op::Sub,
            BinaryOp::Mul => Op::Mul,
            BinaryOp::Div if signed_int => Op::SDiv,
            BinaryOp::Div => Op::UDiv,
            BinaryOp::Rem if signed_int => Op::SRem,
            BinaryOp::Rem => Op::URem,
            BinaryOp::And => Op::And,
            BinaryOp::Or => Op::Or,
            BinaryOp::Xor => Op::Xor,
            BinaryOp::Shl => Op::Shl,
            BinaryOp::Shr if signed_int => Op::AShr,
            BinaryOp::Shr => Op::LShr,
        };
        self.emit.binary(code, a, b)
    }

    /// Signed division that wraps: the smallest value by −1 traps on x86.
    fn divide(&self, op: BinaryOp, ty: Type, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        let kind = self.kind(ty);
        let (zero, one) = (self.emit.bits(kind, 0), self.emit.bits(kind, 1));
        let minus = self.emit.compare_ints(IntPredicate::EQ, b, self.emit.bits(kind, u64::MAX));
        let safe = self.emit.select(minus, one, b);
        if op == BinaryOp::Div {
            let quotient = self.emit.binary(Op::SDiv, a, safe);
            self.emit.select(minus, self.emit.binary(Op::Sub, zero, a), quotient)
        } else {
            // The remainder by 1 is 0, as it is by −1.
            self.emit.binary(Op::SRem, a, safe)
        }
    }

    fn compare(&self, by: Comparison, dtype: DType, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        if dtype.is_float() {
            let by = match by {
                Comparison::Eq => FloatPredicate::OEQ,
                Comparison::Ne => FloatPredicate::UNE,
                Comparison::Lt => FloatPredicate::OLT,
                Comparison::Le => FloatPredicate::OLE,
                Comparison::Gt => FloatPredicate::OGT,
                Comparison::Ge => FloatPredicate::OGE,
            };
            return self.emit.compare_floats(by, a, b);
        }
        let by = match (by, dtype.is_signed_int()) {
            (by, true) => signed(by),
            (Comparison::Lt, false) => IntPredicate::ULT,
            (Comparison::Le, false) => IntPredicate::ULE,
            (Comparison::Gt, false) => IntPredicate::UGT,
            (Comparison::Ge, false) => IntPredicate::UGE,
            (by, false) => signed(by),
        };
        self.emit.compare_ints(by, a, b)
    }

    /// A value cast. Half types meet only f32 here.
    fn convert(&self, a: Value<'c>, from: DType, to: Type) -> Value<'c> {
        let (kind, lanes) = (self.kind(to), u32::from(to.lanes()));
        let context = self.emit.context;
        let dtype = to.dtype();
        match (from, dtype) {
            (a_type, b_type) if a_type == b_type => a,
            (DType::BF16, _) => {
                let word = self.emit.lanes_of(context.i32_type().into(), lanes);
                let wide = self.emit.cast(Op::ZExt, a, word);
                let high = self.emit.binary(Op::Shl, wide, self.emit.bits(word, 16));
                self.emit.bit_cast(high, kind)
            }
            (DType::F16, _) => {
                let half = self.emit.lanes_of(context.f16_type().into(), lanes);
                self.emit.cast(Op::FPExt, self.emit.bit_cast(a, half), kind)
            }
            (_, DType::BF16 | DType::F16) => {
                let half = if dtype == DType::BF16 { context.bf16_type() } else { context.f16_type() };
                let half = self.emit.cast(Op::FPTrunc, a, self.emit.lanes_of(half.into(), lanes));
                self.emit.bit_cast(half, kind)
            }
            (DType::F32, DType::F64) => self.emit.cast(Op::FPExt, a, kind),
            (DType::F64, DType::F32) => self.emit.cast(Op::FPTrunc, a, kind),
            (DType::F32 | DType::F64, DType::Bool) => {
                let zero = self.emit.bits(a.get_type(), 0);
                self.emit.compare_floats(FloatPredicate::UNE, a, zero)
            }
            (_, DType::Bool) => {
                let zero = self.emit.bits(a.get_type(), 0);
                self.emit.compare_ints(IntPredicate::NE, a, zero)
            }
            (DType::F32 | DType::F64, d) => {
                let name = if d.is_signed_int() { "llvm.fptosi.sat" } else { "llvm.fptoui.sat" };
                self.emit.value_of(name, &[kind, a.get_type()], &[a])
            }
            (s, DType::F32 | DType::F64) => {
                self.emit.cast(if s.is_signed_int() { Op::SIToFP } else { Op::UIToFP }, a, kind)
            }
            (s, d) => {
                let code = if s != DType::Bool && d.bytes() < s.bytes() {
                    Op::Trunc
                } else if s != DType::Bool && d.bytes() == s.bytes() {
                    return a;
                } else if s.is_signed_int() {
                    Op::SExt
                } else {
                    Op::ZExt
                };
                self.emit.cast(code, a, kind)
            }
        }
    }

    /// Halves combined again and again.
    fn fold(&self, op: FoldOp, from: Type, mut a: Value<'c>) -> Value<'c> {
        let mut lanes = u32::from(from.lanes());
        while lanes > 1 {
            lanes /= 2;
            let half = Type::vector(from.dtype(), lanes as u8);
            let (low, high) = if lanes == 1 {
                (self.emit.extract(a, 0), self.emit.extract(a, 1))
            } else {
                let low: Vec<u32> = (0..lanes).collect();
                let high: Vec<u32> = (lanes..2 * lanes).collect();
                (self.emit.shuffle(a, &low), self.emit.shuffle(a, &high))
            };
            a = self.binary(op.binary(), half, low, high, false);
        }
        a
    }

    fn native(&self, what: Native) -> Option<&'static str> {
        self.target().natives.iter().find(|(native, _)| *native == what).map(|(_, name)| *name)
    }

    /// `dot2` of bf16 or `dot4` of 8-bit integers, in the widest registers that divide it.
    fn dot(&self, terms: u8, acc: Value<'c>, a: Value<'c>, b: Value<'c>, lanes: u8) -> Value<'c> {
        let fits = |n: u8| n <= lanes && self.native(Native::Dot { terms, lanes: n }).is_some();
        let width = [16, 8, 4].into_iter().find(|n| fits(*n)).expect("invariant: legalise leaves only native dots");
        let name = self.native(Native::Dot { terms, lanes: width }).expect("invariant: just found");
        let context = &self.emit.context;
        let element = if terms == 2 { context.bf16_type().into() } else { context.i8_type().into() };
        let factor = self.emit.lanes_of(element, u32::from(width) * u32::from(terms));
        let parts: Vec<Value<'c>> = (0..u32::from(lanes / width))
            .map(|part| {
                let run = |v: Value<'c>, n: u32| {
                    if width == lanes {
                        v
                    } else {
                        self.emit.shuffle(v, &(part * n..(part + 1) * n).collect::<Vec<_>>())
                    }
                };
                let n = u32::from(width);
                let [a, b] = [a, b].map(|v| self.emit.bit_cast(run(v, n * u32::from(terms)), factor));
                self.emit.value_of(name, &[], &[run(acc, n), a, b])
            })
            .collect();
        self.emit.concatenate(&parts)
    }

    /// `lut`: one permutation where there is a native of that shape, else a load a lane from a spilled table.
    fn look_up(&self, table: Value<'c>, table_lanes: u8, i: Value<'c>, ty: Type) -> Value<'c> {
        let bits = ty.dtype().bytes() as u8 * 8;
        let index_element = match i.get_type() {
            inkwell::types::BasicTypeEnum::VectorType(t) => t.get_element_type().into_int_type(),
            t => t.into_int_type(),
        };
        if table_lanes == ty.lanes()
            && index_element.get_bit_width() == u32::from(bits)
            && let Some(name) = self.native(Native::Lut { bits, lanes: ty.lanes() })
        {
            let words = self.emit.lanes_of(index_element.into(), ty.lanes().into());
            let found = self.emit.value_of(name, &[], &[self.emit.bit_cast(table, words), i]);
            return self.emit.bit_cast(found, self.kind(ty));
        }
        let last = self.emit.bits(i.get_type(), u64::from(table_lanes) - 1);
        let i = self.emit.binary(Op::And, i, last);
        if ty.lanes() == 1 {
            return self.emit.extract_at(table, i.into_int_value());
        }
        let parts: Vec<_> = (0..ty.lanes())
            .map(|l| self.emit.extract_at(table, self.emit.extract(i, l.into()).into_int_value()))
            .collect();
        self.emit.gather(&parts)
    }
}
