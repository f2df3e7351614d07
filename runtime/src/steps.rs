//! What a session asks of its device.

use crate::{MemoryReport, RuntimeError, Tensor, TensorView};

/// The memory of a session on its device, and the steps that run there. Entries and states are those of the model's plan,
/// by number.
pub(crate) trait Steps: Send + Sync {
    /// Runs an entry on inputs that were checked, into outputs that have their shapes.
    fn step(
        &mut self,
        entry: usize,
        symbols: &[i64],
        inputs: &[TensorView<'_>],
        outputs: &mut [Tensor],
    ) -> Result<(), RuntimeError>;

    /// Makes all states zero.
    fn reset(&mut self);

    /// A copy of the bytes a state stores.
    fn state(&self, state: usize) -> Result<Vec<u8>, RuntimeError>;

    /// Replaces the bytes a state stores.
    fn set_state(&mut self, state: usize, stored: &[u8]) -> Result<(), RuntimeError>;

    /// Nanoseconds of each launch of the last step of an entry; empty where not asked for.
    fn times(&self, entry: usize) -> Vec<u64>;

    /// The memory it and its model hold.
    fn memory(&self) -> MemoryReport;
}
