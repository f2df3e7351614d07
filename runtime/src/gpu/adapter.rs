//! Adapters: what GPUs there are, and what they have in the names that packages use.

use crate::RuntimeError;
use std::fmt;
use std::sync::OnceLock;
use wgpu::{Backend, Backends, DeviceType, Features, Instance, InstanceDescriptor, InstanceFlags};

/// What an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AdapterKind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the CPU's memory.
    Integrated,
    /// A part of a GPU, given by a hypervisor.
    Virtual,
    /// Something else.
    Other,
    /// An emulation on the CPU.
    Cpu,
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            AdapterKind::Discrete => "discrete",
            AdapterKind::Integrated => "integrated",
            AdapterKind::Virtual => "virtual",
            AdapterKind::Other => "other",
            AdapterKind::Cpu => "cpu",
        })
    }
}

/// What an adapter allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterLimits {
    /// Lanes of a subgroup, at least and at most; zeros where it has none.
    pub subgroup_lanes: (u32, u32),
    /// Lanes of a group.
    pub group_lanes: u32,
    /// Bytes of group memory.
    pub group_bytes: u64,
    /// Buffers of a kernel.
    pub buffers: u32,
    /// Bytes a kernel sees of one buffer.
    pub binding_bytes: u64,
    /// Bytes of one buffer.
    pub buffer_bytes: u64,
}

/// A GPU, or an emulated one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterInfo {
    /// Its number, as in `gpu:N`.
    pub number: u32,
    /// The driver's name for it.
    pub name: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// What it is.
    pub kind: AdapterKind,
    /// The driver and its version.
    pub driver: String,
    /// What it has of `subgroups`, `subgroup-width-32`, `f16`, `i64`, `workgroup-32k` and `metal`: the features that
    /// targets of a package may ask for.
    pub features: Vec<&'static str>,
    /// Its limits.
    pub limits: AdapterLimits,
    /// True if it shares the CPU's memory.
    pub shared_memory: bool,
}

impl AdapterInfo {
    /// Those of the features that it lacks.
    pub fn missing<'a, S: AsRef<str>>(&self, features: &'a [S]) -> Vec<&'a str> {
        features.iter().map(AsRef::as_ref).filter(|f| !self.features.contains(f)).collect()
    }

    /// How messages name it.
    pub(super) fn title(&self) -> String {
        format!("GPU {} (`{}`, {})", self.number, self.name, self.backend)
    }
}

/// An adapter and what is known of it.
pub(super) struct Candidate {
    pub(super) info: AdapterInfo,
    pub(super) adapter: wgpu::Adapter,
}

/// All adapters, in the order of their numbers, which is the drivers' own.
pub fn adapters() -> Vec<AdapterInfo> {
    candidates().into_iter().map(|c| c.info).collect()
}

/// That there is no adapter at all.
pub(super) fn none() -> RuntimeError {
    RuntimeError::NoAdapter {
        expected: "a GPU with a Vulkan, Metal or Direct3D 12 driver".into(),
        found: "none".into(),
    }
}

pub(super) fn candidates() -> Vec<Candidate> {
    static INSTANCE: OnceLock<Instance> = OnceLock::new();
    let backends = Backends::VULKAN | Backends::METAL | Backends::DX12;
    let instance = INSTANCE.get_or_init(|| {
        let mut descriptor = InstanceDescriptor::new_without_display_handle();
        descriptor.backends = backends;
        // Shaders are validated where they are compiled; layers that validate the driver's calls are for wgpu's makers.
        descriptor.flags = InstanceFlags::empty();
        Instance::new(descriptor)
    });
    let found = pollster::block_on(instance.enumerate_adapters(backends));
    found
        .into_iter()
        .enumerate()
        .map(|(i, adapter)| Candidate { info: describe(i as u32, &adapter), adapter })
        .collect()
}

fn describe(number: u32, adapter: &wgpu::Adapter) -> AdapterInfo {
    let (info, limits, has) = (adapter.get_info(), adapter.limits(), adapter.features());
    let kind = match info.device_type {
        DeviceType::DiscreteGpu => AdapterKind::Discrete,
        DeviceType::IntegratedGpu => AdapterKind::Integrated,
        DeviceType::VirtualGpu => AdapterKind::Virtual,
        DeviceType::Cpu => AdapterKind::Cpu,
        DeviceType::Other => AdapterKind::Other,
    };
    let subgroups = has.contains(Features::SUBGROUP);
    let lanes = if subgroups { (info.subgroup_min_size, info.subgroup_max_size) } else { (0, 0) };
    let features = [
        ("subgroups", subgroups),
        ("subgroup-width-32", lanes == (32, 32)),
        ("f16", has.contains(Features::SHADER_F16)),
        ("i64", has.contains(Features::SHADER_INT64)),
        ("workgroup-32k", limits.max_compute_workgroup_storage_size >= 32 << 10),
        ("metal", info.backend == Backend::Metal && has.contains(Features::PASSTHROUGH_SHADERS)),
    ];
    AdapterInfo {
        number,
        name: info.name,
        backend: info.backend.to_str().into(),
        kind,
        driver: format!("{} {}", info.driver, info.driver_info).trim().into(),
        features: features.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect(),
        limits: AdapterLimits {
            subgroup_lanes: lanes,
            group_lanes: limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x),
            group_bytes: u64::from(limits.max_compute_workgroup_storage_size),
            buffers: limits.max_storage_buffers_per_shader_stage,
            binding_bytes: limits.max_storage_buffer_binding_size,
            buffer_bytes: limits.max_buffer_size,
        },
        shared_memory: matches!(kind, AdapterKind::Integrated | AdapterKind::Cpu),
    }
}
