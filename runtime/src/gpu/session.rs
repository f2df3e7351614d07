//! A session on a GPU: its memory there, and steps of one submission.

use super::chunks::{Piece, place};
use super::device::{Gpu, padded};
use super::load::Loaded;
use super::prepared::{Memory, Ports, Prepared, Ready};
use super::profile::Profile;
use super::transfer::{Readback, Upload};
use crate::model::{Backend, Shared};
use crate::steps::Steps;
use crate::{MemoryReport, RuntimeError, Tensor, TensorView};
use mlxc_package::plan::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use wgpu::{BufferUsages, CommandEncoder, CommandEncoderDescriptor, ComputePass, ComputePassDescriptor};

/// Most bytes of a state that are copied in or out at once.
const STATE_PIECE: u64 = 4 << 20;
/// Bytes of the pattern that poisoned memory is filled from.
const POISON_BYTES: u64 = 1 << 20;

/// The way between host and device.
struct Transfers {
    upload: Upload,
    readback: Readback,
}

pub(crate) struct GpuSession {
    shared: Arc<Shared>,
    states: Vec<wgpu::Buffer>,
    state_places: Vec<Piece>,
    arena: wgpu::Buffer,
    inputs: wgpu::Buffer,
    outputs: wgpu::Buffer,
    scalars: wgpu::Buffer,
    transfers: Mutex<Transfers>,
    entries: Vec<Prepared>,
    profile: Option<Profile>,
    /// A buffer of 0xFF, where asked for.
    poison: Option<wgpu::Buffer>,
}

fn loaded(shared: &Shared) -> &Loaded {
    match &shared.backend {
        Backend::Gpu(loaded) => loaded,
        _ => unreachable!("invariant: the model was loaded for a GPU"),
    }
}

impl GpuSession {
    pub(crate) fn new(shared: Arc<Shared>) -> Result<Self, RuntimeError> {
        let (loaded, plan) = (loaded(&shared), shared.plan());
        let gpu = &loaded.gpu;
        let limit = gpu.info.limits.buffer_bytes;
        let (sizes, state_places) = place(plan.states.iter().map(|s| (s.bytes, false)), limit);
        let copies = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let state = |bytes: &u64| gpu.buffer(&|| "states".into(), *bytes, copies, false);
        let states = sizes.iter().map(state).collect::<Result<Vec<_>, _>>()?;
        let mut scalar_bytes = 0;
        let ports = |e: &Entry| {
            let ports = Ports::new(plan, e, scalar_bytes);
            scalar_bytes += ports.scalar_bytes();
            ports
        };
        let ports: Vec<Ports> = plan.entries.iter().map(ports).collect();
        let largest = |bytes: &dyn Fn(&Ports) -> u64| ports.iter().map(bytes).max().unwrap_or(0);
        let arena_bytes = plan.entries.iter().map(|e| e.arena.bytes).max().unwrap_or(0);
        let arena = gpu.buffer(&|| "the arena".into(), arena_bytes, copies, false)?;
        let inputs = gpu.buffer(&|| "inputs".into(), largest(&|p| p.input_bytes), copies, false)?;
        let outputs = gpu.buffer(&|| "outputs".into(), largest(&|p| p.output_bytes), copies, false)?;
        let usage = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let scalars = gpu.buffer(&|| "scalars".into(), scalar_bytes, usage, false)?;
        let piece = plan.states.iter().map(|s| s.bytes).max().unwrap_or(0).min(STATE_PIECE);
        let upload = Upload::new(gpu, largest(&|p| p.scalar_bytes() + p.input_bytes).max(piece))?;
        let readback = Readback::new(gpu, largest(&|p| p.output_bytes).max(piece))?;
        let memory = Memory {
            states: &states,
            state_places: &state_places,
            arena: &arena,
            inputs: &inputs,
            outputs: &outputs,
            scalars: &scalars,
        };
        let mut entries = Vec::with_capacity(plan.entries.len());
        for (entry, ports) in plan.entries.iter().zip(ports) {
            entries.push(Prepared::new(loaded, &shared.options, plan, entry, ports, &memory)?);
        }
        let most = plan.entries.iter().map(|e| e.launches.len()).max().unwrap_or(0);
        let profile = if shared.options.profile { Profile::new(gpu, most)? } else { None };
        let poison = if shared.options.poison { Some(pattern(gpu, padded(arena_bytes))?) } else { None };
        gpu.check("making a session")?;
        let transfers = Mutex::new(Transfers { upload, readback });
        let session = GpuSession {
            states,
            state_places,
            arena,
            inputs,
            outputs,
            scalars,
            transfers,
            entries,
            profile,
            poison,
            shared,
        };
        Ok(session)
    }

