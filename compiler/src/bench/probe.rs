//! Kernels that measure a machine, in a package of their own: each an entry with a plan written by hand.

use crate::error::Errors;
use crate::executable::runtime_error;
use crate::pipeline::package_error;
use mlxc_codegen::legalise::legalise;
use mlxc_codegen::{llvm, profiles};
use mlxc_ir::kernel::Kernel;
use mlxc_ir::{DType, Diagnostic, Layout, Size, TargetProfile};
use mlxc_package::plan::{self, Plan};
use mlxc_package::{NATIVE_ABI, PLAN, Package, PackageWriter, TargetCode, TargetKind};
use mlxc_runtime::{LoadOptions, Model, Tensor, WeightMemory};
use std::sync::Arc;
use std::time::Instant;

/// Tasks of every probe.
pub const TASKS: i64 = 256;
/// Elements of the stream that a task has.
pub const ELEMENTS: i64 = 1 << 18;
const REPEATS: usize = 7;

/// What a probe's buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The weight `f32[TASKS, ELEMENTS]`.
    Stream,
    /// Scratch memory of the same type.
    Arena,
    /// An output `f32[TASKS]`.
    Sums,
}

/// A kernel to be measured.
pub struct Probe {
    kernel: Kernel,
    uses: Vec<Use>,
    launches: u32,
}

impl Probe {
    /// A kernel of one phase, what its buffers are, and how often a step launches it.
    pub fn new(kernel: Kernel, uses: &[Use], launches: u32) -> Self {
        Probe { kernel, uses: uses.to_vec(), launches }
    }
}

/// Probes that are ready to run.
pub struct Probes {
    package: Arc<Package>,
    threads: Option<usize>,
    /// The package's file goes away with it.
    _folder: tempfile::TempDir,
}

impl Probes {
    /// Compiles probes for a profile.
    ///
    /// # Errors
    /// `MLXC0904` no temporary file, or what code generation says.
    pub fn new(probes: &[Probe], profile: &TargetProfile, threads: Option<usize>) -> Result<Self, Errors> {
        let legal = probes
            .iter()
            .map(|p| legalise(&p.kernel, profile).map_err(|mut d| d.swap_remove(0)))
            .collect::<Result<Vec<_>, Diagnostic>>()?;
        let code = llvm::compile(&legal, profile, &llvm::Options { threads: 1, ..llvm::Options::default() })?;
        let plan = plan(probes, &code);
        let folder = tempfile::tempdir()
            .map_err(|e| Diagnostic::new(904, "no temporary folder can be made").found(e.to_string()))?;
        let path = folder.path().join("probes.mlxc");
        let mut writer = PackageWriter::create(&path).map_err(package_error)?;
        writer.add_plan(PLAN, &plan).map_err(package_error)?;
        let cpu = profiles::cpu_target(&profile.name).expect("a compiled profile is a CPU's");
        writer
            .add_target(&TargetCode {
                name: cpu.profile,
                kind: TargetKind::Native,
                plan: PLAN,
                arch: cpu.triple.split('-').next().unwrap_or_default(),
                features: cpu.required,
                abi: NATIVE_ABI,
                align: code.blob.align,
                code: &code.blob.bytes,
                symbols: &code.blob.symbols,
            })
            .map_err(package_error)?;
        let ones: Vec<u8> = 1f32.to_le_bytes().repeat((TASKS * ELEMENTS) as usize);
        writer.add("weights/x", &ones).map_err(package_error)?;
        drop(ones);
        writer.finish("probes").map_err(package_error)?;
        let package = Arc::new(Package::open(&path).map_err(package_error)?);
        Ok(Probes { package, threads, _folder: folder })
    }

