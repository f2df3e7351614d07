//! A whole plan under the gate: the launches of an entry in order, over memory laid out as the plan says.

use std::collections::HashMap;

use mlxc_package::plan::{Entry, Place, Plan};
use mlxc_package::{MAX_GROUPS, Package, Target, TargetKind};

use crate::{Binding, Block, Build, Failure, Gate, Launch, Machine, Order};

/// A session of a package whose shaders are MSL.
#[derive(Debug)]
pub struct GateSession {
    machine: Machine,
    plan: Plan,
    weights: Vec<Block>,
    states: Vec<Block>,
    arena: Block,
    scalars: Block,
    order: Order,
}

/// Bytes of every allocation: whole units of 256.
fn padded(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(256)
}

fn of_package(e: impl std::fmt::Display) -> Failure {
    Failure::Launch(e.to_string())
}

impl GateSession {
    /// Compiles the kernels of the package's first Metal target and lays out its memory. States are zero.
    ///
    /// # Errors
    /// [`Failure::Launch`] where there is no such target, and what compiling says.
    pub fn new(gate: &Gate, package: &Package, build: Build, order: Order) -> Result<Self, Failure> {
        let metal = |t: &&Target| t.kind == TargetKind::Shader && t.features.iter().any(|f| f == "metal");
        let target = package.manifest().targets.iter().find(metal);
        let target = target.ok_or_else(|| Failure::Launch("the package has no target for Metal".into()))?;
        let plan = package.plan_of(target).clone();
        let modules = package.modules(target).map_err(of_package)?;
        let kernels: Vec<(&str, &str)> = modules.iter().map(|(symbol, text)| (symbol.as_str(), *text)).collect();
        let library = gate.compile(&kernels, build)?;
        let mut machine = library.machine()?;
        let mut weights = Vec::new();
        for w in &plan.weights {
            let block = machine.allocate(padded(w.bytes))?;
            machine.write(block, 0, package.member(&w.member).map_err(of_package)?)?;
            weights.push(block);
        }
        let states = plan.states.iter().map(|s| machine.allocate(padded(s.bytes))).collect::<Result<_, _>>()?;
        let arena = plan.entries.iter().map(|e| e.arena.bytes).max().unwrap_or(0);
        let arena = machine.allocate(padded(arena))?;
        let most = plan.kernels.iter().map(|k| u64::from(k.scalars) * 4).max().unwrap_or(0);
        let scalars = machine.allocate(padded(most))?;
        Ok(GateSession { machine, plan, weights, states, arena, scalars, order })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs an entry at given values of its symbols, in their order, and gives its outputs, all row-major. Host
    /// scalars need no input.
    ///
    /// # Errors
    /// [`Failure::Launch`] for an unknown entry or input and one of another size; [`Failure::Run`] for what a kernel
    /// does wrong.
    pub fn run(
        &mut self,
        entry: &str,
        symbols: &[i64],
        inputs: &[(&str, &[u8])],
    ) -> Result<Vec<(String, Vec<u8>)>, Failure> {
        let of_name = self.plan.entries.iter().find(|e| e.name == entry).cloned();
        let entry = of_name.ok_or_else(|| Failure::Launch(format!("no entry is called `{entry}`")))?;
        if symbols.len() != entry.symbols.len() {
            return Err(Failure::Launch(format!("{} symbols, not {}", symbols.len(), entry.symbols.len())));
        }
        let mut blocks: HashMap<Place, Block> = HashMap::new();
        for buffer in &entry.buffers {
            let known = blocks.contains_key(&buffer.place);
            match buffer.place {
                Place::Input(_) | Place::Output(_) if !known => {
                    let largest = entry.buffers.iter().filter(|b| b.place == buffer.place).map(|b| b.bytes).max();
                    blocks.insert(buffer.place, self.machine.allocate(padded(largest.unwrap_or(0)))?);
                }
                _ => {}
            }
        }
        for (i, port) in entry.inputs.iter().enumerate() {
            let Some(block) = blocks.get(&Place::Input(i as u32)) else { continue };
            let given = inputs.iter().find(|(name, _)| *name == port.name).map(|(_, data)| *data);
            let data = given.ok_or_else(|| Failure::Launch(format!("no input is called `{}`", port.name)))?;
            let bytes = port.shape.iter().fold(port.dtype.bytes(), |n, d| n * d.eval(symbols) as u64);
            if data.len() as u64 != bytes {
                return Err(Failure::Launch(format!("`{}` has {} bytes, not {bytes}", port.name, data.len())));
            }
            self.machine.write(*block, 0, data)?;
        }
        for at in 0..entry.launches.len() {
            self.launch(&entry, at, symbols, &blocks)?;
        }
        let mut outputs = Vec::new();
        for (i, port) in entry.outputs.iter().enumerate() {
            let bytes = port.shape.iter().fold(port.dtype.bytes(), |n, d| n * d.eval(symbols) as u64);
            let data = match blocks.get(&Place::Output(i as u32)) {
                Some(block) => self.machine.read(*block, 0, bytes)?,
                None => Vec::new(),
            };
            outputs.push((port.name.clone(), data));
        }
        for block in blocks.into_values() {
            self.machine.free(block)?;
        }
        Ok(outputs)
    }

    fn launch(
        &mut self,
        entry: &Entry,
        at: usize,
        symbols: &[i64],
        blocks: &HashMap<Place, Block>,
    ) -> Result<(), Failure> {
        let launch = &entry.launches[at];
        let phase = &self.plan.kernels[launch.kernel as usize].phases[launch.phase as usize];
        let Some(grid) = groups(phase.linear, &launch.grid.iter().map(|s| s.eval(symbols)).collect::<Vec<_>>()) else {
            return Ok(());
        };
        let words: Vec<u8> = launch.scalars.iter().flat_map(|s| (s.eval(symbols) as u32).to_le_bytes()).collect();
        self.machine.write(self.scalars, 0, &words)?;
        let mut bindings =
            vec![Binding { index: 0, block: self.scalars, offset: 0, bytes: padded(words.len() as u64) }];
        for (i, b) in launch.buffers.iter().enumerate() {
            let planned = &entry.buffers[*b as usize];
            let (block, offset) = match planned.place {
                Place::Weight(w) => (self.weights[w as usize], 0),
                Place::State(s) => (self.states[s as usize], 0),
                Place::Arena { offset } => (self.arena, offset),
                place => (blocks[&place], 0),
            };
            bindings.push(Binding { index: 1 + i as u32, block, offset, bytes: padded(planned.bytes) });
        }
        self.machine.launch(&Launch {
            entry: &phase.symbol,
            grid,
            lanes: phase.lanes,
            order: self.order,
            bindings: &bindings,
        })
    }

    /// A state, row-major.
    ///
    /// # Errors
    /// [`Failure::Launch`] if there is none of this name.
    pub fn state(&mut self, name: &str) -> Result<Vec<u8>, Failure> {
        let i = self.find(name)?;
        let state = &self.plan.states[i];
        let stored = self.machine.read(self.states[i], 0, state.bytes)?;
        Ok(state.layout.restore(&stored, &state.shape, state.dtype.bytes() as usize))
    }

    /// Fills a state, row-major.
    ///
    /// # Errors
    /// [`Failure::Launch`] if there is none of this name, or it has another size.
    pub fn set_state(&mut self, name: &str, data: &[u8]) -> Result<(), Failure> {
        let i = self.find(name)?;
        let state = &self.plan.states[i];
        let bytes = state.shape.iter().product::<u64>() * state.dtype.bytes();
        if data.len() as u64 != bytes {
            return Err(Failure::Launch(format!("state `{name}` has {bytes} bytes, not {}", data.len())));
        }
        let stored = state.layout.store(data, &state.shape, state.dtype.bytes() as usize);
        self.machine.write(self.states[i], 0, &stored)
    }

    fn find(&self, name: &str) -> Result<usize, Failure> {
        let found = self.plan.states.iter().position(|s| s.name == name);
        found.ok_or_else(|| Failure::Launch(format!("no state is called `{name}`")))
    }
}

/// The dispatch of a grid, whose last axis is x; none if it is empty.
fn groups(linear: bool, extents: &[i64]) -> Option<[u32; 3]> {
    let total = extents.iter().fold(1u64, |n, e| n.saturating_mul((*e).max(0) as u64));
    if total == 0 {
        return None;
    }
    if linear {
        let x = total.min(MAX_GROUPS);
        return Some([x as u32, total.div_ceil(x) as u32, 1]);
    }
    let mut out = [1; 3];
    for (axis, extent) in out.iter_mut().zip(extents.iter().rev()) {
        *axis = *extent as u32;
    }
    Some(out)
}
