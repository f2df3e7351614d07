//! Every family's tiny checkpoint against figures computed by Hugging Face transformers: prefill, prefill in chunks, decode.

use mlxc::models::{Architecture, Config, EntryOptions, Pooling, trace_model};
use mlxc::pipeline::{Compiled, Options, compile};
use mlxc::weights::Checkpoint;
use mlxc::{DType, Quantization};
use mlxc_runtime::{LoadOptions, Model, Session, TensorView};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

/// A family's fixture and what is expected of its code.
struct Family {
    folder: &'static str,
    /// Largest difference of a logit in f32, as a share of the largest logit.
    f32_error: f64,
    /// Launches of prefill and decode.
    launches: (usize, usize),
}

const fn family(folder: &'static str, f32_error: f64, launches: (usize, usize)) -> Family {
    Family { folder, f32_error, launches }
}

const CONTEXT: i64 = 40;

/// Counts are those of one target, whatever machine compiles for it.
const TARGET: &str = "x86-64-v4-bf16";

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/families").join(name)
}

fn text(name: &str, file: &str) -> String {
    std::fs::read_to_string(folder(name).join(file)).expect("the fixture is in the repository")
}

fn config(name: &str) -> Config {
    Config::parse(&text(name, "config.json"), "config.json").unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// What other software computed.
struct Expected {
    tokens: Vec<i32>,
    prompt: usize,
    /// Rows of logits of every token but the last.
    logits: Vec<Vec<f64>>,
    /// What other software's own bf16 loses.
    bf16_error: f64,
}

fn tensors(name: &str) -> Vec<u8> {
    std::fs::read(folder(name).join("expected.safetensors")).expect("the fixture is in the repository")
}

fn floats(file: &safetensors::SafeTensors<'_>, name: &str) -> Vec<f64> {
    let data = file.tensor(name).expect("a tensor of the fixture");
    data.data().chunks_exact(4).map(|c| f64::from(f32::from_le_bytes([c[0], c[1], c[2], c[3]]))).collect()
}

fn ints(file: &safetensors::SafeTensors<'_>, name: &str) -> Vec<i32> {
    let data = file.tensor(name).expect("a tensor of the fixture");
    data.data().chunks_exact(4).map(|c| i32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

fn expected(name: &str) -> Expected {
    let raw = tensors(name);
    let file = safetensors::SafeTensors::deserialize(&raw).expect("the fixture is whole");
    let report: Value = serde_json::from_str(&text(name, "expected.json")).expect("the fixture is JSON");
    let tokens = ints(&file, "tokens");
    let logits = floats(&file, "logits");
    let width = logits.len() / (tokens.len() - 1);
    Expected {
        tokens,
        prompt: report["prompt"].as_u64().expect("a number") as usize,
        logits: logits.chunks(width).map(<[f64]>::to_vec).collect(),
        bf16_error: report["bf16_error"].as_f64().expect("a number"),
    }
}

fn compiled(name: &str, dtype: DType, chunk: i64, context: i64) -> Compiled {
    let module = trace_model(&config(name), EntryOptions::new(dtype, chunk, context), &Quantization::default());
    let module = module.unwrap_or_else(|e| panic!("{name}: {e}"));
    let options = Options::for_host().unwrap_or_else(|e| panic!("{e}"));
    compile(&module, &options).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn session(name: &str, dtype: DType, chunk: i64, context: i64) -> Session {
    let weights = Checkpoint::open(&folder(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let package = compiled(name, dtype, chunk, context).package(&weights, &Vec::new());
    let package = package.unwrap_or_else(|e| panic!("{name}: {e}"));
    // Freed memory is filled with NaN: a wrong lifetime shows in the figures.
    let load = LoadOptions { threads: Some(1), poison: true, ..LoadOptions::default() };
    let model = Model::load(Arc::new(package), &load).unwrap_or_else(|e| panic!("{name}: {e}"));
    model.session().unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn step(s: &mut Session, entry: &str, tokens: &[i32], position: usize) -> Vec<f64> {
    let (shape, at) = ([tokens.len() as u64], [position as i32]);
    let tokens = TensorView::from_slice(&shape, tokens).expect("a view of a slice");
    let position = TensorView::from_slice(&[], &at).expect("a view of a slice");
    let mut out =
        s.run(entry, &[("tokens", tokens), ("position", position)]).unwrap_or_else(|e| panic!("{entry}: {e}"));
    out.remove(0).1.to_f64s()
}

fn argmax(v: &[f64]) -> i32 {
    (0..v.len()).max_by(|a, b| v[*a].total_cmp(&v[*b]).then(b.cmp(a))).expect("logits are not empty") as i32
}

fn difference(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, |m, x| if x.is_nan() { f64::NAN } else { m.max(x) })
}

/// Everything of one family: scores, prefill whole and in odd chunks, decode of the expected tokens, and counts.
fn check(f: &Family) {
    let name = f.folder;
    let e = expected(name);
    let (prompt, all) = (&e.tokens[..e.prompt], &e.tokens[..e.tokens.len() - 1]);
    let flat: Vec<f64> = e.logits.concat();
    let largest = flat.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    for (dtype, allowed) in [(DType::F32, f.f32_error * largest), (DType::BF16, 1.5 * e.bf16_error)] {
        let mut s = session(name, dtype, CONTEXT, CONTEXT);
        let mut worst = difference(&step(&mut s, "score", all, 0), &flat);
        let last = step(&mut s, "prefill", prompt, 0);
        worst = worst.max(difference(&last, &e.logits[e.prompt - 1]));
        let mut written = vec![argmax(&last)];
        for at in e.prompt..all.len() {
            let logits = step(&mut s, "decode", &[*written.last().expect("one token")], at);
            worst = worst.max(difference(&logits, &e.logits[at]));
            written.push(argmax(&logits));
        }
        assert_eq!(written, e.tokens[e.prompt..], "{name} in {dtype}");
        let mut s = session(name, dtype, 7, CONTEXT);
        for (i, part) in prompt.chunks(7).enumerate() {
            let logits = step(&mut s, "prefill", part, i * 7);
            worst = worst.max(difference(&logits, &e.logits[i * 7 + part.len() - 1]));
        }
        // From the first token on, one at a time.
        let mut s = session(name, dtype, 1, CONTEXT);
        for (at, token) in all.iter().enumerate() {
            worst = worst.max(difference(&step(&mut s, "decode", &[*token], at), &e.logits[at]));
        }
        eprintln!("{name} in {dtype}: {worst:.2e} of {allowed:.2e}, largest logit {largest:.1}");
        assert!(worst <= allowed, "{name} in {dtype}: {worst} of {allowed}");
    }
    count(f);
}

/// The family at sizes of real models, as fusion depends on them: 8 heads of 128 features over a width of 1024.
fn widened(name: &str) -> Config {
    let mut v: Value = serde_json::from_str(&text(name, "config.json")).expect("the fixture is JSON");
    for (key, value) in [
        ("hidden_size", 1024),
        ("intermediate_size", 2816),
        ("moe_intermediate_size", 768),
        ("num_attention_heads", 8),
        ("num_key_value_heads", 4),
        ("head_dim", 128),
        ("vocab_size", 4096),
        ("max_position_embeddings", 4096),
    ] {
        if !v[key].is_null() {
            v[key] = value.into();
        }
    }
    for key in ["short_factor", "long_factor"] {
        // One for each pair of rotated features: eight times as many as in heads of 16.
        if let Some(Value::Array(list)) = v["rope_parameters"].get_mut(key) {
            *list = vec![1.5.into(); 8 * list.len()];
        }
    }
    Config::parse(&v.to_string(), "config.json").unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn count(f: &Family) {
    let config = widened(f.folder);
    let module = trace_model(&config, EntryOptions::new(DType::BF16, 512, 2048), &Quantization::default());
    let module = module.unwrap_or_else(|e| panic!("{}: {e}", f.folder));
    let options = Options::for_target(TARGET).unwrap_or_else(|e| panic!("{e}"));
    let c = compile(&module, &options).unwrap_or_else(|e| panic!("{}: {e}", f.folder));
    let launches = |entry: &str| {
        let e = c.scheduled.plan.entries.iter().find(|e| e.name == entry).expect("an entry");
        e.launches.len()
    };
    let Architecture::Decoder(d) = &config.architecture else { panic!("{} is a decoder", f.folder) };
    let (layers, found) = (d.layers.len(), (launches("prefill"), launches("decode")));
    eprintln!("{}: {found:?} launches for {layers} layers", f.folder);
    assert_eq!(found, f.launches, "{}: launches of prefill and decode for {layers} layers", f.folder);
}

macro_rules! families {
    ($($test:ident: $folder:literal, $error:literal, $launches:expr;)*) => {$(
        #[test]
        fn $test() {
            check(&family($folder, $error, $launches));
        }
    )*};
}

families! {
    llama_with_llama3_scaling: "llama", 1e-5, (23, 23);
    llama_with_yarn_and_bias: "llama-yarn", 1e-5, (24, 23);
    llama_with_linear_scaling: "llama-linear", 1e-5, (16, 16);
    mistral: "mistral", 1e-5, (23, 23);
    qwen2: "qwen2", 1e-5, (23, 23);
    qwen3: "qwen3", 1e-5, (24, 23);
    gemma2: "gemma2", 1e-5, (31, 30);
    gemma3: "gemma3", 1e-5, (45, 44);
    phi3_past_the_trained_length: "phi3", 1e-5, (18, 18);
    phi3_within_the_trained_length: "phi3-short", 1e-5, (16, 16);
    mixtral: "mixtral", 1e-5, (22, 20);
    qwen3_moe: "qwen3-moe", 1e-5, (29, 27);
}

/// f16 has three bits more than bf16, and loses less.
#[test]
fn families_in_f16() {
    for name in ["llama", "gemma2", "qwen3-moe"] {
        let e = expected(name);
        let mut s = session(name, DType::F16, CONTEXT, CONTEXT);
        let worst = difference(&step(&mut s, "score", &e.tokens[..e.tokens.len() - 1], 0), &e.logits.concat());
        assert!(worst <= 0.5 * e.bf16_error, "{name}: {worst} of half of {}", e.bf16_error);
    }
}

#[test]
fn bert_embeds_texts_of_any_length() {
    let raw = tensors("bert");
    let file = safetensors::SafeTensors::deserialize(&raw).expect("the fixture is whole");
    for pooling in [Pooling::Mean, Pooling::First] {
        let mut config = config("bert");
        if let Architecture::Encoder(e) = &mut config.architecture {
            e.pooling = pooling;
        }
        let options = EntryOptions::new(DType::F32, 1, 30);
        let module = trace_model(&config, options, &Quantization::default()).unwrap_or_else(|e| panic!("{e}"));
        let host = Options::for_host().unwrap_or_else(|e| panic!("{e}"));
        let c = compile(&module, &host).unwrap_or_else(|e| panic!("{e}"));
        let weights = Checkpoint::open(&folder("bert")).unwrap_or_else(|e| panic!("{e}"));
        let package = c.package(&weights, &Vec::new()).unwrap_or_else(|e| panic!("{e}"));
        let load = LoadOptions { threads: Some(1), poison: true, ..LoadOptions::default() };
        let model = Model::load(Arc::new(package), &load).unwrap_or_else(|e| panic!("{e}"));
        let mut s = model.session().unwrap_or_else(|e| panic!("{e}"));
        for n in [1, 7, 24] {
            let (tokens, types) = (ints(&file, &format!("tokens_{n}")), ints(&file, &format!("token_types_{n}")));
            let shape = [n as u64];
            let tokens = TensorView::from_slice(&shape, &tokens).expect("a view");
            let types = TensorView::from_slice(&shape, &types).expect("a view");
            let out = s.run("embed", &[("tokens", tokens), ("token_types", types)]).unwrap_or_else(|e| panic!("{e}"));
            let which = if pooling == Pooling::Mean { "mean" } else { "first" };
            let error = difference(&out[0].1.to_f64s(), &floats(&file, &format!("{which}_{n}")));
            assert!(error <= 2e-6, "{n} tokens, {which}: {error}");
        }
    }
}

#[test]
fn an_encoder_layer_is_seven_kernels() {
    // Besides: the embeddings with their norm, and two for the mean of the last layer and its length.
    for layers in [2, 4] {
        let mut config = config("bert");
        if let Architecture::Encoder(e) = &mut config.architecture {
            (e.layers, e.hidden_size, e.intermediate_size, e.heads) = (layers, 384, 1536, 12);
        }
        let module = trace_model(&config, EntryOptions::new(DType::F32, 1, 64), &Quantization::default());
        let options = Options::for_target(TARGET).unwrap_or_else(|e| panic!("{e}"));
        let c = compile(&module.unwrap_or_else(|e| panic!("{e}")), &options).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(c.scheduled.plan.entries[0].launches.len(), 7 * layers + 3);
    }
}
