//! Operations on constants alone: shading languages evaluate them when they compile, and refuse what overflows or is
//! not finite. One operand is bound first, which makes it a value of the running program.

use mlxc_ir::Diagnostic;
use mlxc_ir::kernel::{ExprId, ExprKind, Kernel};
use mlxc_ir::profile::TargetProfile;

use crate::legalise::rewrite::{Rule, Site, rewrite};

pub(super) fn run(kernel: &mut Kernel, _: &TargetProfile) -> Result<(), Diagnostic> {
    rewrite(kernel, &mut Bound)
}

struct Bound;

impl Rule for Bound {
    fn expression(&mut self, at: &mut Site<'_>, id: ExprId) -> Result<ExprId, Diagnostic> {
        let kind = at.kernel.expr(id).kind.clone();
        let constructs = matches!(kind, ExprKind::Splat(_) | ExprKind::Vector(_));
        let (mut operands, mut constant) = (0, true);
        kind.operands(&mut |e| {
            operands += 1;
            constant &= is_constant(at.kernel, e);
        });
        if constructs || operands == 0 || !constant || matches!(kind, ExprKind::Load(..)) {
            return Ok(id);
        }
        let mut first = true;
        let kind = kind.map_operands(&mut |e| {
            if !std::mem::take(&mut first) {
                return e;
            }
            let local = at.bind(e);
            at.get(local)
        });
        let ty = at.kernel.expr(id).ty;
        Ok(at.kernel.push_expr(kind, ty))
    }
}

fn is_constant(kernel: &Kernel, id: ExprId) -> bool {
    match &kernel.expr(id).kind {
        ExprKind::Const(_) | ExprKind::Table(_) => true,
        ExprKind::Splat(one) => is_constant(kernel, *one),
        ExprKind::Vector(all) => all.iter().all(|e| is_constant(kernel, *e)),
        _ => false,
    }
}
