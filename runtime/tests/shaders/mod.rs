//! A small model in WGSL: a row is weighted, squared and added to a cache; and a kernel with a linear grid.

#![allow(clippy::unwrap_used)]

use mlxc_package::plan::*;
use mlxc_package::{DType, Layout, PLAN, Package, PackageWriter, Range, Size, SymId, TargetCode, TargetKind};
use std::sync::Arc;

/// Columns of a row.
pub const WIDTH: u64 = 8;
/// Rows of the cache.
const ROWS: i64 = 16;
/// Columns of the wide input.
const MOST: i64 = 40001;

/// A change of the plan.
pub type Change = fn(&mut Plan);

/// Symbols and the text of their modules.
pub const MODULES: &[(&str, &str)] = &[
    (
        "scale",
        "struct Scalars { rows: u32 }
@group(0) @binding(0) var<uniform> scalars: Scalars;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> t: array<f32>;
@compute @workgroup_size(64)
fn scale(@builtin(global_invocation_id) at: vec3<u32>) {
    if (at.x < scalars.rows * 8u) { t[at.x] = x[at.x] * w[at.x % 8u]; }
}
",
    ),
    // Both buffers are ranges of the arena.
    (
        "square",
        "struct Scalars { rows: u32 }
@group(0) @binding(0) var<uniform> scalars: Scalars;
@group(0) @binding(1) var<storage, read_write> t: array<f32>;
@group(0) @binding(2) var<storage, read_write> u: array<f32>;
@compute @workgroup_size(8)
fn square(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let i = group.x * 8u + lane.x;
    u[i] = t[i] * t[i];
}
",
    ),
    (
        "append",
        "struct Scalars { rows: u32, pos: u32 }
@group(0) @binding(0) var<uniform> scalars: Scalars;
@group(0) @binding(1) var<storage, read_write> u: array<f32>;
@group(0) @binding(2) var<storage, read_write> cache: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
var<workgroup> row: array<f32, 8>;
@compute @workgroup_size(8)
fn append(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    row[lane.x] = u[group.y * 8u + lane.x];
    workgroupBarrier();
    let to = (scalars.pos + group.y) * 8u + lane.x;
    cache[to] = cache[to] + row[lane.x];
    y[group.y * 8u + lane.x] = cache[to];
}
",
    ),
    (
        "wide",
        "struct Scalars { columns: u32 }
@group(0) @binding(0) var<uniform> scalars: Scalars;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1)
fn wide(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let group = at.y * groups.x + at.x;
    if (group >= 2u * scalars.columns) { return; }
    let row = group / scalars.columns;
    let column = group % scalars.columns;
    y[row * scalars.columns + column] = 2.0 * x[group];
}
",
    ),
];

pub fn weight() -> Vec<f32> {
    (0..WIDTH).map(|i| i as f32 - 2.5).collect()
}

fn c(v: i64) -> Size {
    Size::constant(v)
}

fn s(i: u32) -> Size {
    Size::symbol(SymId(i))
}

fn symbol(name: &str, hi: i64, kind: SymbolKind) -> Symbol {
    Symbol { name: name.into(), range: Range::new(0, hi), multiple: 1, kind }
}

fn buffer(name: &str, place: Place, shape: Vec<Size>, first: u32, last: u32, most: i64) -> Buffer {
    let bytes = shape.iter().map(|d| d.eval(&[most, 0]) as u64).product::<u64>() * 4;
    Buffer { name: name.into(), place, dtype: DType::F32, shape, bytes, first, last, alias: None }
}

