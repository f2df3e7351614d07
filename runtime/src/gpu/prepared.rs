//! An entry made ready to run: a pipeline, a bind group and a place for scalars for each launch, and what changes
//! with the symbols.

use super::chunks::Piece;
use super::device::padded;
use super::load::Loaded;
use crate::poison::freed;
use crate::sizes::{Sizes, product};
use crate::{LoadOptions, RuntimeError};
use mlxc_package::MAX_GROUPS;
use mlxc_package::plan::{Buffer, Entry, Launch, Place, Plan};
use std::collections::HashMap;
use wgpu::{BindGroupDescriptor, BindGroupEntry, BindingResource, BufferBinding, BufferSize};

/// Where a session's memory lies.
pub(super) struct Memory<'a> {
    pub(super) states: &'a [wgpu::Buffer],
    pub(super) state_places: &'a [Piece],
    pub(super) arena: &'a wgpu::Buffer,
    pub(super) inputs: &'a wgpu::Buffer,
    pub(super) outputs: &'a wgpu::Buffer,
    pub(super) scalars: &'a wgpu::Buffer,
}

/// The places of an entry's inputs, outputs and scalars in their buffers. Packed for the largest symbol values.
pub(super) struct Ports {
    /// By input; none for one that no launch reads.
    pub(super) inputs: Vec<Option<u64>>,
    pub(super) input_bytes: u64,
    pub(super) outputs: Vec<Option<u64>>,
    pub(super) output_bytes: u64,
    /// The entry's place among the scalars.
    pub(super) scalars_at: u64,
    slots: Slots,
}

impl Ports {
    pub(super) fn new(plan: &Plan, entry: &Entry, scalars_at: u64) -> Self {
        let (inputs, input_bytes) = pack(entry, entry.inputs.len(), |place| match place {
            Place::Input(i) => Some(i),
            _ => None,
        });
        let (outputs, output_bytes) = pack(entry, entry.outputs.len(), |place| match place {
            Place::Output(i) => Some(i),
            _ => None,
        });
        let slots = Slots::new(plan, entry);
        Ports { inputs, input_bytes, outputs, output_bytes, scalars_at, slots }
    }

    /// Bytes of the entry's scalars.
    pub(super) fn scalar_bytes(&self) -> u64 {
        self.slots.bytes
    }
}

/// Offsets of ports that some buffer names, and the bytes of all.
fn pack(entry: &Entry, count: usize, port: impl Fn(Place) -> Option<u32>) -> (Vec<Option<u64>>, u64) {
    let mut sizes: Vec<Option<u64>> = vec![None; count];
    for buffer in &entry.buffers {
        if let Some(i) = port(buffer.place) {
            let size = &mut sizes[i as usize];
            *size = Some(size.unwrap_or(0).max(buffer.bytes));
        }
    }
    let mut total = 0;
    let mut place = |bytes: u64| {
        let offset = total;
        total += padded(bytes);
        offset
    };
    (sizes.into_iter().map(|s| s.map(&mut place)).collect(), total)
}

/// Scalars of launches, those that are equal once. A slot is a multiple of 256 bytes.
struct Slots {
    sizes: Sizes,
    /// Where a slot begins and which sizes it holds.
    slots: Vec<(u64, Vec<u32>)>,
    /// The slot of each launch.
    of_launch: Vec<u32>,
    bytes: u64,
}

impl Slots {
    fn new(plan: &Plan, entry: &Entry) -> Self {
        let mut out = Slots { sizes: Sizes::default(), slots: Vec::new(), of_launch: Vec::new(), bytes: 0 };
        let mut known: HashMap<(Vec<u32>, u64), u32> = HashMap::new();
        for launch in &entry.launches {
            let words = u64::from(plan.kernels[launch.kernel as usize].scalars);
            let ids: Vec<u32> = launch.scalars.iter().map(|s| out.sizes.id(s)).collect();
            let slot = *known.entry((ids, words)).or_insert_with_key(|(ids, words)| {
                out.slots.push((out.bytes, ids.clone()));
                out.bytes += padded(words * 4);
                out.slots.len() as u32 - 1
            });
            out.of_launch.push(slot);
        }
        out
    }
}

/// A launch of an entry.
pub(super) struct Ready {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) bind_group: wgpu::BindGroup,
    /// Groups along x, y and z, none of them zero; `None` where there is nothing to do.
    pub(super) groups: Option<[u32; 3]>,
    grid: Vec<u32>,
    linear: bool,
    /// Parts of the arena to poison afterwards.
    pub(super) freed: Vec<(u64, u64)>,
}

/// An entry of a session.
pub(super) struct Prepared {
    pub(super) ports: Ports,
    pub(super) launches: Vec<Ready>,
    /// Symbol values for which scalars and grids were filled in.
    current: Option<Vec<i64>>,
    values: Vec<i64>,
    /// The scalars of all slots, as they lie on the device.
    pub(super) scalars: Vec<u8>,
    /// Nanoseconds of each launch of the last step.
    pub(super) times: Vec<u64>,
}

