//! A wgpu device: every failure becomes an error of this crate, and what is made is counted.

use super::adapter::{AdapterInfo, Candidate};
use crate::RuntimeError;
use mlxc_package::plan::{Kernel, Plan};
use mlxc_package::{BUFFER_ALIGNMENT, Target};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use wgpu::{
    BufferDescriptor, BufferUsages, DeviceDescriptor, ErrorFilter, Features, Limits, MemoryHints, PollType,
    SubmissionIndex,
};

/// What was made on a device since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Buffers.
    pub buffers: u64,
    /// Bind groups.
    pub bind_groups: u64,
    /// Pipelines.
    pub pipelines: u64,
    /// Command buffers submitted.
    pub submissions: u64,
}

/// What the device said outside of any call that could return it.
#[derive(Default)]
struct Faults {
    /// An error since the last look.
    error: Option<String>,
    /// Why the device is gone for good.
    lost: Option<String>,
}

/// An open device.
pub(crate) struct Gpu {
    pub(crate) info: AdapterInfo,
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    faults: Arc<Mutex<Faults>>,
    buffers: AtomicU64,
    bind_groups: AtomicU64,
    pipelines: AtomicU64,
    submissions: AtomicU64,
}

impl Gpu {
    /// Opens a device with what a target and its plan need.
    pub(super) fn open(
        candidate: Candidate,
        target: &Target,
        plan: &Plan,
        profile: bool,
    ) -> Result<Self, RuntimeError> {
        let Candidate { info, adapter } = candidate;
        let limits = limits(&info, plan)?;
        let mut features = Features::empty();
        for name in &target.features {
            features |= match name.as_str() {
                "subgroups" | "subgroup-width-32" => Features::SUBGROUP,
                "f16" => Features::SHADER_F16,
                "i64" => Features::SHADER_INT64,
                "metal" => Features::PASSTHROUGH_SHADERS,
                _ => Features::empty(),
            };
        }
        let mut optional = Features::PIPELINE_CACHE;
        if profile {
            optional |= Features::TIMESTAMP_QUERY | Features::TIMESTAMP_QUERY_INSIDE_PASSES;
        }
        features |= adapter.features() & optional;
        let descriptor = DeviceDescriptor {
            required_features: features,
            required_limits: limits,
            // Buffers are few and large; blocks shared by many would mostly be empty.
            memory_hints: MemoryHints::MemoryUsage,
            ..DeviceDescriptor::default()
        };
        let opened = pollster::block_on(adapter.request_device(&descriptor));
        let (device, queue) = opened.map_err(|e| failure(&info, "opening the device", e.to_string()))?;
        let faults: Arc<Mutex<Faults>> = Arc::default();
        let (errors, losses) = (faults.clone(), faults.clone());
        device.on_uncaptured_error(Arc::new(move |e| {
            let mut faults = errors.lock().unwrap_or_else(PoisonError::into_inner);
            faults.error.get_or_insert_with(|| describe(&e));
        }));
        device.set_device_lost_callback(move |reason, text| {
            let mut faults = losses.lock().unwrap_or_else(PoisonError::into_inner);
            faults.lost.get_or_insert_with(|| format!("the device was lost ({reason:?}): {text}"));
        });
        let count = AtomicU64::default;
        let (buffers, bind_groups, pipelines, submissions) = (count(), count(), count(), count());
        Ok(Gpu { info, device, queue, faults, buffers, bind_groups, pipelines, submissions })
    }

    pub(super) fn counters(&self) -> Counters {
        Counters {
            buffers: self.buffers.load(Ordering::Relaxed),
            bind_groups: self.bind_groups.load(Ordering::Relaxed),
            pipelines: self.pipelines.load(Ordering::Relaxed),
            submissions: self.submissions.load(Ordering::Relaxed),
        }
    }

    /// Does something and gives what the device says of it, if it refuses.
    pub(super) fn caught<T>(&self, make: impl FnOnce() -> T) -> Result<T, wgpu::Error> {
        let filters = [ErrorFilter::OutOfMemory, ErrorFilter::Validation, ErrorFilter::Internal];
        let scopes = filters.map(|f| self.device.push_error_scope(f));
        let made = make();
        let mut found = None;
        for scope in scopes.into_iter().rev() {
            let error = pollster::block_on(scope.pop());
            found = found.or(error);
        }
        found.map_or(Ok(made), Err)
    }

    /// Refuses a number of bytes past one of the adapter's limits.
    pub(super) fn at_most(&self, what: &dyn Fn() -> String, bytes: u64, limit: u64) -> Result<(), RuntimeError> {
        at_most(&self.info, what, bytes, "bytes", limit)
    }

