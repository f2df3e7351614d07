//! The command line as scripts use it.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/kjv-llama")
}

fn mlxc(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mlxc")).args(args).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Standard output of a command that succeeds.
fn ok(args: &[&str]) -> String {
    let out = mlxc(args);
    assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
    text(&out.stdout)
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&ok(args)).expect("standard output is one JSON value")
}

/// Standard error of a command that ends with a code.
fn fails(code: i32, args: &[&str]) -> String {
    let out = mlxc(args);
    assert_eq!(out.status.code(), Some(code), "{args:?}: {}", text(&out.stderr));
    text(&out.stderr)
}

fn s(path: &Path) -> &str {
    path.to_str().expect("a path of the test is text")
}

/// The fixture's package in f32, made once; its model folder is a copy that is gone by then.
fn package() -> &'static Path {
    static MADE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = MADE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let model = folder.path().join("model");
        std::fs::create_dir(&model).expect("a folder");
        for file in std::fs::read_dir(fixture()).expect("the fixture is in the repository") {
            let file = file.expect("a file").path();
            std::fs::copy(&file, model.join(file.file_name().expect("a name"))).expect("a copy");
        }
        let out = folder.path().join("kjv.mlxc");
        let report = json(&["compile", s(&model), "-o", s(&out), "--dtype", "f32", "--json"]);
        for field in
            ["output", "target", "seconds", "stage_seconds", "code_bytes", "kernels", "weight_bytes", "entries"]
        {
            assert!(!report[field].is_null(), "{field} in {report}");
        }
        std::fs::remove_dir_all(&model).expect("the model goes");
        (folder, out)
    });
    path
}

fn expected() -> Value {
    let text = std::fs::read_to_string(fixture().join("expected.json")).expect("the fixture is in the repository");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

#[test]
fn a_package_writes_text_after_its_model_is_gone() {
    let e = expected();
    let p = &e["prompts"][0];
    let prompt = p["text"].as_str().expect("text");
    let out = json(&["generate", s(package()), "--prompt", prompt, "--max-tokens", "16", "--json", "--threads", "2"]);
    assert_eq!(out["prompt_tokens"], p["prompt_tokens"]);
    assert_eq!(out["tokens"].as_array().expect("a list"), &p["greedy_f32"].as_array().expect("a list")[..16]);
    assert!(!out["text"].as_str().expect("text").is_empty());
    for field in ["prefill_tokens_per_second", "decode_tokens_per_second", "peak_rss_bytes", "load_seconds"] {
        assert!(out[field].as_f64().is_some_and(|x| x > 0.0), "{field} in {out}");
    }
    // As text: the prompt, then what was written.
    let plain = ok(&["generate", s(package()), "--prompt", prompt, "--max-tokens", "16"]);
    assert_eq!(plain.trim_end(), format!("{prompt}{}", out["text"].as_str().expect("text")).trim_end());
}

#[test]
fn perplexity_is_the_expected_one() {
    let e = expected();
    let valid = fixture().join("valid.txt");
    let out = json(&["perplexity", s(package()), "--text", s(&valid), "--json"]);
    assert_eq!(out["targets"], e["loss_targets"]);
    assert_eq!(out["targets"], 13568);
    let want = e["loss"]["f32"].as_f64().expect("the fixture has the loss of f32");
    let got = out["mean_nll"].as_f64().expect("a number");
    assert!((got - want).abs() <= 1e-3, "{got} is not {want}");
}

const GRAPH: &str = r#"entry "double" {
  size N in 0..=16
  param "x": f32[N, 3] input
  %0 = param {index: 0} (): f32[N, 3]
  %1 = add (%0, %0): f32[N, 3] "twice"
  %2 = exp (%1): f32[N, 3] "powers"
  %3 = sum {axes: [1], keepdims: false} (%2): f32[N] "total"
  result "y" = %1
  result "z" = %3
}
"#;

/// A little-endian f32 array in NumPy's format, version 1.
fn npy(shape: &str, values: &[f32]) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    values.iter().for_each(|v| out.extend(v.to_le_bytes()));
    out
}

