//! The vocabulary of the writer: types, constants and single instructions, for scalars and vectors alike.
//! Nothing here knows Kernel IR's statements.

use inkwell::attributes::{Attribute, AttributeLoc};
use inkwell::basic_block::BasicBlock;
use inkwell::builder::Builder;
use inkwell::context::Context;
use inkwell::intrinsics::Intrinsic;
use inkwell::module::Module;
use inkwell::types::{BasicTypeEnum, IntType, PointerType, VectorType};
use inkwell::values::{
    BasicMetadataValueEnum, BasicValue, BasicValueEnum, CallSiteValue, FunctionValue, InstructionOpcode,
    InstructionValue, IntValue, PhiValue, PointerValue, VectorValue,
};
use inkwell::{AddressSpace, AtomicOrdering, AtomicRMWBinOp, FloatPredicate, IntPredicate};

pub(super) type Value<'c> = BasicValueEnum<'c>;

const POSITIONED: &str = "invariant: the builder stands in a block and operand types agree";

/// A module being written and the place to write at.
pub(super) struct Emitter<'c> {
    pub(super) context: &'c Context,
    pub(super) module: Module<'c>,
    pub(super) builder: Builder<'c>,
}

impl<'c> Emitter<'c> {
    pub(super) fn new(context: &'c Context, name: &str) -> Self {
        Emitter { context, module: context.create_module(name), builder: context.create_builder() }
    }

