//! A session on the CPU: states, the arena and the workers' group memory.

use super::prepared::{Memory, Prepared};
use crate::memory::{Region, pack};
use crate::model::{Backend, Shared};
use crate::steps::Steps;
use crate::tensor::Storage;
use crate::{MemoryReport, RuntimeError, Tensor, TensorView};
use mlxc_package::BUFFER_ALIGNMENT;
use mlxc_package::plan::Entry;
use std::sync::Arc;

pub(crate) struct CpuSession {
    shared: Arc<Shared>,
    states: Region,
    state_offsets: Vec<u64>,
    arena: Region,
    slots: Region,
    entries: Vec<Prepared>,
    /// Copies of inputs that are not aligned as kernels need them.
    staged: Vec<Storage>,
    inputs: Vec<u64>,
    outputs: Vec<u64>,
}

fn loaded(shared: &Shared) -> &super::Loaded {
    match &shared.backend {
        Backend::Cpu(loaded) => loaded,
        _ => unreachable!("invariant: the model was loaded for the CPU"),
    }
}

impl CpuSession {
    pub(crate) fn new(shared: Arc<Shared>) -> Result<Self, RuntimeError> {
        let (loaded, plan) = (loaded(&shared), shared.plan());
        let (state_offsets, total) = pack(plan.states.iter().map(|s| s.bytes));
        let largest = |bytes: fn(&Entry) -> u64| plan.entries.iter().map(bytes).max().unwrap_or(0);
        let mut states = Region::new("states", total)?;
        let arena_bytes = largest(|e| e.arena.bytes).next_multiple_of(BUFFER_ALIGNMENT);
        let mut arena = Region::new("the arena", arena_bytes)?;
        let slot_bytes = largest(|e| e.arena.worker_bytes).next_multiple_of(BUFFER_ALIGNMENT);
        let mut slots = Region::new("the workers' memory", slot_bytes * loaded.pool.threads() as u64)?;
        let base = states.address();
        let memory = Memory {
            states: state_offsets.iter().map(|o| base + o).collect(),
            arena: arena.address(),
            slots: slots.address(),
            slot_bytes,
        };
        let prepare = |e: &Entry| Prepared::new(loaded, &shared.options, e, &memory);
        let entries: Vec<Prepared> = plan.entries.iter().map(prepare).collect();
        let widest = plan.entries.iter().map(|e| e.inputs.len()).max().unwrap_or(0);
        let staged = (0..widest).map(|_| Storage::default()).collect();
        let (inputs, outputs) = (Vec::new(), Vec::new());
        Ok(CpuSession { states, state_offsets, arena, slots, entries, staged, inputs, outputs, shared })
    }
}

impl Steps for CpuSession {
    fn step(
        &mut self,
        entry: usize,
        symbols: &[i64],
        inputs: &[TensorView<'_>],
        outputs: &mut [Tensor],
    ) -> Result<(), RuntimeError> {
        self.outputs.clear();
        self.outputs.extend(outputs.iter_mut().map(Tensor::address));
        self.inputs.clear();
        for (input, staged) in inputs.iter().zip(&mut self.staged) {
            let address = match input.address() {
                Some(address) => address,
                None => stage(staged, input)?,
            };
            self.inputs.push(address);
        }
        let prepared = &mut self.entries[entry];
        // SAFETY: `&mut self` means that no step of this session runs. Inputs, outputs, weights, states, arena and
        // slots stay where the records say until the call returns, with room for the symbols' largest values as
        // the plan's check found; symbols are within their bounds. That the code does with them what the plan
        // says is what loading native code trusts.
        unsafe {
            prepared.set_up(symbols, &self.inputs, &self.outputs);
            loaded(&self.shared).pool.run(&prepared.region);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.states.clear();
    }

    fn state(&self, state: usize) -> Result<Vec<u8>, RuntimeError> {
        let bytes = self.shared.plan().states[state].bytes as usize;
        Ok(self.states.bytes()[self.state_offsets[state] as usize..][..bytes].to_vec())
    }

    fn set_state(&mut self, state: usize, stored: &[u8]) -> Result<(), RuntimeError> {
        self.states.bytes_mut()[self.state_offsets[state] as usize..][..stored.len()].copy_from_slice(stored);
        Ok(())
    }

    fn times(&self, entry: usize) -> Vec<u64> {
        let prepared = &self.entries[entry];
        let times = prepared.region.times();
        prepared.launches.iter().filter_map(|task| times.get(*task as usize).copied()).collect()
    }

    fn memory(&self) -> MemoryReport {
        let loaded = loaded(&self.shared);
        let weights: u64 = self.shared.plan().weights.iter().map(|w| w.bytes).sum();
        MemoryReport {
            weights_mapped: if loaded.copied.is_some() { 0 } else { weights },
            weights_copied: loaded.copied.as_ref().map_or(0, Region::len),
            code: loaded.code.len(),
            states: self.states.len(),
            arena: self.arena.len(),
            workers: self.slots.len(),
            staged_inputs: self.staged.iter().map(|s| s.bytes().len() as u64).sum(),
        }
    }
}

/// Copies an input to aligned memory that later steps use again.
fn stage(staged: &mut Storage, input: &TensorView<'_>) -> Result<u64, RuntimeError> {
    let bytes = input.bytes();
    if staged.bytes().len() < bytes.len() {
        *staged = Storage::default();
        *staged = Storage::zeroed(&|| "a copy of an input".into(), bytes.len() as u64)?;
    }
    staged.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
    Ok(staged.bytes_mut().as_mut_ptr() as u64)
}