#[test]
fn run_takes_and_gives_arrays() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("m.graph"), GRAPH).expect("a file");
    std::fs::write(at("x.npy"), npy("(2, 3)", &[1.0, 2.0, 3.0, -4.0, 0.5, 0.0])).expect("a file");
    let (graph, x) = (at("m.graph"), format!("x={}", s(&at("x.npy"))));
    let y = format!("y={}", s(&at("y.npy")));
    ok(&["run", s(&graph), "--entry", "double", "--input", &x, "--output", &y]);
    let got = std::fs::read(at("y.npy")).expect("the output is written");
    assert!(text(&got[..128]).contains("(2, 3)"), "{}", text(&got[..128]));
    let values: Vec<f32> =
        got[got.len() - 24..].chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
    assert_eq!(values, [2.0, 4.0, 6.0, -8.0, 1.0, 0.0]);
    // Without outputs it says what there is.
    assert!(ok(&["run", s(&graph), "--entry", "double", "--input", &x]).contains("y: f32 [2, 3]"));
    // An output that does not exist; an input that is none; nothing is written.
    let z = format!("w={}", s(&at("w.npy")));
    assert!(fails(1, &["run", s(&graph), "--entry", "double", "--input", &x, "--output", &z]).contains("MLXC0915"));
    assert!(!at("w.npy").exists());
    std::fs::write(at("bad.npy"), b"no array").expect("a file");
    let bad = format!("x={}", s(&at("bad.npy")));
    assert!(fails(1, &["run", s(&graph), "--entry", "double", "--input", &bad]).contains("MLXC07"));
    assert!(fails(1, &["run", s(&graph), "--entry", "triple", "--input", &x]).contains("MLXC0705"));
}

#[test]
fn inspect_and_explain_report_what_was_planned() {
    let out = json(&["inspect", s(package()), "--json"]);
    let entries = out["entries"].as_array().expect("a list");
    let names: BTreeSet<&str> = entries.iter().filter_map(|e| e["name"].as_str()).collect();
    assert_eq!(names, BTreeSet::from(["decode", "prefill", "score"]));
    for e in entries {
        for field in
            ["launches", "launches_per_block", "scratch_bytes", "lower_bound_bytes", "state_bytes", "weight_bytes"]
        {
            assert!(e[field].as_u64().is_some_and(|n| n > 0), "{field} in {e}");
        }
        assert!(e["launches_per_block"].as_u64() <= Some(7));
    }
    assert!(ok(&["inspect", s(package())]).contains("launches"));
    let kernels = ok(&["explain", s(package()), "--entry", "decode"]);
    assert!(kernels.contains("fused:") && kernels.contains("from:"), "{kernels}");
    let memory = ok(&["explain", s(package()), "--memory"]);
    assert!(memory.contains("lower bound") && memory.contains("peak at launch"), "{memory}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let svg = folder.path().join("plan.svg");
    ok(&["explain", s(package()), "--svg", s(&svg)]);
    let picture = std::fs::read_to_string(&svg).expect("the picture is written");
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    assert!(fails(1, &["explain", s(package()), "--entry", "none"]).contains("MLXC0705"));
}

/// Pages and graphs, of a package and with a trace; equal input gives equal bytes.
#[test]
fn explain_draws_pages_and_graphs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let read = |name: &str| std::fs::read_to_string(at(name)).expect("the picture is written");
    let (page, dot, svg) = (at("page.html"), at("graph.dot"), at("plan.svg"));
    assert_eq!(ok(&["explain", s(package()), "--html", s(&page), "--dot", s(&dot), "--svg", s(&svg)]), "");
    assert!(read("page.html").starts_with("<!doctype html>") && read("page.html").contains("Not on this page"));
    assert!(read("graph.dot").starts_with("digraph") && read("plan.svg").starts_with("<svg"));
    let build = std::env::temp_dir();
    assert!(!read("page.html").contains(s(&build)), "where a page was made is not in it");
    // From the model's folder there is LLVM IR too, and every target that is named.
    let twice = ["first.html", "second.html"].map(|name| {
        let out = at(name);
        ok(&["explain", s(&fixture()), "--target", "x86-64-v3,vulkan", "--entry", "decode", "--html", s(&out)]);
        read(name)
    });
    assert!(twice[0] == twice[1], "the same input gives the same page");
    for text in ["LLVM IR", "WGSL", "x86-64-v3", "vulkan", "decode.block", "merge-siblings"] {
        assert!(twice[0].contains(text), "{text}");
    }
    assert!(!twice[0].contains("prefill.block ×"), "only the entry asked for");
    // Times of a run.
    let trace = at("trace.json");
    let bench = ["--prefill", "2", "--decode", "2", "--repeat", "1", "--json"];
    json(&[&["bench", s(package()), "--trace", s(&trace)], &bench[..]].concat());
    ok(&["explain", s(package()), "--trace", s(&trace), "--html", s(&page)]);
    assert!(read("page.html").contains("S = 2, position = 0") && read("page.html").contains("Measured"));
    // What does not fit.
    let refused =
        |code: i32, rest: &[&str]| fails(code, &[&["explain", s(package()), "--html", s(&page)], rest].concat());
    std::fs::write(at("bad.json"), "[]").expect("a file");
    assert!(refused(1, &["--trace", s(&at("bad.json"))]).contains("MLXC0960"));
    assert!(refused(1, &["--trace", s(&at("none.json"))]).contains("MLXC0906"));
    assert!(refused(1, &["--entry", "none"]).contains("MLXC0705"));
    assert!(refused(1, &["--target", "webgpu"]).contains("MLXC0924"));
    fails(2, &["explain", s(package()), "--trace", s(&trace)]);
    refused(2, &["--json"]);
}

