//! Every family on the command line: compile once, then inspect, generate, score, verify or embed from the package.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const DECODERS: [&str; 9] = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "mixtral", "qwen3-moe"];

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/families").join(name)
}

fn ok(args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_mlxc")).args(args).output().expect("the program starts");
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("output is text")
}

fn json_of(args: &[&str]) -> Value {
    serde_json::from_str(&ok(args)).expect("standard output is one JSON value")
}

fn path(p: &Path) -> &str {
    p.to_str().expect("a path of the test is text")
}

/// A fixture with a tokenizer whose words are `t0`, `t1` and so on, and a chat template that adds nothing.
fn model(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = folder.path().join("model");
    std::fs::create_dir(&model).expect("a folder");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture(name).join(file), model.join(file)).expect("the fixture is in the repository");
    }
    let words: serde_json::Map<String, Value> = (0..160).map(|i| (format!("t{i}"), i.into())).collect();
    let tokenizer = json!({
        "version": "1.0",
        // What batches in training want, and one text does not.
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 20}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "t0"},
        "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "t0"},
    });
    let template = "{% for m in messages %}{{ m['content'] }}{% endfor %}";
    let config = json!({"chat_template": template, "bos_token": "t1", "eos_token": "t2"});
    for (file, value) in [("tokenizer.json", tokenizer), ("tokenizer_config.json", config)] {
        std::fs::write(model.join(file), value.to_string()).expect("a file is written");
    }
    (folder, model)
}

fn tensor(name: &str, tensor: &str) -> Vec<[u8; 4]> {
    let raw = std::fs::read(fixture(name).join("expected.safetensors")).expect("the fixture is in the repository");
    let file = safetensors::SafeTensors::deserialize(&raw).expect("the fixture is whole");
    let data = file.tensor(tensor).expect("a tensor of the fixture");
    data.data().chunks_exact(4).map(|c| [c[0], c[1], c[2], c[3]]).collect()
}

fn text(tokens: &[i32]) -> String {
    tokens.iter().map(|t| format!("t{t}")).collect::<Vec<_>>().join(" ")
}

fn tokens(name: &str, key: &str) -> Vec<i32> {
    tensor(name, key).into_iter().map(i32::from_le_bytes).collect()
}

#[test]
fn decoders_compile_write_score_and_verify() {
    for name in DECODERS {
        let (folder, model) = model(name);
        let package = folder.path().join("model.mlxc");
        let package = path(&package);
        let options = ["--dtype", "f32", "--context", "40", "--prefill-chunk", "16"];
        ok(&[&["compile", path(&model), "-o", package][..], &options].concat());
        let all = tokens(name, "tokens");
        let (prompt, written) = all.split_at(24);
        for chat in [&[][..], &["--chat"]] {
            let args = ["generate", package, "--prompt", &text(prompt), "--max-tokens", "8", "--ignore-eos", "--json"];
            let out = json_of(&[&args[..], chat].concat());
            assert_eq!(out["prompt_tokens"], json!(prompt), "{name}");
            assert_eq!(out["tokens"], json!(written), "{name} {chat:?}");
        }
        let file = folder.path().join("text.txt");
        std::fs::write(&file, text(&all)).expect("a file is written");
        let scored = json_of(&["perplexity", package, "--text", path(&file), "--window", "31", "--json"]);
        // The mean over what the expected logits say of each next token.
        let logits: Vec<f64> = tensor(name, "logits").into_iter().map(|b| f64::from(f32::from_le_bytes(b))).collect();
        let rows = logits.chunks_exact(160);
        let nll =
            rows.zip(&all[1..]).map(|(row, t)| row.iter().map(|x| (x - row[*t as usize]).exp()).sum::<f64>().ln());
        let want = nll.sum::<f64>() / 31.0;
        let got = scored["mean_nll"].as_f64().expect("a number");
        assert!((got - want).abs() < 1e-4, "{name}: {got} is not {want}");
        let entries = json_of(&["inspect", package, "--json"]);
        assert_eq!(entries["entries"].as_array().map(Vec::len), Some(3), "{name}");
        let checked = json_of(&["verify", package, "--json"]);
        assert!(checked.as_array().is_some_and(|c| c.iter().all(|c| c["passed"] == true)), "{name}: {checked}");
    }
}

#[test]
fn encoders_embed_texts() {
    let (folder, model) = model("bert");
    let want: Vec<f32> = tensor("bert", "untyped_7").into_iter().map(f32::from_le_bytes).collect();
    let seven = text(&tokens("bert", "tokens_7"));
    let near = |row: &[f32]| row.iter().zip(&want).all(|(a, b)| (a - b).abs() < 2e-6);
    let list = |v: &Value| -> Vec<f32> { serde_json::from_value(v["embedding"].clone()).expect("a list of numbers") };
    let out = json_of(&["embed", path(&model), "--text", "t5", "--text", &seven]);
    assert_eq!((out[0]["tokens"].as_u64(), out[1]["tokens"].as_u64()), (Some(1), Some(7)));
    assert!(near(&list(&out[1])), "{out}");
    let (lines, npy) = (folder.path().join("lines.txt"), folder.path().join("out.npy"));
    std::fs::write(&lines, format!("{seven}\n\n{seven} t9\n")).expect("a file is written");
    let package = folder.path().join("model.mlxc");
    ok(&["compile", path(&model), "-o", path(&package), "--context", "7"]);
    let args = ["embed", path(&package), "--input", path(&lines), "-o", path(&npy)];
    let refused = Command::new(env!("CARGO_BIN_EXE_mlxc")).args(args).output().expect("the program starts");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("MLXC0918"), "eight tokens do not fit seven");
    ok(&[&args[..], &["--truncate"]].concat());
    let bytes = std::fs::read(&npy).expect("the file was written");
    let data: Vec<f32> = bytes[bytes.len() - 2 * 64 * 4..]
        .chunks_exact(4)
        .map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]))
        .collect();
    assert!(data.chunks(64).all(near), "both rows are of the same seven tokens");
    let checked = json_of(&["verify", path(&package), "--json"]);
    assert!(checked.as_array().is_some_and(|c| c.iter().all(|c| c["passed"] == true)), "{checked}");
}
