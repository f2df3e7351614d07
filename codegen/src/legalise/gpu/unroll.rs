//! Loops that are written out.

use mlxc_ir::Diagnostic;
use mlxc_ir::kernel::Kernel;
use mlxc_ir::profile::TargetProfile;

pub(super) fn run(_: &mut Kernel, _: &TargetProfile) -> Result<(), Diagnostic> {
    Ok(())
}
