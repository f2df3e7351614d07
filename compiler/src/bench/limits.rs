//! The machine's limits, measured with kernels of this compiler: what a benchmark's figures are shares of.
//!
//! Reads stream a weight of 256 MiB, far more than any cache holds, in the package's mapping and in a copy in huge
//! pages: the two ways the runtime reads weights. Peaks are independent multiply-adds in registers.

use crate::error::Errors;
use crate::executable::runtime_error;
use crate::pipeline::package_error;
use mlxc_codegen::legalise::legalise;
use mlxc_codegen::llvm;
use mlxc_codegen::profiles;
use mlxc_ir::kernel::{Access, Kernel, KernelBuilder, Subgroup, Type};
use mlxc_ir::profile::Feature;
use mlxc_ir::{DType, Diagnostic, Layout, Size, TargetProfile};
use mlxc_package::plan::{self, Plan};
use mlxc_package::{NATIVE_ABI, PLAN, Package, PackageWriter, TargetCode, TargetKind};
use mlxc_runtime::{LoadOptions, Model, Tensor, TensorView, WeightMemory};
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;

/// What the machine can do with so many threads; medians of repeated measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Bytes a second read from mapped weights.
    pub read_mapped: f64,
    /// Bytes a second read from weights copied to huge pages.
    pub read_copied: f64,
    /// f32 multiply-adds a second, times two.
    pub f32_flops: f64,
    /// Packed bf16 products a second, times two; none without such instructions.
    pub bf16_flops: Option<f64>,
}

/// Tasks of the read and elements of each.
const TASKS: i64 = 256;
const ELEMENTS: i64 = 1 << 18;
/// Steps of each chain of multiply-adds.
const STEPS: i64 = 25_000;
const REPEATS: usize = 7;

/// Measures the limits with the code of a profile.
///
/// # Errors
/// No LLVM, no temporary file, or what the runtime says.
pub fn measure(profile: &TargetProfile, threads: Option<usize>) -> Result<Limits, Errors> {
    llvm::available()?;
    let lanes = (profile.vector_bits / 32).clamp(4, 16) as u8;
    let bf16 = profile.has(Feature::Bf16Dot);
    // As many independent accumulators as registers hold: latency must not bound them.
    let count = (profile.registers - 4).min(24);
    let mut kernels = vec![read(lanes), chains("f32", lanes, count, false)];
    if bf16 {
        kernels.push(chains("bf16", lanes, count, true));
    }
    let (plan, code) = plan(&kernels, profile)?;
    let folder = tempfile::tempdir()
        .map_err(|e| Diagnostic::new(904, "no temporary folder can be made").found(e.to_string()))?;
    let path = folder.path().join("limits.mlxc");
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
    writer.finish("limits").map_err(package_error)?;
    let package = Arc::new(Package::open(&path).map_err(package_error)?);
    let session = |weights| {
        let options = LoadOptions { threads, weights, ..LoadOptions::default() };
        Model::load(package.clone(), &options).and_then(|m| m.session()).map_err(runtime_error)
    };
    let seconds = |weights, entry: &str, inputs: &[TensorView<'_>]| -> Result<f64, Errors> {
        let mut session = session(weights)?;
        let id = session.entry(entry).map_err(runtime_error)?;
        let mut outputs: Vec<Tensor> = session.outputs(id);
        let mut times = Vec::with_capacity(REPEATS);
        // The first run pages the weights in and wakes the threads.
        for i in 0..=REPEATS {
            let start = Instant::now();
            session.step(id, inputs, &mut outputs).map_err(runtime_error)?;
            if i > 0 {
                times.push(start.elapsed().as_secs_f64());
            }
        }
        Ok(super::median(&mut times))
    };
    let bytes = (TASKS * ELEMENTS * 4) as f64;
    let factors = vec![0.5f32; usize::from(lanes)];
    let shape = [u64::from(lanes)];
    let x = TensorView::from_slice(&shape, &factors).map_err(runtime_error)?;
    let operations = |terms: f64| (TASKS * STEPS) as f64 * f64::from(count) * f64::from(lanes) * 2.0 * terms;
    Ok(Limits {
        read_mapped: bytes / seconds(WeightMemory::Mapped, "read", &[])?,
        read_copied: bytes / seconds(WeightMemory::Copied, "read", &[])?,
        f32_flops: operations(1.0) / seconds(WeightMemory::Mapped, "f32", &[x])?,
        bf16_flops: if bf16 { Some(operations(2.0) / seconds(WeightMemory::Mapped, "bf16", &[x])?) } else { None },
    })
}

