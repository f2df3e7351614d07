//! Models for browsers, in Chromium with an emulated GPU: every shader, the loader, and the page of the examples.

#![allow(clippy::unwrap_used)]

mod browser;
mod server;
mod shaders;

use mlxc::pipeline::{Options, compile};
use mlxc::source::Build;
use mlxc::weights::NoWeights;
use mlxc::{Context, DType, Executable, Module, trace, web};
use mlxc_ir::graph::interpret::Tensor;
use mlxc_ir::{Size, SymId};
use mlxc_runtime::TensorView;
use mlxc_tests::kernels::Random;
use mlxc_text::{Sampler, SamplerOptions, Tokenizer};
use serde_json::{Value, json};
use server::{Route, Routes};
use std::path::{Path, PathBuf};
use std::time::Duration;

const MOST: Duration = Duration::from_secs(400);

/// The trained Llama as a folder for browsers, its weights in files of at most so many bytes.
fn llama(folder: &Path, piece: u64) {
    let mut build = Build::new(fixture());
    build.dtype = Some(DType::F32);
    build.targets = vec![web::TARGET.into()];
    let all = build.compile_all(&mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    let weights = build.weights(&all[0].traced).unwrap_or_else(|e| panic!("{e}"));
    let extras = build.extras(&all).unwrap_or_else(|e| panic!("{e}"));
    web::save(folder, &all[0], &*weights, &extras, piece, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/kjv-llama")
}

fn read(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_bytes(&std::fs::read(fixture().join("tokenizer.json")).unwrap()).unwrap_or_else(|e| panic!("{e}"))
}

/// Prompts, and the first tokens that the reference in float32 chooses after each.
fn expected(tokens: usize) -> Vec<(String, Vec<u64>)> {
    let expected = read(fixture().join("expected.json"));
    let prompts = expected["prompts"].as_array().unwrap().iter();
    let greedy =
        |p: &Value| p["greedy_f32"].as_array().unwrap()[..tokens].iter().map(|t| t.as_u64().unwrap()).collect();
    prompts.map(|p| (p["text"].as_str().unwrap().to_string(), greedy(p))).collect()
}

#[test]
fn the_trained_llama_writes_the_expected_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    // Twice: an earlier build is replaced. Pieces end within weights.
    llama(&model, web::PIECE_BYTES);
    llama(&model, 1_000_003);
    let pieces = read(model.join("plan.json"))["weights"]["pieces"].as_array().unwrap().len();
    assert_eq!(std::fs::read_dir(&model).unwrap().flatten().count(), pieces + 6);
    assert!(pieces > 10, "{pieces} pieces");
    let tokenizer = tokenizer();
    let texts = [
        "In the beginning God created",
        " two  spaces\n\n\tand\u{a0}\u{85}breaks\r\n ",
        "It's 1611, they'LL we've; (what)?! \"x\"…",
        "Ünïcödé 日本語 עברית e\u{301} 👩‍👩‍👧 ½ ٣",
        "a<|end|>b<|begin|><|end|",
        "\u{feff}\u{0}\u{7f}\u{ad}",
        "",
    ];
    let encode = |t: &str| tokenizer.encode(t, true).unwrap_or_else(|e| panic!("{e}"));
    let decode = |t: &[u32]| tokenizer.decode(t, false).unwrap_or_else(|e| panic!("{e}"));
    let mut broken = encode("日");
    broken.pop();
    broken.extend(encode(" and so"));
    let mut random = Random::new(5);
    let logits: Vec<f32> = (0..300).map(|_| (random.unit() * 4.0) as f32).collect();
    let samples: Vec<Value> = [(0.0, 1.0, 1), (0.8, 0.9, 7), (1.5, 1.0, u64::from(u32::MAX)), (0.3, 0.05, 3)]
        .into_iter()
        .map(|(temperature, top_p, seed)| {
            let mut sampler =
                Sampler::new(SamplerOptions { temperature, top_p, seed, ..SamplerOptions::default() }).unwrap();
            let tokens: Vec<u32> = (0..30).map(|_| sampler.sample(&logits).unwrap()).collect();
            let options = json!({"temperature": temperature, "topP": top_p, "seed": seed});
            json!({"options": options, "logits": logits, "tokens": tokens})
        })
        .collect();
    let prompts = expected(16).into_iter().take(3).map(|(text, greedy)| json!({"text": text, "greedy": greedy}));
    let spec = json!({
        "texts": texts.iter().map(|t| {
            let tokens = encode(t);
            let plain = decode(&tokens);
            json!({"text": t, "tokens": tokens, "plain": plain})
        }).collect::<Vec<_>>(),
        "broken": {"tokens": broken, "text": decode(&broken)},
        "samples": samples,
        "prompts": prompts.collect::<Vec<_>>(),
    });
    let routes = Routes::from([("/model/".into(), Route::Breaking(model))]);
    browser::run("llama", &spec, routes, MOST);
}

#[test]
fn the_page_of_the_examples_writes_text() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    llama(&model, web::PIECE_BYTES);
    let (prompt, greedy) = expected(6).swap_remove(1);
    let greedy: Vec<u32> = greedy.into_iter().map(|t| t as u32).collect();
    let text = tokenizer().decode(&greedy, false).unwrap_or_else(|e| panic!("{e}"));
    let page = include_str!("../../../examples/browser/index.html").to_string();
    let routes = Routes::from([
        ("/example/".into(), Route::Text("text/html", page)),
        ("/example/model/".into(), Route::Folder(model)),
    ]);
    browser::run("example", &json!({"prompt": prompt, "tokens": 6, "text": text}), routes, MOST);
}

