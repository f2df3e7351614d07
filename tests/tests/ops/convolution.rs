//! Convolutions and pools as models write them: through the tracing API, with weights and symbolic extents.

use mlxc::pipeline::{Options, compile};
use mlxc::{Array, Context, Convolution, DType, Executable, Module, trace};
use mlxc_ir::graph::Role;
use mlxc_ir::graph::interpret::{self, Mode};
use mlxc_runtime::{LoadOptions, Tensor, TensorView};
use mlxc_tests::compare::excess;
use mlxc_tests::kernels::arguments;
use mlxc_tests::suite::tensor;
use std::collections::BTreeMap;

/// Compiles for both targets, runs at symbol values and holds every result to the interpreter.
pub(super) fn check(module: &Module, values: &[&[i64]]) {
    let f = &module.functions[0];
    for target in ["host", "x86-64-v3"] {
        let options = Options::for_target(target).unwrap_or_else(|e| panic!("{e}"));
        let weights = arguments(f, values[0], 5);
        let bytes: BTreeMap<String, Vec<u8>> = f
            .params
            .iter()
            .zip(&weights)
            .filter(|(p, _)| matches!(p.role, Role::Weight(_)))
            .map(|(p, t)| (p.name.to_string(), t.to_bytes()))
            .collect();
        let load = LoadOptions { threads: Some(2), poison: true, ..LoadOptions::default() };
        let mut exe = Executable::load(module, &options, &bytes, &load).unwrap_or_else(|e| panic!("{e}"));
        for symbols in values {
            let mut args = arguments(f, symbols, 9);
            let fixed = |i: usize| matches!(f.params[i].role, Role::Weight(_));
            (0..args.len()).filter(|i| fixed(*i)).for_each(|i| args[i] = weights[i].clone());
            let run = |mode| interpret::run(module, f, &args, mode).unwrap_or_else(|e| panic!("{e}")).results;
            let (reference, stated) = (run(Mode::Reference), run(Mode::Stated));
            let held: Vec<(&str, Tensor)> = (0..args.len())
                .filter(|i| !fixed(*i))
                .map(|i| {
                    let shape: Vec<u64> = args[i].shape.iter().map(|n| *n as u64).collect();
                    let t = Tensor::from_bytes(args[i].dtype, &shape, &args[i].to_bytes()).expect("a whole tensor");
                    (&*f.params[i].name, t)
                })
                .collect();
            let views: Vec<(&str, TensorView<'_>)> = held.iter().map(|(n, t)| (*n, t.view())).collect();
            let got = exe.run(&views).unwrap_or_else(|e| panic!("{e}"));
            for (i, t) in got.iter().enumerate() {
                let worst = excess(&tensor(t), &reference[i], &stated[i], 16.0);
                assert!(worst <= 1.0, "{} at {symbols:?}: {worst} times the allowed error", f.results[i].name);
            }
        }
    }
}

pub(super) fn traced(name: &str, model: impl FnOnce(&Context)) -> Module {
    trace(name, model).unwrap_or_else(|e| panic!("{e}"))
}

/// A convolution with a weight is one product: nothing stores the windows.
#[test]
fn a_convolution_is_an_implicit_product() {
    let module = traced("conv", |cx| {
        let x = cx.input("x", DType::F32, (2, 14, 14, 16));
        let w = cx.weight("conv.weight", DType::F32, [32, 3, 3, 16]);
        cx.output("y", &x.conv2d(&w, [1, 1], [1, 1], [1, 1], 1).relu());
    });
    let c = compile(&module, &Options::for_host().unwrap_or_else(|e| panic!("{e}"))).unwrap_or_else(|e| panic!("{e}"));
    let templates: Vec<&str> = c.scheduled.plan.kernels.iter().map(|k| k.template.as_str()).collect();
    assert_eq!(templates, ["matmul"], "{:?}", c.scheduled.merges);
    check(&module, &[&[]]);
}

#[test]
fn convolutions_with_weights() {
    for dtype in super::NARROW {
        // One symbol at a time: the rows of a product are affine in the symbols.
        for batched in [false, true] {
            let module = traced("convolutions", |cx| every(cx, dtype, batched));
            check(&module, if batched { &[&[1], &[3], &[4]] } else { &[&[8], &[9], &[24]] });
        }
    }
}

fn every(cx: &Context, dtype: DType, batched: bool) {
    let (n, w) = if batched { (cx.dim("N", 1..=4), 11i64.into()) } else { (2i64.into(), cx.dim("W", 8..=24)) };
    let x = cx.input("x", dtype, (&n, 9, &w, 5));
    let out = |name: &str, y: &Array| cx.output(name, y);
    let weight = |name: &str, shape: [i64; 4]| cx.weight(name, dtype, shape);
    let k = weight("a", [7, 3, 3, 5]);
    out("plain", &x.conv2d(&k, [1, 1], [0, 0], [1, 1], 1));
    let k = weight("b", [16, 3, 2, 5]);
    out("strided", &x.conv2d(&k, [2, 3], [1, 1], [1, 2], 1));
    let k = weight("c", [33, 1, 1, 5]);
    out("pointwise", &x.conv2d(&k, [1, 1], [0, 0], [1, 1], 1));
    let k = weight("d", [5, 3, 3, 1]);
    out("depthwise", &x.conv2d(&k, [1, 1], [1, 1], [1, 1], 5));
    let k = weight("e", [4, 3, 3, 5]);
    let mirrored = Convolution { flip: true, padding: vec![(2, 1), (0, 1)], ..Convolution::default() };
    out("flipped", &x.conv_general(&k, &mirrored));
    let line = cx.input("line", dtype, (&n, 12, 6));
    let k = cx.weight("f", dtype, [8, 3, 3]);
    out("groups", &line.conv1d(&k, 1, 1, 1, 2));
    out("transposed", &line.conv_transpose1d(&cx.weight("g", dtype, [4, 3, 6]), 2, 1, 1, 1, 1));
    let volume = cx.input("volume", dtype, (&n, 4, 5, 4, 3));
    let k = cx.weight("h", dtype, [6, 2, 3, 2, 3]);
    out("volume", &volume.conv3d(&k, [1, 2, 1], [1, 0, 1], [1, 1, 2], 1));
    out("max pool", &x.max_pool(&[3, 2], &[2, 1], &[1, 1]));
    out("average pool", &x.avg_pool(&[3, 2], &[2, 1], &[1, 1]));
}
