//! Running entries: a session owns the states, the arena and the workers' group memory.

use crate::error::list;
use crate::memory::{Region, pack};
use crate::model::Model;
use crate::prepared::{Memory, Prepared};
use crate::signature::extents;
use crate::tensor::Storage;
use crate::{MemoryReport, RuntimeError, Tensor, TensorView};
use mlxc_package::BUFFER_ALIGNMENT;
use mlxc_package::plan::{Entry, Plan};

/// An entry of the session's package, found once by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryId(usize);

/// The time one launch took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchTime {
    /// Index of the launch in the entry.
    pub launch: usize,
    /// Name of the kernel.
    pub kernel: String,
    /// Name of its phase.
    pub phase: String,
    /// Wall time, barrier included.
    pub nanoseconds: u64,
}

/// A run of a model: its states, from which each step goes on.
///
/// Sessions of one model share code and weights and nothing else. A refused step leaves the session as it was.
pub struct Session {
    model: Model,
    states: Region,
    state_offsets: Vec<u64>,
    arena: Region,
    slots: Region,
    entries: Vec<Prepared>,
    /// Copies of inputs that are not aligned as kernels need them.
    staged: Vec<Storage>,
    symbols: Vec<i64>,
    shape: Vec<u64>,
    inputs: Vec<u64>,
    outputs: Vec<u64>,
}

impl Session {
    pub(crate) fn new(model: Model) -> Result<Self, RuntimeError> {
        let shared = &model.shared;
        let plan = shared.package.plan();
        let (state_offsets, total) = pack(plan.states.iter().map(|s| s.bytes));
        // The null device computes nothing, so it needs no scratch memory.
        let largest = |bytes: fn(&Entry) -> u64| match &shared.code {
            Some(_) => plan.entries.iter().map(bytes).max().unwrap_or(0),
            None => 0,
        };
        let mut states = Region::new("states", total)?;
        let arena_bytes = largest(|e| e.arena.bytes).next_multiple_of(BUFFER_ALIGNMENT);
        let mut arena = Region::new("the arena", arena_bytes)?;
        let slot_bytes = largest(|e| e.arena.worker_bytes).next_multiple_of(BUFFER_ALIGNMENT);
        let mut slots = Region::new("the workers' memory", slot_bytes * shared.pool.threads() as u64)?;
        let base = states.address();
        let memory = Memory {
            states: state_offsets.iter().map(|o| base + o).collect(),
            arena: arena.address(),
            slots: slots.address(),
            slot_bytes,
        };
        let entries: Vec<Prepared> = plan.entries.iter().map(|e| Prepared::new(shared, e, &memory)).collect();
        let widest = plan.entries.iter().map(|e| e.inputs.len()).max().unwrap_or(0);
        let staged = (0..widest).map(|_| Storage::default()).collect();
        Ok(Session {
            states,
            state_offsets,
            arena,
            slots,
            entries,
            staged,
            symbols: Vec::new(),
            shape: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            model,
        })
    }

    /// The model it runs.
    pub fn model(&self) -> &Model {
        &self.model
    }

    fn plan(&self) -> &Plan {
        self.model.shared.package.plan()
    }

    /// Finds an entry.
    ///
    /// # Errors
    /// 0705 if there is none of this name.
    pub fn entry(&self, name: &str) -> Result<EntryId, RuntimeError> {
        let entries = &self.plan().entries;
        let found = entries.iter().position(|e| e.name == name);
        found.map(EntryId).ok_or_else(|| unknown("an entry", entries.iter().map(|e| e.name.as_str()), name))
    }