    fn encoder(&self) -> CommandEncoder {
        loaded(&self.shared).gpu.device.create_command_encoder(&CommandEncoderDescriptor::default())
    }
}

/// Records the launches of an entry. `poison` is the pattern, and the arena to fill from it.
fn record(
    encoder: &mut CommandEncoder,
    launches: &[Ready],
    profile: Option<&Profile>,
    poison: Option<(&wgpu::Buffer, &wgpu::Buffer)>,
) {
    if let Some((pattern, arena)) = poison {
        fill(encoder, pattern, arena, 0, arena.size());
    }
    let dispatch = |pass: &mut ComputePass<'_>, launch: &Ready| {
        if let Some([x, y, z]) = launch.groups {
            pass.set_pipeline(&launch.pipeline);
            pass.set_bind_group(0, &launch.bind_group, &[]);
            pass.dispatch_workgroups(x, y, z);
        }
    };
    // Copies stand between passes, and so do stamps where the device has none within.
    if poison.is_none() && profile.is_none_or(|p| p.inside_passes) {
        let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
        for (i, launch) in launches.iter().enumerate() {
            let stamps = profile.map(|p| p.stamps(i));
            if let Some((set, first)) = stamps {
                pass.write_timestamp(set, first);
            }
            dispatch(&mut pass, launch);
            if let Some((set, first)) = stamps {
                pass.write_timestamp(set, first + 1);
            }
        }
        return;
    }
    for (i, launch) in launches.iter().enumerate() {
        let timestamp_writes = profile.map(|p| p.pass(i));
        dispatch(&mut encoder.begin_compute_pass(&ComputePassDescriptor { label: None, timestamp_writes }), launch);
        if let Some((pattern, arena)) = poison {
            launch.freed.iter().for_each(|(from, to)| fill(encoder, pattern, arena, *from, *to));
        }
    }
}

/// A buffer of 0xFF, no larger than what it is to fill.
fn pattern(gpu: &Gpu, arena: u64) -> Result<wgpu::Buffer, RuntimeError> {
    let bytes = arena.min(POISON_BYTES);
    let buffer = gpu.buffer(&|| "poison".into(), bytes, BufferUsages::COPY_SRC, true)?;
    let view = buffer.get_mapped_range_mut(..);
    view.map_err(|e| gpu.failed("filling poison", e.to_string()))?.slice(..).fill(0xFF);
    buffer.unmap();
    Ok(buffer)
}

fn fill(encoder: &mut CommandEncoder, pattern: &wgpu::Buffer, to: &wgpu::Buffer, start: u64, end: u64) {
    let mut at = start;
    while at < end {
        let bytes = (end - at).min(pattern.size());
        encoder.copy_buffer_to_buffer(pattern, 0, to, at, bytes);
        at += bytes;
    }
}