#[test]
fn why_not_tells_a_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let graph = folder.path().join("m.graph");
    // Two products cannot be one kernel.
    let text = r#"weight "w": f32[64, 64]
entry "e" {
  param "x": f32[4, 64] input
  param "w": f32[64, 64] weight 0
  %0 = param {index: 0} (): f32[4, 64]
  %1 = param {index: 1} (): f32[64, 64]
  %2 = matmul {transpose_a: false, transpose_b: true} (%0, %1): f32[4, 64] "first"
  %3 = matmul {transpose_a: false, transpose_b: true} (%2, %1): f32[4, 64] "second"
  result "y" = %3
}
"#;
    std::fs::write(&graph, text).expect("a file");
    let out = ok(&["explain", s(&graph), "--random-weights", "1", "--why-not", "first", "second"]);
    assert!(out.contains("first") && out.contains('['), "{out}");
    let none = fails(1, &["explain", s(&graph), "--why-not", "first", "secnd"]);
    assert!(none.contains("MLXC0965") && none.contains("such as `second`"), "{none}");
    // A package answers by itself: weights, states and kernels have names too.
    let why = |a: &str, b: &str| json(&["explain", s(package()), "--entry", "decode", "--why-not", a, b, "--json"]);
    let kinds = |v: &Value| -> Vec<String> {
        let list = v["answers"].as_array().expect("a list").iter();
        list.map(|a| a["kind"].as_str().expect("a word").to_string()).collect()
    };
    let together = why("queries", "model.layers.0.self_attn.q_proj.weight");
    assert!(kinds(&together).iter().all(|k| k == "together"), "{together}");
    let chain = why("model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.o_proj.weight");
    assert_eq!(kinds(&chain), ["chain"]);
    assert!(chain["answers"][0]["seams"].as_array().expect("a list").iter().all(|s| s["code"].is_string()), "{chain}");
    assert!(kinds(&why("model.layers.0.self_attn.keys", "head")).iter().all(|k| k == "chain" || k == "refused"));
    assert!(kinds(&why("norm", "logits")).iter().all(|k| k == "refused"));
}

#[test]
fn check_warns_before_anything_is_compiled() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    // A clean model, and its package.
    assert!(ok(&["check", s(&fixture())]).ends_with("0 warnings, 0 notes\n"));
    assert_eq!(
        json(&["check", s(package()), "--json"]),
        serde_json::json!({"findings": [], "warnings": 0, "notes": 0})
    );
    // Notes are no failure.
    std::fs::write(at("fixed.graph"), GRAPH.replace("f32[N", "f32[12")).expect("a file");
    assert!(ok(&["check", s(&at("fixed.graph"))]).contains("note: MLXC0989"));
    // Warnings are, each with its place; compiling stops at the first key.
    std::fs::create_dir(at("model")).expect("a folder");
    let config = std::fs::read_to_string(fixture().join("config.json")).expect("the fixture is in the repository");
    let mut config: Value = serde_json::from_str(&config).expect("the fixture is JSON");
    config["logit_scale"] = 0.5.into();
    config["residual_multiplier"] = 0.2.into();
    std::fs::write(at("model/config.json"), config.to_string()).expect("a file");
    let out = mlxc(&["check", s(&at("model")), "--json"]);
    assert_eq!(out.status.code(), Some(3));
    let report: Value = serde_json::from_slice(&out.stdout).expect("standard output is one JSON value");
    assert_eq!(report["warnings"], 2);
    for f in report["findings"].as_array().expect("a list") {
        assert_eq!((&f["severity"], &f["id"]), (&"warning".into(), &"MLXC0981".into()));
        assert!(f["at"]["file"].as_str().is_some_and(|p| p.ends_with("config.json")), "{f}");
        assert!(
            f["message"].is_string() && f["expected"].is_string() && f["found"].is_string() && f["notes"].is_array()
        );
    }
    let plain = mlxc(&["check", s(&at("model"))]);
    let plain = text(&plain.stdout);
    assert!(plain.contains("warning: MLXC0981") && plain.ends_with("2 warnings, 0 notes\n"), "{plain}");
    assert!(fails(1, &["check", s(&at("none"))]).contains("MLXC0903"));
}

