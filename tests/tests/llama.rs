//! The small Llama of the fixtures, end to end, against figures computed by other software.

use mlxc::models::{Config, EntryOptions, trace_model};
use mlxc::pipeline::{Compiled, Options, compile};
use mlxc::weights::{Checkpoint, RandomWeights, Weights};
use mlxc::{DType, Module, Quantization};
use mlxc_runtime::{LoadOptions, Model, Session, Tensor, TensorView};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/kjv-llama")
}

fn config() -> Config {
    let text = std::fs::read_to_string(fixture().join("config.json")).expect("the fixture is in the repository");
    Config::parse(&text, "config.json").expect("the fixture's config is understood")
}

fn expected() -> Value {
    let text = std::fs::read_to_string(fixture().join("expected.json")).expect("the fixture is in the repository");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

fn module(dtype: DType, chunk: i64) -> Module {
    trace_model(&config(), EntryOptions::new(dtype, chunk, 512), &Quantization::default())
        .unwrap_or_else(|e| panic!("{e}"))
}

fn options() -> Options {
    Options::for_host().unwrap_or_else(|e| panic!("{e}"))
}

fn session(dtype: DType, chunk: i64, options: &Options, threads: usize) -> Session {
    let compiled = compile(&module(dtype, chunk), options).unwrap_or_else(|e| panic!("{e}"));
    let weights = Checkpoint::open(&fixture()).unwrap_or_else(|e| panic!("{e}"));
    load(&compiled, &weights, threads)
}

fn load(compiled: &Compiled, weights: &dyn Weights, threads: usize) -> Session {
    let package = compiled.package(weights, &Vec::new()).unwrap_or_else(|e| panic!("{e}"));
    // Freed memory is filled with NaN: a wrong lifetime shows in the figures.
    let load = LoadOptions { threads: Some(threads), poison: true, ..LoadOptions::default() };
    let model = Model::load(Arc::new(package), &load).unwrap_or_else(|e| panic!("{e}"));
    model.session().unwrap_or_else(|e| panic!("{e}"))
}

fn step(s: &mut Session, entry: &str, tokens: &[i32], position: i32) -> Tensor {
    let (shape, at) = ([tokens.len() as u64], [position]);
    let tokens = TensorView::from_slice(&shape, tokens).expect("a view of a slice");
    let position = TensorView::from_slice(&[], &at).expect("a view of a slice");
    let mut out =
        s.run(entry, &[("tokens", tokens), ("position", position)]).unwrap_or_else(|e| panic!("{entry}: {e}"));
    out.remove(0).1
}

fn list(v: &Value) -> Vec<i32> {
    v.as_array().expect("a list").iter().map(|x| x.as_i64().expect("a number") as i32).collect()
}

fn argmax(t: &Tensor) -> i32 {
    let v = t.to_f64s();
    (0..v.len()).max_by(|a, b| v[*a].total_cmp(&v[*b]).then(b.cmp(a))).expect("logits are not empty") as i32
}

fn greedy(s: &mut Session, prompt: &[i32], n: usize, chunk: usize) -> Vec<i32> {
    let mut last = None;
    for (i, part) in prompt.chunks(chunk).enumerate() {
        last = Some(step(s, "prefill", part, (i * chunk) as i32));
    }
    let mut out = vec![argmax(&last.expect("a prompt has tokens"))];
    while out.len() < n {
        let at = prompt.len() + out.len() - 1;
        let token = [*out.last().expect("one token")];
        out.push(argmax(&step(s, "decode", &token, at as i32)));
    }
    out
}

/// Every prompt's smallest margin is above 1e-3, so no step is excused.
#[test]
fn greedy_tokens_are_the_expected_ones_in_f32() {
    let e = expected();
    let mut s = session(DType::F32, 512, &options(), 2);
    for p in e["prompts"].as_array().expect("prompts") {
        assert_eq!(greedy(&mut s, &list(&p["prompt_tokens"]), 128, 512), list(&p["greedy_f32"]), "{}", p["text"]);
    }
}

/// Prefill in chunks, at positions, gives what one prefill gives.
#[test]
fn chunked_prefill_gives_the_same_tokens() {
    let e = expected();
    let p = &e["prompts"][0];
    let mut s = session(DType::F32, 4, &options(), 1);
    assert_eq!(greedy(&mut s, &list(&p["prompt_tokens"]), 32, 4), list(&p["greedy_f32"])[..32]);
}

fn logits_error(dtype: DType, name: &str) -> f64 {
    let e = expected();
    let raw = std::fs::read(fixture().join("expected_logits.safetensors")).expect("the fixture is in the repository");
    let file = safetensors::SafeTensors::deserialize(&raw).expect("the fixture is whole");
    let ids = file.tensor("input_ids").expect("ids");
    let ids: Vec<i32> = ids.data().chunks_exact(4).map(|c| i32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
    let want = file.tensor(name).expect("logits");
    let want = want.data().chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]));
    let mut s = session(dtype, 512, &options(), 2);
    let got = step(&mut s, "score", &ids, 0).to_f64s();
    assert_eq!(got.len(), ids.len() * 1024);
    assert!(e["note"].is_object());
    got.iter().zip(want).map(|(a, b)| (a - f64::from(b)).abs()).fold(0.0, f64::max)
}

