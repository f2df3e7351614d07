//! From kernels to functions: the body of a phase with its task loop, and the thunk that unpacks the launch
//! record for it.

use std::collections::BTreeMap;

use inkwell::attributes::AttributeLoc;
use inkwell::basic_block::BasicBlock;
use inkwell::context::Context;
use inkwell::module::{Linkage, Module};
use inkwell::types::BasicMetadataTypeEnum;
use inkwell::values::{BasicMetadataValueEnum, FunctionValue, InstructionOpcode, IntValue, PointerValue};
use mlxc_ir::kernel::{ArgId, ArgKind, BufferId, GroupId, Kernel, LocalId, Phase, Step, Stmt, VarId};

use super::PhaseCode;
use super::memory::Array;
use super::tile::Tiles;
use super::values::{Emitter, Value};
use crate::legalise::{GROUP_ALIGN, Legal};
use crate::profiles::CpuTarget;

/// Alignment of buffers, in bytes.
const BUFFER_ALIGN: u64 = 256;

/// What the writer knows while it writes the body of one phase.
pub(super) struct Writer<'w, 'c> {
    pub(super) emit: &'w Emitter<'c>,
    pub(super) legal: &'w Legal,
    pub(super) function: FunctionValue<'c>,
    /// Block that holds the stack slots of `var`s and registers.
    pub(super) slots: BasicBlock<'c>,
    pub(super) vars: BTreeMap<VarId, IntValue<'c>>,
    pub(super) lets: BTreeMap<LocalId, Value<'c>>,
    pub(super) storage: BTreeMap<LocalId, Vec<PointerValue<'c>>>,
    pub(super) tiles: Tiles,
    pub(super) args: BTreeMap<ArgId, Value<'c>>,
    pub(super) buffers: BTreeMap<BufferId, Array<'c>>,
    pub(super) groups: BTreeMap<GroupId, Array<'c>>,
    /// True once a nontemporal store was written.
    pub(super) streamed: bool,
}

impl Writer<'_, '_> {
    pub(super) fn kernel(&self) -> &Kernel {
        self.legal.kernel()
    }

    pub(super) fn target(&self) -> &'static CpuTarget {
        self.legal.target()
    }
}

/// What functions are called in a module.
#[derive(Clone, Copy)]
pub(super) enum Names {
    /// By kernel and phase, for readers.
    Own,
    /// By the number of the phase, so that equal kernels have equal modules.
    Numbers,
}

/// Writes every phase of a kernel into a module.
pub(super) fn write<'c>(context: &'c Context, legal: &Legal, names: Names) -> (Module<'c>, Vec<PhaseCode>) {
    let emit = Emitter::new(context, "kernels");
    let mut phases = Vec::new();
    write_steps(&emit, legal, &legal.kernel().steps, names, &mut Vec::new(), &mut phases);
    (emit.module, phases)
}

fn write_steps<'c>(
    emit: &Emitter<'c>,
    legal: &Legal,
    steps: &[Step],
    names: Names,
    counters: &mut Vec<VarId>,
    phases: &mut Vec<PhaseCode>,
) {
    for step in steps {
        match step {
            Step::Phase(phase) => {
                let function = match names {
                    Names::Own => symbol(legal.kernel(), phase),
                    Names::Numbers => number(phases.len()),
                };
                phases.push(write_phase(emit, legal, phase, &function, counters));
            }
            Step::Serial { var, body, .. } => {
                counters.push(*var);
                write_steps(emit, legal, body, names, counters, phases);
                counters.pop();
            }
        }
    }
}

/// One word of the launch record.
#[derive(Clone, Copy)]
enum Word {
    Buffer(BufferId),
    Index(VarId),
    Scalar(ArgId),
}

fn record(kernel: &Kernel, counters: &[VarId]) -> Vec<Word> {
    let buffers = (0..kernel.buffers.len()).map(|b| Word::Buffer(BufferId::new(b)));
    let symbols = kernel.symbols.iter().map(|s| Word::Index(s.var));
    let args = kernel.args.iter().enumerate().map(|(a, arg)| match arg.kind {
        ArgKind::Index { var, .. } => Word::Index(var),
        ArgKind::Scalar(_) => Word::Scalar(ArgId::new(a)),
    });
    buffers.chain(symbols).chain(args).chain(counters.iter().map(|c| Word::Index(*c))).collect()
}

