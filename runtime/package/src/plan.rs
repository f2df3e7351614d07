//! The plan: everything the runtime needs to run an entry, as data.
//!
//! A [`Plan`] lists weights, states and kernels once, and for each entry its symbols, ports, buffers and launches in
//! order. Sizes are expressions over the entry's symbols; placement is fixed at their largest values.

use crate::{DType, Layout, Range, Size};
use serde::{Deserialize, Serialize};

/// What fixes a symbol's value when a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SymbolKind {
    /// An extent of an input.
    Size,
    /// The value of the i32[] input of the same name.
    Scalar,
}

/// A named integer with inclusive bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Symbol {
    /// Name.
    pub name: String,
    /// Bounds.
    pub range: Range,
    /// Every value is a multiple of this, at least 1.
    pub multiple: i64,
    /// Where its value comes from.
    pub kind: SymbolKind,
}

/// A weight as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weight {
    /// Name; a merged weight has one of its own.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Logical shape.
    pub shape: Vec<u64>,
    /// Storage order.
    pub layout: Layout,
    /// Archive member that holds its bytes.
    pub member: String,
    /// Bytes stored.
    pub bytes: u64,
    /// The original weights it holds, in order along the first axis; itself where it was not merged.
    pub parts: Vec<String>,
}

/// A state: zero at first, kept from step to step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Logical shape.
    pub shape: Vec<u64>,
    /// Storage order.
    pub layout: Layout,
    /// Bytes stored.
    pub bytes: u64,
}

/// What a kernel does with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Loads only.
    Read,
    /// Stores every element it owns.
    Write,
    /// Loads and stores.
    Update,
}

/// One phase of a kernel: what a launch runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Name within the kernel.
    pub name: String,
    /// Symbol in the target's code.
    pub symbol: String,
    /// Bytes of group memory one worker needs.
    pub group_bytes: u64,
    /// Lanes of a group, the shader's workgroup size; 1 on CPUs.
    pub lanes: u32,
    /// A shader's groups are numbered along one axis. The host then dispatches `x = min(groups, 65535)` by
    /// `y = ceil(groups / x)` groups, and the shader returns where its number is past the last one. Otherwise the grid's
    /// axes, at most three, are the dispatch's, the last one along x.
    pub linear: bool,
}

/// A kernel of the package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Name, unique in the package.
    pub name: String,
    /// What was fused, in one line.
    pub comment: String,
    /// Template it was built from.
    pub template: String,
    /// The user's source lines it came from.
    pub origin: Vec<String>,
    /// Access to each buffer, in order.
    pub buffers: Vec<Access>,
    /// For each buffer, whether every launch binds it to a weight; empty where none is. A shader declares those, and no
    /// others, as read only.
    pub constant: Vec<bool>,
    /// Number of scalars (symbols, then index arguments) of a launch record.
    pub scalars: u32,
    /// Phases, in order.
    pub phases: Vec<Phase>,
}

/// Where a buffer lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The caller's input of that position.
    Input(u32),
    /// The caller's output of that position.
    Output(u32),
    /// A weight.
    Weight(u32),
    /// A state.
    State(u32),
    /// The arena.
    Arena {
        /// Bytes from the arena's start, a multiple of 256.
        offset: u64,
    },
}

/// A buffer of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buffer {
    /// The user's name for the value.
    pub name: String,
    /// Where it lives.
    pub place: Place,
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub shape: Vec<Size>,
    /// Bytes at the largest symbol values.
    pub bytes: u64,
    /// First launch that uses it.
    pub first: u32,
    /// Last launch that uses it.
    pub last: u32,
    /// Why it shares memory with an earlier buffer, if it does.
    pub alias: Option<Alias>,
}

/// One buffer in the place of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alias {
    /// The buffer whose memory it takes.
    pub of: u32,
    /// Why that is sound.
    pub reason: String,
}

/// A caller's tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub shape: Vec<Size>,
}

/// One launch: a phase of a kernel over a grid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// The kernel.
    pub kernel: u32,
    /// Its phase.
    pub phase: u32,
    /// The repeated block it belongs to and the repetition, if any: `(block, number)`.
    pub block: Option<(u32, u32)>,
    /// Grid extents; tasks are their product.
    pub grid: Vec<Size>,
    /// Buffers of the entry, in the kernel's order.
    pub buffers: Vec<u32>,
    /// Values of the kernel's symbols, then of its index arguments.
    pub scalars: Vec<Size>,
}

/// The scratch memory of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arena {
    /// Bytes of planned buffers.
    pub bytes: u64,
    /// Largest sum of bytes live at one launch: no plan of this launch order is smaller.
    pub lower_bound: u64,
    /// Sum of all buffers' bytes.
    pub naive: u64,
    /// Bytes of group memory a worker needs, at most.
    pub worker_bytes: u64,
    /// Name of the placement that won.
    pub strategy: String,
}

/// Something that can be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Name.
    pub name: String,
    /// Symbols of its sizes.
    pub symbols: Vec<Symbol>,
    /// Sizes that are at least 0, or the step is refused.
    pub requires: Vec<Size>,
    /// Inputs, in order; host scalars among them.
    pub inputs: Vec<Port>,
    /// Outputs, in order.
    pub outputs: Vec<Port>,
    /// Buffers.
    pub buffers: Vec<Buffer>,
    /// Launches, in order.
    pub launches: Vec<Launch>,
    /// Scratch memory.
    pub arena: Arena,
}

/// A whole package's plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Weights.
    pub weights: Vec<Weight>,
    /// States.
    pub states: Vec<State>,
    /// Kernels.
    pub kernels: Vec<Kernel>,
    /// Entries.
    pub entries: Vec<Entry>,
}
