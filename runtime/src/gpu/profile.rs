//! Time stamps around launches, where the device has them.

use super::device::Gpu;
use super::transfer::{Readback, Reading};
use crate::RuntimeError;
use wgpu::{
    BufferUsages, CommandEncoder, ComputePassTimestampWrites, Features, QUERY_SET_MAX_QUERIES, QUERY_SIZE,
    QuerySetDescriptor, QueryType,
};

/// Bytes of a launch's two stamps.
const PAIR_BYTES: u64 = 2 * QUERY_SIZE as u64;
/// Launches of one query set.
const PER_SET: usize = (QUERY_SET_MAX_QUERIES / 2) as usize;

/// Two stamps for each launch of a step.
pub(super) struct Profile {
    sets: Vec<wgpu::QuerySet>,
    resolved: wgpu::Buffer,
    readback: Readback,
    /// Stamps can be written within a pass; else each launch is a pass.
    pub(super) inside_passes: bool,
    nanoseconds: f64,
}

impl Profile {
    /// Room for steps of at most so many launches; none if the device has no clock.
    pub(super) fn new(gpu: &Gpu, launches: usize) -> Result<Option<Self>, RuntimeError> {
        let features = gpu.device.features();
        if launches == 0 || !features.contains(Features::TIMESTAMP_QUERY) {
            return Ok(None);
        }
        let bytes = launches as u64 * PAIR_BYTES;
        let usage = BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC;
        let resolved = gpu.buffer(&|| "time stamps".into(), bytes, usage, false)?;
        let readback = Readback::new(gpu, bytes)?;
        let set = |from: usize| {
            let count = 2 * (launches - from).min(PER_SET) as u32;
            let descriptor = QuerySetDescriptor { label: None, ty: QueryType::Timestamp, count };
            let made = gpu.caught(|| gpu.device.create_query_set(&descriptor));
            made.map_err(|e| gpu.failed("making time stamps", super::device::describe(&e)))
        };
        let sets = (0..launches).step_by(PER_SET).map(set).collect::<Result<_, _>>()?;
        let inside_passes = features.contains(Features::TIMESTAMP_QUERY_INSIDE_PASSES);
        let nanoseconds = f64::from(gpu.queue.get_timestamp_period());
        Ok(Some(Profile { sets, resolved, readback, inside_passes, nanoseconds }))
    }

    /// The set of a launch, and the number of its first stamp there.
    pub(super) fn stamps(&self, launch: usize) -> (&wgpu::QuerySet, u32) {
        (&self.sets[launch / PER_SET], 2 * (launch % PER_SET) as u32)
    }

    /// Stamps for a launch that is a pass.
    pub(super) fn pass(&self, launch: usize) -> ComputePassTimestampWrites<'_> {
        let (query_set, first) = self.stamps(launch);
        ComputePassTimestampWrites {
            query_set,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        }
    }

    /// Records that the stamps of a step are copied out, every one of which was written.
    pub(super) fn resolve(&self, encoder: &mut CommandEncoder, launches: usize) {
        for (i, set) in self.sets.iter().enumerate() {
            let here = launches.saturating_sub(i * PER_SET).min(PER_SET);
            if here > 0 {
                let at = (i * PER_SET) as u64 * PAIR_BYTES;
                encoder.resolve_query_set(set, 0..2 * here as u32, &self.resolved, at);
            }
        }
        if launches > 0 {
            self.readback.copy_from(encoder, &self.resolved, 0, 0, launches as u64 * PAIR_BYTES);
        }
    }

    /// Asks for the stamps of a step that was submitted.
    pub(super) fn ask(&self, launches: usize) -> Reading {
        self.readback.ask(launches as u64 * PAIR_BYTES)
    }

    /// Nanoseconds of each launch.
    pub(super) fn read(&self, gpu: &Gpu, reading: Reading, times: &mut Vec<u64>) -> Result<(), RuntimeError> {
        times.clear();
        let word = |b: &[u8]| b.try_into().map_or(0, u64::from_ne_bytes);
        self.readback.read(gpu, reading, |bytes| {
            times.extend(bytes.chunks_exact(PAIR_BYTES as usize).map(|pair| {
                let (from, to) = pair.split_at(QUERY_SIZE as usize);
                (word(to).saturating_sub(word(from)) as f64 * self.nanoseconds) as u64
            }));
        })
    }
}
