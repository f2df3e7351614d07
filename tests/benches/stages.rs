//! Stages of the compiler on the 1B shape: `cargo bench -p mlxc-tests --bench stages`.

#![allow(missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use mlxc::pipeline::{Options, plan};
use mlxc_ir::DType;
use mlxc_passes::choices::Choices;
use mlxc_passes::memory::{Interval, place};
use mlxc_passes::schedule::{self, schedule};
use mlxc_passes::{canonicalise, decompose, eqsat, outline};
use mlxc_tests::shapes::{LLAMA_1B, llama};
use std::hint::black_box;

fn stages(c: &mut Criterion) {
    let module = llama(LLAMA_1B, DType::BF16);
    let options = Options::for_target("x86-64-v4-bf16").unwrap_or_else(|e| panic!("{e}"));
    let planned = plan(&module, &options).unwrap_or_else(|e| panic!("{e}"));
    let mut canonical = module.clone();
    for f in &mut canonical.functions {
        *f = canonicalise::canonicalise(f).expect("the module is verified");
    }
    let outlined = outline::outline(&canonical).expect("the module is verified");
    let mut g = c.benchmark_group("stages");
    g.sample_size(10);
    g.bench_function("canonical", |b| {
        b.iter(|| canonical.functions.iter().for_each(|f| drop(black_box(canonicalise::canonicalise(f)))))
    });
    g.bench_function("outline", |b| b.iter(|| outline::outline(black_box(&canonical)).is_ok()));
    g.bench_function("eqsat", |b| {
        b.iter(|| eqsat::saturate_module(black_box(&outlined), &eqsat::Options::default()).is_ok())
    });
    g.bench_function("decompose", |b| {
        b.iter(|| planned.decomposed.functions.iter().for_each(|f| drop(black_box(decompose::decompose(f)))))
    });
    g.bench_function("partition, lower and plan", |b| {
        let how = schedule::Options { fuse: true, exact: false, threads: 1, choices: Choices::FORMULAS };
        b.iter(|| {
            let (m, s, l) = (&planned.decomposed, &planned.sources, &planned.layouts);
            schedule(black_box(m), s, l, &options.profile, how).is_ok()
        })
    });
    g.finish();
}

fn arena(c: &mut Criterion) {
    let mut random = mlxc_tests::kernels::Random::new(3);
    let buffers: Vec<Interval> = (0..400)
        .map(|i| Interval { first: i, last: i + random.below(30), bytes: 256 * (1 + random.below(4000)) })
        .collect();
    c.bench_function("arena of 400 buffers", |b| b.iter(|| place(black_box(&buffers)).bytes));
}

criterion_group!(all, stages, arena);
criterion_main!(all);