/// Scratch and lower bound, computed again from the plan's buffers.
#[test]
fn the_plan_is_what_its_buffers_say() {
    let plan = json(&["dump", s(package()), "--stage", "plan", "--json"]);
    let inspected = json(&["inspect", s(package()), "--json"]);
    for (e, report) in
        plan["entries"].as_array().expect("a list").iter().zip(inspected["entries"].as_array().expect("a list"))
    {
        let launches = e["launches"].as_array().expect("a list");
        let mut arena: Vec<(u64, u64, u64, u64)> = Vec::new();
        for (i, b) in e["buffers"].as_array().expect("a list").iter().enumerate() {
            let Some(offset) =
                b["place"]["arena"]["offset"].as_u64().or_else(|| b["place"]["Arena"]["offset"].as_u64())
            else {
                continue;
            };
            let uses =
                |l: &Value| l["buffers"].as_array().expect("a list").iter().any(|n| n.as_u64() == Some(i as u64));
            let first = launches.iter().position(uses).expect("a buffer is used") as u64;
            let last = launches.iter().rposition(uses).expect("a buffer is used") as u64;
            assert_eq!((b["first"].as_u64(), b["last"].as_u64()), (Some(first), Some(last)));
            assert_eq!(offset % 256, 0);
            arena.push((first, last, offset, b["bytes"].as_u64().expect("a number").div_ceil(256) * 256));
        }
        assert!(!arena.is_empty(), "an entry of a model has scratch");
        for (i, a) in arena.iter().enumerate() {
            for b in &arena[..i] {
                let together = a.0 <= b.1 && b.0 <= a.1;
                assert!(!together || a.2 + a.3 <= b.2 || b.2 + b.3 <= a.2, "{a:?} and {b:?} overlap");
            }
        }
        let scratch = arena.iter().map(|a| a.2 + a.3).max().unwrap_or(0);
        let live = |at: u64| arena.iter().filter(|a| a.0 <= at && at <= a.1).map(|a| a.3).sum::<u64>();
        let bound = (0..launches.len() as u64).map(live).max().unwrap_or(0);
        assert_eq!(report["scratch_bytes"].as_u64(), Some(scratch));
        assert_eq!(report["lower_bound_bytes"].as_u64(), Some(bound));
        assert!(scratch as f64 <= 1.01 * bound as f64);
    }
}

#[test]
fn every_stage_can_be_dumped() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let graph = folder.path().join("m.graph");
    std::fs::write(&graph, GRAPH).expect("a file");
    let stages = ok(&["dump", s(&graph), "--stage", "stages"]);
    let stages: Vec<&str> = stages.lines().collect();
    assert!(stages.len() >= 10, "{stages:?}");
    for stage in stages {
        let target = match stage {
            "wgsl" | "spirv" => "webgpu",
            "msl" => "metal",
            _ => "cpu",
        };
        let out = ok(&["dump", s(&graph), "--stage", stage, "--target", target]);
        assert!(!out.trim().is_empty(), "stage {stage} is empty");
    }
    assert!(fails(1, &["dump", s(&graph), "--stage", "msl", "--target", "vulkan"]).contains("MLXC0909"));
    let file = folder.path().join("kernels.txt");
    ok(&["dump", s(&graph), "--stage", "kernels", "-o", s(&file)]);
    assert!(std::fs::read_to_string(&file).expect("a file").contains("kernel "));
    assert!(fails(1, &["dump", s(&graph), "--stage", "nothing"]).contains("MLXC0908"));
    // What a package holds.
    for stage in ["trace", "decompose", "kernels", "plan"] {
        assert!(!ok(&["dump", s(package()), "--stage", stage]).trim().is_empty());
    }
    assert!(fails(1, &["dump", s(package()), "--stage", "llvm"]).contains("MLXC0909"));
}

/// One package for a CPU and two GPUs: each target's own plan and code are shown, and either device runs it.
#[test]
fn a_package_may_hold_several_targets() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("all.mlxc");
    let report =
        json(&["compile", s(&fixture()), "-o", s(&out), "--dtype", "f32", "--target", "cpu,metal,vulkan", "--json"]);
    assert_eq!(report["targets"].as_array().map(Vec::len), Some(3), "{report}");
    let of = |stage: &str, target: &str| ok(&["dump", s(&out), "--stage", stage, "--target", target]);
    assert!(of("msl", "metal").contains("#include <metal_stdlib>"));
    assert!(of("wgsl", "vulkan").contains("@compute"));
    assert!(of("kernels", "vulkan").contains("group 2") && !of("kernels", "cpu").contains("group 2"));
    assert!(fails(1, &["dump", s(&out), "--stage", "plan", "--target", "webgpu"]).contains("MLXC0924"));
    assert!(fails(1, &["compile", s(&fixture()), "-o", s(&out), "--target", "cpu,cpu"]).contains("MLXC0926"));
    let writes = |device: &str| {
        let device = ["--device", device, "--prompt", "In the beginning", "--max-tokens", "4", "--json"];
        json(&[&["generate", s(&out)], &device[..]].concat())["text"].clone()
    };
    assert_eq!(writes("gpu"), writes("cpu"));
    let trace = folder.path().join("trace.json");
    let bench = ["--device", "gpu", "--prefill", "2", "--decode", "1", "--repeat", "1", "--trace", s(&trace), "--json"];
    json(&[&["bench", s(&out)], &bench[..]].concat());
    let text = std::fs::read_to_string(&trace).expect("a trace");
    let trace: Value = serde_json::from_str(&text).expect("a trace is JSON");
    let events = trace["traceEvents"].as_array().expect("events");
    assert!(events.iter().any(|e| e["cat"] == "merge" && e["dur"].as_f64().is_some()), "{text}");
}

