//! What fuses, from model code as users write it: kernel counts, and results against the interpreter.

use mlxc::pipeline::{Options, plan};
use mlxc::weights::RandomWeights;
use mlxc::{Context, DType, Executable, Module, trace};
use mlxc_ir::graph::Role;
use mlxc_ir::graph::interpret::{self, Mode, Tensor as Value};
use mlxc_runtime::TensorView;
use mlxc_tests::compare::excess;
use mlxc_tests::kernels::Random;
use mlxc_tests::patterns::PATTERNS;

/// Compiles, runs and compares; gives what each launch fused, and the merges that were refused.
fn check(name: &str, model: impl Fn(&Context)) -> (Vec<String>, String) {
    let module = trace("model", |cx| model(cx)).unwrap_or_else(|e| panic!("{e}"));
    let weights = RandomWeights { seed: 5 };
    let options = Options::for_host().unwrap_or_else(|e| panic!("{e}"));
    let mut exe = Executable::with_weights(&module, &options, &weights).unwrap_or_else(|e| panic!("{e}"));
    let launches: Vec<String> = {
        let plan = &exe.compiled().scheduled.plan;
        plan.entries[0].launches.iter().map(|l| plan.kernels[l.kernel as usize].comment.clone()).collect()
    };
    for size in [1, 5, 37] {
        compare(name, &module, &mut exe, &weights, size);
    }
    let refused = exe.compiled().scheduled.merges.iter().flat_map(|m| &m.refused);
    let refused = refused.map(|r| format!("  {:?} + {:?}: {} [{}]\n", r.first, r.second, r.text, r.code));
    (launches, refused.collect())
}

