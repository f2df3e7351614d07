//! Legalisation for GPUs: kernels whose groups have many lanes, and the facts that the writers of shading languages
//! print by.
//!
//! A legal kernel is Kernel IR that means the same. It has vectors of at most four elements, no `lanes.*`, `mad`,
//! `dot`, `lut` or folds, elementary functions only where the profile has them, and values of types that the target
//! stores. Memory of other types below 32 bits keeps its logical shape and type, so that every index stays proved;
//! the loads and stores of it have one form each ([`GpuLegal::word_load`], [`GpuLegal::word_value`]), printed as
//! accesses of 32-bit words.

use mlxc_ir::Diagnostic;
use mlxc_ir::kernel::{BufferId, ExprId, Facts, Kernel, Memory, Phase, Place, Step, VarId, facts, verify};
use mlxc_ir::profile::{TargetKind, TargetProfile};

use super::{Pass, alignment, convert, dot, half, lut, mad, math, verify_after};

mod check;
mod float;
mod fold;
mod grid;
mod group;
mod literal;
mod masked;
mod narrow;
mod registers;
mod unroll;
mod words;

pub use words::Storage;

/// The passes for GPUs, in order.
pub const GPU_PASSES: &[Pass] = &[
    ("masked", masked::run),
    ("half", half::run),
    ("lut", lut::run),
    ("math", math::run),
    ("dot", dot::run),
    ("mad", mad::run),
    ("convert", convert::run),
    ("fold", fold::run),
    ("float", float::run),
    ("narrow", narrow::run),
    ("group", group::run),
    ("unroll", unroll::run),
    ("registers", registers::run),
    ("literal", literal::run),
];

/// A kernel whose every operation a GPU has. Only [`legalise_gpu`] makes one.
#[derive(Clone, Debug)]
pub struct GpuLegal {
    kernel: Kernel,
    facts: Facts,
    read_only: Vec<bool>,
    phases: Vec<GpuPhase>,
}

/// How a phase is launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuPhase {
    /// Name of the phase in the kernel.
    pub name: String,
    /// Name of its entry point, `<kernel>_<phase>`.
    pub entry: String,
    /// Lanes of a group.
    pub lanes: u32,
    /// True if groups are dispatched as one line: `x = min(total, 65535)`, `y = ceil(total / x)`, and the shader
    /// finds the axes. Else the last axis is `x`, the one before it `y`, the one before that `z`.
    pub linear: bool,
    /// Counters of the serial steps around it, outermost first: scalars that follow the kernel's arguments.
    pub counters: Vec<VarId>,
    /// What it accesses: buffers in order, then group arrays.
    pub storage: Vec<Storage>,
}

impl GpuLegal {
    /// The kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Its phases, in the order of [`Kernel::phases`].
    pub fn phases(&self) -> &[GpuPhase] {
        &self.phases
    }

    /// True if every launch binds the buffer to a weight.
    pub fn is_read_only(&self, buffer: BufferId) -> bool {
        self.read_only.get(buffer.index()).copied().unwrap_or(false)
    }

    /// Alignment in bytes that was proved for an access, a power of two.
    pub fn alignment(&self, place: &Place) -> u32 {
        alignment(&self.kernel, &self.facts, place)
    }

    /// True if a store to memory in words covers whole words, so that no other lane's elements lie in them.
    pub fn covers_words(&self, place: &Place) -> bool {
        words::covers_words(&self.kernel, &self.facts, place)
    }

    /// The access to memory in words that an expression loads as 32-bit integers, one an element: zero-extended, or
    /// sign-extended for signed integers.
    pub fn word_load(&self, phase: &GpuPhase, id: ExprId) -> Option<&Place> {
        words::word_load(&self.kernel, id).filter(|p| phase.storage(p.memory).is_some_and(|s| s.words))
    }

    /// The 32-bit integers, one an element, whose low bits a store to memory in words writes.
    pub fn word_value(&self, value: ExprId) -> Option<ExprId> {
        words::word_value(&self.kernel, value)
    }
}

impl GpuPhase {
    /// How the phase accesses a buffer or group array; `None` if it does not.
    pub fn storage(&self, memory: Memory) -> Option<&Storage> {
        self.storage.iter().find(|s| s.memory == memory)
    }
}

/// Rewrites a kernel for a GPU. `read_only` says of each buffer whether every launch of the package binds it to a
/// weight.
///
/// # Errors
/// Those of [`verify`] if the kernel is not correct; 0540 to 0543 for limits of group memory, buffers, lanes and
/// scalars; 0544 for a profile that is not a GPU's; 0545 for an operation or type the target cannot have.
pub fn legalise_gpu(kernel: &Kernel, profile: &TargetProfile, read_only: &[bool]) -> Result<GpuLegal, Vec<Diagnostic>> {
    if profile.kind != TargetKind::Gpu {
        return Err(vec![Diagnostic::new(544, format!("the profile `{}` is not of a GPU", profile.name))]);
    }
    verify(kernel)?;
    let mut kernel = kernel.clone();
    for (name, pass) in GPU_PASSES {
        pass(&mut kernel, profile).map_err(|d| vec![d])?;
        if cfg!(debug_assertions) {
            verify_after(name, &kernel);
        }
    }
    check::run(&kernel, profile)?;
    let facts = facts(&kernel);
    let mut phases = Vec::new();
    collect(&kernel, &facts, profile, &kernel.steps, &mut Vec::new(), &mut phases);
    let mut read_only = read_only.to_vec();
    read_only.resize(kernel.buffers.len(), false);
    Ok(GpuLegal { kernel, facts, read_only, phases })
}

fn collect(
    kernel: &Kernel,
    facts: &Facts,
    profile: &TargetProfile,
    steps: &[Step],
    counters: &mut Vec<VarId>,
    out: &mut Vec<GpuPhase>,
) {
    for step in steps {
        match step {
            Step::Phase(phase) => out.push(gpu_phase(kernel, facts, profile, phase, counters)),
            Step::Serial { var, body, .. } => {
                counters.push(*var);
                collect(kernel, facts, profile, body, counters, out);
                counters.pop();
            }
        }
    }
}

fn gpu_phase(kernel: &Kernel, facts: &Facts, profile: &TargetProfile, phase: &Phase, counters: &[VarId]) -> GpuPhase {
    GpuPhase {
        name: phase.name.to_string(),
        entry: format!("{}_{}", kernel.name, phase.name),
        lanes: phase.lanes,
        linear: grid::is_linear(kernel, profile, phase),
        counters: counters.to_vec(),
        storage: words::storage(kernel, facts, profile, phase),
    }
}