/// Sums each task's elements, in eight vectors.
fn read(lanes: u8) -> Kernel {
    let k = KernelBuilder::new("read");
    let w = i64::from(lanes);
    let x = k.buffer("x", DType::F32, &[k.int(TASKS), k.int(ELEMENTS)], Access::Read);
    let y = k.buffer("y", DType::F32, &[k.int(TASKS)], Access::Write);
    k.phase("main", &[("t", k.int(TASKS))], 1, Subgroup::None, |ix| {
        let sums = k.reg("sum", Type::vector(DType::F32, lanes), &[8], Some(k.constant(0.0, DType::F32)));
        k.for_("c", k.int(0), k.int(ELEMENTS), 8 * w, false, |c| {
            k.for_("i", k.int(0), k.int(8), 1, true, |i| {
                sums.set([i], sums.get([i]) + x.at([ix[0], c + i * w]).vec(lanes).load());
            });
        });
        let total = (1..8).fold(sums.get([k.int(0)]), |t, i| t + sums.get([k.int(i)]));
        y.at([ix[0]]).store(total.hsum());
    });
    k.finish()
}

/// Independent chains of multiply-adds, or of packed bf16 products.
fn chains(name: &str, lanes: u8, count: u32, packed: bool) -> Kernel {
    let k = KernelBuilder::new(name);
    let x = k.buffer("x", DType::F32, &[k.int(i64::from(lanes))], Access::Read);
    let y = k.buffer("y", DType::F32, &[k.int(TASKS)], Access::Write);
    k.phase("main", &[("t", k.int(TASKS))], 1, Subgroup::None, |ix| {
        let factor = k.let_("factor", x.at([k.int(0)]).vec(lanes).load());
        let pairs = packed.then(|| k.let_("pairs", factor.bits(Type::vector(DType::BF16, 2 * lanes))));
        let sums = k.reg("sum", Type::vector(DType::F32, lanes), &[count], Some(k.constant(0.0, DType::F32)));
        k.for_("s", k.int(0), k.int(STEPS), 1, false, |_| {
            k.for_("i", k.int(0), k.int(i64::from(count)), 1, true, |i| {
                let sum = sums.get([i]);
                sums.set(
                    [i],
                    match pairs {
                        Some(p) => sum.dot2(p, p),
                        None => sum.mad(factor, factor),
                    },
                );
            });
        });
        let total = (1..i64::from(count)).fold(sums.get([k.int(0)]), |t, i| t + sums.get([k.int(i)]));
        y.at([ix[0]]).store(total.hsum());
    });
    k.finish()
}

fn plan(kernels: &[Kernel], profile: &TargetProfile) -> Result<(Plan, llvm::CpuCode), Errors> {
    let legal = kernels
        .iter()
        .map(|k| legalise(k, profile).map_err(|mut d| d.swap_remove(0)))
        .collect::<Result<Vec<_>, Diagnostic>>()?;
    let code = llvm::compile(&legal, profile, &llvm::Options { threads: 1 })?;
    let shape = [TASKS as u64, ELEMENTS as u64];
    let bytes = shape.iter().product::<u64>() * 4;
    let mut plan = Plan::default();
    plan.weights.push(plan::Weight {
        name: "x".into(),
        dtype: DType::F32,
        shape: shape.to_vec(),
        layout: Layout::RowMajor,
        member: "weights/x".into(),
        bytes,
        parts: vec!["x".into()],
    });
    for (i, (kernel, phase)) in kernels.iter().zip(&code.phases).enumerate() {
        plan.kernels.push(plan::Kernel {
            name: kernel.name.to_string(),
            comment: String::new(),
            template: "limit".into(),
            origin: Vec::new(),
            buffers: vec![plan::Access::Read, plan::Access::Write],
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
        let sizes = |s: &[u64]| s.iter().map(|n| Size::constant(*n as i64)).collect::<Vec<_>>();
        let lanes = u64::from((profile.vector_bits / 32).clamp(4, 16));
        let (place, x) =
            if i == 0 { (plan::Place::Weight(0), shape.to_vec()) } else { (plan::Place::Input(0), vec![lanes]) };
        let y = vec![TASKS as u64];
        let buffer = |name: &str, place, shape: &[u64]| plan::Buffer {
            name: name.into(),
            place,
            dtype: DType::F32,
            shape: sizes(shape),
            bytes: shape.iter().product::<u64>() * 4,
            first: 0,
            last: 0,
            alias: None,
        };
        let port = |name: &str, shape: &[u64]| plan::Port { name: name.into(), dtype: DType::F32, shape: sizes(shape) };
        plan.entries.push(plan::Entry {
            name: kernel.name.to_string(),
            symbols: Vec::new(),
            requires: Vec::new(),
            inputs: if i == 0 { Vec::new() } else { vec![port("x", &x)] },
            outputs: vec![port("y", &y)],
            buffers: vec![buffer("x", place, &x), buffer("y", plan::Place::Output(0), &y)],
            launches: vec![plan::Launch {
                kernel: i as u32,
                phase: 0,
                block: None,
                grid: vec![Size::constant(TASKS)],
                buffers: vec![0, 1],
                scalars: Vec::new(),
            }],
            arena: plan::Arena::default(),
        });
    }
    Ok((plan, code))
}
