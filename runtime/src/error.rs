//! What can go wrong when a package is loaded and run.

use mlxc_package::{DType, PackageError};
use std::io;

/// Why a package could not be loaded or a step was refused. A refused step has changed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The package itself.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The package holds no code that this machine's kind of device could run.
    #[error("{path}: expected code for {expected}, found {found}")]
    NoTarget {
        /// The package's file.
        path: String,
        /// What this device needs.
        expected: String,
        /// The targets of the package.
        found: String,
    },
    /// The device lacks features that the package's code uses.
    #[error(
        "{path}: target `{target}` needs features that {device} lacks: {missing}; build the package for another target \
         as well"
    )]
    MissingFeatures {
        /// The package's file.
        path: String,
        /// The target that lacks the fewest.
        target: String,
        /// The device.
        device: String,
        /// What it lacks, separated by commas.
        missing: String,
    },
    /// A target's code lacks a function or cannot be mapped as it asks.
    #[error("{path}: the code of target `{target}` cannot be used: expected {expected}, found {found}")]
    Code {
        /// The package's file.
        path: String,
        /// The target.
        target: String,
        /// What the plan needs.
        expected: String,
        /// What the code has.
        found: String,
    },
    /// The system gave no memory.
    #[error("allocating {bytes} bytes for {what} failed: {source}")]
    Memory {
        /// What it was for.
        what: String,
        /// How much was asked for.
        bytes: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// No entry, input or state of this name.
    #[error("expected the name of {what} ({known}), found `{found}`")]
    UnknownName {
        /// What was looked up.
        what: &'static str,
        /// The names there are.
        known: String,
        /// The name asked for.
        found: String,
    },
    /// An input was not given, or given twice.
    #[error("entry `{entry}`: expected input `{input}` once, found it {found} times")]
    InputCount {
        /// The entry.
        entry: String,
        /// The input.
        input: String,
        /// How often it was given.
        found: usize,
    },
    /// As many tensors were expected as the entry has inputs or outputs.
    #[error("entry `{entry}`: expected {expected} {what}, found {found}")]
    PortCount {
        /// The entry.
        entry: String,
        /// `inputs` or `outputs`.
        what: &'static str,
        /// How many it has.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// A tensor has another dtype.
    #[error("{at}: expected {expected}, found {found}")]
    DType {
        /// The tensor.
        at: String,
        /// What it must be.
        expected: DType,
        /// What it is.
        found: DType,
    },
    /// A tensor has another shape.
    #[error("{at}: expected shape {expected}, found {found:?}")]
    Shape {
        /// The tensor.
        at: String,
        /// What it must be, with the values of symbols.
        expected: String,
        /// What it is.
        found: Vec<u64>,
    },
    /// An extent or scalar is outside its bounds, such as a position past the context's capacity.
    #[error("{at}: expected `{symbol}` in {lo}..={hi}, found {found}")]
    OutOfBounds {
        /// The tensor it comes from.
        at: String,
        /// The symbol.
        symbol: String,
        /// Smallest value.
        lo: i64,
        /// Largest value.
        hi: i64,
        /// The value given.
        found: i64,
    },
    /// An extent or scalar is no multiple of what it must be.
    #[error("{at}: expected `{symbol}` to be a multiple of {multiple}, found {found}")]
    NotAMultiple {
        /// The tensor it comes from.
        at: String,
        /// The symbol.
        symbol: String,
        /// What must divide it.
        multiple: i64,
        /// The value given.
        found: i64,
    },
    /// Inputs contradict a condition between them, such as that positions and new tokens fit the context.
    #[error("entry `{entry}`: expected {condition} to be at least 0, found {found} with {values}")]
    Condition {
        /// The entry.
        entry: String,
        /// The condition.
        condition: String,
        /// Its value.
        found: i64,
        /// The symbols' values.
        values: String,
    },
    /// Bytes do not fill a shape.
    #[error("a tensor of {dtype}{shape:?} takes {expected} bytes, found {found}")]
    Bytes {
        /// The dtype.
        dtype: DType,
        /// The shape.
        shape: Vec<u64>,
        /// What it takes; `too many` where that is no number of bytes.
        expected: String,
        /// What was given.
        found: u64,
    },
    /// A `.npy` file is malformed or holds something this crate has no dtype for.
    #[error("{at}: expected {expected}, found {found}")]
    Npy {
        /// The file, or `<npy>`.
        at: String,
        /// What a file of a supported kind has.
        expected: String,
        /// What was there.
        found: String,
    },
    /// The system refused to read or write.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A device of another name.
    #[error("expected a device `auto`, `cpu`, `gpu` or `gpu:N`, found `{found}`")]
    DeviceName {
        /// What was given.
        found: String,
    },
    /// There is no such GPU.
    #[error("expected {expected}, found {found}")]
    NoAdapter {
        /// What was asked for.
        expected: String,
        /// What there is.
        found: String,
    },
    /// A GPU is too small for the package.
    #[error("{adapter}: {what} needs {needed}, the GPU allows {limit}")]
    AdapterLimit {
        /// The GPU.
        adapter: String,
        /// What exceeds its limit.
        what: String,
        /// How much it needs, with the unit.
        needed: String,
        /// The limit.
        limit: u64,
    },
    /// A GPU gave no memory.
    #[error("{adapter}: allocating {bytes} bytes for {what} failed: {reason}")]
    GpuMemory {
        /// The GPU.
        adapter: String,
        /// What it was for.
        what: String,
        /// How much was asked for.
        bytes: u64,
        /// The driver's reason.
        reason: String,
    },
    /// A GPU failed, or was taken away.
    #[error("{adapter}: {doing} failed: {reason}; load the package again")]
    Gpu {
        /// The GPU.
        adapter: String,
        /// What was being done.
        doing: String,
        /// The driver's reason.
        reason: String,
    },
}

impl RuntimeError {
    /// The stable id, as in `MLXC0702`.
    pub fn id(&self) -> &'static str {
        match self {
            RuntimeError::Package(e) => e.id(),
            RuntimeError::NoTarget { .. } => "MLXC0701",
            RuntimeError::MissingFeatures { .. } => "MLXC0702",
            RuntimeError::Code { .. } => "MLXC0703",
            RuntimeError::Memory { .. } => "MLXC0704",
            RuntimeError::UnknownName { .. } => "MLXC0705",
            RuntimeError::InputCount { .. } => "MLXC0706",
            RuntimeError::PortCount { .. } => "MLXC0707",
            RuntimeError::DType { .. } => "MLXC0708",
            RuntimeError::Shape { .. } => "MLXC0709",
            RuntimeError::OutOfBounds { .. } => "MLXC0710",
            RuntimeError::NotAMultiple { .. } => "MLXC0711",
            RuntimeError::Condition { .. } => "MLXC0712",
            RuntimeError::Bytes { .. } => "MLXC0713",
            RuntimeError::Npy { .. } => "MLXC0714",
            RuntimeError::Io { .. } => "MLXC0715",
            RuntimeError::DeviceName { .. } => "MLXC0716",
            RuntimeError::NoAdapter { .. } => "MLXC0717",
            RuntimeError::AdapterLimit { .. } => "MLXC0718",
            RuntimeError::GpuMemory { .. } => "MLXC0719",
            RuntimeError::Gpu { .. } => "MLXC0720",
        }
    }
}

/// A comma-separated list, or `none`.
pub(crate) fn list<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let names: Vec<String> = names.into_iter().map(|n| format!("`{}`", n.as_ref())).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