#[test]
fn verify_compares_with_the_interpreter() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let graph = folder.path().join("m.graph");
    std::fs::write(&graph, GRAPH).expect("a file");
    let out = json(&["verify", s(&graph), "--json"]);
    let checked = out.as_array().expect("a list");
    assert_eq!(checked.len(), 2);
    for c in checked {
        assert_eq!(c["passed"], true, "{c}");
        for field in ["entry", "output", "max_error", "max_relative", "ulp", "allowed"] {
            assert!(!c[field].is_null(), "{field} in {c}");
        }
    }
    assert!(ok(&["verify", s(&graph), "--size", "1"]).contains("double.y: ok"));
}

/// A configuration alone is enough for a package of random weights.
#[test]
fn random_weights_need_only_a_configuration() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::copy(fixture().join("config.json"), folder.path().join("config.json")).expect("a copy");
    let out = folder.path().join("random.mlxc");
    let compile = |seed: &str, out: &Path| {
        let context = ["--context", "64", "--prefill-chunk", "16", "--target", "x86-64-v3"];
        ok(&[&["compile", s(folder.path()), "-o", s(out), "--random-weights", seed, "--strip"], &context[..]].concat());
        std::fs::read(out).expect("the package is written")
    };
    let first = compile("7", &out);
    assert!(first == compile("7", &folder.path().join("again.mlxc")), "the same seed gives the same bytes");
    assert!(first != compile("8", &folder.path().join("other.mlxc")), "another seed gives other weights");
    // It was stripped, and has no tokenizer.
    assert!(fails(1, &["dump", s(&out), "--stage", "trace"]).contains("MLXC0909"));
    assert!(fails(1, &["explain", s(&out), "--why-not", "a", "b"]).contains("MLXC0909"));
    assert!(fails(1, &["generate", s(&out), "--prompt", "x"]).contains("MLXC0916"));
}

#[test]
fn what_is_wrong_is_said_on_standard_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("m.graph"), GRAPH).expect("a file");
    std::fs::write(at("broken.graph"), "entry \"e\" {").expect("a file");
    std::fs::write(at("broken.mlxc"), "no package").expect("a file");
    let out = at("out.mlxc");
    let compile = |model: &Path, rest: &[&str]| {
        let message = fails(1, &[&["compile", s(model), "-o", s(&out)], rest].concat());
        assert!(!out.exists(), "a failed compilation leaves no file");
        let left = std::fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(left, 3, "nor a part of one");
        message
    };
    assert!(compile(&at("none"), &[]).contains("MLXC0903"));
    assert!(compile(&at("broken.graph"), &[]).contains("MLXC02"));
    assert!(compile(&at("m.graph"), &["--target", "z80"]).contains("MLXC0901"));
    assert!(compile(package(), &[]).contains("MLXC0907"));
    // A folder without a checkpoint fails after compilation, while the file is being written.
    let model = tempfile::tempdir().expect("a temporary folder");
    std::fs::copy(fixture().join("config.json"), model.path().join("config.json")).expect("a copy");
    assert!(compile(model.path(), &["--context", "32", "--prefill-chunk", "8"]).contains("MLXC092"));
    assert!(compile(model.path(), &["--context", "64", "--max-scratch", "100"]).contains("MLXC0410"));
    assert!(fails(1, &["inspect", s(&at("broken.mlxc"))]).contains("MLXC06"));
    assert!(fails(1, &["perplexity", s(package()), "--text", "none.txt"]).contains("MLXC0906"));
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for args in [
        &["compile"] as &[&str],
        &["unknown"],
        &["compile", "x"],
        &["compile", "x", "-o", "y", "--dtype", "i8"],
        &["run", "x", "--entry", "e", "--input", "noequals"],
        &["generate", "x", "--prompt", "p", "--device", "tpu"],
    ] {
        let message = fails(2, args);
        assert!(message.contains("Usage") || message.contains("error"), "{message}");
    }
    assert!(ok(&["--help"]).contains("Exit codes"));
    assert!(ok(&["--version"]).starts_with("mlxc "));
}

