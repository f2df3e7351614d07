//! Damaged and mismatched checkpoints: each one clear error that names the file and what is wrong in it.

use mlxc::source::Build;
use mlxc::{Diagnostic, Errors};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

type Tensors = BTreeMap<String, (Dtype, Vec<usize>)>;

fn config() -> Value {
    json!({"model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 20, "dtype": "float32", "max_position_embeddings": 32})
}

fn tensors() -> Tensors {
    let mut out = Tensors::new();
    let mut add = |name: &str, shape: &[usize]| out.insert(name.into(), (Dtype::F32, shape.to_vec()));
    add("model.embed_tokens.weight", &[20, 16]);
    add("lm_head.weight", &[20, 16]);
    add("model.norm.weight", &[16]);
    for name in ["input_layernorm", "post_attention_layernorm"] {
        add(&format!("model.layers.0.{name}.weight"), &[16]);
    }
    for name in ["q_proj", "k_proj", "v_proj", "o_proj"] {
        add(&format!("model.layers.0.self_attn.{name}.weight"), &[16, 16]);
    }
    for name in ["gate_proj", "up_proj"] {
        add(&format!("model.layers.0.mlp.{name}.weight"), &[24, 16]);
    }
    add("model.layers.0.mlp.down_proj.weight", &[16, 24]);
    out
}

fn write(folder: &Path, file: &str, tensors: &Tensors) {
    let bytes: BTreeMap<&String, Vec<u8>> =
        tensors.iter().map(|(n, (d, s))| (n, vec![0; d.bitsize() / 8 * s.iter().product::<usize>()])).collect();
    let views = tensors
        .iter()
        .map(|(n, (d, s))| (n.clone(), TensorView::new(*d, s.clone(), &bytes[n]).expect("bytes fill the shape")));
    let raw = safetensors::serialize(views, None).expect("tensors are well formed");
    std::fs::write(folder.join(file), raw).expect("a file is written");
}

fn model(config: &Value, tensors: &Tensors) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("config.json"), config.to_string()).expect("a file is written");
    write(folder.path(), "model.safetensors", tensors);
    folder
}

/// The model in two files with an index.
fn sharded(index: impl FnOnce(&mut Value)) -> TempDir {
    let folder = model(&config(), &Tensors::new());
    std::fs::remove_file(folder.path().join("model.safetensors")).expect("the file was there");
    let (a, b): (Tensors, Tensors) = tensors().into_iter().partition(|(n, _)| n.contains("mlp"));
    write(folder.path(), "model-1.safetensors", &a);
    write(folder.path(), "model-2.safetensors", &b);
    let file = |n: &String| if a.contains_key(n) { "model-1.safetensors" } else { "model-2.safetensors" };
    let map: serde_json::Map<String, Value> = tensors().keys().map(|n| (n.clone(), file(n).into())).collect();
    let mut value = json!({"metadata": {"total_size": 1}, "weight_map": map});
    index(&mut value);
    std::fs::write(folder.path().join("model.safetensors.index.json"), value.to_string()).expect("a file is written");
    folder
}

fn outcome(folder: &TempDir) -> Result<(), Errors> {
    let mut build = Build::new(folder.path());
    build.prefill_chunk = 4;
    build.package(&mut |_| {}).map(|_| ())
}

/// The one error, which names the file and holds the words.
fn fails(folder: &TempDir, id: u16, file: &str, words: &[&str]) -> Diagnostic {
    let mut errors = outcome(folder).expect_err("the checkpoint is refused").0;
    assert_eq!(errors.len(), 1, "{errors:?}");
    let d = errors.remove(0);
    let text = d.to_string();
    assert_eq!(d.id, id, "{text}");
    assert!(d.at.as_ref().is_some_and(|at| at.file.ends_with(file)), "{text} names {file}");
    words.iter().for_each(|w| assert!(text.contains(w), "{text} says {w}"));
    d
}

#[test]
fn whole_checkpoints_are_read() {
    outcome(&model(&config(), &tensors())).unwrap_or_else(|e| panic!("{e}"));
    outcome(&sharded(|_| {})).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn a_missing_tensor() {
    let mut t = tensors();
    t.remove("model.layers.0.mlp.up_proj.weight");
    fails(&model(&config(), &t), 921, "model.safetensors", &["model.layers.0.mlp.up_proj.weight"]);
}

#[test]
fn tensors_no_layer_reads() {
    let mut t = tensors();
    t.insert("model.layers.1.mlp.up_proj.weight".into(), (Dtype::F32, vec![24, 16]));
    fails(&model(&config(), &t), 931, "model.safetensors", &["model.layers.1.mlp.up_proj.weight"]);
    let mut t = tensors();
    t.insert("model.layers.0.self_attn.q_proj.bias".into(), (Dtype::F32, vec![16]));
    fails(&model(&config(), &t), 931, "model.safetensors", &["q_proj.bias"]);
}

#[test]
fn known_tables_and_a_tied_head_are_no_parameters() {
    let mut t = tensors();
    t.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), (Dtype::F32, vec![4]));
    outcome(&model(&config(), &t)).unwrap_or_else(|e| panic!("{e}"));
    let mut tied = config();
    tied["tie_word_embeddings"] = true.into();
    outcome(&model(&tied, &t)).unwrap_or_else(|e| panic!("{e}"));
    t.remove("lm_head.weight");
    outcome(&model(&tied, &t)).unwrap_or_else(|e| panic!("{e}"));
    fails(&model(&config(), &t), 921, "model.safetensors", &["lm_head.weight"]);
}

