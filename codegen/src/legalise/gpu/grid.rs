//! How a phase's grid is dispatched: axis by axis, or as one line of groups.

use mlxc_ir::kernel::{ArgKind, Index, IndexId, Kernel, Phase, Step, VarId};
use mlxc_ir::profile::TargetProfile;

/// True if the grid has to be dispatched as a line: more axes than the target has, or an extent that may be larger
/// than the target's.
pub(super) fn is_linear(kernel: &Kernel, profile: &TargetProfile, phase: &Phase) -> bool {
    let most = profile.limits.grid_extent;
    phase.grid.len() > usize::from(profile.limits.grid_axes.min(3))
        || phase.grid.iter().any(|(_, extent)| bounds(kernel, *extent).is_none_or(|(_, hi)| hi > i128::from(most)))
}

/// The least and greatest value of an expression that the host computes; `None` where it depends on more than
/// scalars.
fn bounds(kernel: &Kernel, id: IndexId) -> Option<(i128, i128)> {
    let of = |i| bounds(kernel, i);
    Some(match kernel.index.get(id) {
        Index::Const(c) => (c.into(), c.into()),
        Index::Var(var) => scalar(kernel, var)?,
        Index::Builtin(_) | Index::Clamp(..) => return None,
        Index::Add(a, b) => {
            let (a, b) = (of(a)?, of(b)?);
            (a.0 + b.0, a.1 + b.1)
        }
        Index::Scale(a, by) => {
            let (lo, hi) = of(a)?;
            let by = i128::from(by);
            if by < 0 { (hi * by, lo * by) } else { (lo * by, hi * by) }
        }
        Index::Div(a, by) => {
            let (lo, hi) = of(a)?;
            (lo.max(0) / i128::from(by), hi / i128::from(by))
        }
        Index::DivBy(a, b) => {
            let (a, b) = (of(a)?, of(b)?);
            (a.0.max(0) / b.1.max(1), a.1 / b.0.max(1))
        }
        Index::Mod(a, by) => (0, of(a)?.1.min(i128::from(by) - 1)),
        Index::Min(a, b) => {
            let (a, b) = (of(a)?, of(b)?);
            (a.0.min(b.0), a.1.min(b.1))
        }
        Index::Max(a, b) => {
            let (a, b) = (of(a)?, of(b)?);
            (a.0.max(b.0), a.1.max(b.1))
        }
    })
}

fn scalar(kernel: &Kernel, var: VarId) -> Option<(i128, i128)> {
    if let Some(s) = kernel.symbols.iter().find(|s| s.var == var) {
        return Some((s.lo.into(), s.hi.into()));
    }
    let arg = kernel.args.iter().find_map(|a| match a.kind {
        ArgKind::Index { var: v, lo, hi } if v == var => Some((lo.into(), hi.into())),
        _ => None,
    });
    arg.or_else(|| counter(kernel, &kernel.steps, var))
}

/// Bounds of the counter of a serial step.
fn counter(kernel: &Kernel, steps: &[Step], of: VarId) -> Option<(i128, i128)> {
    steps.iter().find_map(|step| match step {
        Step::Serial { var, lo, hi, .. } if *var == of => {
            Some((bounds(kernel, *lo)?.0, (bounds(kernel, *hi)?.1 - 1).max(0)))
        }
        Step::Serial { body, .. } => counter(kernel, body, of),
        Step::Phase(_) => None,
    })
}