impl Steps for GpuSession {
    fn step(
        &mut self,
        entry: usize,
        symbols: &[i64],
        inputs: &[TensorView<'_>],
        outputs: &mut [Tensor],
    ) -> Result<(), RuntimeError> {
        let doing = "a step";
        let mut encoder = self.encoder();
        let gpu = &loaded(&self.shared).gpu;
        gpu.check(doing)?;
        let Transfers { upload, readback } = self.transfers.get_mut().unwrap_or_else(PoisonError::into_inner);
        let prepared = &mut self.entries[entry];
        let changed = prepared.set_up(symbols);
        // Until the step has gone well, scalars may not have reached the device.
        let current = prepared.take_current();
        let ports = &prepared.ports;
        let scalar_bytes = ports.scalar_bytes();
        let given = || inputs.iter().zip(&ports.inputs).filter_map(|(input, at)| Some((input.bytes(), (*at)?)));
        if changed {
            upload.write(gpu, 0, &prepared.scalars)?;
        }
        for (bytes, at) in given() {
            upload.write(gpu, scalar_bytes + at, bytes)?;
        }
        upload.unmap();
        if changed && scalar_bytes > 0 {
            upload.copy_to(&mut encoder, 0, &self.scalars, ports.scalars_at, scalar_bytes);
        }
        for (bytes, at) in given().filter(|(bytes, _)| !bytes.is_empty()) {
            upload.copy_to(&mut encoder, scalar_bytes + at, &self.inputs, at, bytes.len() as u64);
        }
        let poison = self.poison.as_ref().map(|pattern| (pattern, &self.arena));
        record(&mut encoder, &prepared.launches, self.profile.as_ref(), poison);
        let mut wanted = 0;
        for (output, at) in outputs.iter().zip(&ports.outputs) {
            let bytes = output.bytes().len() as u64;
            if let Some(at) = at
                && bytes > 0
            {
                readback.copy_from(&mut encoder, &self.outputs, *at, *at, bytes);
                wanted = at + bytes;
            }
        }
        let launches = prepared.launches.len();
        if let Some(profile) = &self.profile {
            profile.resolve(&mut encoder, launches);
        }
        let submission = gpu.submit(encoder);
        let remap = upload.map_again();
        let reading = readback.ask(wanted);
        let stamps = self.profile.as_ref().map(|p| (p, p.ask(launches)));
        // Every mapping is taken back, whatever happened, so that the next step finds the buffers as it needs them.
        let ran = gpu.wait(Some(submission), doing);
        let mapped = upload.mapped_again(gpu, remap);
        let read = readback.read(gpu, reading, |bytes| {
            for (output, at) in outputs.iter_mut().zip(&ports.outputs) {
                if let Some(at) = at {
                    let output = output.bytes_mut();
                    output.copy_from_slice(&bytes[(*at as usize).min(bytes.len())..][..output.len()]);
                }
            }
        });
        let timed = stamps.map_or(Ok(()), |(profile, stamps)| profile.read(gpu, stamps, &mut prepared.times));
        ran.and(mapped).and(read).and(timed)?;
        prepared.keep_current(current);
        Ok(())
    }

    fn reset(&mut self) {
        let mut encoder = self.encoder();
        for state in &self.states {
            encoder.clear_buffer(state, 0, None);
        }
        // An error shows in the next step.
        loaded(&self.shared).gpu.submit(encoder);
    }

    fn state(&self, state: usize) -> Result<Vec<u8>, RuntimeError> {
        let gpu = &loaded(&self.shared).gpu;
        let transfers = self.transfers.lock().unwrap_or_else(PoisonError::into_inner);
        let (place, total) = (self.state_places[state], self.shared.plan().states[state].bytes);
        let mut out = Vec::with_capacity(total as usize);
        while (out.len() as u64) < total {
            let at = out.len() as u64;
            let bytes = (total - at).min(transfers.readback.len());
            let mut encoder = self.encoder();
            transfers.readback.copy_from(&mut encoder, &self.states[place.buffer], place.offset + at, 0, bytes);
            let submission = gpu.submit(encoder);
            let reading = transfers.readback.ask(bytes);
            gpu.wait(Some(submission), "reading a state")?;
            transfers.readback.read(gpu, reading, |b| out.extend_from_slice(&b[..bytes as usize]))?;
        }
        Ok(out)
    }

    fn set_state(&mut self, state: usize, stored: &[u8]) -> Result<(), RuntimeError> {
        let mut at = self.state_places[state].offset;
        let to = &self.states[self.state_places[state].buffer];
        let gpu = &loaded(&self.shared).gpu;
        let transfers = self.transfers.get_mut().unwrap_or_else(PoisonError::into_inner);
        let upload = &mut transfers.upload;
        for piece in stored.chunks(upload.len() as usize) {
            upload.write(gpu, 0, piece)?;
            upload.unmap();
            let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
            upload.copy_to(&mut encoder, 0, to, at, piece.len() as u64);
            let submission = gpu.submit(encoder);
            gpu.wait(Some(submission), "setting a state")?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn times(&self, entry: usize) -> Vec<u64> {
        self.entries[entry].times.clone()
    }

    fn memory(&self) -> MemoryReport {
        let loaded = loaded(&self.shared);
        let transfers = self.transfers.lock().unwrap_or_else(PoisonError::into_inner);
        let on_device = self.inputs.size() + self.outputs.size() + self.scalars.size();
        MemoryReport {
            weights_mapped: loaded.weights.mapped,
            weights_copied: loaded.weights.copied,
            code: loaded.code,
            states: self.states.iter().map(wgpu::Buffer::size).sum(),
            arena: self.arena.size(),
            workers: 0,
            staged_inputs: on_device + transfers.upload.len() + transfers.readback.len(),
        }
    }
}