#[test]
fn a_wrong_shape() {
    let mut t = tensors();
    t.insert("model.norm.weight".into(), (Dtype::F32, vec![17]));
    fails(&model(&config(), &t), 922, "model.safetensors", &["model.norm.weight", "[16]", "[17]"]);
}

#[test]
fn a_wrong_dtype() {
    let mut t = tensors();
    t.insert("model.norm.weight".into(), (Dtype::I64, vec![16]));
    fails(&model(&config(), &t), 922, "model.safetensors", &["model.norm.weight", "I64"]);
}

/// Floats are no codes, however well their shape fits.
#[test]
fn words_that_are_floats() {
    let mut c = config();
    c["quantization"] = json!({"group_size": 32, "bits": 4});
    c["intermediate_size"] = 32.into();
    let mut t = tensors();
    for name in ["gate_proj", "up_proj"] {
        t.insert(format!("model.layers.0.mlp.{name}.weight"), (Dtype::F32, vec![32, 16]));
    }
    t.insert("model.layers.0.mlp.down_proj.weight".into(), (Dtype::F32, vec![16, 4]));
    t.insert("model.layers.0.mlp.down_proj.scales".into(), (Dtype::F32, vec![16, 1]));
    t.insert("model.layers.0.mlp.down_proj.biases".into(), (Dtype::F32, vec![16, 1]));
    fails(&model(&c, &t), 922, "model.safetensors", &["down_proj.weight", "u32", "F32"]);
    t.insert("model.layers.0.mlp.down_proj.weight".into(), (Dtype::U32, vec![16, 4]));
    outcome(&model(&c, &t)).unwrap_or_else(|e| panic!("{e}"));
    for (wrong, shape) in [("weight", vec![16, 5]), ("scales", vec![16, 2]), ("biases", vec![8, 1])] {
        let mut t = t.clone();
        let tensor = t.get_mut(&format!("model.layers.0.mlp.down_proj.{wrong}")).expect("it is there");
        tensor.1 = shape;
        fails(&model(&c, &t), 922, "model.safetensors", &[&format!("down_proj.{wrong}")]);
    }
    c["quantization"]["group_size"] = 64.into();
    fails(&model(&c, &t), 941, ".rs", &["mlp.down_proj", "groups of 64", "rows of 32"]);
    c["quantization"]["group_size"] = 32.into();
    t.remove("model.layers.0.mlp.down_proj.biases");
    fails(&model(&c, &t), 921, "model.safetensors", &["down_proj.biases"]);
}

#[test]
fn an_unknown_activation() {
    let mut c = config();
    c["hidden_act"] = "mish".into();
    fails(&model(&c, &tensors()), 910, "config.json", &["hidden_act", "mish"]);
}

#[test]
fn no_weights_and_no_config() {
    let folder = model(&config(), &tensors());
    std::fs::remove_file(folder.path().join("model.safetensors")).expect("the file was there");
    fails(&folder, 920, "model.safetensors", &[]);
    let folder = model(&config(), &tensors());
    std::fs::remove_file(folder.path().join("config.json")).expect("the file was there");
    fails(&folder, 920, "config.json", &[]);
}

#[test]
fn half_a_file() {
    let folder = model(&config(), &tensors());
    let path = folder.path().join("model.safetensors");
    let whole = std::fs::read(&path).expect("the file is there");
    for n in [0, 4, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..n]).expect("a file is written");
        fails(&folder, 923, "model.safetensors", &[]);
    }
}

#[test]
fn an_index_that_is_no_index() {
    const INDEX: &str = "model.safetensors.index.json";
    let folder = sharded(|_| {});
    std::fs::write(folder.path().join(INDEX), "{\"weight_map\": ").expect("a file is written");
    fails(&folder, 923, INDEX, &[]);
    fails(&sharded(|v| *v = json!([])), 923, INDEX, &["weight_map"]);
    fails(&sharded(|v| *v = json!({"metadata": {}})), 923, INDEX, &["weight_map"]);
    fails(&sharded(|v| v["weight_map"]["lm_head.weight"] = 3.into()), 923, INDEX, &["lm_head.weight"]);
}

#[test]
fn an_index_that_names_what_is_not_there() {
    const INDEX: &str = "model.safetensors.index.json";
    fails(
        &sharded(|v| v["weight_map"]["lm_head.weight"] = "model-3.safetensors".into()),
        920,
        "model-3.safetensors",
        &[],
    );
    let moved = sharded(|v| v["weight_map"]["lm_head.weight"] = "model-1.safetensors".into());
    fails(&moved, 923, INDEX, &["lm_head.weight", "model-1.safetensors"]);
    for bad in ["../model-1.safetensors", "/model-1.safetensors", "..", ".", "", "a/b"] {
        fails(&sharded(|v| v["weight_map"]["lm_head.weight"] = bad.into()), 923, INDEX, &["lm_head.weight"]);
    }
}
