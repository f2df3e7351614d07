//! What a picture shows, as data: every part of it is decided before anything is printed.
//!
//! Numbers are indices into the lists of the same level. Nothing here comes from a clock, so equal compilations give
//! equal pictures.

use crate::reasons::Reason;
use crate::rewrites::Rewrites;
use serde::Serialize;

/// One compilation, for one target or several.
#[derive(Clone, Debug, Serialize)]
pub struct Picture {
    /// Name of the model: the last part of its path.
    pub model: String,
    /// The compiler that drew it.
    pub writer: String,
    /// Targets, the first shown first.
    pub targets: Vec<Target>,
    /// What rewrite rules did, by function; none where the package does not say.
    pub rules: Option<Vec<Rewrites>>,
    /// Times of a run.
    pub measured: Option<Measured>,
    /// Texts of code, each once.
    pub texts: Vec<String>,
    /// What is not shown, and why: a sentence each.
    pub absent: Vec<String>,
}

/// One target's kernels and launches.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// Name of the profile.
    pub name: String,
    /// True if work is counted from Kernel IR; else bytes are those of the buffers that a launch binds.
    pub counted: bool,
    /// Bytes of all weights.
    pub weight_bytes: u64,
    /// Bytes of all states.
    pub state_bytes: u64,
    /// Kernels.
    pub kernels: Vec<Kernel>,
    /// Entries.
    pub entries: Vec<Entry>,
    /// Merges that were refused; none where the package was stripped of them.
    pub refused: Option<Vec<Refusal>>,
}

/// A merge that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Refusal {
    /// What was said of it.
    #[serde(flatten)]
    pub reason: Reason,
    /// Kernels that hold a side of it.
    pub kernels: Vec<Side>,
}

/// A kernel that holds a side of a merge.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// The kernel.
    pub kernel: u32,
    /// Of a kernel that is launched for several sets of values: those of this side.
    pub outputs: Vec<String>,
}

/// A kernel.
#[derive(Clone, Debug, Serialize)]
pub struct Kernel {
    /// Name.
    pub name: String,
    /// Template it was built from.
    pub template: String,
    /// Ops in it.
    pub fused: Vec<String>,
    /// Lines it came from.
    pub origin: Vec<String>,
    /// Access to each buffer.
    pub access: Vec<Access>,
    /// Names of its phases.
    pub phases: Vec<String>,
    /// Its code.
    pub code: Vec<Code>,
}

/// What a kernel does with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Loads only.
    Read,
    /// Stores only.
    Write,
    /// Both.
    Update,
}

/// A kernel's code in one language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Code {
    /// `Kernel IR`, `LLVM IR`, `WGSL` or `MSL`.
    pub language: String,
    /// The text; none where the page would become too large.
    pub text: Option<usize>,
    /// Bytes that are not shown.
    pub left_out: usize,
}

/// An entry.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Name.
    pub name: String,
    /// Symbols of its sizes.
    pub symbols: Vec<Symbol>,
    /// Buffers.
    pub buffers: Vec<Buffer>,
    /// Launches, in order.
    pub launches: Vec<Launch>,
    /// Data from launch to launch.
    pub edges: Vec<Edge>,
    /// Scratch memory.
    pub arena: Arena,
}

/// A symbol, and the value that work is counted at.
#[derive(Clone, Debug, Serialize)]
pub struct Symbol {
    /// Name.
    pub name: String,
    /// Least value.
    pub least: i64,
    /// Largest value.
    pub most: i64,
    /// The value that bytes and times are for.
    pub at: i64,
}

/// Where a buffer lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Given by the caller.
    Input,
    /// Wanted by the caller.
    Output,
    /// A weight.
    Weight,
    /// A state.
    State,
    /// The arena.
    Arena,
}

impl Place {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Place::Input => "input",
            Place::Output => "output",
            Place::Weight => "weight",
            Place::State => "state",
            Place::Arena => "arena",
        }
    }
}

/// A buffer.
#[derive(Clone, Debug, Serialize)]
pub struct Buffer {
    /// Name of the value.
    pub name: String,
    /// Where it lives.
    pub place: Place,
    /// Bytes from the arena's start, for buffers of the arena.
    pub offset: Option<u64>,
    /// Element type.
    pub dtype: String,
    /// Extents, in terms of the entry's symbols.
    pub shape: Vec<String>,
    /// Bytes at the largest sizes.
    pub bytes: u64,
    /// First launch that uses it.
    pub first: u32,
    /// Last launch that uses it.
    pub last: u32,
    /// The buffer whose memory it takes, and why it may.
    pub alias: Option<(u32, String)>,
}

/// A launch.
#[derive(Clone, Debug, Serialize)]
pub struct Launch {
    /// Kernel.
    pub kernel: u32,
    /// Its phase.
    pub phase: u32,
    /// Function whose values it computes: the entry, or a block.
    pub function: String,
    /// Number of the repetition, if the function is a block.
    pub repetition: Option<u32>,
    /// Grid extents.
    pub grid: Vec<String>,
    /// Buffers, in the kernel's order.
    pub buffers: Vec<u32>,
    /// Bytes moved.
    pub bytes: f64,
    /// Operations, a multiply-add counted twice; none where work is not counted.
    pub flops: Option<f64>,
    /// Seconds by the cost model; none where work is not counted.
    pub seconds: Option<f64>,
    /// What most of that time is for: `bytes`, `operations` or `launch`.
    pub bound: Option<&'static str>,
    /// Seconds measured, where a trace is given.
    pub measured: Option<f64>,
}

/// Data that one launch leaves for another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Edge {
    /// Launch that writes.
    pub from: u32,
    /// Launch that reads, or writes over it.
    pub to: u32,
    /// The buffer.
    pub buffer: u32,
}

/// Scratch memory over the launches of a step.
#[derive(Clone, Debug, Serialize)]
pub struct Arena {
    /// Bytes planned.
    pub bytes: u64,
    /// Bytes that any plan of this launch order needs.
    pub lower_bound: u64,
    /// Bytes without reuse.
    pub naive: u64,
    /// Group memory of a worker.
    pub worker_bytes: u64,
    /// The placement that won.
    pub strategy: String,
    /// Bytes live at each launch.
    pub live: Vec<u64>,
    /// The first launch at which most is live.
    pub peak: u32,
}

/// A measured run.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The target whose code ran.
    pub target: u32,
    /// What ran it.
    pub device: String,
    /// Entries of that target that were measured, with the start of each launch in seconds.
    pub entries: Vec<(u32, Vec<f64>)>,
}
