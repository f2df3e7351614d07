//! Collective operations on CPUs, where a group is one lane: combining over it is the identity, barriers order
//! nothing, and the lane's number is 0.

use mlxc_ir::Diagnostic;
use mlxc_ir::kernel::{Builtin, ExprId, ExprKind, Index, IndexId, Kernel, Stmt};
use mlxc_ir::profile::TargetProfile;

use super::rewrite::{Rule, Site, rewrite};

pub(super) fn run(kernel: &mut Kernel, _: &TargetProfile) -> Result<(), Diagnostic> {
    if let Some(phase) = kernel.phases().iter().find(|p| p.lanes != 1) {
        let found = format!("{} lanes in phase `{}`", phase.lanes, phase.name);
        return Err(Diagnostic::new(542, format!("kernel `{}` has too many lanes in a group", kernel.name))
            .expected("1 lane on CPUs")
            .found(found));
    }
    rewrite(kernel, &mut OneLane)
}

struct OneLane;

impl Rule for OneLane {
    fn expression(&mut self, at: &mut Site<'_>, id: ExprId) -> Result<ExprId, Diagnostic> {
        Ok(match at.kernel.expr(id).kind {
            ExprKind::Lanes(_, _, x) | ExprKind::GroupBroadcast(x) => x,
            _ => id,
        })
    }

    fn statement(&mut self, _: &mut Site<'_>, stmt: Stmt) -> Result<Option<Stmt>, Diagnostic> {
        Ok(match stmt {
            Stmt::Barrier(_) => None,
            other => Some(other),
        })
    }

    fn index(&mut self, kernel: &mut Kernel, id: IndexId) -> IndexId {
        match kernel.index.get(id) {
            Index::Builtin(Builtin::Lane) => kernel.index.constant(0),
            _ => id,
        }
    }
}