impl Prepared {
    pub(super) fn new(
        loaded: &Loaded,
        options: &LoadOptions,
        plan: &Plan,
        entry: &Entry,
        mut ports: Ports,
        memory: &Memory<'_>,
    ) -> Result<Self, RuntimeError> {
        let mut launches = Vec::with_capacity(entry.launches.len());
        for (i, launch) in entry.launches.iter().enumerate() {
            let kernel = &plan.kernels[launch.kernel as usize];
            let at = || format!("entry `{}`, launch {i}, kernel `{}`", entry.name, kernel.name);
            let freed = if options.poison { freed(entry, i as u32) } else { Vec::new() };
            launches.push(Ready {
                pipeline: loaded.pipelines.pipelines[launch.kernel as usize][launch.phase as usize].clone(),
                bind_group: bind(loaded, entry, launch, ports.slots.of_launch[i], &ports, memory, &at)?,
                groups: None,
                grid: launch.grid.iter().map(|s| ports.slots.sizes.id(s)).collect(),
                linear: kernel.phases[launch.phase as usize].linear,
                freed,
            });
        }
        let scalars = vec![0; ports.slots.bytes as usize];
        Ok(Prepared { ports, launches, current: None, values: Vec::new(), scalars, times: Vec::new() })
    }

    /// Fills in what depends on the symbols; true if the scalars are other than those of the last step.
    pub(super) fn set_up(&mut self, symbols: &[i64]) -> bool {
        if self.current.as_deref() == Some(symbols) {
            return false;
        }
        let current = self.current.get_or_insert_with(Vec::new);
        current.clear();
        current.extend_from_slice(symbols);
        self.ports.slots.sizes.evaluate(symbols, &mut self.values);
        let values = &self.values;
        for (at, sizes) in &self.ports.slots.slots {
            let words = self.scalars[*at as usize..].chunks_exact_mut(4);
            for (word, size) in words.zip(sizes) {
                // The low word is what a u32 and an i32 scalar hold; the compiler bounds both.
                word.copy_from_slice(&(values[*size as usize] as u32).to_ne_bytes());
            }
        }
        for launch in &mut self.launches {
            launch.groups = groups(launch.linear, launch.grid.iter().map(|s| values[*s as usize]));
        }
        true
    }

    /// Forgets for which symbols scalars were filled in, until [`Prepared::keep_current`].
    pub(super) fn take_current(&mut self) -> Option<Vec<i64>> {
        self.current.take()
    }

    /// Notes that the device has the scalars of these symbols.
    pub(super) fn keep_current(&mut self, symbols: Option<Vec<i64>>) {
        self.current = symbols;
    }
}

/// The dispatch of a grid, whose last axis is x; none if it is empty.
fn groups(linear: bool, extents: impl Iterator<Item = i64> + Clone) -> Option<[u32; 3]> {
    let total = product(extents.clone());
    if total == 0 {
        return None;
    }
    if linear {
        let (total, most) = (total as u64, MAX_GROUPS);
        let x = total.min(most);
        return Some([x as u32, total.div_ceil(x) as u32, 1]);
    }
    let mut out = [1; 3];
    let extents: Vec<i64> = extents.collect();
    for (axis, extent) in out.iter_mut().zip(extents.iter().rev()) {
        *axis = *extent as u32;
    }
    Some(out)
}

fn bind(
    loaded: &Loaded,
    entry: &Entry,
    launch: &Launch,
    slot: u32,
    ports: &Ports,
    memory: &Memory<'_>,
    at: &dyn Fn() -> String,
) -> Result<wgpu::BindGroup, RuntimeError> {
    let gpu = &loaded.gpu;
    let (start, sizes) = &ports.slots.slots[slot as usize];
    let entry_of = |binding, buffer, offset, bytes| BindGroupEntry {
        binding,
        resource: BindingResource::Buffer(BufferBinding { buffer, offset, size: BufferSize::new(padded(bytes)) }),
    };
    let mut entries = vec![entry_of(0, memory.scalars, ports.scalars_at + start, sizes.len() as u64 * 4)];
    for (i, b) in launch.buffers.iter().enumerate() {
        let planned: &Buffer = &entry.buffers[*b as usize];
        let what = || format!("{}, buffer `{}`", at(), planned.name);
        gpu.at_most(&what, padded(planned.bytes), gpu.info.limits.binding_bytes)?;
        let (buffer, offset) = match planned.place {
            Place::Input(i) => (memory.inputs, ports.inputs[i as usize].unwrap_or(0)),
            Place::Output(i) => (memory.outputs, ports.outputs[i as usize].unwrap_or(0)),
            Place::Weight(i) => {
                let place = loaded.weights.places[i as usize];
                (&loaded.weights.buffers[place.buffer], place.offset)
            }
            Place::State(i) => {
                let place = memory.state_places[i as usize];
                (&memory.states[place.buffer], place.offset)
            }
            Place::Arena { offset } => (memory.arena, offset),
        };
        entries.push(entry_of(1 + i as u32, buffer, offset, planned.bytes));
    }
    let layout = &loaded.pipelines.layouts[launch.kernel as usize];
    gpu.bind_group(&at, &BindGroupDescriptor { label: None, layout, entries: &entries })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_map_to_dispatches() {
        let of = |linear, extents: &[i64]| groups(linear, extents.iter().copied());
        assert_eq!(of(false, &[]), Some([1, 1, 1]));
        assert_eq!(of(false, &[2, 3, 5]), Some([5, 3, 2]));
        assert_eq!(of(false, &[2, 0]), None);
        assert_eq!(of(true, &[4, -1]), None);
        assert_eq!(of(true, &[65535]), Some([65535, 1, 1]));
        assert_eq!(of(true, &[2, 2, 2, 8192]), Some([65535, 2, 1]));
        assert_eq!(of(true, &[65535, 65535]), Some([65535, 65535, 1]));
    }
}