    /// A buffer of zeros. Sizes are rounded up to 256 bytes, and are at least that.
    pub(super) fn buffer(
        &self,
        what: &dyn Fn() -> String,
        bytes: u64,
        usage: BufferUsages,
        mapped_at_creation: bool,
    ) -> Result<wgpu::Buffer, RuntimeError> {
        let size = padded(bytes);
        self.at_most(what, size, self.info.limits.buffer_bytes)?;
        let descriptor = BufferDescriptor { label: None, size, usage, mapped_at_creation };
        let made = self.caught(|| self.device.create_buffer(&descriptor));
        self.buffers.fetch_add(1, Ordering::Relaxed);
        made.map_err(|e| RuntimeError::GpuMemory {
            adapter: self.info.title(),
            what: what(),
            bytes: size,
            reason: describe(&e),
        })
    }

    pub(super) fn bind_group(
        &self,
        what: &dyn Fn() -> String,
        descriptor: &wgpu::BindGroupDescriptor<'_>,
    ) -> Result<wgpu::BindGroup, RuntimeError> {
        self.bind_groups.fetch_add(1, Ordering::Relaxed);
        self.caught(|| self.device.create_bind_group(descriptor)).map_err(|e| self.failed(what(), describe(&e)))
    }

    pub(super) fn pipeline(
        &self,
        descriptor: &wgpu::ComputePipelineDescriptor<'_>,
    ) -> Result<wgpu::ComputePipeline, wgpu::Error> {
        self.pipelines.fetch_add(1, Ordering::Relaxed);
        self.caught(|| self.device.create_compute_pipeline(descriptor))
    }

    pub(super) fn submit(&self, encoder: wgpu::CommandEncoder) -> SubmissionIndex {
        self.submissions.fetch_add(1, Ordering::Relaxed);
        self.queue.submit([encoder.finish()])
    }

    /// Waits for a submission, or for all, and reports what has failed until then.
    pub(super) fn wait(&self, submission: Option<SubmissionIndex>, doing: &str) -> Result<(), RuntimeError> {
        let polled = self.device.poll(PollType::Wait { submission_index: submission, timeout: None });
        self.check(doing)?;
        polled.map(|_| ()).map_err(|e| self.failed(doing, e.to_string()))
    }

    /// Reports what has failed since the last look. A lost device stays lost.
    pub(super) fn check(&self, doing: &str) -> Result<(), RuntimeError> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = faults.lost.clone().or(faults.error.take());
        reason.map_or(Ok(()), |reason| Err(self.failed(doing, reason)))
    }

    pub(super) fn failed(&self, doing: impl Into<String>, reason: impl Into<String>) -> RuntimeError {
        failure(&self.info, doing, reason)
    }
}

fn failure(info: &AdapterInfo, doing: impl Into<String>, reason: impl Into<String>) -> RuntimeError {
    RuntimeError::Gpu { adapter: info.title(), doing: doing.into(), reason: reason.into() }
}

/// The size of an allocation or a binding.
pub(super) fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(BUFFER_ALIGNMENT).max(BUFFER_ALIGNMENT)
}

/// An error on one line, with its causes.
pub(super) fn describe(error: &wgpu::Error) -> String {
    error.to_string().lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ")
}

fn at_most(
    info: &AdapterInfo,
    what: &dyn Fn() -> String,
    found: u64,
    unit: &str,
    limit: u64,
) -> Result<(), RuntimeError> {
    if found <= limit {
        return Ok(());
    }
    Err(RuntimeError::AdapterLimit { adapter: info.title(), what: what(), needed: format!("{found} {unit}"), limit })
}

/// The limits to ask for, or what exceeds those of the adapter.
fn limits(info: &AdapterInfo, plan: &Plan) -> Result<Limits, RuntimeError> {
    let most = |need: &dyn Fn(&Kernel) -> u64, what: &str, limit: u64| -> Result<u64, RuntimeError> {
        for kernel in &plan.kernels {
            at_most(info, &|| format!("kernel `{}`", kernel.name), need(kernel), what, limit)?;
        }
        Ok(plan.kernels.iter().map(need).max().unwrap_or(0))
    };
    let lanes = |k: &Kernel| k.phases.iter().map(|p| u64::from(p.lanes)).max().unwrap_or(0);
    let group = |k: &Kernel| k.phases.iter().map(|p| p.group_bytes).max().unwrap_or(0);
    let allowed = &info.limits;
    let lanes = most(&lanes, "lanes of a group", u64::from(allowed.group_lanes))? as u32;
    let group = most(&group, "bytes of group memory", allowed.group_bytes)? as u32;
    let buffers = most(&|k| k.buffers.len() as u64, "buffers", u64::from(allowed.buffers))? as u32;
    let least = Limits::downlevel_defaults();
    Ok(Limits {
        max_buffer_size: allowed.buffer_bytes,
        max_storage_buffer_binding_size: allowed.binding_bytes,
        max_storage_buffers_per_shader_stage: buffers.max(least.max_storage_buffers_per_shader_stage),
        max_compute_workgroup_storage_size: group.max(least.max_compute_workgroup_storage_size),
        max_compute_invocations_per_workgroup: lanes.max(least.max_compute_invocations_per_workgroup),
        max_compute_workgroup_size_x: lanes.max(least.max_compute_workgroup_size_x),
        ..least
    })
}
