//! The null device: states and nothing else.

use crate::memory::{Region, pack};
use crate::steps::Steps;
use crate::{MemoryReport, RuntimeError, Tensor, TensorView};
use mlxc_package::plan::Plan;

/// A session that computes nothing. Its states hold what they are set to.
pub(crate) struct NullSession {
    states: Region,
    offsets: Vec<u64>,
    bytes: Vec<u64>,
    /// Bytes of the weights in the package's mapping.
    weights: u64,
}

impl NullSession {
    pub(crate) fn new(plan: &Plan) -> Result<Self, RuntimeError> {
        let bytes: Vec<u64> = plan.states.iter().map(|s| s.bytes).collect();
        let (offsets, total) = pack(bytes.iter().copied());
        let weights = plan.weights.iter().map(|w| w.bytes).sum();
        Ok(NullSession { states: Region::new("states", total)?, offsets, bytes, weights })
    }
}

impl Steps for NullSession {
    fn step(&mut self, _: usize, _: &[i64], _: &[TensorView<'_>], outputs: &mut [Tensor]) -> Result<(), RuntimeError> {
        outputs.iter_mut().for_each(|o| o.bytes_mut().fill(0));
        Ok(())
    }

    fn reset(&mut self) {
        self.states.clear();
    }

    fn state(&self, state: usize) -> Result<Vec<u8>, RuntimeError> {
        Ok(self.states.bytes()[self.offsets[state] as usize..][..self.bytes[state] as usize].to_vec())
    }

    fn set_state(&mut self, state: usize, stored: &[u8]) -> Result<(), RuntimeError> {
        self.states.bytes_mut()[self.offsets[state] as usize..][..stored.len()].copy_from_slice(stored);
        Ok(())
    }

    fn times(&self, _: usize) -> Vec<u64> {
        Vec::new()
    }

    fn memory(&self) -> MemoryReport {
        MemoryReport { weights_mapped: self.weights, states: self.states.len(), ..MemoryReport::default() }
    }
}
