//! Kernels as the runtime runs them: `cargo bench -p mlxc-tests --bench kernels`. Shares of the machine's limits are printed by
//! `mlxc bench --suite`; here changes of one kernel are found.

#![allow(missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use mlxc::pipeline::Options;
use mlxc::weights::RandomWeights;
use mlxc::{Context, DType, Executable, trace};
use mlxc_runtime::Tensor;

fn bench(c: &mut Criterion, name: &str, shape: [u64; 2], model: impl Fn(&Context)) {
    let module = trace("main", |cx| model(cx)).unwrap_or_else(|e| panic!("{e}"));
    let options = Options::for_host().unwrap_or_else(|e| panic!("{e}"));
    let weights = RandomWeights { seed: 1 };
    let mut exe = Executable::with_weights(&module, &options, &weights).unwrap_or_else(|e| panic!("{e}"));
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| (i % 127) as f32 / 64.0 - 1.0).collect();
    let x = Tensor::from_slice(&shape, &values).unwrap_or_else(|e| panic!("{e}"));
    let session = exe.session();
    let id = session.entry("main").unwrap_or_else(|e| panic!("{e}"));
    let mut outputs = session.outputs(id);
    c.bench_function(name, |b| {
        b.iter(|| session.step(id, &[x.view()], &mut outputs).unwrap_or_else(|e| panic!("{e}")));
    });
}

fn kernels(c: &mut Criterion) {
    bench(c, "silu chain, 1M f32", [1024, 1024], |cx| {
        let x = cx.input("x", DType::F32, [1024, 1024]);
        cx.output("y", &((&x * 2.0 + 1.0).silu() * &x));
    });
    bench(c, "RMSNorm [1024, 1024] f32", [1024, 1024], |cx| {
        let x = cx.input("x", DType::F32, [1024, 1024]);
        cx.output("y", &(&x * (x.square().mean(-1, true) + 1e-5).rsqrt() * cx.weight("w", DType::F32, [1024])));
    });
    bench(c, "softmax [1024, 1024] f32", [1024, 1024], |cx| {
        cx.output("y", &cx.input("x", DType::F32, [1024, 1024]).softmax());
    });
    bench(c, "matmul 512 x 512 x 512 f32", [512, 512], |cx| {
        let w = cx.weight("w", DType::F32, [512, 512]);
        cx.output("y", &cx.input("x", DType::F32, [512, 512]).matmul(&w.t()));
    });
    bench(c, "matmul 1 x 2048 x 2048 f32", [1, 2048], |cx| {
        let w = cx.weight("w", DType::F32, [2048, 2048]);
        cx.output("y", &cx.input("x", DType::F32, [1, 2048]).matmul(&w.t()));
    });
}

criterion_group!(all, kernels);
criterion_main!(all);
