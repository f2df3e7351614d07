//! Grids of more groups than a device takes along one axis.

use mlxc::pipeline::Options;
use mlxc::weights::NoWeights;
use mlxc::{DType, Executable, trace};
use mlxc_runtime::{Device, LoadOptions, Tensor};

/// 70,000 rows of a group each, and 70,000 times 300 elements: both more than 65,535 groups.
#[test]
fn more_groups_than_an_axis_has() {
    const ROWS: u64 = 70_000;
    const COLUMNS: u64 = 300;
    let module = trace("rows", |cx| {
        let n = cx.dim("N", 0..=ROWS as i64);
        let x = cx.input("x", DType::F32, (&n, COLUMNS as i64));
        cx.output("share", &(&x / x.sum(-1, true)).named("share"));
        cx.output("twice", &(&x + &x).reshape((&n * COLUMNS as i64,)).named("twice"));
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let x: Vec<f32> = (0..ROWS * COLUMNS).map(|i| (i % 7 + 1) as f32).collect();
    for target in ["vulkan", "webgpu"] {
        let options = Options::for_target(target).unwrap_or_else(|e| panic!("{e}"));
        let load = LoadOptions { device: Device::Gpu(None), ..LoadOptions::default() };
        let mut exe = Executable::load(&module, &options, &NoWeights, &load).unwrap_or_else(|e| panic!("{e}"));
        let plan = &exe.compiled().scheduled.plan;
        assert!(plan.kernels.iter().flat_map(|k| &k.phases).any(|p| p.linear), "{target}");
        for rows in [ROWS, 1, 0] {
            let own = &x[..(rows * COLUMNS) as usize];
            let input = Tensor::from_slice(&[rows, COLUMNS], own).expect("memory");
            let out = exe.run(&[("x", input.view())]).unwrap_or_else(|e| panic!("{e}"));
            let (share, twice) = (out[0].to_f64s(), out[1].to_f64s());
            for (r, row) in own.chunks(COLUMNS as usize).enumerate() {
                let sum: f64 = row.iter().map(|v| f64::from(*v)).sum();
                for (c, v) in row.iter().enumerate() {
                    let i = r * COLUMNS as usize + c;
                    assert!((share[i] - f64::from(*v) / sum).abs() < 1e-8, "{target} row {r} column {c}");
                    assert!(twice[i] == f64::from(v + v), "{target} row {r} column {c}");
                }
            }
        }
    }
}