    pub(super) fn i64(&self) -> IntType<'c> {
        self.context.i64_type()
    }

    pub(super) fn pointer(&self) -> PointerType<'c> {
        self.context.ptr_type(AddressSpace::default())
    }

    pub(super) fn int_type(&self, bits: u32) -> IntType<'c> {
        self.context
            .custom_width_int_type(std::num::NonZeroU32::new(bits).expect("invariant: widths are positive"))
            .expect("invariant: widths are at most 64")
    }

    /// `element`, or a vector of it where `lanes` is more than one.
    pub(super) fn lanes_of(&self, element: BasicTypeEnum<'c>, lanes: u32) -> BasicTypeEnum<'c> {
        if lanes == 1 {
            return element;
        }
        match element {
            BasicTypeEnum::IntType(t) => t.vec_type(lanes).into(),
            BasicTypeEnum::FloatType(t) => t.vec_type(lanes).into(),
            _ => panic!("invariant: vector elements are numbers"),
        }
    }

    pub(super) fn index(&self, value: i64) -> IntValue<'c> {
        self.i64().const_int(value as u64, true)
    }

    /// A constant of `kind` with the given bits in its low end; vectors get it in every lane.
    pub(super) fn bits(&self, kind: BasicTypeEnum<'c>, bits: u64) -> Value<'c> {
        match kind {
            BasicTypeEnum::IntType(t) => t.const_int(bits, false).into(),
            BasicTypeEnum::FloatType(t) => {
                let raw = self.int_type(t.get_bit_width()).const_int(bits, false);
                self.bit_cast(raw.into(), t.into())
            }
            BasicTypeEnum::VectorType(t) => {
                let one = self.bits(t.get_element_type(), bits);
                VectorType::const_vector(&vec![one; t.get_size() as usize]).into()
            }
            _ => panic!("invariant: constants are numbers"),
        }
    }

    pub(super) fn binary(&self, op: InstructionOpcode, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        self.builder.build_binop(op, a, b, "").expect(POSITIONED)
    }

    pub(super) fn cast(&self, op: InstructionOpcode, value: Value<'c>, to: BasicTypeEnum<'c>) -> Value<'c> {
        self.builder.build_cast(op, value, to, "").expect(POSITIONED)
    }

    pub(super) fn bit_cast(&self, value: Value<'c>, to: BasicTypeEnum<'c>) -> Value<'c> {
        if value.get_type() == to { value } else { self.cast(InstructionOpcode::BitCast, value, to) }
    }

    pub(super) fn negate(&self, value: Value<'c>) -> Value<'c> {
        match value {
            Value::FloatValue(v) => self.builder.build_float_neg(v, "").expect(POSITIONED).into(),
            Value::VectorValue(v) => self.builder.build_float_neg(v, "").expect(POSITIONED).into(),
            _ => panic!("invariant: fneg takes floats"),
        }
    }

    pub(super) fn compare_floats(&self, by: FloatPredicate, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        match (a, b) {
            (Value::FloatValue(a), Value::FloatValue(b)) => {
                self.builder.build_float_compare(by, a, b, "").expect(POSITIONED).into()
            }
            (Value::VectorValue(a), Value::VectorValue(b)) => {
                self.builder.build_float_compare(by, a, b, "").expect(POSITIONED).into()
            }
            _ => panic!("{POSITIONED}"),
        }
    }

    pub(super) fn compare_ints(&self, by: IntPredicate, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        match (a, b) {
            (Value::IntValue(a), Value::IntValue(b)) => {
                self.builder.build_int_compare(by, a, b, "").expect(POSITIONED).into()
            }
            (Value::VectorValue(a), Value::VectorValue(b)) => {
                self.builder.build_int_compare(by, a, b, "").expect(POSITIONED).into()
            }
            _ => panic!("{POSITIONED}"),
        }
    }

    pub(super) fn select(&self, condition: Value<'c>, yes: Value<'c>, no: Value<'c>) -> Value<'c> {
        match condition {
            Value::IntValue(c) => self.builder.build_select(c, yes, no, "").expect(POSITIONED),
            Value::VectorValue(c) => self.builder.build_select(c, yes, no, "").expect(POSITIONED),
            _ => panic!("{POSITIONED}"),
        }
    }

    pub(super) fn splat(&self, value: Value<'c>, lanes: u32) -> Value<'c> {
        if lanes == 1 {
            return value;
        }
        if is_constant(value) {
            return VectorType::const_vector(&vec![value; lanes as usize]).into();
        }
        let poison = self.poison(value.get_type(), lanes);
        let zero = self.context.i32_type().const_zero();
        let one = self.builder.build_insert_element(poison, value, zero, "").expect(POSITIONED);
        self.shuffle(one.into(), &vec![0; lanes as usize])
    }

    fn poison(&self, element: BasicTypeEnum<'c>, lanes: u32) -> VectorValue<'c> {
        match self.lanes_of(element, lanes) {
            BasicTypeEnum::VectorType(t) => t.get_poison(),
            _ => panic!("invariant: more than one lane"),
        }
    }

    /// The named lanes of one vector, as a vector.
    pub(super) fn shuffle(&self, value: Value<'c>, lanes: &[u32]) -> Value<'c> {
        let vector = value.into_vector_value();
        let other = vector.get_type().get_poison();
        let i32_type = self.context.i32_type();
        let mask: Vec<_> = lanes.iter().map(|&l| i32_type.const_int(l.into(), false)).collect();
        self.builder.build_shuffle_vector(vector, other, VectorType::const_vector(&mask), "").expect(POSITIONED).into()
    }

    pub(super) fn extract(&self, vector: Value<'c>, lane: u32) -> Value<'c> {
        let at = self.context.i32_type().const_int(lane.into(), false);
        self.builder.build_extract_element(vector.into_vector_value(), at, "").expect(POSITIONED)
    }

    /// A vector of scalars.
    pub(super) fn gather(&self, parts: &[Value<'c>]) -> Value<'c> {
        if parts.iter().all(|p| is_constant(*p)) {
            return VectorType::const_vector(parts).into();
        }
        let i32_type = self.context.i32_type();
        let mut vector = self.poison(parts[0].get_type(), parts.len() as u32);
        for (lane, part) in parts.iter().enumerate() {
            let at = i32_type.const_int(lane as u64, false);
            vector = self.builder.build_insert_element(vector, *part, at, "").expect(POSITIONED);
        }
        vector.into()
    }

    fn call_intrinsic(&self, name: &str, types: &[BasicTypeEnum<'c>], arguments: &[Value<'c>]) -> CallSiteValue<'c> {
        let function = Intrinsic::find(name)
            .and_then(|i| i.get_declaration(&self.module, types))
            .unwrap_or_else(|| panic!("invariant: LLVM 22 has the intrinsic {name}"));
        let arguments: Vec<BasicMetadataValueEnum<'c>> = arguments.iter().map(|&a| a.into()).collect();
        self.builder.build_call(function, &arguments, "").expect(POSITIONED)
    }

    /// A call of an LLVM intrinsic that becomes instructions; `types` choose the overload.
    pub(super) fn intrinsic(&self, name: &str, types: &[BasicTypeEnum<'c>], arguments: &[Value<'c>]) {
        self.call_intrinsic(name, types, arguments);
    }

    /// An intrinsic with a result.
    pub(super) fn value_of(&self, name: &str, types: &[BasicTypeEnum<'c>], arguments: &[Value<'c>]) -> Value<'c> {
        let call = self.call_intrinsic(name, types, arguments);
        call.try_as_basic_value().basic().unwrap_or_else(|| panic!("invariant: {name} has a result"))
    }

    /// The address of element `index` of an array of `element` at `base`.
    pub(super) fn address(
        &self,
        element: BasicTypeEnum<'c>,
        base: PointerValue<'c>,
        index: IntValue<'c>,
    ) -> PointerValue<'c> {
        // SAFETY: the verifier proved the index in range, so `inbounds` holds.
        unsafe { self.builder.build_in_bounds_gep(element, base, &[index], "").expect(POSITIONED) }
    }

    /// As `address`, for an address that may lie outside the array (prefetches).
    pub(super) fn loose_address(
        &self,
        element: BasicTypeEnum<'c>,
        base: PointerValue<'c>,
        index: IntValue<'c>,
    ) -> PointerValue<'c> {
        // SAFETY: without `inbounds`, any index is defined as long as nothing is accessed.
        unsafe { self.builder.build_gep(element, base, &[index], "").expect(POSITIONED) }
    }

    pub(super) fn load(&self, kind: BasicTypeEnum<'c>, at: PointerValue<'c>, align: u32) -> Value<'c> {
        let value = self.builder.build_load(kind, at, "").expect(POSITIONED);
        if let Some(load) = value.as_instruction_value() {
            load.set_alignment(align).expect("invariant: alignments are powers of two");
        }
        value
    }

    pub(super) fn store(&self, at: PointerValue<'c>, value: Value<'c>, align: u32) -> InstructionValue<'c> {
        let store = self.builder.build_store(at, value).expect(POSITIONED);
        store.set_alignment(align).expect("invariant: alignments are powers of two");
        store
    }

    /// A stack slot at the end of `block`, which sroa turns into a register.
    pub(super) fn slot(&self, block: BasicBlock<'c>, kind: BasicTypeEnum<'c>) -> PointerValue<'c> {
        let here = self.current_block();
        self.builder.position_at_end(block);
        let slot = self.builder.build_alloca(kind, "").expect(POSITIONED);
        self.builder.position_at_end(here);
        slot
    }

    /// Reads a stack slot.
    pub(super) fn builder_load(&self, kind: BasicTypeEnum<'c>, slot: PointerValue<'c>) -> Value<'c> {
        self.builder.build_load(kind, slot, "").expect(POSITIONED)
    }

    /// Writes a stack slot.
    pub(super) fn builder_store(&self, slot: PointerValue<'c>, value: Value<'c>) {
        self.builder.build_store(slot, value).expect(POSITIONED);
    }

    /// Loads the lanes of the mask; the others are `rest` and are not touched.
    pub(super) fn masked_load(
        &self,
        kind: BasicTypeEnum<'c>,
        at: PointerValue<'c>,
        align: u32,
        mask: Value<'c>,
        rest: Value<'c>,
    ) -> Value<'c> {
        let call = self.call_intrinsic("llvm.masked.load", &[kind, self.pointer().into()], &[at.into(), mask, rest]);
        call.set_alignment_attribute(AttributeLoc::Param(0), align);
        call.try_as_basic_value().basic().expect("invariant: a load has a result")
    }

    /// Stores the lanes of the mask.
    pub(super) fn masked_store(&self, value: Value<'c>, at: PointerValue<'c>, align: u32, mask: Value<'c>) {
        let types = [value.get_type(), self.pointer().into()];
        let call = self.call_intrinsic("llvm.masked.store", &types, &[value, at.into(), mask]);
        call.set_alignment_attribute(AttributeLoc::Param(1), align);
    }

    pub(super) fn atomic(&self, op: AtomicRMWBinOp, at: PointerValue<'c>, value: IntValue<'c>) {
        self.builder.build_atomicrmw(op, at, value, AtomicOrdering::Monotonic).expect(POSITIONED);
    }

    /// a + b, both exact.
    pub(super) fn add(&self, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        if a.get_zero_extended_constant() == Some(0) {
            return b;
        }
        if b.get_zero_extended_constant() == Some(0) {
            return a;
        }
        self.builder.build_int_nsw_add(a, b, "").expect(POSITIONED)
    }

    /// a·b, exact.
    pub(super) fn multiply(&self, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        if a.get_zero_extended_constant() == Some(1) {
            return b;
        }
        if b.get_zero_extended_constant() == Some(1) {
            return a;
        }
        self.builder.build_int_nsw_mul(a, b, "").expect(POSITIONED)
    }

    pub(super) fn current_block(&self) -> BasicBlock<'c> {
        self.builder.get_insert_block().expect(POSITIONED)
    }

    pub(super) fn new_block(&self, function: FunctionValue<'c>) -> BasicBlock<'c> {
        self.context.append_basic_block(function, "")
    }

    pub(super) fn phi(&self, kind: IntType<'c>) -> PhiValue<'c> {
        self.builder.build_phi(kind, "").expect(POSITIONED)
    }

    pub(super) fn branch(&self, to: BasicBlock<'c>) {
        self.builder.build_unconditional_branch(to).expect(POSITIONED);
    }

    pub(super) fn branch_if(&self, condition: IntValue<'c>, yes: BasicBlock<'c>, no: BasicBlock<'c>) {
        self.builder.build_conditional_branch(condition, yes, no).expect(POSITIONED);
    }

    pub(super) fn call(&self, function: FunctionValue<'c>, arguments: &[BasicMetadataValueEnum<'c>]) {
        self.builder.build_call(function, arguments, "").expect(POSITIONED);
    }

    pub(super) fn ret(&self) {
        self.builder.build_return(None).expect(POSITIONED);
    }

    /// Vectors end to end.
    pub(super) fn concatenate(&self, parts: &[Value<'c>]) -> Value<'c> {
        if let [one] = parts {
            return *one;
        }
        let (low, high) = parts.split_at(parts.len() / 2);
        let (low, high) = (self.concatenate(low).into_vector_value(), self.concatenate(high).into_vector_value());
        let i32_type = self.context.i32_type();
        let lanes = low.get_type().get_size() + high.get_type().get_size();
        let mask: Vec<_> = (0..lanes).map(|l| i32_type.const_int(l.into(), false)).collect();
        self.builder.build_shuffle_vector(low, high, VectorType::const_vector(&mask), "").expect(POSITIONED).into()
    }

    /// The lane of a vector that a value numbers.
    pub(super) fn extract_at(&self, vector: Value<'c>, lane: IntValue<'c>) -> Value<'c> {
        self.builder.build_extract_element(vector.into_vector_value(), lane, "").expect(POSITIONED)
    }

    pub(super) fn mark_nontemporal(&self, store: InstructionValue<'c>) {
        let one = self.context.metadata_node(&[self.context.i32_type().const_int(1, false).into()]);
        let _ = store.set_metadata(one, self.context.get_kind_id("nontemporal"));
    }

    pub(super) fn attribute_on(&self, function: FunctionValue<'c>, at: AttributeLoc, name: &str, value: u64) {
        let kind = Attribute::get_named_enum_kind_id(name);
        function.add_attribute(at, self.context.create_enum_attribute(kind, value));
    }

    pub(super) fn text_attribute(&self, function: FunctionValue<'c>, name: &str, value: &str) {
        function.add_attribute(AttributeLoc::Function, self.context.create_string_attribute(name, value));
    }
}

fn is_constant(value: Value<'_>) -> bool {
    match value {
        Value::IntValue(v) => v.is_const(),
        Value::FloatValue(v) => v.is_const(),
        Value::VectorValue(v) => v.is_const(),
        _ => false,
    }
}
