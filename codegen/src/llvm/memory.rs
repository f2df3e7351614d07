//! Arrays, places and index expressions: addresses of loads and stores.

use inkwell::IntPredicate;
use inkwell::types::BasicTypeEnum;
use inkwell::values::{InstructionOpcode, IntValue, PointerValue};
use mlxc_ir::DType;
use mlxc_ir::kernel::{Builtin, Comparison, ExprId, Index, IndexId, Memory, Place, Shape, Type};

use super::phase::Writer;
use super::values::Value;

/// A row-major array in memory.
pub(super) struct Array<'c> {
    base: PointerValue<'c>,
    dtype: DType,
    /// Elements from one index to the next, for each axis.
    strides: Vec<IntValue<'c>>,
}

impl<'c> Writer<'_, 'c> {
    pub(super) fn array(&self, base: PointerValue<'c>, dtype: DType, shape: &[IntValue<'c>]) -> Array<'c> {
        let mut stride = self.emit.index(1);
        let mut strides = Vec::with_capacity(shape.len());
        for extent in shape.iter().rev() {
            strides.push(stride);
            stride = self.emit.multiply(stride, *extent);
        }
        strides.reverse();
        Array { base, dtype, strides }
    }

    /// LLVM's type for one element. Half types are bits: only conversions give them meaning.
    pub(super) fn element(&self, dtype: DType) -> BasicTypeEnum<'c> {
        match dtype {
            DType::F32 => self.emit.context.f32_type().into(),
            DType::F64 => self.emit.context.f64_type().into(),
            DType::Bool => self.emit.int_type(1).into(),
            d => self.emit.int_type(d.bytes() as u32 * 8).into(),
        }
    }

    pub(super) fn kind(&self, ty: Type) -> BasicTypeEnum<'c> {
        self.emit.lanes_of(self.element(ty.dtype()), ty.lanes().into())
    }

    /// An index expression as an `i64`; constant where its variables are.
    pub(super) fn index(&mut self, id: IndexId) -> IntValue<'c> {
        use InstructionOpcode::{UDiv, URem};
        match self.kernel().index.get(id) {
            Index::Const(c) => self.emit.index(c),
            Index::Var(v) => *self.vars.get(&v).expect("invariant: the verifier found the variable in scope"),
            Index::Builtin(Builtin::Lane) => self.emit.index(0),
            Index::Builtin(b) => panic!("invariant: legalise leaves no {} on CPUs", b.name()),
            Index::Add(a, b) => {
                let (a, b) = (self.index(a), self.index(b));
                self.emit.add(a, b)
            }
            Index::Scale(a, by) => {
                let a = self.index(a);
                self.emit.multiply(a, self.emit.index(by))
            }
            // Proved not to be negative, so unsigned division truncates alike and is cheaper.
            Index::Div(a, by) => {
                let a = self.index(a);
                self.emit.binary(UDiv, a.into(), self.emit.index(by).into()).into_int_value()
            }
            Index::DivBy(a, b) => {
                let (a, b) = (self.index(a), self.index(b));
                self.emit.binary(UDiv, a.into(), b.into()).into_int_value()
            }
            Index::Mod(a, by) => {
                let a = self.index(a);
                self.emit.binary(URem, a.into(), self.emit.index(by).into()).into_int_value()
            }
            Index::Min(a, b) => {
                let (a, b) = (self.index(a), self.index(b));
                self.pick(IntPredicate::SLT, a, b)
            }
            Index::Max(a, b) => {
                let (a, b) = (self.index(a), self.index(b));
                self.pick(IntPredicate::SGT, a, b)
            }
            Index::Clamp(value, lo, hi) => self.clamp(value, lo, hi),
        }
    }

    fn pick(&self, by: IntPredicate, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        let first = self.emit.compare_ints(by, a.into(), b.into());
        self.emit.select(first, a.into(), b.into()).into_int_value()
    }

    /// `idx(value, lo..hi)`. A u64 above the signed range counts as large.
    fn clamp(&mut self, value: ExprId, lo: IndexId, hi: IndexId) -> IntValue<'c> {
        let dtype = self.kernel().expr(value).ty.dtype();
        let value = self.value(value);
        let (lo, hi) = (self.index(lo), self.index(hi));
        let last = self.emit.add(hi, self.emit.index(-1));
        let i64_type = self.emit.i64().into();
        let wide = match dtype {
            DType::I64 => value,
            DType::U64 => {
                let most = self.emit.index(i64::MAX).into();
                let fits = self.emit.compare_ints(IntPredicate::ULT, value, most);
                self.emit.select(fits, value, most)
            }
            d if d.is_signed_int() => self.emit.cast(InstructionOpcode::SExt, value, i64_type),
            _ => self.emit.cast(InstructionOpcode::ZExt, value, i64_type),
        };
        let low = self.pick(IntPredicate::SGT, wide.into_int_value(), lo);
        self.pick(IntPredicate::SLT, low, last)
    }

    pub(super) fn compare_index(&mut self, by: Comparison, a: IndexId, b: IndexId) -> Value<'c> {
        let (a, b) = (self.index(a), self.index(b));
        self.emit.compare_ints(signed(by), a.into(), b.into())
    }

    fn array_of(&self, memory: Memory) -> &Array<'c> {
        match memory {
            Memory::Buffer(b) => self.buffers.get(&b),
            Memory::Group(g) => self.groups.get(&g),
        }
        .expect("invariant: the verifier found the array in scope")
    }

    /// Elements from one row of an array to the next.
    pub(super) fn row_stride(&self, memory: Memory) -> IntValue<'c> {
        let strides = &self.array_of(memory).strides;
        strides[strides.len() - 2]
    }

    pub(super) fn address(&mut self, place: &Place, in_range: bool) -> PointerValue<'c> {
        let at: Vec<_> = place.at.iter().map(|i| self.index(*i)).collect();
        let array = self.array_of(place.memory);
        let (base, dtype) = (array.base, array.dtype);
        let mut linear = self.emit.index(0);
        for (index, stride) in at.iter().zip(&array.strides) {
            linear = self.emit.add(linear, self.emit.multiply(*index, *stride));
        }
        let element = self.element(dtype);
        if in_range { self.emit.address(element, base, linear) } else { self.emit.loose_address(element, base, linear) }
    }

    /// The lanes below `count`.
    fn mask(&mut self, lanes: u8, count: IndexId) -> Value<'c> {
        let i32_type = self.emit.context.i32_type();
        let count = self.index(count);
        let count = self.emit.cast(InstructionOpcode::Trunc, count.into(), i32_type.into());
        let count = self.emit.splat(count, lanes.into());
        let numbers: Vec<Value<'c>> = (0..lanes).map(|l| i32_type.const_int(l.into(), false).into()).collect();
        let numbers = self.emit.gather(&numbers);
        self.emit.compare_ints(IntPredicate::ULT, numbers, count)
    }

    pub(super) fn load(&mut self, place: &Place, otherwise: Option<ExprId>) -> Value<'c> {
        let kind = self.kind(self.kernel().place_type(place));
        let address = self.address(place, true);
        let align = self.legal.alignment(place);
        match place.shape {
            Shape::First { lanes, count } => {
                let mask = self.mask(lanes, count);
                let rest = match otherwise {
                    Some(e) => self.value(e),
                    None => self.emit.bits(kind, 0),
                };
                self.emit.masked_load(kind, address, align, mask, rest)
            }
            Shape::Tile(..) => panic!("invariant: tiles are statements of their own"),
            Shape::One | Shape::Vector(_) => self.emit.load(kind, address, align),
        }
    }

    pub(super) fn store(&mut self, place: &Place, value: ExprId, nontemporal: bool) {
        let value = self.value(value);
        let address = self.address(place, true);
        let align = self.legal.alignment(place);
        match place.shape {
            // LLVM 22 stores the untruncated element where a truncation meets a mask of one.
            Shape::First { count, .. } if self.kernel().index.as_const(count) == Some(1) => {
                let first = self.emit.extract(value, 0);
                self.emit.store(address, first, align);
            }
            Shape::First { lanes, count } => {
                let mask = self.mask(lanes, count);
                self.emit.masked_store(value, address, align, mask);
            }
            Shape::Tile(..) => panic!("invariant: tiles are statements of their own"),
            Shape::One | Shape::Vector(_) => {
                let store = self.emit.store(address, value, align);
                if nontemporal {
                    self.emit.mark_nontemporal(store);
                    self.streamed = true;
                }
            }
        }
    }

    pub(super) fn prefetch(&mut self, place: &Place) {
        let address = self.address(place, false);
        let i32_type = self.emit.context.i32_type();
        // Read, keep in all levels, data cache.
        let hints = [0, 3, 1].map(|v| Value::from(i32_type.const_int(v, false)));
        self.emit.intrinsic(
            "llvm.prefetch",
            &[self.emit.pointer().into()],
            &[address.into(), hints[0], hints[1], hints[2]],
        );
    }

    pub(super) fn atomic(&mut self, op: inkwell::AtomicRMWBinOp, place: &Place, value: ExprId) {
        let value = self.value(value).into_int_value();
        let address = self.address(place, true);
        self.emit.atomic(op, address, value);
    }
}

/// LLVM's predicate for a comparison of signed integers.
pub(super) fn signed(by: Comparison) -> IntPredicate {
    match by {
        Comparison::Eq => IntPredicate::EQ,
        Comparison::Ne => IntPredicate::NE,
        Comparison::Lt => IntPredicate::SLT,
        Comparison::Le => IntPredicate::SLE,
        Comparison::Gt => IntPredicate::SGT,
        Comparison::Ge => IntPredicate::SGE,
    }
}
