//! Running entries: a session checks what goes in and asks its device for the rest.

use crate::cpu::CpuSession;
use crate::error::list;
#[cfg(feature = "gpu")]
use crate::gpu::GpuSession;
use crate::model::{Backend, Model};
use crate::null::NullSession;
use crate::signature::{Signature, extents};
use crate::steps::Steps;
use crate::{MemoryReport, RuntimeError, Tensor, TensorView};
use mlxc_package::plan::Plan;

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
    device: Box<dyn Steps>,
    signatures: Vec<Signature>,
    symbols: Vec<i64>,
    shape: Vec<u64>,
}

impl Session {
    pub(crate) fn new(model: Model) -> Result<Self, RuntimeError> {
        let shared = &model.shared;
        let device: Box<dyn Steps> = match &shared.backend {
            Backend::Cpu(_) => Box::new(CpuSession::new(shared.clone())?),
            #[cfg(feature = "gpu")]
            Backend::Gpu(_) => Box::new(GpuSession::new(shared.clone())?),
            Backend::Null => Box::new(NullSession::new(shared.plan())?),
        };
        let signatures = shared.plan().entries.iter().map(Signature::new).collect();
        Ok(Session { device, signatures, symbols: Vec::new(), shape: Vec::new(), model })
    }

    /// The model it runs.
    pub fn model(&self) -> &Model {
        &self.model
    }

    fn plan(&self) -> &Plan {
        self.model.shared.plan()
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
        let plan = &self.model.shared.plan().entries[entry.0];
        self.signatures[entry.0].solve(plan, inputs, &mut self.symbols)?;
        if outputs.len() != plan.outputs.len() {
            return Err(RuntimeError::PortCount {
                entry: plan.name.clone(),
                what: "outputs",
                expected: plan.outputs.len(),
                found: outputs.len(),
            });
        }
        for (port, output) in plan.outputs.iter().zip(outputs.iter_mut()) {
            extents(plan, port, &self.symbols, &mut self.shape)?;
            output.become_shape(port.dtype, &self.shape)?;
        }
        self.device.step(entry.0, &self.symbols, inputs, outputs)
    }

    /// Makes all states zero, as in a new session.
    pub fn reset(&mut self) {
        self.device.reset();
    }

    /// A copy of a state, row-major.
    ///
    /// # Errors
    /// 0705 if there is none of this name, 0704 if there is no memory.
    pub fn state(&self, name: &str) -> Result<Tensor, RuntimeError> {
        let i = self.state_index(name)?;
        let stored = self.device.state(i)?;
        let state = &self.plan().states[i];
        let bytes = state.layout.restore(&stored, &state.shape, state.dtype.bytes() as usize);
        Tensor::from_bytes(state.dtype, &state.shape, &bytes)
    }

    /// Replaces a state's contents.
    ///
    /// # Errors
    /// 0705 if there is none of this name, 0708 or 0709 if the tensor is of another type.
    pub fn set_state(&mut self, name: &str, value: TensorView<'_>) -> Result<(), RuntimeError> {
        let i = self.state_index(name)?;
        let state = &self.model.shared.plan().states[i];
        let at = || format!("state `{name}`");
        if value.dtype() != state.dtype {
            return Err(RuntimeError::DType { at: at(), expected: state.dtype, found: value.dtype() });
        }
        if value.shape() != state.shape {
            let expected = format!("{:?}", state.shape);
            return Err(RuntimeError::Shape { at: at(), expected, found: value.shape().to_vec() });
        }
        let stored = state.layout.store(value.bytes(), &state.shape, state.dtype.bytes() as usize);
        self.device.set_state(i, &stored)
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
        let launches = plan.entries[entry.0].launches.iter().zip(self.device.times(entry.0)).enumerate();
        launches
            .map(|(i, (launch, nanoseconds))| {
                let kernel = &plan.kernels[launch.kernel as usize];
                let phase = kernel.phases[launch.phase as usize].name.clone();
                LaunchTime { launch: i, kernel: kernel.name.clone(), phase, nanoseconds }
            })
            .collect()
    }

    /// The memory it and its model hold.
    pub fn memory(&self) -> MemoryReport {
        self.device.memory()
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("model", &self.model).finish_non_exhaustive()
    }
}

fn unknown<'a>(what: &'static str, known: impl Iterator<Item = &'a str>, found: &str) -> RuntimeError {
    RuntimeError::UnknownName { what, known: list(known), found: found.into() }
}