fn quantized() -> PathBuf {
    fixture().with_file_name("kjv-llama-4bit")
}

/// Runs with a text on standard input; standard output of success.
fn with_input(args: &[&str], input: &str) -> String {
    use std::io::Write;
    use std::process::Stdio;
    let mut child = Command::new(env!("CARGO_BIN_EXE_mlxc"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("input is read");
    let out = child.wait_with_output().expect("the program ends");
    assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
    text(&out.stdout)
}

#[test]
fn prompts_come_from_files_and_standard_input() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let prompt = "In the beginning God created";
    let file = folder.path().join("prompt.txt");
    std::fs::write(&file, prompt).expect("a file");
    let plain = ok(&["generate", s(package()), "--prompt", prompt, "--max-tokens", "6"]);
    assert_eq!(ok(&["generate", s(package()), "--prompt-file", s(&file), "--max-tokens", "6"]), plain);
    assert_eq!(with_input(&["generate", s(package()), "--prompt", "-", "--max-tokens", "6"], prompt), plain);
    let many = folder.path().join("many.jsonl");
    let lines = format!("{prompt}\n\n{{\"prompt\": \"And\", \"max_tokens\": 2}}\n{prompt}\n");
    std::fs::write(&many, lines).expect("a file");
    let out = ok(&["generate", s(package()), "--prompts", s(&many), "--max-tokens", "6"]);
    let results: Vec<Value> = out.lines().map(|l| serde_json::from_str(l).expect("a JSON line")).collect();
    let counts: Vec<usize> = results.iter().map(|r| r["tokens"].as_array().expect("a list").len()).collect();
    assert_eq!(counts, [6, 2, 6]);
    assert_eq!(results[0]["tokens"], results[2]["tokens"]);
    std::fs::write(&many, "{\"prompt\": 3}").expect("a file");
    let error = fails(1, &["generate", s(package()), "--prompts", s(&many)]);
    assert!(error.contains("MLXC0946") && error.contains("many.jsonl:1"), "{error}");
    fails(2, &["generate", s(package())]);
    // A wrong option is said before the model is compiled or anything is written.
    let out = mlxc(&["generate", s(package()), "--prompt", "shown", "--temperature", "nan"]);
    assert!(text(&out.stderr).contains("MLXC0756") && out.stdout.is_empty(), "{}", text(&out.stdout));
    fails(2, &["generate", s(package()), "--prompt", "a", "--logit-bias", "x=1"]);
}

#[test]
fn drafts_and_caches_on_the_command_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = folder.path().join("cache.safetensors");
    let prompt = ["--prompt", "And it came to pass", "--max-tokens", "12", "--json"];
    let run = |more: &[&str]| json(&[&["generate", s(package())], &prompt[..], more].concat());
    let plain = run(&["--save-prompt-cache", s(&cache)]);
    let known = run(&["--prompt-cache", s(&cache)]);
    assert_eq!(known["tokens"], plain["tokens"]);
    assert!(known["reused_tokens"].as_u64() > Some(0));
    let drafted = run(&["--draft-model", s(&quantized()), "--draft-tokens", "3"]);
    assert_eq!(drafted["tokens"], plain["tokens"]);
    assert!(drafted["accepted_tokens"].as_u64() > Some(0));
    let error =
        fails(1, &["generate", s(package()), "--prompt", "a", "--prompt-cache", s(&folder.path().join("none"))]);
    assert!(error.contains("MLXC0945"), "{error}");
}

#[test]
fn chat_answers_each_line() {
    let out =
        with_input(&["chat", s(&quantized()), "--max-tokens", "4"], "hello\n\nand?\n/reset\nhello\n/exit\nnever\n");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert_eq!(lines[0], lines[2], "after a reset the conversation begins anew");
}

#[test]
fn bench_has_figures_for_steps_and_kernels() {
    let out =
        json(&["bench", s(package()), "--prefill", "5", "--decode", "3", "--repeat", "1", "--threads", "1", "--json"]);
    for field in ["prefill_tokens_per_second", "decode_tokens_per_second", "load_seconds", "peak_rss_bytes"] {
        assert!(out[field].as_f64().is_some_and(|x| x > 0.0), "{field}: {}", out[field]);
    }
    for field in ["read_mapped", "read_copied", "f32_flops"] {
        assert!(out["limits"][field].as_f64().is_some_and(|x| x > 1e8), "{field}: {}", out["limits"]);
    }
    let rows = out["rows"].as_array().expect("a list");
    assert!(rows.iter().any(|r| r["entry"] == "prefill") && rows.iter().any(|r| r["entry"] == "decode"));
    for r in rows {
        for field in ["seconds", "bytes", "flops", "share"] {
            assert!(r[field].as_f64().is_some_and(f64::is_finite), "{field} of {r}");
        }
    }
    assert!(ok(&["bench", s(package()), "--prefill", "2", "--decode", "1", "--repeat", "1"]).contains("of read"));
    assert!(fails(1, &["bench", s(package()), "--prefill", "100000"]).contains("MLXC0949"));
}

