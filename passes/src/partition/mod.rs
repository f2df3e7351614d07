//! Partition: which nodes become which kernel.
//!
//! Every node that computes starts alone; pairs of neighbours merge, the largest gain first, as long as one kernel
//! of both exists and is cheaper than two ([`mod@grow`]). Whether it exists is answered by building it, and what it costs by the
//! work the build counted: bytes over bandwidth, operations over rate, and the launch ([`objective`](Objective)). A refused merge keeps
//! its reason. [`exact`] finds the best partition of a few nodes and [`beam`] a good one of many: what the growth is
//! measured against.

pub mod beam;
pub mod exact;
mod graph;
mod groups;
mod grow;
mod kernel;
mod objective;
mod settle;
mod space;

pub use kernel::{build, build_chosen};
pub use objective::{Objective, byte_cost, cost};

use crate::lower::emit::{Refusal, Region, Target, is_free};
use crate::lower::map::Built;
use mlxc_ir::graph::{Function, Op, ValueId};
use space::Space;

/// Nodes that become one kernel.
#[derive(Clone, Debug)]
pub struct Group {
    /// Nodes computed; free nodes and cheap producers may stand in several groups.
    pub nodes: Region,
    /// Values other groups or the caller need, in memory.
    pub outputs: Vec<ValueId>,
    /// The kernel.
    pub built: Built,
    /// Estimated seconds.
    pub cost: f64,
}

/// The template name of a group that is one call.
pub const CALL: &str = "call";

/// What the cost model says of two groups and of one in their place.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Seconds of two kernels.
    pub apart: f64,
    /// Seconds of one, where it can be built.
    pub together: Option<f64>,
    /// Bytes of scratch memory live at the peak with two kernels and with one, where that decided.
    pub peak: Option<[u64; 2]>,
}

/// Why two groups stayed apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// Names of the values of the producing side.
    pub first: Vec<String>,
    /// Names of the values of the consuming side.
    pub second: Vec<String>,
    /// Stable code: a lowering refusal's, `cycle`, `cost` or `memory`.
    pub code: String,
    /// A sentence.
    pub text: String,
    /// What the cost model says.
    pub figures: Figures,
}

/// A merge that paid for raising the peak of scratch memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Raised {
    /// Names of the values of the producing side.
    pub first: Vec<String>,
    /// Names of the values of the consuming side.
    pub second: Vec<String>,
    /// Seconds of the kernels apart.
    pub apart: f64,
    /// Seconds gained.
    pub gain: f64,
    /// Bytes live at the peak before and after.
    pub peak: [u64; 2],
}

/// The kernels of a function, in an order that respects their data.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Groups, producers first.
    pub groups: Vec<Group>,
    /// Merges that were tried and refused.
    pub refused: Vec<Refused>,
    /// Merges that raised the peak.
    pub raised: Vec<Raised>,
    /// Time and memory.
    pub objective: Objective,
}

/// Splits a function into kernels. `weights` says of each parameter whether it is a weight wherever the function is
/// called; empty: none is known to be.
///
/// # Errors
/// A refusal where a single node has no kernel at all.
pub fn partition(f: &Function, target: &Target<'_>, weights: &[bool], fuse: bool) -> Result<Partition, Refusal> {
    grow::grow(&Space::new(f, target, weights), fuse)
}

/// The value a root is stored as: a reshape only renames memory.
pub fn stored_root(f: &Function, mut v: ValueId) -> ValueId {
    while let Op::Reshape { .. } = f.node(v).op {
        let x = f.node(v).inputs[0];
        if is_free(f, x.node) && !matches!(f.node(x).op, Op::Reshape { .. }) {
            break;
        }
        v = x;
    }
    v
}
