//! What a partition costs: the time of its kernels, and the memory that lives between them.
//!
//! A byte more at the peak weighs as a byte that one step copies: fusion may buy speed with memory, and never for nothing.

use super::groups::Groups;
use super::space::Space;
use super::{CALL, Group};
use crate::lower::emit::{Target, home};
use crate::lower::map::Built;
use crate::memory::align;
use crate::partition::stored_root;
use mlxc_ir::graph::ValueId;
use mlxc_ir::kernel::{Access, ArgKind, Index, IndexId, Kernel, Phase};
use mlxc_ir::profile::TargetKind;
use std::collections::{BTreeMap, BTreeSet};

/// Estimated seconds of a kernel. Rates are those of all cores: products of fewer tasks leave some idle.
pub fn cost(built: &Built, target: &Target<'_>) -> f64 {
    let r = &target.profile.rates;
    let phases = built.kernel.phases();
    let products = built.work.products(r);
    let tasks = phases.iter().map(|p| tasks(&built.kernel, p)).max().unwrap_or(1);
    let cores = match target.profile.kind {
        TargetKind::Cpu => i64::from(target.profile.cores),
        // Lanes fill a GPU, not groups.
        TargetKind::Gpu => 1,
    };
    let idle = cores as f64 / tasks.clamp(1, cores.max(1)) as f64;
    let rest = built.work.bytes / r.copy_bytes + built.work.flops / r.f32_flops;
    rest + products * idle + phases.len().max(1) as f64 * r.launch_seconds
}

/// Tasks of a phase at the largest symbol values.
fn tasks(k: &Kernel, phase: &Phase) -> i64 {
    phase.grid.iter().fold(1, |n: i64, (_, extent)| n.saturating_mul(most(k, *extent).max(0)))
}

/// The largest value of a grid extent, or a little more.
fn most(k: &Kernel, id: IndexId) -> i64 {
    let variable = |v| {
        let symbol = k.symbols.iter().find(|s| s.var == v).map(|s| s.hi);
        let argument = k.args.iter().find_map(|a| match a.kind {
            ArgKind::Index { var, hi, .. } if var == v => Some(hi),
            _ => None,
        });
        symbol.or(argument).unwrap_or(1)
    };
    match k.index.get(id) {
        Index::Const(c) => c,
        Index::Var(v) => variable(v),
        Index::Add(a, b) => most(k, a).saturating_add(most(k, b)),
        Index::Scale(a, c) if c > 0 => most(k, a).saturating_mul(c),
        Index::Div(a, c) => most(k, a).div_euclid(c.max(1)),
        Index::Mod(a, c) => most(k, a).min(c - 1),
        Index::Min(a, b) => most(k, a).min(most(k, b)),
        Index::Max(a, b) => most(k, a).max(most(k, b)),
        _ => 1,
    }
}

/// Seconds that a byte of peak memory weighs.
pub fn byte_cost(target: &Target<'_>) -> f64 {
    1.0 / target.profile.rates.copy_bytes
}

/// Time and memory of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Objective {
    /// Estimated seconds of all kernels.
    pub seconds: f64,
    /// Most scratch bytes live at one kernel, in the order of [`Groups::order`].
    pub peak: u64,
}

impl Objective {
    /// Of some groups.
    pub(super) fn of(space: &Space<'_>, groups: &Groups) -> Self {
        let seconds = groups.iter().map(|(_, g)| g.cost).sum();
        Objective { seconds, peak: peak(space, groups, &groups.order(&space.graph)) }
    }

    /// One number to compare partitions by, in seconds.
    pub fn value(&self, target: &Target<'_>) -> f64 {
        self.seconds + self.peak as f64 * byte_cost(target)
    }
}

/// Most bytes live at one kernel. What is counted is what the plan puts into the arena: values between kernels, those
/// that a block takes and gives, and scratch memory of single kernels; not the caller's memory, weights and states. `order` is
/// that of [`Groups::order`].
pub(super) fn peak(space: &Space<'_>, groups: &Groups, order: &[u32]) -> u64 {
    let f = space.f;
    let last_place = order.len().saturating_sub(1);
    // First and last place of each value.
    let mut lives: BTreeMap<ValueId, (usize, usize)> = BTreeMap::new();
    let mut alone = vec![0u64; order.len()];
    let results: BTreeSet<ValueId> = f.results.iter().map(|r| stored_root(f, r.value)).collect();
    for (at, id) in order.iter().enumerate() {
        let group = &groups[*id];
        for v in group.outputs.iter().filter(|v| home(f, **v) == **v) {
            match (results.contains(v), f.is_block) {
                // The caller has memory for an entry's results.
                (true, false) => continue,
                (true, true) => lives.insert(*v, (at, last_place)),
                (false, _) => lives.insert(*v, (at, at)),
            };
        }
        for v in reads(space, group) {
            if space.is_lent(v) {
                lives.entry(v).or_insert((0, 0));
            }
            if let Some((_, last)) = lives.get_mut(&v) {
                *last = (*last).max(at);
            }
        }
        let scratch = group.built.bindings.iter().filter_map(|b| b.scratch.as_ref());
        alone[at] = scratch.map(|t| align(t.max_bytes(&f.symbols))).sum();
    }
    let mut change = vec![0i64; order.len() + 1];
    for (v, (first, last)) in lives {
        let bytes = align(f.ty(v).max_bytes(&f.symbols)) as i64;
        change[first] += bytes;
        change[last + 1] -= bytes;
    }
    let mut live = 0i64;
    let mut most = 0;
    for (at, own) in alone.iter().enumerate() {
        live += change[at];
        most = most.max(live as u64 + own);
    }
    most
}

/// Memory that a group reads.
fn reads(space: &Space<'_>, group: &Group) -> Vec<ValueId> {
    let f = space.f;
    if group.built.template == CALL {
        let inputs = group.nodes.iter().flat_map(|n| &f.nodes[*n as usize].inputs);
        return inputs.map(|v| home(f, stored_root(f, *v))).collect();
    }
    group.built.bindings.iter().filter(|b| b.access != Access::Write && b.scratch.is_none()).map(|b| b.value).collect()
}
