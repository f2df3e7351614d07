//! Legalisation: rewriting a kernel, Kernel IR to Kernel IR, until a target has every operation in it.
//!
//! One pass a file, in the order of [`CPU_PASSES`]. Every decision about a target is taken here; a writer prints
//! what it is given. Each pass leaves a kernel that means the same, within the slack of the operations it replaces.

use mlxc_ir::Diagnostic;
use mlxc_ir::kernel::{Kernel, Place};
use mlxc_ir::profile::{TargetKind, TargetProfile};

use crate::profiles::{CpuTarget, cpu_target};

mod check;
mod collective;
mod compute;
mod convert;
mod dot;
mod half;
mod mad;
mod math;
mod rewrite;

/// A kernel whose every operation its target has. Only [`legalise`] makes one.
#[derive(Clone, Debug)]
pub struct Legal {
    kernel: Kernel,
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

    /// Alignment in bytes that was proved for an access; `None` for that of its element.
    pub(crate) fn alignment(&self, _place: &Place) -> Option<u32> {
        None
    }
}

/// A pass: its name, and what it does to a kernel for a profile.
pub type Pass = (&'static str, fn(&mut Kernel, &TargetProfile) -> Result<(), Diagnostic>);

/// The passes for CPUs, in order.
pub const CPU_PASSES: &[Pass] = &[
    ("collective", collective::run),
    ("half", half::run),
    ("math", math::run),
    ("dot", dot::run),
    ("mad", mad::run),
    ("convert", convert::run),
];

/// Rewrites a kernel for a target.
///
/// # Errors
/// 0544 for a profile no back end of this crate serves, 0545 for an operation or type the target cannot have.
pub fn legalise(kernel: &Kernel, profile: &TargetProfile) -> Result<Legal, Vec<Diagnostic>> {
    let target = match profile.kind {
        TargetKind::Cpu => cpu_target(&profile.name),
        TargetKind::Gpu => None,
    };
    let Some(target) = target else {
        return Err(vec![Diagnostic::new(544, format!("no code generator for the profile `{}`", profile.name))]);
    };
    let mut kernel = kernel.clone();
    for (_, pass) in CPU_PASSES {
        pass(&mut kernel, profile).map_err(|d| vec![d])?;
    }
    check::run(&kernel)?;
    Ok(Legal { kernel, target })
}

/// An operation the target does not have and no pass replaces.
fn refuse(kernel: &Kernel, what: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new(545, format!("kernel `{}` uses {what}, which its target does not have", kernel.name))
}
