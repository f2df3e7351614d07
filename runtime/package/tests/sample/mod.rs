//! A small sound plan and package.

#![allow(dead_code, clippy::unwrap_used)]

use mlxc_package::plan::*;
use mlxc_package::{DType, Layout, NATIVE_ABI, PLAN, PackageWriter, Range, Size, SymId, TargetCode, TargetKind};

pub fn s() -> Size {
    Size::symbol(SymId(0))
}

pub fn c(v: i64) -> Size {
    Size::constant(v)
}

fn buffer(name: &str, place: Place, shape: Vec<Size>, bytes: u64, first: u32, last: u32) -> Buffer {
    Buffer { name: name.into(), place, dtype: DType::F32, shape, bytes, first, last, alias: None }
}

fn kernel(name: &str, buffers: &[Access], scalars: u32) -> Kernel {
    Kernel {
        name: name.into(),
        comment: String::new(),
        template: "elementwise".into(),
        origin: vec!["model.rs:1".into()],
        buffers: buffers.to_vec(),
        constant: Vec::new(),
        scalars,
        phases: vec![Phase {
            name: "main".into(),
            symbol: format!("{name}__main"),
            group_bytes: 64,
            lanes: 1,
            linear: false,
        }],
    }
}

/// x → (scale by w) → t → (add the state at pos) → y
pub fn plan() -> Plan {
    let launch = |kernel, buffers: &[u32], scalars| Launch {
        kernel,
        phase: 0,
        block: None,
        grid: vec![s()],
        buffers: buffers.to_vec(),
        scalars,
    };
    let shape = vec![s(), c(8)];
    let port = |name: &str| Port { name: name.into(), dtype: DType::F32, shape: shape.clone() };
    Plan {
        weights: vec![Weight {
            name: "w".into(),
            dtype: DType::F32,
            shape: vec![5, 8],
            layout: Layout::Blocked { block: 4, pair: 2 },
            member: "weights/0".into(),
            bytes: 2 * 4 * 8 * 4,
            parts: vec!["w".into()],
        }],
        states: vec![State {
            name: "cache".into(),
            dtype: DType::F32,
            shape: vec![16, 8],
            layout: Layout::RowMajor,
            bytes: 512,
        }],
        kernels: vec![
            kernel("scale", &[Access::Read, Access::Read, Access::Write], 1),
            kernel("add", &[Access::Read, Access::Update, Access::Write], 2),
        ],
        entries: vec![Entry {
            name: "main".into(),
            symbols: vec![
                Symbol { name: "S".into(), range: Range::new(1, 16), multiple: 1, kind: SymbolKind::Size },
                Symbol { name: "pos".into(), range: Range::new(0, 15), multiple: 1, kind: SymbolKind::Scalar },
            ],
            requires: vec![c(16) - s() - Size::symbol(SymId(1))],
            inputs: vec![port("x"), Port { name: "pos".into(), dtype: DType::I32, shape: vec![] }],
            outputs: vec![port("y")],
            buffers: vec![
                buffer("x", Place::Input(0), shape.clone(), 512, 0, 0),
                buffer("w", Place::Weight(0), vec![c(2), c(4), c(8)], 256, 0, 0),
                buffer("t", Place::Arena { offset: 0 }, shape.clone(), 512, 0, 1),
                buffer("cache", Place::State(0), vec![c(16), c(8)], 512, 1, 1),
                buffer("y", Place::Output(0), shape.clone(), 512, 1, 1),
            ],
            launches: vec![launch(0, &[0, 1, 2], vec![s()]), launch(1, &[2, 3, 4], vec![s(), Size::symbol(SymId(1))])],
            arena: Arena { bytes: 512, lower_bound: 512, naive: 512, worker_bytes: 64, strategy: "size".into() },
        }],
    }
}

pub fn fill(writer: &mut PackageWriter, plan: &Plan) {
    writer.add_with("weights/0", 256, |w| (0..64u32).try_for_each(|i| w.write_all(&(i as f32).to_le_bytes()))).unwrap();
    writer
        .add_target(&TargetCode {
            name: "test",
            kind: TargetKind::Native,
            plan: PLAN,
            arch: "x86_64",
            features: &["sse3"],
            abi: NATIVE_ABI,
            align: 64,
            code: &[0xCC; 100],
            symbols: &[("scale__main".into(), 0), ("add__main".into(), 64)],
        })
        .unwrap();
    writer.add_plan(PLAN, plan).unwrap();
    writer.add("text/tokenizer.json", b"{}").unwrap();
}

pub fn package() -> Vec<u8> {
    let mut writer = PackageWriter::in_memory();
    fill(&mut writer, &plan());
    writer.finish_bytes("0").unwrap()
}

/// The same model for a GPU: the weight is constant, and the first launch's grid is linear.
pub fn shader_plan() -> Plan {
    let mut p = plan();
    p.kernels[0].constant = vec![false, true, false];
    p.kernels[0].phases[0].lanes = 64;
    p.kernels[0].phases[0].linear = true;
    p.kernels[1].phases[0].lanes = 256;
    p
}

pub const SHADERS: &str = "// scale\n// add: é\n";

/// A package with a target of each kind, whose plans share the weight.
pub fn two_targets(shader: &Plan) -> PackageWriter {
    let mut writer = PackageWriter::in_memory();
    fill(&mut writer, &plan());
    writer
        .add_target(&TargetCode {
            name: "webgpu",
            kind: TargetKind::Shader,
            plan: "plan.gpu",
            arch: "",
            features: &["subgroups"],
            abi: 0,
            align: 1,
            code: SHADERS.as_bytes(),
            symbols: &[("scale__main".into(), 0), ("add__main".into(), 9)],
        })
        .unwrap();
    writer.add_plan("plan.gpu", shader).unwrap();
    writer
}