const DTYPES: [DType; 10] = [
    DType::F32,
    DType::BF16,
    DType::F16,
    DType::I32,
    DType::U32,
    DType::I16,
    DType::U16,
    DType::I8,
    DType::U8,
    DType::Bool,
];

/// Each dtype doubled, and a state that keeps rows.
fn ports() -> Module {
    let model = |cx: &Context| {
        let n = cx.dim("N", 0..=9);
        for dtype in DTYPES {
            let x = cx.input(&format!("x_{}", dtype.name()), dtype, (&n, 3));
            let y = if dtype == DType::Bool { x.astype(DType::I32).astype(DType::Bool) } else { &x + &x };
            cx.output(&format!("y_{}", dtype.name()), &y);
        }
        let (row, position) = (cx.input("row", DType::F32, (1, 5)), cx.scalar("position", 0..=3));
        let kept = cx.state("kept", DType::F32, (4, 5)).update(&row, &position, 0);
        cx.output("kept", &kept);
    };
    trace("main", model).unwrap_or_else(|e| panic!("{e}"))
}

/// Inputs and the outputs that the processor computes from them, for three steps that follow each other.
fn steps(module: &Module) -> Vec<Value> {
    let options = Options::for_host().unwrap_or_else(|e| panic!("{e}"));
    let mut exe = Executable::new(module, &options).unwrap_or_else(|e| panic!("{e}"));
    let mut random = Random::new(2);
    let mut out = Vec::new();
    for (n, position) in [(1, 0), (9, 3), (0, 1), (9, 3)] {
        let mut inputs: Vec<(String, mlxc_runtime::Tensor)> = Vec::new();
        let mut add = |name: String, t: Tensor| {
            let shape: Vec<u64> = t.shape.iter().map(|n| *n as u64).collect();
            inputs.push((name, mlxc_runtime::Tensor::from_bytes(t.dtype, &shape, &t.to_bytes()).unwrap()));
        };
        for dtype in DTYPES {
            add(format!("x_{}", dtype.name()), random.tensor(dtype, &[n, 3]));
        }
        add("row".into(), random.tensor(DType::F32, &[1, 5]));
        add("position".into(), Tensor::ints(DType::I32, &[], &[position]));
        let views: Vec<(&str, TensorView<'_>)> = inputs.iter().map(|(n, t)| (n.as_str(), t.view())).collect();
        let outputs = exe.session().run("main", &views).unwrap_or_else(|e| panic!("{e}"));
        let port = |(name, t): &(String, mlxc_runtime::Tensor)| json!({"name": name, "dtype": t.dtype().name(), "shape": t.shape(), "data": t.to_f64s()});
        let [inputs, outputs] = [&inputs, &outputs].map(|all| all.iter().map(port).collect::<Vec<_>>());
        out.push(json!({"inputs": inputs, "outputs": outputs}));
    }
    out
}

/// Sizes of every kind with their text and value.
fn sizes() -> Vec<Value> {
    let (s, t, c) = (Size::symbol(SymId(0)), Size::symbol(SymId(1)), Size::constant);
    let all = [
        c(0),
        c(-5),
        s.clone() * c(2) + c(1),
        s.clone() * t.clone() * c(-3) + s.clone() * s.clone() - t.clone(),
        (s.clone() * c(3) - c(70)).floor_div(4) + t.at_most(5) * c(-2),
        s.ceil_div(8).at_least(3) * t.clone() + c(7),
        (s.clone() - t.clone()).floor_div(3).floor_div(5).at_most(-1),
    ];
    let names = ["S", "position"];
    let named = |id: SymId| names[id.0 as usize].to_string();
    let at = [[0, 0], [1, 7], [40, 3], [512, 511]];
    let each = all.iter().flat_map(|size| at.iter().map(move |at| (size, at)));
    each.map(|(size, at)| {
        json!({"size": size, "names": names, "text": size.display(&named).to_string(), "at": at, "value": size.eval(at)})
    })
    .collect()
}

/// Floats with their bits in bf16 and f16.
fn rounded() -> Vec<Value> {
    let mut values = vec![
        0.0,
        -0.0,
        1.0,
        1.00390625,
        1.01171875,
        65504.0,
        65519.0,
        65520.0,
        6e-8,
        2.9802322e-8,
        3e-8,
        -1e-5,
        6.1e-5,
        3.4e38,
    ];
    let mut random = Random::new(9);
    values.extend((0..400).map(|i| random.unit() * 2f64.powi(i % 60 - 30)));
    let bits = |dtype, x: f64| {
        let bytes = Tensor::floats(dtype, &[], &[x]).to_bytes();
        u16::from_le_bytes([bytes[0], bytes[1]])
    };
    values.iter().map(|x| f64::from(*x as f32)).map(|x| json!([x, bits(DType::BF16, x), bits(DType::F16, x)])).collect()
}

#[test]
fn every_dtype_goes_in_and_out() {
    let module = ports();
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    let options = Options::for_target(web::TARGET).unwrap_or_else(|e| panic!("{e}"));
    let compiled = compile(&module, &options).unwrap_or_else(|e| panic!("{e}"));
    let save = |to: &Path| web::save(to, &compiled, &NoWeights, &Vec::new(), web::PIECE_BYTES, &mut |_| {});
    save(&model).unwrap_or_else(|e| panic!("{e}"));
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("notes"), "mine").unwrap();
    assert_eq!(save(&other).unwrap_err().0[0].id, 954);
    assert_eq!(save(&other.join("notes")).unwrap_err().0[0].id, 954);
    assert_eq!(save(&other.join("missing/model")).unwrap_err().0[0].id, 955);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left behind");
    let plan = read(model.join("plan.json"));
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut plan = plan.clone();
        change(&mut plan);
        Route::Text("application/json", plan.to_string())
    };
    let symbol = plan["plan"]["kernels"][0]["phases"][0]["symbol"].as_str().unwrap();
    let piece = json!({"file": "mlxc.js", "bytes": 100_000});
    let routes = Routes::from([
        ("/model/".into(), Route::Folder(model.clone())),
        ("/other/plan.json".into(), changed(&|p| p["version"] = json!(2))),
        ("/broken/".into(), Route::Folder(model.clone())),
        (format!("/broken/shaders/{symbol}.wgsl"), Route::Text("text/plain", "fn nonsense(".into())),
        ("/short/".into(), Route::Folder(model)),
        ("/short/plan.json".into(), changed(&|p| p["weights"]["pieces"] = json!([piece]))),
        ("/many/plan.json".into(), changed(&|p| p["plan"]["kernels"][0]["buffers"] = json!(vec!["read"; 100]))),
    ]);
    let spec = json!({"steps": steps(&module), "sizes": sizes(), "rounded": rounded()});
    browser::run("ports", &spec, routes, MOST);
}

#[test]
fn a_folder_for_browsers_is_for_nothing_else() {
    let mut build = Build::new(fixture());
    build.targets = vec![web::TARGET.into(), "vulkan".into()];
    assert_eq!(build.options().unwrap_err().0[0].id, 953);
}
