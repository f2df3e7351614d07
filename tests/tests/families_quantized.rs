//! Every decoder family in 4 bits, quantised as the package is written, against what Hugging Face transformers computes on
//! weights that MLX quantised alike: whole, in chunks, and token by token.

use mlxc::DType;
use mlxc::source::Build;
use mlxc_runtime::{LoadOptions, Model, Session, TensorView};
use safetensors::SafeTensors;
use std::path::PathBuf;

const FAMILIES: [&str; 12] = [
    "gemma2",
    "gemma3",
    "llama",
    "llama-linear",
    "llama-yarn",
    "mistral",
    "mixtral",
    "phi3",
    "phi3-short",
    "qwen2",
    "qwen3",
    "qwen3-moe",
];

fn folder(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/families")).join(name)
}

fn read(name: &str, file: &str) -> Vec<u8> {
    std::fs::read(folder(name).join(file)).unwrap_or_else(|e| panic!("{name}/{file}: {e}"))
}

/// The words of a tensor.
fn words(bytes: &[u8], name: &str) -> Vec<[u8; 4]> {
    let file = SafeTensors::deserialize(bytes).unwrap_or_else(|e| panic!("{e}"));
    let data = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}")).data().to_vec();
    data.chunks_exact(4).map(|c| [c[0], c[1], c[2], c[3]]).collect()
}

fn stored_dtype(name: &str) -> safetensors::Dtype {
    let bytes = read(name, "model.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
    file.tensor("model.norm.weight").unwrap_or_else(|e| panic!("{name}: {e}")).dtype()
}

fn session(name: &str, dtype: DType) -> Session {
    let mut build = Build::new(folder(name));
    build.dtype = Some(dtype);
    build.quantize = "4,32".parse().ok();
    build.context = Some(40);
    build.prefill_chunk = 40;
    let package = build.package(&mut |_| {}).unwrap_or_else(|e| panic!("{name}: {e}"));
    let load = LoadOptions { poison: true, ..LoadOptions::default() };
    Model::load(package, &load).and_then(|m| m.session()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn step(s: &mut Session, entry: &str, tokens: &[i32], position: usize) -> Vec<f64> {
    let (shape, at) = ([tokens.len() as u64], [position as i32]);
    let tokens = TensorView::from_slice(&shape, tokens).expect("a view of a slice");
    let position = TensorView::from_slice(&[], &at).expect("a view of a slice");
    let out = s.run(entry, &[("tokens", tokens), ("position", position)]).unwrap_or_else(|e| panic!("{entry}: {e}"));
    out[0].1.to_f64s()
}

fn largest(v: &[f64]) -> usize {
    (0..v.len()).max_by(|a, b| v[*a].total_cmp(&v[*b]).then(b.cmp(a))).expect("a row has logits")
}

#[test]
fn decoders_in_four_bits() {
    for name in FAMILIES {
        let tokens: Vec<i32> =
            words(&read(name, "expected.safetensors"), "tokens").into_iter().map(i32::from_le_bytes).collect();
        let tokens = &tokens[..tokens.len() - 1];
        let logits = words(&read(name, "expected_quantized.safetensors"), "logits");
        let flat: Vec<f64> = logits.into_iter().map(|w| f64::from(f32::from_le_bytes(w))).collect();
        let rows: Vec<&[f64]> = flat.chunks_exact(flat.len() / tokens.len()).collect();
        let scale = flat.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let report: serde_json::Value =
            serde_json::from_slice(&read(name, "expected.json")).unwrap_or_else(|e| panic!("{name}: {e}"));
        // bf16 rounds the scales too, and what decides between experts.
        let half = 5.0 * report["bf16_error"].as_f64().expect("a number");
        // Weights stored in another dtype are rounded to bf16 before they are quantised, which moves codes: another model.
        let stored = stored_dtype(name);
        let runs = [(DType::F32, 2e-5 * scale), (DType::BF16, half)];
        for (dtype, allowed) in runs.into_iter().filter(|(d, _)| *d == DType::F32 || stored == safetensors::Dtype::BF16)
        {
            let mut worst = 0.0f64;
            let mut compare = |got: &[f64], at: usize| {
                let far = got.iter().zip(rows[at]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(far <= allowed, "{name} in {dtype} at {at}: {far} of {allowed}");
                worst = worst.max(far);
                // Where the two likeliest are further apart than rounding reaches, the same one wins.
                let best = largest(rows[at]);
                let next =
                    rows[at].iter().enumerate().filter(|(i, _)| *i != best).map(|(_, x)| *x).fold(f64::MIN, f64::max);
                if rows[at][best] - next > 2.0 * allowed {
                    assert_eq!(largest(got), best, "{name} in {dtype}: the token after {at}");
                }
            };
            let mut s = session(name, dtype);
            let all = step(&mut s, "score", tokens, 0);
            all.chunks_exact(rows[0].len()).enumerate().for_each(|(at, row)| compare(row, at));
            s.reset();
            for (i, part) in tokens[..21].chunks(7).enumerate() {
                let row = step(&mut s, "prefill", part, 7 * i);
                compare(&row, 7 * i + part.len() - 1);
            }
            for (at, token) in tokens.iter().enumerate().skip(21) {
                let row = step(&mut s, "decode", &[*token], at);
                compare(&row, at);
            }
            println!("{name} in {dtype}: {worst:.2e} of {allowed:.2e}, largest logit {scale:.1}");
        }
    }
}