#[test]
fn devices_are_listed_and_chosen() {
    let devices = json(&["devices", "--json"]);
    let devices = devices.as_array().expect("a list");
    assert_eq!(devices[0]["device"], "cpu");
    assert!(devices[0]["targets"].as_array().is_some_and(|t| !t.is_empty()));
    let table = ok(&["devices"]);
    for (i, d) in devices.iter().enumerate().skip(1) {
        assert_eq!(d["device"], format!("gpu:{}", i - 1));
        assert!(table.contains(d["name"].as_str().expect("a name")), "{table}");
    }
    let run = |code, device| fails(code, &["perplexity", s(package()), "--text", "x", "--device", device]);
    assert!(run(1, "auto").contains("MLXC0906"), "the package has code for the CPU only, so that runs");
    assert!(fails(1, &["bench", s(package()), "--device", "gpu"]).contains("MLXC0701"));
    assert!(run(2, "gpu:x").contains("gpu:N"));
}

#[test]
fn convert_writes_a_folder_that_runs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let target = folder.path().join("eight");
    ok(&["convert", s(&fixture()), "-o", s(&target), "--quantize", "8,64", "--quantize-layer", "*down_proj=none"]);
    assert!(!ok(&["generate", s(&target), "--prompt", "And", "--max-tokens", "2"]).is_empty());
    assert!(fails(1, &["convert", s(&fixture()), "-o", s(&target)]).contains("MLXC0952"));
    assert!(
        fails(1, &["compile", s(&target), "-o", s(&folder.path().join("x.mlxc")), "--quantize", "4,64"])
            .contains("MLXC0942")
    );
    fails(2, &["convert", s(&fixture()), "-o", s(&target), "--quantize", "7,64"]);
}

#[test]
fn compile_writes_a_folder_for_browsers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("web");
    let fixture = fixture();
    let compile = ["compile", s(&fixture), "-o", s(&out), "--target"];
    let with = |target| [&compile[..], &[target]].concat();
    assert!(fails(1, &with("web,cpu")).contains("MLXC0953"));
    for _ in 0..2 {
        assert!(ok(&with("web")).contains("for webgpu"));
    }
    let plan = std::fs::read_to_string(out.join("plan.json")).expect("a plan");
    let plan: Value = serde_json::from_str(&plan).expect("JSON");
    assert_eq!((&plan["format"], &plan["end_tokens"]), (&"mlxc-web".into(), &serde_json::json!([1])));
    let bytes = std::fs::metadata(out.join("weights-0.bin")).expect("weights").len();
    assert_eq!(plan["weights"]["pieces"], serde_json::json!([{"file": "weights-0.bin", "bytes": bytes}]));
    for kernel in plan["plan"]["kernels"].as_array().expect("kernels") {
        for phase in kernel["phases"].as_array().expect("phases") {
            let symbol = phase["symbol"].as_str().expect("a symbol");
            let shader = std::fs::read_to_string(out.join(format!("shaders/{symbol}.wgsl"))).expect("a shader");
            assert!(shader.contains(&format!("fn {symbol}(")), "{shader}");
        }
    }
    for file in ["mlxc.js", "mlxc.d.ts", "mlxc/session.js", "text/tokenizer.json"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    std::fs::remove_file(out.join("plan.json")).expect("a file");
    assert!(fails(1, &with("web")).contains("MLXC0954"), "a folder of something else is kept");
    assert!(out.join("mlxc.js").is_file());
}

#[test]
fn shells_and_man_are_served() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(ok(&["completions", shell]).contains("perplexity"), "{shell}");
    }
    assert!(ok(&["man"]).starts_with(".ie"));
    ok(&["man", "--output", s(folder.path())]);
    assert!(folder.path().join("mlxc-generate.1").is_file());
}

#[test]
fn logs_say_what_a_compile_does() {
    let out = mlxc(&["inspect", s(&fixture()), "--log", "debug"]);
    let log = text(&out.stderr);
    for part in ["partition of `prefill`", "LLVM compiles", "eqsat took", "schedule of `decode`"] {
        assert!(log.contains(part), "{part} in {log}");
    }
    assert!(fails(2, &["inspect", s(&fixture()), "--log", "a=b=c"]).contains("MLXC0950"));
}

