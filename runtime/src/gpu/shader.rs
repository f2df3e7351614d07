//! From a target's text to pipelines, on all cores.

use super::cache::Cache;
use super::device::{Gpu, describe};
use mlxc_package::plan::{Kernel, Phase, Plan};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use wgpu::{
    BindGroupLayoutDescriptor, BindGroupLayoutEntry, BindingType, BufferBindingType, ComputePipelineDescriptor,
    PassthroughShaderEntryPoint, PipelineCompilationOptions, PipelineLayoutDescriptor, ShaderModuleDescriptor,
    ShaderModuleDescriptorPassthrough, ShaderRuntimeChecks, ShaderSource, ShaderStages,
};

/// Stack of a thread that compiles: naga recurses over expressions and blocks.
const STACK_BYTES: usize = 16 << 20;

/// How a target's text is compiled.
#[derive(Clone, Copy)]
pub(super) enum Language {
    /// WGSL, which wgpu validates; with its checks of indices and loops if `checked`.
    Wgsl { checked: bool },
    /// Metal's language, which is handed to the driver as it is.
    Metal,
}

/// The pipelines of a plan and the layouts of their bind groups.
pub(super) struct Pipelines {
    /// By kernel.
    pub(super) layouts: Vec<wgpu::BindGroupLayout>,
    /// By kernel and phase.
    pub(super) pipelines: Vec<Vec<wgpu::ComputePipeline>>,
}

/// Why a phase has no pipeline: its symbol, and the reason.
pub(super) struct Refused {
    pub(super) symbol: String,
    pub(super) reason: Option<String>,
}

/// Compiles every phase.
pub(super) fn compile(
    gpu: &Gpu,
    plan: &Plan,
    modules: &BTreeMap<String, &str>,
    language: Language,
    cache: &Cache,
) -> Result<Pipelines, Refused> {
    let mut known: BTreeMap<Vec<bool>, wgpu::BindGroupLayout> = BTreeMap::new();
    let mut layouts = Vec::with_capacity(plan.kernels.len());
    for kernel in &plan.kernels {
        let flags = (0..kernel.buffers.len()).map(|i| kernel.constant.get(i) == Some(&true)).collect();
        let layout = known.entry(flags).or_insert_with_key(|flags| layout(gpu, flags));
        layouts.push(layout.clone());
    }
    let phases = |(k, kernel): (usize, &'_ Kernel)| (0..kernel.phases.len()).map(move |p| (k, p));
    let jobs: Vec<(usize, usize)> = plan.kernels.iter().enumerate().flat_map(phases).collect();
    let done: Vec<OnceLock<Result<wgpu::ComputePipeline, Refused>>> = jobs.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((i, (k, p))) = {
            let i = next.fetch_add(1, Ordering::Relaxed);
            jobs.get(i).map(|job| (i, *job))
        } {
            let phase = &plan.kernels[k].phases[p];
            let made = pipeline(gpu, phase, modules, language, &layouts[k], cache);
            let _ = done[i].set(made);
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(jobs.len());
        let spawn = || std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).is_ok();
        let spawned = (0..threads).filter(|_| spawn()).count();
        if spawned == 0 {
            work();
        }
    });
    let mut done = done.into_iter().map(|made| made.into_inner().expect("invariant: every phase was compiled"));
    let mut take = |kernel: &Kernel| done.by_ref().take(kernel.phases.len()).collect::<Result<Vec<_>, Refused>>();
    let pipelines = plan.kernels.iter().map(&mut take).collect::<Result<_, _>>()?;
    Ok(Pipelines { layouts, pipelines })
}

/// Scalars, then buffers; `constant` says which of those are read only.
fn layout(gpu: &Gpu, constant: &[bool]) -> wgpu::BindGroupLayout {
    let entry = |binding, ty| BindGroupLayoutEntry {
        binding,
        visibility: ShaderStages::COMPUTE,
        ty: BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    };
    let storage =
        |(i, read_only): (usize, &bool)| entry(1 + i as u32, BufferBindingType::Storage { read_only: *read_only });
    let entries: Vec<BindGroupLayoutEntry> =
        std::iter::once(entry(0, BufferBindingType::Uniform)).chain(constant.iter().enumerate().map(storage)).collect();
    gpu.device.create_bind_group_layout(&BindGroupLayoutDescriptor { label: None, entries: &entries })
}

fn pipeline(
    gpu: &Gpu,
    phase: &Phase,
    modules: &BTreeMap<String, &str>,
    language: Language,
    layout: &wgpu::BindGroupLayout,
    cache: &Cache,
) -> Result<wgpu::ComputePipeline, Refused> {
    let symbol = || phase.symbol.clone();
    let refused = |e: wgpu::Error| Refused { symbol: symbol(), reason: Some(describe(&e)) };
    let text = *modules.get(&phase.symbol).ok_or_else(|| Refused { symbol: symbol(), reason: None })?;
    let module = gpu.caught(|| module(gpu, phase, text, language)).map_err(refused)?;
    let pipeline_layout = gpu.caught(|| {
        gpu.device.create_pipeline_layout(&PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(layout)],
            immediate_size: 0,
        })
    });
    let pipeline_layout = pipeline_layout.map_err(refused)?;
    let checked = matches!(language, Language::Wgsl { checked: true });
    gpu.pipeline(&ComputePipelineDescriptor {
        label: Some(&phase.symbol),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some(&phase.symbol),
        compilation_options: PipelineCompilationOptions {
            zero_initialize_workgroup_memory: checked,
            ..PipelineCompilationOptions::default()
        },
        cache: cache.pipelines.as_ref(),
    })
    .map_err(refused)
}

fn module(gpu: &Gpu, phase: &Phase, text: &str, language: Language) -> wgpu::ShaderModule {
    let wgsl = || ShaderModuleDescriptor { label: Some(&phase.symbol), source: ShaderSource::Wgsl(text.into()) };
    match language {
        Language::Wgsl { checked: true } => gpu.device.create_shader_module(wgsl()),
        // SAFETY: the package was opened as trusted, and its compiler proved every index in range.
        Language::Wgsl { checked: false } => unsafe {
            gpu.device.create_shader_module_trusted(wgsl(), ShaderRuntimeChecks::unchecked())
        },
        Language::Metal => {
            let entry =
                PassthroughShaderEntryPoint { name: phase.symbol.as_str().into(), workgroup_size: (phase.lanes, 1, 1) };
            let descriptor = ShaderModuleDescriptorPassthrough {
                label: Some(phase.symbol.as_str()),
                entry_points: Cow::Owned(vec![entry]),
                msl: Some(text.into()),
                ..ShaderModuleDescriptorPassthrough::default()
            };
            // SAFETY: as above; untrusted packages are not loaded this way.
            unsafe { gpu.device.create_shader_module_passthrough(descriptor) }
        }
    }
}
