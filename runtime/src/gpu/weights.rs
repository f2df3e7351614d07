//! Weights on the device: in few buffers, uploaded once in bounded pieces, or read where the package is mapped.

use super::chunks::{Piece, place};
use super::device::Gpu;
use crate::{RuntimeError, WeightMemory};
use mlxc_package::Package;
use mlxc_package::plan::{Place, Plan};
use wgpu::{BufferUsages, COPY_BUFFER_ALIGNMENT};

/// Bytes handed to the queue at once.
const PIECE_BYTES: usize = 8 << 20;
/// Bytes on their way after which the upload waits.
const IN_FLIGHT_BYTES: usize = 64 << 20;

/// The weights of a plan.
pub(crate) struct Weights {
    pub(super) buffers: Vec<wgpu::Buffer>,
    /// By weight.
    pub(super) places: Vec<Piece>,
    /// Bytes read in the package's mapping.
    pub(super) mapped: u64,
    /// Bytes copied to the device.
    pub(super) copied: u64,
}

impl Weights {
    pub(super) fn new(gpu: &Gpu, package: &Package, plan: &Plan, memory: WeightMemory) -> Result<Self, RuntimeError> {
        let members: Vec<&[u8]> = plan.weights.iter().map(|w| package.member(&w.member)).collect::<Result<_, _>>()?;
        if memory == WeightMemory::Mapped
            && let Some(buffers) = import(gpu, &members)
        {
            let places = (0..members.len()).map(|buffer| Piece { buffer, offset: 0 }).collect();
            let mapped = members.iter().map(|m| m.len() as u64).sum();
            return Ok(Weights { buffers, places, mapped, copied: 0 });
        }
        let alone = stored_to(plan);
        let pieces = members.iter().zip(alone).map(|(m, alone)| (m.len() as u64, alone));
        let (sizes, places) = place(pieces, gpu.info.limits.buffer_bytes);
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let buffers: Vec<wgpu::Buffer> = sizes
            .iter()
            .map(|bytes| gpu.buffer(&|| "weights".into(), *bytes, usage, false))
            .collect::<Result<_, _>>()?;
        let mut in_flight = 0;
        for (member, place) in members.iter().zip(&places) {
            let mut at = place.offset;
            for piece in member.chunks(PIECE_BYTES) {
                write(gpu, &buffers[place.buffer], at, piece);
                at += piece.len() as u64;
                in_flight += piece.len();
                if in_flight >= IN_FLIGHT_BYTES {
                    flush(gpu)?;
                    in_flight = 0;
                }
            }
        }
        flush(gpu)?;
        Ok(Weights { buffers, places, mapped: 0, copied: sizes.iter().sum() })
    }
}

fn flush(gpu: &Gpu) -> Result<(), RuntimeError> {
    gpu.queue.submit([]);
    gpu.wait(None, "uploading weights")
}

/// Writes bytes to a place; what is missing of the last word is zero.
fn write(gpu: &Gpu, buffer: &wgpu::Buffer, at: u64, bytes: &[u8]) {
    const WORD: usize = COPY_BUFFER_ALIGNMENT as usize;
    let (words, rest) = bytes.split_at(bytes.len() - bytes.len() % WORD);
    if !words.is_empty() {
        gpu.queue.write_buffer(buffer, at, words);
    }
    if !rest.is_empty() {
        let mut last = [0; WORD];
        last[..rest.len()].copy_from_slice(rest);
        gpu.queue.write_buffer(buffer, at + words.len() as u64, &last);
    }
}

/// For each weight, whether some launch binds it as if it could be stored to. A buffer may not be bound both ways in
/// one dispatch, so these share none.
fn stored_to(plan: &Plan) -> Vec<bool> {
    let mut out = vec![false; plan.weights.len()];
    for entry in &plan.entries {
        for launch in &entry.launches {
            let constant = &plan.kernels[launch.kernel as usize].constant;
            for (i, b) in launch.buffers.iter().enumerate() {
                if let Place::Weight(w) = entry.buffers[*b as usize].place
                    && constant.get(i) != Some(&true)
                {
                    out[w as usize] = true;
                }
            }
        }
    }
    out
}

/// The members as buffers without a copy, where device and driver can.
fn import(gpu: &Gpu, members: &[&[u8]]) -> Option<Vec<wgpu::Buffer>> {
    #[cfg(target_vendor = "apple")]
    if gpu.info.shared_memory {
        return members.iter().map(|m| super::metal::import(gpu, m)).collect();
    }
    let _ = (gpu, members);
    None
}
