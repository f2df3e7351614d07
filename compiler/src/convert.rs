//! Writing a checkpoint anew, quantised or in another dtype, as a folder that Hugging Face's and MLX's tools read.
//!
//! Tensors are made and written one at a time. The safetensors format is a header in JSON (offsets, dtypes, shapes) and the
//! bytes after it, so a file is written from front to back as soon as the types are known.

use crate::error::Errors;
use crate::files::folder_beside;
use crate::quantization::Quantization;
use crate::source::Build;
use crate::weights::Weights;
use mlxc_ir::graph::{Module, Weight};
use mlxc_ir::{DType, Diagnostic, Location, Scheme};
use serde_json::{Map, Value, json};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Bytes of one safetensors file, at most, unless a single tensor has more: what MLX's tool writes.
pub const SHARD_BYTES: u64 = 5 << 30;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// Tensors.
    pub tensors: usize,
    /// Bytes of their elements.
    pub bytes: u64,
    /// Files they are in.
    pub files: usize,
    /// Layers that are quantised.
    pub quantized_layers: usize,
}

/// Writes the model's checkpoint to a new folder, quantised and in the dtype the build asks for, in files of at most
/// `shard` bytes of tensors ([`SHARD_BYTES`]) unless one tensor has more. `done` is told the bytes written so far and in all.
///
/// # Errors
/// `MLXC0947` a model that is no folder, `MLXC0952` a target that exists, `MLXC0948` a file that cannot be written, or what tracing
/// and the weights say. Then there is no target folder.
pub fn convert(build: &Build, target: &Path, shard: u64, done: &mut dyn FnMut(u64, u64)) -> Result<Converted, Errors> {
    let place = |path: &Path| Location::new(path.display().to_string(), 0, 0);
    if !build.model.is_dir() {
        return Err(Diagnostic::new(947, "only a checkpoint can be converted")
            .at(place(&build.model))
            .expected("a Hugging Face folder")
            .into());
    }
    if target.exists() {
        return Err(Diagnostic::new(952, "the target exists already")
            .at(place(target))
            .expected("a new folder")
            .into());
    }
    let module = build.trace()?;
    let weights = build.weights(&module)?;
    let (dtype, quantization) = build.described_quantization()?;
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |path: &Path| {
        let at = place(path);
        move |e: std::io::Error| {
            Diagnostic::new(948, "a file of the new checkpoint cannot be written").at(at.clone()).found(e.to_string())
        }
    };
    let made = folder_beside(target).map_err(failed(folder))?;
    let mut out = write_weights(&module, &*weights, made.path(), shard, done)?;
    let layers = quantized_layers(&module, &quantization);
    out.quantized_layers = layers.len();
    for file in std::fs::read_dir(&build.model).map_err(failed(&build.model))? {
        let path = file.map_err(failed(&build.model))?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()).filter(|n| path.is_file() && is_kept(n)) else {
            continue;
        };
        std::fs::copy(&path, made.path().join(name)).map_err(failed(&path))?;
    }
    let path = build.model.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
    let config = config(&text, dtype, &quantization, &layers);
    let path = made.path().join("config.json");
    std::fs::write(&path, config).map_err(failed(&path))?;
    let made = made.keep();
    std::fs::rename(&made, target).map_err(|e| {
        // What was made goes with the error.
        let _ = std::fs::remove_dir_all(&made);
        failed(target)(e)
    })?;
    Ok(out)
}

/// Files of a checkpoint beside weights and config.
fn is_kept(name: &str) -> bool {
    let weights = [".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"];
    let written = name == "config.json" || name.ends_with(".index.json");
    !written && !name.starts_with('.') && !weights.iter().any(|w| name.ends_with(w))
}

