//! How much memory a session takes.

/// Bytes that a session and its model hold. Caller's inputs and outputs are not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryReport {
    /// Weights read from the package's mapping: shared with other processes, resident where they were read.
    pub weights_mapped: u64,
    /// Weights copied to private memory.
    pub weights_copied: u64,
    /// Machine code.
    pub code: u64,
    /// States; resident where they were written.
    pub states: u64,
    /// Scratch of the largest entry.
    pub arena: u64,
    /// Group memory of all threads.
    pub workers: u64,
    /// Copies of inputs that were not aligned; for a GPU, inputs, outputs and scalars and the buffers they pass through.
    pub staged_inputs: u64,
}

impl MemoryReport {
    /// All of it.
    pub fn total(&self) -> u64 {
        let Self { weights_mapped, weights_copied, code, states, arena, workers, staged_inputs } = *self;
        weights_mapped + weights_copied + code + states + arena + workers + staged_inputs
    }
}