    /// Median seconds of a step of one probe, with the stream in the given memory.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn seconds(&self, weights: WeightMemory, entry: &str) -> Result<f64, Errors> {
        let options = LoadOptions { threads: self.threads, weights, ..LoadOptions::default() };
        let mut session =
            Model::load(self.package.clone(), &options).and_then(|m| m.session()).map_err(runtime_error)?;
        let id = session.entry(entry).map_err(runtime_error)?;
        let mut outputs: Vec<Tensor> = session.outputs(id);
        let mut times = Vec::with_capacity(REPEATS);
        // The first run pages memory in and wakes the threads.
        for i in 0..=REPEATS {
            let start = Instant::now();
            session.step(id, &[], &mut outputs).map_err(runtime_error)?;
            if i > 0 {
                times.push(start.elapsed().as_secs_f64());
            }
        }
        Ok(super::median(&mut times))
    }
}

/// An entry for each probe.
fn plan(probes: &[Probe], code: &llvm::CpuCode) -> Plan {
    let shape = |u: Use| match u {
        Use::Stream | Use::Arena => vec![TASKS as u64, ELEMENTS as u64],
        Use::Sums => vec![TASKS as u64],
    };
    let bytes = |u: Use| shape(u).iter().product::<u64>() * 4;
    let sizes = |u: Use| shape(u).iter().map(|n| Size::constant(*n as i64)).collect::<Vec<_>>();
    let mut plan = Plan::default();
    plan.weights.push(plan::Weight {
        name: "x".into(),
        dtype: DType::F32,
        shape: shape(Use::Stream),
        layout: Layout::RowMajor,
        member: "weights/x".into(),
        bytes: bytes(Use::Stream),
        parts: vec!["x".into()],
    });
    for (i, (probe, phase)) in probes.iter().zip(&code.phases).enumerate() {
        let access = |u: &Use| match u {
            Use::Stream => plan::Access::Read,
            Use::Arena | Use::Sums => plan::Access::Write,
        };
        plan.kernels.push(plan::Kernel {
            name: probe.kernel.name.to_string(),
            comment: String::new(),
            template: "probe".into(),
            origin: Vec::new(),
            buffers: probe.uses.iter().map(access).collect(),
            constant: Vec::new(),
            scalars: 0,
            phases: vec![plan::Phase {
                name: "main".into(),
                symbol: phase.symbol.clone(),
                group_bytes: phase.group_bytes,
                lanes: 1,
                linear: false,
            }],
        });
        let ports = |wanted: Use| -> Vec<plan::Port> {
            let of = probe.uses.iter().filter(|u| **u == wanted);
            of.map(|u| plan::Port { name: "x".into(), dtype: DType::F32, shape: sizes(*u) }).collect()
        };
        let buffer = |u: &Use| plan::Buffer {
            name: format!("{u:?}"),
            place: match u {
                Use::Stream => plan::Place::Weight(0),
                Use::Arena => plan::Place::Arena { offset: 0 },
                Use::Sums => plan::Place::Output(0),
            },
            dtype: DType::F32,
            shape: sizes(*u),
            bytes: bytes(*u),
            first: 0,
            last: probe.launches - 1,
            alias: None,
        };
        let launch = plan::Launch {
            kernel: i as u32,
            phase: 0,
            block: None,
            grid: vec![Size::constant(TASKS)],
            buffers: (0..probe.uses.len() as u32).collect(),
            scalars: Vec::new(),
        };
        let arena: u64 = probe.uses.iter().filter(|u| **u == Use::Arena).map(|u| bytes(*u)).sum();
        plan.entries.push(plan::Entry {
            name: probe.kernel.name.to_string(),
            symbols: Vec::new(),
            requires: Vec::new(),
            inputs: Vec::new(),
            outputs: ports(Use::Sums),
            buffers: probe.uses.iter().map(buffer).collect(),
            launches: vec![launch; probe.launches as usize],
            arena: plan::Arena {
                bytes: arena,
                lower_bound: arena,
                naive: arena,
                worker_bytes: phase.group_bytes,
                ..plan::Arena::default()
            },
        });
    }
    plan
}