/// Name of the exported function of a phase.
pub(super) fn symbol(kernel: &Kernel, phase: &Phase) -> String {
    format!("{}__{}", kernel.name, phase.name)
}

/// Name of a phase's function in a module of [`Names::Numbers`].
pub(super) fn number(phase: usize) -> String {
    format!("p{phase}")
}

fn write_phase(emit: &Emitter<'_>, legal: &Legal, phase: &Phase, function: &str, counters: &[VarId]) -> PhaseCode {
    let kernel = legal.kernel();
    let words = record(kernel, counters);
    let (body, group_bytes) = write_body(emit, legal, phase, &words, &format!("{function}.tasks"));
    write_thunk(emit, legal.target(), &words, body, function);
    let symbol = symbol(kernel, phase);
    PhaseCode { kernel: kernel.name.to_string(), phase: phase.name.to_string(), symbol, group_bytes }
}

fn common_attributes<'c>(emit: &Emitter<'c>, target: &CpuTarget, function: FunctionValue<'c>) {
    let context = AttributeLoc::Function;
    emit.attribute_on(function, context, "nounwind", 0);
    emit.text_attribute(function, "target-cpu", target.cpu);
    emit.text_attribute(function, "target-features", target.features);
    emit.text_attribute(function, "tune-cpu", target.tune);
    emit.text_attribute(function, "prefer-vector-width", &target.vector_bits.to_string());
    // Code is mapped without a linker: no loop may become a call of memset or memcpy.
    emit.text_attribute(function, "no-builtins", "");
}

/// `k__p`: loads the record and calls the body.
fn write_thunk<'c>(emit: &Emitter<'c>, target: &CpuTarget, words: &[Word], body: FunctionValue<'c>, symbol: &str) {
    let (pointer, i64_type) = (emit.pointer(), emit.i64());
    let parameters: [BasicMetadataTypeEnum<'_>; 4] = [pointer.into(), pointer.into(), i64_type.into(), i64_type.into()];
    let kind = emit.context.void_type().fn_type(&parameters, false);
    let thunk = emit.module.add_function(symbol, kind, Some(Linkage::External));
    common_attributes(emit, target, thunk);
    emit.builder.position_at_end(emit.context.append_basic_block(thunk, ""));
    let given = thunk.get_params();
    let mut arguments: Vec<BasicMetadataValueEnum<'_>> = Vec::with_capacity(words.len() + 3);
    for (at, word) in words.iter().enumerate() {
        let address = emit.address(i64_type.into(), given[0].into_pointer_value(), emit.index(at as i64));
        let value = match word {
            Word::Buffer(_) => emit.load(pointer.into(), address, 8),
            Word::Index(_) | Word::Scalar(_) => emit.load(i64_type.into(), address, 8),
        };
        arguments.push(value.into());
    }
    arguments.extend(given[1..].iter().map(|&v| BasicMetadataValueEnum::from(v)));
    emit.call(body, &arguments);
    emit.ret();
}

