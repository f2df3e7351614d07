//! Kernel IR, made legal for WebGPU and Vulkan and printed as WGSL, computes on a GPU what the interpreter says.

#![cfg(feature = "gpu")]
#![allow(clippy::unwrap_used)]

use mlxc_codegen::gpu_profiles;
use mlxc_codegen::legalise::legalise_gpu;
use mlxc_codegen::wgsl::{self, Header};
use mlxc_ir::kernel::{self, BufferData, Kernel, Scalar};
use mlxc_package::plan::*;
use mlxc_package::{Layout, PLAN, Package, PackageWriter, Size, TargetCode, TargetKind};
use mlxc_runtime::{Device, LoadOptions, Model, TensorView};
use std::sync::Arc;

/// A kernel file of the `ir` crate, with some of its text replaced.
fn file(name: &str, replace: &[(&str, &str)]) -> Kernel {
    let path = format!("{}/../ir/tests/kernels/{name}.kir", env!("CARGO_MANIFEST_DIR"));
    let mut text = std::fs::read_to_string(path).unwrap();
    for (from, to) in replace {
        assert!(text.contains(from), "{name}: no {from}");
        text = text.replace(from, to);
    }
    parsed(&text)
}

fn parsed(text: &str) -> Kernel {
    kernel::parse(text, "test").unwrap_or_else(|d| panic!("{d}")).remove(0)
}

/// Every buffer of the kernel is a state, so that it can be set and read.
fn plan(
    kernel: &Kernel,
    legal: &[mlxc_codegen::legalise::GpuPhase],
    given: &[BufferData],
    scalars: &[i64],
    grid: &[i64],
) -> Plan {
    let sizes = |values: &[i64]| values.iter().map(|v| Size::constant(*v)).collect::<Vec<_>>();
    let state = |(b, data): (&kernel::Buffer, &BufferData)| State {
        name: b.name.to_string(),
        dtype: data.dtype,
        shape: vec![data.bits.len() as u64],
        layout: Layout::RowMajor,
        bytes: data.bits.len() as u64 * data.dtype.bytes(),
    };
    let states: Vec<State> = kernel.buffers.iter().zip(given).map(state).collect();
    let buffer = |(i, s): (usize, &State)| Buffer {
        name: s.name.clone(),
        place: Place::State(i as u32),
        dtype: s.dtype,
        shape: sizes(&[s.shape[0] as i64]),
        bytes: s.bytes,
        first: 0,
        last: 0,
        alias: None,
    };
    let phase = &legal[0];
    Plan {
        weights: Vec::new(),
        kernels: vec![mlxc_package::plan::Kernel {
            name: kernel.name.to_string(),
            comment: String::new(),
            template: "file".into(),
            origin: Vec::new(),
            buffers: vec![Access::Update; states.len()],
            constant: Vec::new(),
            scalars: scalars.len() as u32,
            phases: vec![Phase {
                name: phase.name.clone(),
                symbol: phase.entry.clone(),
                group_bytes: 0,
                lanes: phase.lanes,
                linear: phase.linear,
            }],
        }],
        entries: vec![Entry {
            name: "main".into(),
            symbols: Vec::new(),
            requires: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            buffers: states.iter().enumerate().map(buffer).collect(),
            launches: vec![Launch {
                kernel: 0,
                phase: 0,
                block: None,
                grid: sizes(grid),
                buffers: (0..states.len() as u32).collect(),
                scalars: sizes(scalars),
            }],
            arena: Arena::default(),
        }],
        states,
    }
}

/// Runs a kernel of one phase everywhere and compares every buffer, relative to its largest value.
fn same(kernel: &Kernel, symbols: &[(&str, i64)], grid: &[i64], elements: &[usize], tolerance: f64) {
    let mut seed = 7u64;
    let mut unit = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    };
    let given: Vec<BufferData> =
        kernel.buffers.iter().zip(elements).map(|(b, n)| BufferData::of(b.dtype, (0..*n).map(|_| unit()))).collect();
    let mut want = given.clone();
    let named: Vec<(&str, Scalar)> = symbols.iter().map(|(n, v)| (*n, Scalar::Int(*v))).collect();
    kernel::run(kernel, &mut want, &named, &kernel::Options::default()).unwrap_or_else(|d| panic!("{d}"));
    for profile in ["webgpu", "vulkan"].map(|n| gpu_profiles::by_name(n).unwrap()) {
        let legal = legalise_gpu(kernel, &profile, &[]).unwrap_or_else(|d| panic!("{}", d[0]));
        let module = wgsl::write(&legal, Header::Naga).remove(0);
        let scalars: Vec<i64> = symbols.iter().map(|(_, v)| *v).collect();
        let plan = plan(kernel, legal.phases(), &given, &scalars, grid);
        let mut writer = PackageWriter::in_memory();
        writer.add_plan(PLAN, &plan).unwrap();
        let target = TargetCode {
            name: &profile.name,
            kind: TargetKind::Shader,
            plan: PLAN,
            arch: "",
            features: &gpu_profiles::required(&profile),
            abi: 0,
            align: 1,
            code: module.text.as_bytes(),
            symbols: &[(module.entry.clone(), 0)],
        };
        writer.add_target(&target).unwrap();
        let package = Arc::new(Package::from_bytes(writer.finish_bytes("0").unwrap()).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let cache = Some(folder.path().into());
        let options = LoadOptions { device: Device::Gpu(None), cache, ..LoadOptions::default() };
        let model = Model::load(package, &options).unwrap_or_else(|e| panic!("{e}\n{}", module.text));
        let mut session = model.session().unwrap();
        for (state, data) in plan.states.iter().zip(&given) {
            session
                .set_state(&state.name, TensorView::new(state.dtype, &state.shape, &data.to_bytes()).unwrap())
                .unwrap();
        }
        session.run("main", &[]).unwrap();
        for (state, want) in plan.states.iter().zip(&want) {
            let got = BufferData::from_bytes(state.dtype, session.state(&state.name).unwrap().bytes()).values();
            let want = want.values();
            let top = want.iter().fold(1e-30, |m: f64, v| m.max(v.abs()));
            for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                let at = format!("{} on {}: {}[{i}] is {g}, not {w}", kernel.name, profile.name, state.name);
                assert!((g - w).abs() <= tolerance * top, "{at}\n{}", module.text);
            }
        }
    }
}

#[test]
fn kernel_files_compute_what_the_interpreter_says() {
    // bf16 in words, group memory, a reduction over all lanes.
    let norm = file("add_rms_norm_gpu", &[]);
    same(&norm, &[("S", 3)], &[3], &[3 * 2048, 3 * 2048, 2048, 3 * 2048], 0.01);
}

#[test]
fn axes_and_lines_of_groups() {
    let text = "kernel axes {
  sym S in 1..=80000; buf x: f32[S, 8] read; buf y: f32[S, 8] write
  phase main grid(s: S, h: 2) group 4 { y[s, h*4 + lane] = x[s, h*4 + lane] * 2.0 + f32(h) } }";
    // More groups along an axis than a dispatch has.
    let linear = parsed(text);
    for rows in [1, 40001, 80000i64] {
        same(&linear, &[("S", rows)], &[rows, 2], &[rows as usize * 8; 2], 1e-6);
    }
    let direct = parsed(&text.replace("80000", "60000"));
    same(&direct, &[("S", 5)], &[5, 2], &[40; 2], 1e-6);
}