#[test]
fn logits_are_the_expected_ones() {
    let f32_error = logits_error(DType::F32, "logits_f32");
    assert!(f32_error <= 2e-4, "{f32_error}");
    let allowed = 1.5 * expected()["bf16_vs_f32_logits_max_abs"].as_f64().expect("a number");
    let bf16_error = logits_error(DType::BF16, "logits_f32");
    assert!(bf16_error <= allowed, "{bf16_error} of {allowed}");
}

/// The bits of a step do not depend on the number of threads, nor on the run.
#[test]
fn results_are_equal_for_any_number_of_threads() {
    let tokens: Vec<i32> = (0..100).map(|i| i * 7 % 1000).collect();
    let mut first: Option<Vec<u8>> = None;
    for threads in [1, 2, 3, 2] {
        let mut s = session(DType::BF16, 512, &options(), threads);
        let bytes = step(&mut s, "score", &tokens, 0).bytes().to_vec();
        assert_eq!(first.get_or_insert_with(|| bytes.clone()), &bytes, "{threads} threads");
    }
}

#[test]
fn a_position_past_the_context_is_a_typed_error() {
    let mut s = session(DType::F32, 512, &options(), 1);
    let (shape, tokens, at) = ([2u64], [1i32, 2], [511i32]);
    let inputs = [
        ("tokens", TensorView::from_slice(&shape, &tokens).expect("a view")),
        ("position", TensorView::from_slice(&[], &at).expect("a view")),
    ];
    let e = s.run("prefill", &inputs).expect_err("two tokens do not fit at the last position");
    assert!(e.id().starts_with("MLXC07"), "{e}");
}

fn per_block(c: &Compiled, entry: &str, layers: usize) -> (usize, usize) {
    let e = c.scheduled.plan.entries.iter().find(|e| e.name == entry).expect("an entry");
    let outside = 3;
    (e.launches.len(), (e.launches.len() - outside).div_ceil(layers))
}

#[test]
fn a_layer_is_at_most_seven_kernels_with_and_without_outlining() {
    for dtype in [DType::F32, DType::BF16] {
        let mut counts = Vec::new();
        for outline in [true, false] {
            let c = compile(&module(dtype, 512), &Options { outline, ..options() }).unwrap_or_else(|e| panic!("{e}"));
            for entry in ["prefill", "decode", "score"] {
                let (launches, layer) = per_block(&c, entry, 4);
                assert!(layer <= 7, "{entry} in {dtype}: {layer} kernels a layer, {launches} launches");
                counts.push(launches);
            }
        }
        assert_eq!(counts[..3], counts[3..], "outlining changes no count");
    }
}

#[test]
fn scratch_is_near_the_bound_and_is_what_lifetimes_say() {
    let c = compile(&module(DType::BF16, 512), &options()).unwrap_or_else(|e| panic!("{e}"));
    for e in &c.scheduled.plan.entries {
        assert!(e.arena.bytes as f64 <= 1.01 * e.arena.lower_bound as f64, "{}", e.name);
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let weights = RandomWeights { seed: 3 };
    let bytes = || {
        let c = compile(&module(DType::BF16, 64), &options()).unwrap_or_else(|e| panic!("{e}"));
        c.package_bytes(&weights, &Vec::new()).unwrap_or_else(|e| panic!("{e}"))
    };
    assert!(bytes() == bytes(), "two compilations differ");
}

/// Unfused kernels and op-by-op rounding give the same tokens: fusion changes speed, not meaning.
#[test]
fn fusion_and_numerics_levels_agree() {
    let e = expected();
    let p = &e["prompts"][1];
    let prompt = list(&p["prompt_tokens"]);
    let unfused = Options { fuse: false, ..options() };
    let exact = Options { level: mlxc::pipeline::Level::Exact, ..options() };
    for o in [unfused, exact] {
        let mut s = session(DType::F32, 512, &o, 2);
        assert_eq!(greedy(&mut s, &prompt, 24, 512), list(&p["greedy_f32"])[..24]);
    }
}