    /// Runs an entry by name, inputs by name in any order, and gives its outputs with their names, in order.
    ///
    /// # Errors
    /// 0705 to 0712 if the inputs do not fit, before anything runs; 0704 if there is no memory.
    pub fn run(
        &mut self,
        entry: &str,
        inputs: &[(&str, TensorView<'_>)],
    ) -> Result<Vec<(String, Tensor)>, RuntimeError> {
        let id = self.entry(entry)?;
        let plan = &self.plan().entries[id.0];
        if let Some((name, _)) = inputs.iter().find(|(n, _)| plan.inputs.iter().all(|p| p.name != *n)) {
            return Err(unknown("an input", plan.inputs.iter().map(|p| p.name.as_str()), name));
        }
        let mut ordered = Vec::with_capacity(plan.inputs.len());
        for port in &plan.inputs {
            let mut given = inputs.iter().filter(|(n, _)| *n == port.name);
            match (given.next(), given.count()) {
                (Some((_, view)), 0) => ordered.push(*view),
                (first, rest) => {
                    return Err(RuntimeError::InputCount {
                        entry: entry.into(),
                        input: port.name.clone(),
                        found: rest + usize::from(first.is_some()),
                    });
                }
            }
        }
        let names: Vec<String> = plan.outputs.iter().map(|p| p.name.clone()).collect();
        let mut outputs = self.outputs(id);
        self.step(id, &ordered, &mut outputs)?;
        Ok(names.into_iter().zip(outputs).collect())
    }

    /// Tensors to hand to [`Session::step`] again and again: empty, of the outputs' dtypes.
    pub fn outputs(&self, entry: EntryId) -> Vec<Tensor> {
        self.plan().entries[entry.0].outputs.iter().map(|p| Tensor::empty(p.dtype)).collect()
    }

    /// Runs an entry with inputs in order, into the caller's tensors: each becomes the output's shape in the
    /// memory it has, if that is enough. Their contents are unspecified after an error.
    ///
    /// Inputs that are [`Tensor`]s are read in place; views of other memory are copied first unless 256-byte
    /// aligned.
    ///
    /// # Errors
    /// 0707 to 0712 if the inputs do not fit, before anything runs; 0704 if there is no memory.
    ///
    /// # Panics
    /// If the entry is of another package.
    pub fn step(
        &mut self,
        entry: EntryId,
        inputs: &[TensorView<'_>],
        outputs: &mut [Tensor],
    ) -> Result<(), RuntimeError> {
        let shared = &self.model.shared;
        let plan = &shared.package.plan().entries[entry.0];
        let prepared = &mut self.entries[entry.0];
        prepared.signature.solve(plan, inputs, &mut self.symbols)?;
        if outputs.len() != plan.outputs.len() {
            return Err(RuntimeError::PortCount {
                entry: plan.name.clone(),
                what: "outputs",
                expected: plan.outputs.len(),
                found: outputs.len(),
            });
        }
        self.outputs.clear();
        for (port, output) in plan.outputs.iter().zip(outputs.iter_mut()) {
            extents(plan, port, &self.symbols, &mut self.shape)?;
            output.become_shape(port.dtype, &self.shape)?;
            self.outputs.push(output.address());
        }
        if shared.code.is_none() {
            outputs.iter_mut().for_each(|o| o.bytes_mut().fill(0));
            return Ok(());
        }
        self.inputs.clear();
        for (input, staged) in inputs.iter().zip(&mut self.staged) {
            let address = match input.address() {
                Some(address) => address,
                None => stage(staged, input)?,
            };
            self.inputs.push(address);
        }
        // SAFETY: `&mut self` means that no step of this session runs. Inputs, outputs, weights, states, arena and
        // slots stay where the records say until the call returns, with room for the symbols' largest values as
        // the plan's check found; symbols are within their bounds. That the code does with them what the plan
        // says is what loading native code trusts.
        unsafe {
            prepared.set_up(&self.symbols, &self.inputs, &self.outputs);
            shared.pool.run(&prepared.region);
        }
        Ok(())
    }

    /// Makes all states zero, as in a new session.
    pub fn reset(&mut self) {
        self.states.clear();
    }

    /// A copy of a state, row-major.
    ///
    /// # Errors
    /// 0705 if there is none of this name, 0704 if there is no memory.
    pub fn state(&self, name: &str) -> Result<Tensor, RuntimeError> {
        let i = self.state_index(name)?;
        let state = &self.plan().states[i];
        let stored = &self.states.bytes()[self.state_offsets[i] as usize..][..state.bytes as usize];
        let bytes = state.layout.restore(stored, &state.shape, state.dtype.bytes() as usize);
        Tensor::from_bytes(state.dtype, &state.shape, &bytes)
    }

    /// Replaces a state's contents.
    ///
    /// # Errors
    /// 0705 if there is none of this name, 0708 or 0709 if the tensor is of another type.
    pub fn set_state(&mut self, name: &str, value: TensorView<'_>) -> Result<(), RuntimeError> {
        let i = self.state_index(name)?;
        let state = &self.model.shared.package.plan().states[i];
        let at = || format!("state `{name}`");
        if value.dtype() != state.dtype {
            return Err(RuntimeError::DType { at: at(), expected: state.dtype, found: value.dtype() });
        }
        if value.shape() != state.shape {
            let expected = format!("{:?}", state.shape);
            return Err(RuntimeError::Shape { at: at(), expected, found: value.shape().to_vec() });
        }
        let stored = state.layout.store(value.bytes(), &state.shape, state.dtype.bytes() as usize);
        self.states.bytes_mut()[self.state_offsets[i] as usize..][..stored.len()].copy_from_slice(&stored);
        Ok(())
    }

    fn state_index(&self, name: &str) -> Result<usize, RuntimeError> {
        let states = &self.plan().states;
        let found = states.iter().position(|s| s.name == name);
        found.ok_or_else(|| unknown("a state", states.iter().map(|s| s.name.as_str()), name))
    }

    /// How long each launch of the last step of an entry took, in order; empty unless
    /// [`crate::LoadOptions::profile`] is set.
    pub fn times(&self, entry: EntryId) -> Vec<LaunchTime> {
        let plan = self.plan();
        let prepared = &self.entries[entry.0];
        let times = prepared.region.times();
        let launches = plan.entries[entry.0].launches.iter().zip(&prepared.launches).enumerate();
        launches
            .filter_map(|(i, (launch, task))| {
                let kernel = &plan.kernels[launch.kernel as usize];
                Some(LaunchTime {
                    launch: i,
                    kernel: kernel.name.clone(),
                    phase: kernel.phases[launch.phase as usize].name.clone(),
                    nanoseconds: *times.get(*task as usize)?,
                })
            })
            .collect()
    }

    /// The memory it and its model hold.
    pub fn memory(&self) -> MemoryReport {
        let shared = &self.model.shared;
        let weights: u64 = self.plan().weights.iter().map(|w| w.bytes).sum();
        MemoryReport {
            weights_mapped: if shared.copied.is_some() { 0 } else { weights },
            weights_copied: shared.copied.as_ref().map_or(0, Region::len),
            code: shared.code.as_ref().map_or(0, |c| c.code.len()),
            states: self.states.len(),
            arena: self.arena.len(),
            workers: self.slots.len(),
            staged_inputs: self.staged.iter().map(|s| s.bytes().len() as u64).sum(),
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("model", &self.model).finish_non_exhaustive()
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

fn unknown<'a>(what: &'static str, known: impl Iterator<Item = &'a str>, found: &str) -> RuntimeError {
    RuntimeError::UnknownName { what, known: list(known), found: found.into() }
}
