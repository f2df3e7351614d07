//! `hsum`, `hmin` and `hmax` as operations on halves of the vector, which is what they mean.

use mlxc_ir::Diagnostic;
use mlxc_ir::kernel::{ExprId, ExprKind, Kernel};
use mlxc_ir::profile::TargetProfile;

use crate::legalise::rewrite::{Rule, Site, rewrite};

pub(super) fn run(kernel: &mut Kernel, _: &TargetProfile) -> Result<(), Diagnostic> {
    rewrite(kernel, &mut Halves)
}

struct Halves;

impl Rule for Halves {
    fn expression(&mut self, at: &mut Site<'_>, id: ExprId) -> Result<ExprId, Diagnostic> {
        let ExprKind::Fold(op, vector) = at.kernel.expr(id).kind else { return Ok(id) };
        let lanes = at.kernel.expr(vector).ty.lanes();
        let vector = at.bind(vector);
        let mut values: Vec<ExprId> = (0..lanes)
            .map(|l| {
                let whole = at.get(vector);
                at.element(whole, l)
            })
            .collect();
        while values.len() > 1 {
            let high = values.split_off(values.len() / 2);
            values = values.into_iter().zip(high).map(|(a, b)| at.binary(op.binary(), a, b)).collect();
        }
        Ok(values[0])
    }
}