#[test]
fn buffers_of_ones_own_are_placed() {
    let fixture =
        |name: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/minimalloc").join(name);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("placed.csv");
    let report = json(&["plan", s(&fixture("K.1048576.csv")), "--capacity", "1048576", "-o", s(&out), "--json"]);
    assert_eq!((&report["buffers"], &report["lower_bound"]), (&454.into(), &1_048_576.into()));
    assert!(report["bytes"].as_u64().is_some_and(|b| b <= 1_048_576) && report["checked"] == true);
    let file = std::fs::read_to_string(&out).expect("the file was written");
    assert_eq!((file.lines().next(), file.lines().count()), (Some("id,lower,upper,size,offset"), 455));
    // What was written is a problem again, and an arena that is too small leaves the file as it is.
    json(&["plan", s(&out), "--json", "--steps", "0"]);
    let bound = fails(1, &["plan", s(&fixture("K.1048576.csv")), "--capacity", "1048575", "-o", s(&out)]);
    assert!(bound.contains("MLXC0426"), "{bound}");
    let open = fails(1, &["plan", s(&fixture("K.1048576.csv")), "--capacity", "1048576", "--steps", "10"]);
    assert!(open.contains("MLXC0428"), "{open}");
    assert_eq!(std::fs::read_to_string(&out).ok(), Some(file));
    // Eight buffers that no order keeps at the four bytes that are live.
    let hard = folder.path().join("hard.csv");
    let rows = "id,lower,upper,size\na,0,1,2\nb,0,2,2\nc,1,3,1\nd,2,3,1\ne,1,4,1\nf,2,4,1\ng,3,5,2\nh,4,5,2\n";
    std::fs::write(&hard, rows).expect("a file");
    let proved = fails(1, &["plan", s(&hard), "--capacity", "4"]);
    assert!(proved.contains("MLXC0427"), "{proved}");
    let smallest = json(&["plan", s(&hard), "--json"]);
    assert_eq!((&smallest["bytes"], &smallest["proved_bound"]), (&5.into(), &5.into()));
    std::fs::write(&hard, "id,lower,upper,size\na,0,1,2\nb,0,x,2\n").expect("a file");
    let number = fails(1, &["plan", s(&hard)]);
    assert!(number.contains("MLXC0422") && number.contains("hard.csv:3"), "{number}");
}

#[test]
fn a_profile_is_an_input_of_its_target_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let profile = folder.path().join("profile.json");
    let out = ok(&["calibrate", "-o", s(&profile), "--threads", "1"]);
    assert!(out.contains("GB/s") && out.contains("launch"), "{out}");
    let figures: Value = serde_json::from_slice(&std::fs::read(&profile).expect("the profile")).expect("JSON");
    let host = figures["target"].as_str().expect("a target").to_string();
    assert_eq!(figures["cores"], 1);
    assert!(figures["rates"]["read_bytes"].as_f64().expect("a rate") > 1e8);
    let model = fixture();
    json(&["inspect", s(&model), "--profile", s(&profile), "--json"]);
    let other = if host == "x86-64-v3" { "x86-64-v2" } else { "x86-64-v3" };
    let e = fails(1, &["inspect", s(&model), "--target", other, "--profile", s(&profile)]);
    assert!(e.contains("MLXC0973") && e.contains(&host), "{e}");
    std::fs::write(&profile, "{}").expect("a file is written");
    assert!(fails(1, &["inspect", s(&model), "--profile", s(&profile)]).contains("MLXC0972"));
    assert!(fails(1, &["inspect", s(&model), "--profile", s(&folder.path().join("none"))]).contains("MLXC0971"));
    let gpu = fails(1, &["calibrate", "--target", "vulkan", "-o", s(&profile)]);
    assert!(gpu.contains("MLXC0970"), "{gpu}");
}

#[test]
fn a_package_is_tuned_and_made_again_from_the_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let (model, tuning, first, second) = (fixture(), at("tuning.json"), at("first.mlxc"), at("second.mlxc"));
    let tuned =
        json(&["compile", s(&model), "-o", s(&first), "--tune", "3", "--tuning", s(&tuning), "--no-cache", "--json"]);
    let steps = tuned["tuning_steps"].as_array().expect("a list");
    assert!(!steps.is_empty() && steps.len() <= 3, "{steps:?}");
    ok(&["compile", s(&model), "-o", s(&second), "--tuning", s(&tuning)]);
    let read = |path: &Path| std::fs::read(path).expect("a package");
    assert!(read(&first) == read(&second), "the same file gives the same package");
    ok(&["verify", s(&model), "--tuning", s(&tuning)]);
    fails(2, &["compile", s(&model), "-o", s(&first), "--tune", "3"]);
    let gpu =
        fails(1, &["compile", s(&model), "-o", s(&first), "--tune", "3", "--tuning", s(&tuning), "--target", "vulkan"]);
    assert!(gpu.contains("MLXC0978"), "{gpu}");
}