/// The function that runs tasks: `(buffers…, scalars…, slot, lo, hi)`.
fn write_body<'c>(
    emit: &Emitter<'c>,
    legal: &Legal,
    phase: &Phase,
    words: &[Word],
    name: &str,
) -> (FunctionValue<'c>, u64) {
    let kernel = legal.kernel();
    let (pointer, i64_type) = (emit.pointer(), emit.i64());
    let mut parameters: Vec<BasicMetadataTypeEnum<'_>> = words
        .iter()
        .map(|w| match w {
            Word::Buffer(_) => pointer.into(),
            Word::Index(_) | Word::Scalar(_) => i64_type.into(),
        })
        .collect();
    parameters.extend([pointer.into(), BasicMetadataTypeEnum::from(i64_type), i64_type.into()]);
    let kind = emit.context.void_type().fn_type(&parameters, false);
    let function = emit.module.add_function(name, kind, Some(Linkage::Internal));
    common_attributes(emit, legal.target(), function);
    // Out of line: the call costs nothing beside its tasks, and as parameters the buffers keep `noalias`.
    emit.attribute_on(function, AttributeLoc::Function, "noinline", 0);
    let stored = stored_buffers(&phase.body);
    for (at, word) in words.iter().enumerate() {
        if let Word::Buffer(b) = word {
            let place = AttributeLoc::Param(at as u32);
            emit.attribute_on(function, place, "noalias", 0);
            emit.attribute_on(function, place, "align", BUFFER_ALIGN);
            if !stored.contains(b) {
                emit.attribute_on(function, place, "readonly", 0);
            }
        }
    }
    let slot_at = words.len() as u32;
    emit.attribute_on(function, AttributeLoc::Param(slot_at), "noalias", 0);
    emit.attribute_on(function, AttributeLoc::Param(slot_at), "align", GROUP_ALIGN.into());

    let slots = emit.context.append_basic_block(function, "");
    let start = emit.context.append_basic_block(function, "");
    emit.builder.position_at_end(start);
    let given = function.get_params();
    let mut writer = Writer {
        emit,
        legal,
        function,
        slots,
        vars: BTreeMap::new(),
        lets: BTreeMap::new(),
        storage: BTreeMap::new(),
        tiles: Tiles::default(),
        args: BTreeMap::new(),
        buffers: BTreeMap::new(),
        groups: BTreeMap::new(),
        streamed: false,
    };
    for (word, value) in words.iter().zip(&given) {
        match word {
            Word::Index(var) => {
                writer.vars.insert(*var, value.into_int_value());
            }
            Word::Scalar(arg) => {
                let scalar = writer.scalar_argument(*arg, *value);
                writer.args.insert(*arg, scalar);
            }
            Word::Buffer(_) => {}
        }
    }
    for (word, value) in words.iter().zip(&given) {
        if let Word::Buffer(b) = word {
            let shape: Vec<_> = kernel.buffer(*b).shape.iter().map(|d| writer.index(*d)).collect();
            let array = writer.array(value.into_pointer_value(), kernel.buffer(*b).dtype, &shape);
            writer.buffers.insert(*b, array);
        }
    }
    let slot = given[words.len()].into_pointer_value();
    let mut group_bytes = 0;
    for id in &phase.memory {
        let group = kernel.group(*id);
        let base = emit.address(emit.context.i8_type().into(), slot, emit.index(group_bytes as i64));
        let shape: Vec<_> = group.shape.iter().map(|d| emit.index(i64::from(*d))).collect();
        let array = writer.array(base, group.dtype, &shape);
        writer.groups.insert(*id, array);
        group_bytes += group.bytes().next_multiple_of(GROUP_ALIGN.into());
    }
    let (lo, hi) = (given[words.len() + 1].into_int_value(), given[words.len() + 2].into_int_value());
    writer.tasks(phase, lo, hi);
    writer.release_tiles();
    emit.ret();
    writer.configure_tiles();
    emit.builder.position_at_end(slots);
    emit.branch(start);
    (function, group_bytes)
}

impl<'c> Writer<'_, 'c> {
    /// The loop over tasks: a task's number becomes its place on each axis.
    fn tasks(&mut self, phase: &Phase, lo: IntValue<'c>, hi: IntValue<'c>) {
        let extents: Vec<_> = phase.grid.iter().map(|(_, extent)| self.index(*extent)).collect();
        self.repeat(lo, hi, 1, |writer, task| {
            let mut rest = task;
            for (axis, ((var, _), extent)) in phase.grid.iter().zip(&extents).enumerate().rev() {
                let place = if axis == 0 {
                    rest
                } else {
                    let place = writer.emit.binary(InstructionOpcode::URem, rest.into(), (*extent).into());
                    rest = writer.emit.binary(InstructionOpcode::UDiv, rest.into(), (*extent).into()).into_int_value();
                    place.into_int_value()
                };
                writer.vars.insert(*var, place);
            }
            writer.block(&phase.body);
        });
        if self.streamed
            && let Some(fence) = self.target().store_fence
        {
            self.emit.intrinsic(fence, &[], &[]);
        }
    }
}

/// Buffers that statements of the block store to.
fn stored_buffers(block: &[Stmt]) -> Vec<BufferId> {
    use mlxc_ir::kernel::Memory;
    let mut out = Vec::new();
    for stmt in block {
        match stmt {
            Stmt::Store { place, .. } | Stmt::Atomic(_, place, _) => {
                if let Memory::Buffer(b) = place.memory {
                    out.push(b);
                }
            }
            Stmt::For { body, .. } => out.extend(stored_buffers(body)),
            Stmt::If { then, otherwise, .. } => {
                out.extend(stored_buffers(then));
                out.extend(stored_buffers(otherwise));
            }
            _ => {}
        }
    }
    out
}
