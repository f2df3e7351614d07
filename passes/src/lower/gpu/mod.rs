//! Templates for GPUs: how the work of a region is dealt out to the lanes of groups.
//!
//! What is computed is the emitter's business, as on CPUs. These files decide which lane computes it: [`items`] gives
//! every element (or vector of four) to a lane of its own, [`team`] lets lanes share a reduction, [`map`] chooses between
//! the two; [`product`] is for matrix products,
//! [`attention`] for scaled dot-product attention, [`scan`] and [`sort`] for long lines.

pub(in crate::lower) mod attention;
pub(in crate::lower) mod items;
pub(in crate::lower) mod map;
pub(in crate::lower) mod product;
pub(in crate::lower) mod scan;
pub(in crate::lower) mod sort;
mod team;

use mlxc_ir::TargetProfile;
use mlxc_ir::profile::TargetKind;

/// Lanes of a group, where nothing asks for fewer: what every GPU takes.
const GROUP: u32 = 256;

/// True if groups of the profile have many lanes.
pub(in crate::lower) fn is_gpu(profile: &TargetProfile) -> bool {
    profile.kind == TargetKind::Gpu
}

/// The smallest power of two that is not below `n`, and at most `most`.
fn power_of_two(n: i64, most: u32) -> u32 {
    (n.max(1) as u64).next_power_of_two().min(u64::from(most)) as u32
}
