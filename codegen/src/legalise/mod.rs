//! Legalisation: rewriting a kernel, Kernel IR to Kernel IR, until a target has every operation in it.
//!
//! One pass a file, in the order of [`CPU_PASSES`]. Every decision about a target is taken here; a writer prints
//! what it is given. Each pass leaves a kernel that means the same, within the slack of the operations it replaces.

use mlxc_ir::Diagnostic;
use mlxc_ir::kernel::{Facts, Kernel, Memory, Place, print, verify};
use mlxc_ir::profile::{TargetKind, TargetProfile};

use crate::profiles::{CpuTarget, cpu_target};

mod check;
mod collective;
mod compute;
mod convert;
mod dot;
pub mod gpu;
mod half;
mod lut;
mod mad;
mod math;
mod quotient;
mod rewrite;
mod stream;
pub(crate) mod tile;
mod visit;

pub use gpu::{GPU_PASSES, GpuLegal, GpuPhase, Storage, legalise_gpu};

/// A kernel whose every operation its target has. Only [`legalise`] makes one.
#[derive(Clone, Debug)]
pub struct Legal {
    kernel: Kernel,
    facts: Facts,
    target: &'static CpuTarget,
}

impl Legal {
    /// The kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// How LLVM names the target the kernel is legal for.
    pub fn target(&self) -> &'static CpuTarget {
        self.target
    }

    /// Alignment in bytes that was proved for an access, a power of two.
    pub fn alignment(&self, place: &Place) -> u32 {
        alignment(&self.kernel, &self.facts, place)
    }
}

/// Alignment of a worker's group memory on CPUs, in bytes.
pub(crate) const GROUP_ALIGN: u32 = 64;

/// At least that of an element, whatever a pass has done to the place since it was proved.
fn alignment(kernel: &Kernel, facts: &Facts, place: &Place) -> u32 {
    let proved = match place.memory {
        Memory::Buffer(_) => facts.alignment(place),
        Memory::Group(_) => facts.alignment(place).min(GROUP_ALIGN),
    };
    proved.max(kernel.memory_dtype(place.memory).bytes() as u32)
}

/// A pass: its name, and what it does to a kernel for a profile.
pub type Pass = (&'static str, fn(&mut Kernel, &TargetProfile) -> Result<(), Diagnostic>);

/// The passes for CPUs, in order.
pub const CPU_PASSES: &[Pass] = &[
    ("collective", collective::run),
    ("half", half::run),
    ("lut", lut::run),
    ("math", math::run),
    ("dot", dot::run),
    ("quotient", quotient::run),
    ("mad", mad::run),
    ("convert", convert::run),
];

/// Rewrites a kernel for a target.
///
/// # Errors
/// Those of [`verify`] if the kernel is not correct; 0544 for a profile no back end of this crate serves, 0545 for an operation or type the target cannot have.
pub fn legalise(kernel: &Kernel, profile: &TargetProfile) -> Result<Legal, Vec<Diagnostic>> {
    let target = match profile.kind {
        TargetKind::Cpu => cpu_target(&profile.name),
        TargetKind::Gpu => None,
    };
    let Some(target) = target else {
        return Err(vec![Diagnostic::new(544, format!("no code generator for the profile `{}`", profile.name))]);
    };
    let facts = verify(kernel)?;
    let mut kernel = kernel.clone();
    for (name, pass) in CPU_PASSES {
        pass(&mut kernel, profile).map_err(|d| vec![d])?;
        if cfg!(debug_assertions) {
            verify_after(name, &kernel);
        }
    }
    stream::run(&mut kernel, &facts);
    check::run(&kernel, profile)?;
    Ok(Legal { kernel, facts, target })
}

/// Id of the cap on statements, which is one on what authors write.
const TOO_MANY_STATEMENTS: u16 = 526;

fn verify_after(pass: &str, kernel: &Kernel) {
    let errors = verify(kernel).err().unwrap_or_default();
    if let Some(d) = errors.iter().find(|d| d.id != TOO_MANY_STATEMENTS) {
        panic!("invariant: `{pass}` leaves kernel `{}` correct: {d}\n{}", kernel.name, print(kernel));
    }
}

/// An operation the target does not have and no pass replaces.
fn refuse(kernel: &Kernel, what: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new(545, format!("kernel `{}` uses {what}, which its target does not have", kernel.name))
}
