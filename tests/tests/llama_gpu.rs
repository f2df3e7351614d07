//! The small Llama of the fixtures on a GPU: the tokens that other software computed, and launches that need nothing new.

use mlxc::pipeline::Compiled;
use mlxc::source::Build;
use mlxc::{DType, Options};
use mlxc_runtime::{Device, LoadOptions, Model, Package, Session, TensorView, gpu};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn expected() -> Value {
    let path = fixture("kjv-llama").join("expected.json");
    let text = std::fs::read_to_string(path).expect("the fixture is in the repository");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

fn package(model: &str, targets: &[&str], dtype: Option<DType>) -> Arc<Package> {
    let mut build = Build::new(fixture(model));
    build.targets = targets.iter().map(|t| t.to_string()).collect();
    build.dtype = dtype;
    build.context = Some(512);
    build.package(&mut |_| {}).unwrap_or_else(|e| panic!("{e}"))
}

fn session(package: &Arc<Package>, device: Device) -> Session {
    let load = LoadOptions { device, poison: true, ..LoadOptions::default() };
    let model = Model::load(package.clone(), &load).unwrap_or_else(|e| panic!("{e}"));
    model.session().unwrap_or_else(|e| panic!("{e}"))
}

fn step(s: &mut Session, entry: &str, tokens: &[i32], position: i32) -> Vec<f64> {
    let (shape, at) = ([tokens.len() as u64], [position]);
    let tokens = TensorView::from_slice(&shape, tokens).expect("a view of a slice");
    let position = TensorView::from_slice(&[], &at).expect("a view of a slice");
    let out = s.run(entry, &[("tokens", tokens), ("position", position)]).unwrap_or_else(|e| panic!("{entry}: {e}"));
    out[0].1.to_f64s()
}

fn argmax(v: &[f64]) -> i32 {
    (0..v.len()).max_by(|a, b| v[*a].total_cmp(&v[*b]).then(b.cmp(a))).expect("logits are not empty") as i32
}

fn greedy(s: &mut Session, prompt: &[i32], n: usize) -> Vec<i32> {
    let mut out = vec![argmax(&step(s, "prefill", prompt, 0))];
    while out.len() < n {
        let at = prompt.len() + out.len() - 1;
        let token = [*out.last().expect("one token")];
        out.push(argmax(&step(s, "decode", &token, at as i32)));
    }
    out
}

fn list(v: &Value) -> Vec<i32> {
    v.as_array().expect("a list").iter().map(|x| x.as_i64().expect("a number") as i32).collect()
}

/// Every prompt's smallest margin is above 1e-3, so no step is excused.
#[test]
fn greedy_tokens_are_the_expected_ones_in_f32() {
    let e = expected();
    for (target, tokens) in [("vulkan", 128), ("webgpu", 16)] {
        let package = package("kjv-llama", &[target], Some(DType::F32));
        let mut s = session(&package, Device::Gpu(None));
        for p in e["prompts"].as_array().expect("prompts") {
            let want = list(&p["greedy_f32"]);
            assert_eq!(greedy(&mut s, &list(&p["prompt_tokens"]), tokens), want[..tokens], "{target}: {}", p["text"]);
        }
    }
}

/// In bf16, and in four bits, a GPU's logits are the CPU's within what the rounding of bf16 makes of another order of sums.
#[test]
fn half_precision_and_four_bits_are_the_cpus() {
    let e = expected();
    for (model, dtype) in
        [("kjv-llama", Some(DType::BF16)), ("kjv-llama-4bit", Some(DType::F32)), ("kjv-llama-4bit", None)]
    {
        let package = package(model, &["vulkan", "cpu"], dtype);
        let (mut gpu, mut cpu) = (session(&package, Device::Gpu(None)), session(&package, Device::Cpu));
        let p = &e["prompts"][0];
        let prompt = list(&p["prompt_tokens"]);
        let exact = dtype == Some(DType::F32);
        if exact {
            assert_eq!(greedy(&mut gpu, &prompt, 32), greedy(&mut cpu, &prompt, 32), "{model}");
            continue;
        }
        let (a, b) = (step(&mut gpu, "score", &prompt, 0), step(&mut cpu, "score", &prompt, 0));
        let largest = b.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let apart = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        // Activations of bf16 have 8 bits; layers add up.
        assert!(apart <= largest / 64.0, "{model}: {apart} of {largest}");
    }
}

/// After a session is made, steps create nothing and compile nothing.
#[test]
fn steps_create_no_buffer_and_compile_no_pipeline() {
    let package = package("kjv-llama", &["vulkan"], None);
    let load = LoadOptions { device: Device::Gpu(None), ..LoadOptions::default() };
    let model = Model::load(package, &load).unwrap_or_else(|e| panic!("{e}"));
    let mut s = model.session().unwrap_or_else(|e| panic!("{e}"));
    let made = |model: &Model| {
        let c = gpu::counters(model).expect("a GPU's model");
        (c.buffers, c.bind_groups, c.pipelines)
    };
    let before = made(&model);
    for (entry, tokens, at) in [("prefill", &[1, 2, 3][..], 0), ("decode", &[4], 3), ("decode", &[5], 4)] {
        step(&mut s, entry, tokens, at);
    }
    assert_eq!(made(&model), before);
}

/// A decode step launches what the CPU's does, and one more a layer to merge the splits of its keys.
#[test]
fn launches_are_the_cpus_and_a_merge_for_each_split() {
    let mut build = Build::new(fixture("kjv-llama"));
    build.targets = ["cpu", "vulkan", "webgpu", "apple7"].map(String::from).to_vec();
    let all = build.compile_all(&mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    let layers = 4;
    for entry in ["prefill", "decode", "score"] {
        let count = |c: &Compiled| {
            let plan = &c.scheduled.plan;
            plan.entries.iter().find(|e| e.name == entry).expect("the entry").launches.len()
        };
        let (cpu, gpus) = all.split_first().expect("four targets");
        for gpu in gpus {
            let more = if entry == "decode" { layers } else { 0 };
            let (found, most) = (count(gpu), count(cpu) + more);
            assert!(found <= most, "{entry} for {}: {found}, more than {most}", gpu.target());
        }
    }
}

/// A target that the device lacks is refused by name, before anything is uploaded.
#[test]
fn a_package_without_shaders_names_what_it_has() {
    let package = package("kjv-llama", &["cpu"], None);
    let load = LoadOptions { device: Device::Gpu(None), ..LoadOptions::default() };
    let e = Model::load(package, &load).expect_err("no shader target");
    assert_eq!(e.id(), "MLXC0701");
    let host = Options::for_host().unwrap_or_else(|e| panic!("{e}")).profile.name;
    assert!(e.to_string().contains(&host), "{e}");
}