pub fn plan() -> Plan {
    use Access::*;
    let kernel = |name: &str, buffers: &[Access], constant: &[bool], scalars, lanes, linear| Kernel {
        name: name.into(),
        comment: String::new(),
        template: "hand".into(),
        origin: Vec::new(),
        buffers: buffers.to_vec(),
        constant: constant.to_vec(),
        scalars,
        phases: vec![Phase { name: "main".into(), symbol: name.into(), group_bytes: 0, lanes, linear }],
    };
    let launch = |kernel, grid: Vec<Size>, buffers: &[u32], scalars: Vec<Size>| Launch {
        kernel,
        phase: 0,
        block: None,
        grid,
        buffers: buffers.to_vec(),
        scalars,
    };
    let row = vec![s(0), c(WIDTH as i64)];
    let port = |name: &str, shape: &[Size]| Port { name: name.into(), dtype: DType::F32, shape: shape.to_vec() };
    let arena = |bytes| Arena { bytes, lower_bound: bytes, naive: bytes, worker_bytes: 0, strategy: "hand".into() };
    let wide = vec![c(2), s(0)];
    Plan {
        weights: vec![Weight {
            name: "w".into(),
            dtype: DType::F32,
            shape: vec![WIDTH],
            layout: Layout::RowMajor,
            member: "weights/0".into(),
            bytes: WIDTH * 4,
            parts: vec!["w".into()],
        }],
        states: vec![State {
            name: "cache".into(),
            dtype: DType::F32,
            shape: vec![ROWS as u64, WIDTH],
            layout: Layout::RowMajor,
            bytes: ROWS as u64 * WIDTH * 4,
        }],
        kernels: vec![
            kernel("scale", &[Read, Read, Write], &[false, true, false], 1, 64, false),
            kernel("square", &[Read, Write], &[], 1, 8, false),
            kernel("append", &[Read, Update, Write], &[], 2, 8, false),
            kernel("wide", &[Read, Write], &[], 1, 1, true),
        ],
        entries: vec![
            Entry {
                name: "main".into(),
                symbols: vec![symbol("S", ROWS, SymbolKind::Size), symbol("pos", ROWS - 1, SymbolKind::Scalar)],
                requires: vec![c(ROWS) - s(0) - s(1)],
                inputs: vec![port("x", &row), Port { name: "pos".into(), dtype: DType::I32, shape: vec![] }],
                outputs: vec![port("y", &row)],
                buffers: vec![
                    buffer("x", Place::Input(0), row.clone(), 0, 0, ROWS),
                    buffer("w", Place::Weight(0), vec![c(WIDTH as i64)], 0, 0, ROWS),
                    buffer("t", Place::Arena { offset: 512 }, row.clone(), 0, 1, ROWS),
                    buffer("u", Place::Arena { offset: 0 }, row.clone(), 1, 2, ROWS),
                    buffer("cache", Place::State(0), vec![c(ROWS), c(WIDTH as i64)], 2, 2, ROWS),
                    buffer("y", Place::Output(0), row.clone(), 2, 2, ROWS),
                ],
                launches: vec![
                    launch(0, vec![(s(0) * c(8) + c(63)).floor_div(64)], &[0, 1, 2], vec![s(0)]),
                    launch(1, vec![c(1), s(0)], &[2, 3], vec![s(0)]),
                    launch(2, vec![s(0), c(1)], &[3, 4, 5], vec![s(0), s(1)]),
                ],
                arena: arena(1024),
            },
            Entry {
                name: "wide".into(),
                symbols: vec![symbol("N", MOST, SymbolKind::Size)],
                requires: vec![],
                inputs: vec![port("x", &wide)],
                outputs: vec![port("y", &wide)],
                buffers: vec![
                    buffer("x", Place::Input(0), wide.clone(), 0, 0, MOST),
                    buffer("y", Place::Output(0), wide.clone(), 0, 0, MOST),
                ],
                launches: vec![launch(3, vec![c(2), s(0)], &[0, 1], vec![s(0)])],
                arena: arena(0),
            },
        ],
    }
}

/// A target whose code is filled in later.
pub fn target<'a>(name: &'a str, features: &'a [&'a str]) -> TargetCode<'a> {
    TargetCode {
        name,
        kind: TargetKind::Shader,
        plan: PLAN,
        arch: "",
        features,
        abi: 0,
        align: 1,
        code: &[],
        symbols: &[],
    }
}

/// The bytes of a package with a plan, targets and modules.
pub fn bytes_of(plan: &Plan, targets: &[TargetCode<'_>], modules: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = PackageWriter::in_memory();
    let (mut code, mut symbols) = (String::new(), Vec::new());
    for (symbol, text) in modules {
        symbols.push((symbol.to_string(), code.len() as u64));
        code.push_str(text);
    }
    for target in targets {
        writer.add_target(&TargetCode { code: code.as_bytes(), symbols: &symbols, ..*target }).unwrap();
    }
    writer.add_plan(PLAN, plan).unwrap();
    let weight: Vec<u8> = weight().iter().flat_map(|v| v.to_ne_bytes()).collect();
    writer.add("weights/0", &weight).unwrap();
    writer.finish_bytes("0").unwrap()
}

pub fn bytes(change: Change, targets: &[TargetCode<'_>]) -> Vec<u8> {
    let mut plan = plan();
    change(&mut plan);
    bytes_of(&plan, targets, MODULES)
}

/// The package with some text replaced in modules: `(symbol, from, to)`.
pub fn package_with(replace: &[(&str, &str, &str)]) -> Package {
    let text = |(symbol, text): &(&str, &str)| {
        let changes = replace.iter().filter(|(s, ..)| s == symbol);
        changes.fold(text.to_string(), |t, (_, from, to)| {
            assert!(t.contains(from));
            t.replacen(from, to, 1)
        })
    };
    let texts: Vec<String> = MODULES.iter().map(text).collect();
    let modules: Vec<(&str, &str)> = MODULES.iter().zip(&texts).map(|((s, _), t)| (*s, t.as_str())).collect();
    Package::from_bytes(bytes_of(&plan(), &[target("test", &[])], &modules)).unwrap()
}

pub fn package() -> Arc<Package> {
    Arc::new(Package::from_bytes(bytes(|_| {}, &[target("test", &[])])).unwrap())
}