/// Layers with scales, and how they are quantised.
fn quantized_layers(module: &Module, quantization: &Quantization) -> Vec<(String, Option<Scheme>)> {
    let of = |w: &Weight| {
        let layer = w.name.strip_suffix(".scales")?;
        let groups = w.ty.const_shape()?.last().copied()?;
        Some((layer.to_string(), Some(quantization.of_layer(layer, groups)?)))
    };
    module.weights.iter().filter_map(of).collect()
}

/// The config with its dtype and quantisation; all else stays as it was.
fn config(text: &str, dtype: DType, quantization: &Quantization, layers: &[(String, Option<Scheme>)]) -> String {
    let mut config: Value = serde_json::from_str(text).expect("the config was read before");
    let name = match dtype {
        DType::BF16 => "bfloat16",
        DType::F16 => "float16",
        _ => "float32",
    };
    let key = if config.get("dtype").is_some() { "dtype" } else { "torch_dtype" };
    config[key] = json!(name);
    if !layers.is_empty() && !quantization.is_stored() {
        let entry = quantization.config(layers);
        config["quantization"] = entry.clone();
        config["quantization_config"] = entry;
    }
    format!("{config:#}\n")
}

fn write_weights(
    module: &Module,
    weights: &dyn Weights,
    folder: &Path,
    most: u64,
    done: &mut dyn FnMut(u64, u64),
) -> Result<Converted, Errors> {
    let mut all: Vec<&Weight> = module.weights.iter().collect();
    // Wide elements first, so that every tensor is aligned to its own.
    all.sort_by(|a, b| b.ty.dtype.bytes().cmp(&a.ty.dtype.bytes()).then(a.name.cmp(&b.name)));
    let mut shards: Vec<Vec<&Weight>> = vec![Vec::new()];
    let mut held = 0;
    for w in all {
        let bytes = w.ty.max_bytes(&[]);
        if held > 0 && held + bytes > most {
            shards.push(Vec::new());
            held = 0;
        }
        held += bytes;
        shards.last_mut().expect("there is a first").push(w);
    }
    let total: u64 = module.weights.iter().map(|w| w.ty.max_bytes(&[])).sum();
    let count = shards.len();
    let mut map = Map::new();
    let mut written = 0;
    for (i, shard) in shards.iter().enumerate() {
        let name = match count {
            1 => "model.safetensors".to_string(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
        };
        write_shard(shard, weights, &folder.join(&name), &mut |n| {
            written += n;
            done(written, total);
        })?;
        map.extend(shard.iter().map(|w| (w.name.to_string(), json!(name))));
    }
    let index = json!({"metadata": {"total_size": total}, "weight_map": map});
    let path = folder.join("model.safetensors.index.json");
    std::fs::write(&path, format!("{index:#}\n")).map_err(|e| unwritable(&path, &e))?;
    Ok(Converted { tensors: module.weights.len(), bytes: total, files: count, quantized_layers: 0 })
}

fn unwritable(path: &Path, e: &std::io::Error) -> Diagnostic {
    Diagnostic::new(948, "a file of the new checkpoint cannot be written")
        .at(Location::new(path.display().to_string(), 0, 0))
        .found(e.to_string())
}

fn write_shard(shard: &[&Weight], weights: &dyn Weights, path: &Path, done: &mut dyn FnMut(u64)) -> Result<(), Errors> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "mlx"}));
    let mut at = 0;
    for w in shard {
        let end = at + w.ty.max_bytes(&[]);
        let shape = w.ty.const_shape().unwrap_or_default();
        let dtype = w.ty.dtype.name().to_uppercase();
        header.insert(w.name.to_string(), json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    let mut header = Value::from(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let failed = |e: std::io::Error| unwritable(path, &e);
    let mut file = BufWriter::new(std::fs::File::create(path).map_err(failed)?);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
    file.write_all(header.as_bytes()).map_err(failed)?;
    for w in shard {
        let bytes = weights.read(&w.name, &w.ty)?;
        file.write_all(&bytes).map_err(failed)?;
        done(bytes.len() as u64);
    }
    file.flush().map_err(failed)?;
    Ok(())
}