fn compare(name: &str, module: &Module, exe: &mut Executable, weights: &RandomWeights, size: i64) {
    use mlxc::weights::Weights;
    let f = &module.functions[0];
    let symbols: Vec<i64> = f.symbols.iter().map(|s| size.clamp(s.range.lo, s.range.hi)).collect();
    let mut random = Random::new(size as u64);
    let args: Vec<Value> = f
        .params
        .iter()
        .map(|p| {
            let shape: Vec<usize> = p.ty.shape.iter().map(|d| d.eval(&symbols) as usize).collect();
            match p.role {
                Role::Weight(_) => {
                    let bytes = weights.read(&p.name, &p.ty).unwrap_or_else(|e| panic!("{e}"));
                    Value::from_bytes(p.ty.dtype, &shape, &bytes).expect("weights are whole")
                }
                Role::Scalar(id) => Value::ints(DType::I32, &[], &[symbols[id.0 as usize]]),
                // A state is zero at first.
                Role::State(_) => Value::floats(p.ty.dtype, &shape, &vec![0.0; shape.iter().product()]),
                _ => random.tensor(p.ty.dtype, &shape),
            }
        })
        .collect();
    let reference = interpret::run(module, f, &args, Mode::Reference).unwrap_or_else(|e| panic!("{e}"));
    let stated = interpret::run(module, f, &args, Mode::Stated).unwrap_or_else(|e| panic!("{e}"));
    let held: Vec<(String, DType, Vec<u64>, Vec<u8>)> = f
        .params
        .iter()
        .zip(&args)
        .filter(|(p, _)| matches!(p.role, Role::Input | Role::Scalar(_)))
        .map(|(p, t)| (p.name.to_string(), t.dtype, t.shape.iter().map(|n| *n as u64).collect(), t.to_bytes()))
        .collect();
    let views: Vec<(&str, TensorView<'_>)> =
        held.iter().map(|(n, d, s, b)| (n.as_str(), TensorView::new(*d, s, b).expect("a view"))).collect();
    let got = exe.run(&views).unwrap_or_else(|e| panic!("{e}"));
    for (i, t) in got.iter().enumerate() {
        let shape: Vec<usize> = t.shape().iter().map(|n| *n as usize).collect();
        let t = Value::from_bytes(t.dtype(), &shape, t.bytes()).expect("an output is whole");
        let worst = excess(&t, &reference.results[i], &stated.results[i], 8.0);
        assert!(worst <= 1.0, "{name}: output {i} is {worst} times the allowed error");
    }
}

#[test]
fn every_spelling_of_every_pattern_is_as_many_kernels() {
    let mut wrong = String::new();
    for p in PATTERNS {
        for (spelling, model) in p.spellings {
            let name = format!("{}, {spelling}", p.name);
            let (kernels, refused) = check(&name, |cx| model(cx, &cx.dim("S", 1..=64)));
            if kernels.len() != p.kernels {
                let (count, wanted) = (kernels.len(), p.kernels);
                wrong.push_str(&format!("{name}: {count} kernels, not {wanted}: {kernels:#?}\n{refused}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn folds_of_one_read_are_one_pass() {
    let module = trace("moments", |cx| {
        let x = cx.input("x", DType::F32, (cx.dim("S", 1..=64), 256));
        let mean = x.mean(-1, false);
        cx.output("var", &(x.square().mean(-1, false) - mean.square()));
        cx.output("mean", &mean);
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let options = Options::for_target("x86-64-v3").unwrap_or_else(|e| panic!("{e}"));
    let planned = plan(&module, &options).unwrap_or_else(|e| panic!("{e}"));
    let text: String = planned.scheduled.kernels.iter().map(mlxc_ir::kernel::print).collect();
    assert_eq!(text.matches("for c ").count(), 1, "{text}");
}

/// The book's table of patterns.
fn table() -> String {
    let index: serde_json::Value =
        serde_json::from_str(include_str!("../fixtures/mlx_fusion/expected.json")).expect("the fixture is JSON");
    let version = index["mlx"].as_str().expect("a version");
    let mut out = format!(
        "# What becomes one kernel\n\nWritten by `MLXC_BLESS=1 cargo test -p mlxc-tests --test fusion` from `tests/src/patterns.rs`. \
         Every spelling is compiled, counted, run and compared with the interpreter. MLX's count is that of MLX {version} under \
         `mx.compile`: primitives of the compiled graph that compute or copy (`tests/fixtures/mlx_fusion/make.py`).\n\n\
         | pattern | kernels | MLX's kernels | spellings |\n|---|---|---|---|\n"
    );
    for p in PATTERNS {
        let theirs = &index["patterns"][p.name]["kernels"];
        assert!(theirs.is_u64(), "MLX was not asked for `{}`: run make.py", p.name);
        let spellings: Vec<&str> = p.spellings.iter().map(|(name, _)| *name).collect();
        out.push_str(&format!("| {} | {} | {theirs} | {} |\n", p.name, p.kernels, spellings.join("; ")));
    }
    out.push_str(
        "\nCross-entropy reads the logits and writes one number a row: no row of probabilities is ever in memory. MLX quantises groups \
         by one primitive of its own; written in ops it is what the compiler makes two kernels of. Why two values of a model of yours \
         are not in one kernel, [`mlxc explain --why-not`](explain.md#why-not) says.\n",
    );
    out
}

#[test]
fn the_table_is_up_to_date() {
    let path = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/src/fusion.md");
    let made = table();
    if std::env::var_os("MLXC_BLESS").is_some() {
        std::fs::write(&path, &made).expect("the table is written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == made, "docs/src/fusion.md is old: run `MLXC_BLESS=1 cargo test -p mlxc-tests --test fusion`");
}

#[test]
fn a_mistake_is_reported_where_it_is() {
    let e = trace("bad", |cx| {
        let x = cx.input("x", DType::F32, [3, 4]);
        let y = cx.input("y", DType::F32, [5, 4]);
        let line = &x + &y; // the mistake
        cx.output("z", &line.exp());
    })
    .expect_err("shapes do not broadcast");
    assert_eq!(e.0.len(), 1);
    assert_eq!(e.0[0].id, 127);
    let at = e.0[0].at.clone().expect("a place");
    assert!(at.file.ends_with("fusion.rs"));
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fusion.rs")).expect("this file");
    assert!(text.lines().nth(at.line as usize - 1).expect("a line").contains("the mistake"));
}

#[test]
fn a_state_read_after_its_update_names_both_places() {
    let e = trace("stale", |cx| {
        let at = cx.scalar("at", 0..=3);
        let x = cx.input("x", DType::F32, [1, 8]);
        let state = cx.state("k", DType::F32, [4, 8]);
        let old = state.read();
        let new = state.update(&x, &at, 0);
        cx.output("y", &(new + old));
    })
    .expect_err("the old version is read");
    assert_eq!(e.0[0].id, 121);
    assert!(e.0[0].expected.is_some() && e.0[0].found.is_some());
}
