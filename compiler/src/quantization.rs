//! Which layers of a model have quantised weights, and quantising them as a package is written.

use crate::weights::Weights;
use globset::{Glob, GlobMatcher};
use mlxc_ir::graph::TensorType;
use mlxc_ir::quantize::{Quantized, quantize};
use mlxc_ir::{DType, Diagnostic, Location, QuantMode, Scheme};
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// How layers are quantised, by name. The last rule that matches decides.
#[derive(Clone, Debug, Default)]
pub struct Quantization {
    default: Option<Scheme>,
    rules: Vec<(GlobMatcher, Option<Scheme>)>,
    /// Layers that are quantised already: what the checkpoint holds is what there is.
    stored: Option<BTreeMap<String, Scheme>>,
    scales: Option<DType>,
}

impl Quantization {
    /// One scheme for every layer whose rows are whole groups.
    pub fn uniform(scheme: Scheme) -> Self {
        Quantization { default: Some(scheme), ..Self::default() }
    }

    /// Adds a rule: layers whose name fits the pattern (`*` stands for any characters) have this scheme, or none.
    ///
    /// # Errors
    /// `MLXC0940` a pattern that is none.
    pub fn with_rule(mut self, pattern: &str, scheme: Option<Scheme>) -> Result<Self, Diagnostic> {
        let glob = Glob::new(pattern)
            .map_err(|e| Diagnostic::new(940, "a pattern of layer names cannot be read").found(e.to_string()))?;
        self.rules.push((glob.compile_matcher(), scheme));
        Ok(self)
    }

    /// What a checkpoint's config.json and tensor names say; `None` where no layer is quantised.
    ///
    /// # Errors
    /// `MLXC0941` an entry that is not understood, or a layer with scales and no entry; `file` names the config.
    pub fn of_checkpoint<'a>(
        config: Option<&Value>,
        names: impl Iterator<Item = &'a str>,
        scales: Option<DType>,
        file: &str,
    ) -> Result<Option<Self>, Diagnostic> {
        let wrong = |key: &str, found: String| {
            Diagnostic::new(941, format!("`{key}` of the model's config is not understood"))
                .at(Location::new(file, 0, 0))
                .expected("bits, group_size and mode of affine, mxfp4, mxfp8 or nvfp4 quantisation")
                .found(found)
        };
        let quantized: Vec<&str> = names.filter_map(|n| n.strip_suffix(".scales")).collect();
        let Some(config) = config.filter(|c| !c.is_null()) else {
            return match quantized.first() {
                None => Ok(None),
                Some(layer) => Err(wrong("quantization", format!("no such key, and scales of `{layer}`"))),
            };
        };
        let map = config.as_object().ok_or_else(|| wrong("quantization", config.to_string()))?;
        let scheme = |key: &str, m: &Map<String, Value>| {
            let mode = match m.get("mode") {
                None => QuantMode::Affine,
                Some(v) => v
                    .as_str()
                    .and_then(QuantMode::from_name)
                    .ok_or_else(|| wrong(key, Value::from(m.clone()).to_string()))?,
            };
            let usual = Scheme::default_of(mode);
            let number = |k: &str, or: u32| m.get(k).map_or(Some(u64::from(or)), Value::as_u64);
            let (bits, group) = (number("bits", usual.bits()), number("group_size", usual.group()));
            bits.zip(group)
                .and_then(|(b, g)| Scheme::new(mode, u32::try_from(b).ok()?, u32::try_from(g).ok()?))
                .ok_or_else(|| wrong(key, Value::from(m.clone()).to_string()))
        };
        if let Some(method) = map.get("quant_method") {
            return Err(wrong("quantization_config", format!("quant_method {method}")));
        }
        let usual = scheme("quantization", map)?;
        let mut stored = BTreeMap::new();
        for layer in quantized {
            let own = match map.get(layer) {
                Some(Value::Object(m)) => scheme(layer, m)?,
                None | Some(Value::Bool(true)) => usual,
                Some(v) => return Err(wrong(layer, v.to_string())),
            };
            stored.insert(layer.to_string(), own);
        }
        Ok((!stored.is_empty()).then(|| Quantization { stored: Some(stored), scales, ..Self::default() }))
    }

    /// What a config.json says of layers that are to be quantised: random weights of a quantised model.
    ///
    /// # Errors
    /// `MLXC0941` an entry that is not understood.
    pub fn of_config(config: &Value, file: &str) -> Result<Self, Diagnostic> {
        let layers = config.as_object().into_iter().flatten().filter(|(_, v)| v.is_object() || v.is_boolean());
        let names: Vec<String> = layers.map(|(name, _)| format!("{name}.scales")).collect();
        let probe = names.iter().map(String::as_str).chain(std::iter::once("*.scales"));
        let mut dense = config.clone();
        let off: Vec<String> = config
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, v)| **v == Value::Bool(false))
            .map(|(name, _)| name.clone())
            .collect();
        for name in &off {
            dense[name] = Value::Bool(true);
        }
        let read = Self::of_checkpoint(Some(&dense), probe, None, file)?.unwrap_or_default();
        let mut stored = read.stored.unwrap_or_default();
        let mut out = Quantization { default: stored.remove("*"), ..Self::default() };
        for (name, scheme) in stored {
            let scheme = (!off.contains(&name)).then_some(scheme);
            out = out.with_rule(&globset::escape(&name), scheme)?;
        }
        Ok(out)
    }

    /// True if the weights are quantised already.
    pub fn is_stored(&self) -> bool {
        self.stored.is_some()
    }

    /// True if no layer is quantised.
    pub fn is_none(&self) -> bool {
        self.default.is_none() && self.rules.is_empty() && self.stored.is_none()
    }

    /// dtype of stored scales and biases.
    pub fn scale_dtype(&self) -> Option<DType> {
        self.scales
    }

    /// The scheme of a layer with rows of `inputs`; rows that are no whole number of groups stay dense.
    pub fn scheme(&self, layer: &str, inputs: i64) -> Option<Scheme> {
        if let Some(stored) = &self.stored {
            return stored.get(layer).copied();
        }
        let rule = self.rules.iter().rev().find(|(p, _)| p.is_match(layer));
        let scheme = rule.map_or(self.default, |(_, s)| *s)?;
        scheme.groups(inputs).map(|_| scheme)
    }

    /// The scheme and the dense row length of a layer that is quantised as it is written, from the last extent of its
    /// `weight` (in words), `scales` or `biases`.
    fn made(&self, layer: &str, part: &str, last: i64) -> Option<(Scheme, i64)> {
        let all = self.default.into_iter().chain(self.rules.iter().filter_map(|(_, s)| *s));
        let inputs = |s: Scheme| match part {
            "weight" => last * 32 / i64::from(s.bits()),
            _ => last * i64::from(s.group()),
        };
        all.map(|s| (s, inputs(s))).find(|(s, inputs)| self.scheme(layer, *inputs) == Some(*s))
    }

    /// The scheme of a layer whose rows have so many groups, however it came to be quantised.
    pub(crate) fn of_layer(&self, layer: &str, groups: i64) -> Option<Scheme> {
        match &self.stored {
            Some(stored) => stored.get(layer).copied(),
            None => self.made(layer, "scales", groups).map(|(s, _)| s),
        }
    }

    /// The entry of a config.json that says how `layers` (name and scheme, or none) are quantised, as mlx-lm writes it.
    pub fn config(&self, layers: &[(String, Option<Scheme>)]) -> Value {
        let mut counts: BTreeMap<Scheme, usize> = BTreeMap::new();
        for (_, s) in layers {
            *counts.entry(s.unwrap_or(Scheme::default_of(QuantMode::Affine))).or_default() += usize::from(s.is_some());
        }
        let usual = self.default.or_else(|| counts.iter().max_by_key(|(_, n)| **n).map(|(s, _)| *s));
        let usual = usual.unwrap_or(Scheme::default_of(QuantMode::Affine));
        let entry = |s: Scheme| json!({"group_size": s.group(), "bits": s.bits(), "mode": s.mode().name()});
        let mut out = entry(usual);
        for (name, scheme) in layers {
            match scheme {
                Some(s) if *s != usual => out[name] = entry(*s),
                None => out[name] = json!(false),
                _ => {}
            }
        }
        out
    }
}

/// Quantises dense weights as they are read: a layer's words, scales and biases come from its one dense tensor.
pub struct Quantizing<W> {
    dense: W,
    /// dtype the weights have before they are quantised.
    dtype: DType,
    quantization: Quantization,
    /// Scales and biases made with words that were read, until they are asked for.
    made: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl<W: Weights> Quantizing<W> {
    /// Weights that are quantised from values of `dtype`.
    pub fn new(dense: W, dtype: DType, quantization: Quantization) -> Self {
        Quantizing { dense, dtype, quantization, made: Mutex::default() }
    }

    fn make(&self, layer: &str, scheme: Scheme, shape: &[i64]) -> Result<Quantized, Diagnostic> {
        let ty = TensorType::constant(self.dtype, shape);
        let bytes = self.dense.read(&format!("{layer}.weight"), &ty)?;
        let k = shape.last().copied().unwrap_or(0).max(1) as usize;
        let row = k * self.dtype.bytes() as usize;
        let dtype = self.dtype;
        let rows = |chunk: &[u8]| quantize(scheme, &widen(chunk, dtype), dtype);
        let parts: Vec<Quantized> = bytes.par_chunks(row * 16).map(rows).collect();
        let mut out = Quantized::default();
        for p in parts {
            out.words.extend(p.words);
            out.scales.extend(p.scales);
            out.small_scales.extend(p.small_scales);
            out.biases.extend(p.biases);
        }
        Ok(out)
    }
}

impl<W: Weights> Weights for Quantizing<W> {
    fn read(&self, name: &str, ty: &TensorType) -> Result<Cow<'_, [u8]>, Diagnostic> {
        let split = name.rsplit_once('.').filter(|(_, part)| matches!(*part, "weight" | "scales" | "biases"));
        let shape = ty.const_shape().unwrap_or_default();
        let last = shape.last().copied().unwrap_or(0);
        let found = split.and_then(|(layer, part)| {
            let quantized = part != "weight" || ty.dtype == DType::U32;
            let (scheme, inputs) = self.quantization.made(layer, part, last).filter(|_| quantized)?;
            Some((layer, part, scheme, inputs))
        });
        let Some((layer, part, scheme, inputs)) = found else { return self.dense.read(name, ty) };
        if part != "weight"
            && let Some(bytes) = self.made.lock().ok().and_then(|mut m| m.remove(name))
        {
            return Ok(Cow::Owned(bytes));
        }
        let mut dense = shape;
        *dense.last_mut().expect("a quantised weight has rows") = inputs;
        let q = self.make(layer, scheme, &dense)?;
        let scales = if scheme.has_biases() { narrow(&q.scales, self.dtype) } else { q.small_scales };
        let biases = narrow(&q.biases, self.dtype);
        Ok(Cow::Owned(match part {
            "weight" => {
                if let Ok(mut made) = self.made.lock() {
                    made.insert(format!("{layer}.scales"), scales);
                    made.insert(format!("{layer}.biases"), biases);
                }
                q.words.iter().flat_map(|w| w.to_le_bytes()).collect()
            }
            "scales" => scales,
            _ => biases,
        }))
    }
}

/// Float elements as f32.
fn widen(bytes: &[u8], dtype: DType) -> Vec<f32> {
    match dtype {
        DType::F16 => bytes.chunks_exact(2).map(|c| half::f16::from_le_bytes([c[0], c[1]]).to_f32()).collect(),
        DType::BF16 => bytes.chunks_exact(2).map(|c| half::bf16::from_le_bytes([c[0], c[1]]).to_f32()).collect(),
        _ => bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect(),
    }
}

/// f32 values as elements of a float dtype that holds them exactly.
fn narrow(values: &[f32], dtype: DType) -> Vec<u8> {
    match dtype {
        DType::F16 => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheme(text: &str) -> Scheme {
        text.parse().unwrap()
    }

    #[test]
    fn the_last_rule_decides() {
        let q = Quantization::uniform(scheme("4,64"))
            .with_rule("*.mlp.*", Some(scheme("8,32")))
            .and_then(|q| q.with_rule("*.down_proj", None))
            .unwrap();
        assert_eq!(q.scheme("model.layers.0.self_attn.q_proj", 128), Some(scheme("4,64")));
        assert_eq!(q.scheme("model.layers.0.mlp.up_proj", 96), Some(scheme("8,32")));
        assert_eq!(q.scheme("model.layers.0.mlp.down_proj", 128), None);
        assert_eq!(q.scheme("model.layers.0.self_attn.q_proj", 96), None);
        assert_eq!(q.with_rule("[", None).unwrap_err().id, 940);
    }

    #[test]
    fn configs_say_what_checkpoints_hold() {
        let names = ["a.weight", "a.scales", "b.scales", "c.weight"];
        let config = json!({"group_size": 64, "bits": 4, "b": {"group_size": 32, "bits": 8}});
        let q = Quantization::of_checkpoint(Some(&config), names.into_iter(), None, "config.json").unwrap().unwrap();
        assert_eq!(q.scheme("a", 128), Some(scheme("4,64")));
        assert_eq!(q.scheme("b", 128), Some(scheme("8,32")));
        assert_eq!(q.scheme("c", 128), None);
        for bad in [json!({"bits": 7}), json!({"quant_method": "gptq", "bits": 4}), json!({"mode": "nf4"}), json!(3)] {
            let e = Quantization::of_checkpoint(Some(&bad), names.into_iter(), None, "config.json").unwrap_err();
            assert_eq!(e.id, 941, "{bad}");
        }
        let e = Quantization::of_checkpoint(None, names.into_iter(), None, "config.json").unwrap_err();
        assert_eq!(e.id, 941);
        assert!(Quantization::of_checkpoint(None, ["a.weight"].into_iter(), None, "c").unwrap().is_none());
    }

    #[test]
    fn written_configs_read_back() {
        let layers =
            [("a".to_string(), Some(scheme("4,64"))), ("b".to_string(), Some(scheme("mxfp4"))), ("c".into(), None)];
        let q = Quantization::uniform(scheme("4,64"));
        let config = q.config(&layers);
        let names = ["a.scales", "b.scales", "c.weight"];
        let back = Quantization::of_checkpoint(Some(&config), names.into_iter(), None, "c").unwrap().unwrap();
        for (name, s) in layers {
            assert_eq!(back.scheme(&name, 128), s);
        }
    }

    #[test]
    fn words_scales_and_biases_are_of_one_quantisation() {
        let values: Vec<u8> = (0..4 * 64).flat_map(|i| ((i * 7 % 31) as f32 - 9.0).to_le_bytes()).collect();
        let dense = BTreeMap::from([("l.weight".to_string(), values)]);
        let q = Quantizing::new(dense, DType::F32, Quantization::uniform(scheme("4,64")));
        let read =
            |name: &str, dtype, last| q.read(name, &TensorType::constant(dtype, &[4, last])).unwrap().into_owned();
        let late = read("l.scales", DType::F32, 1);
        assert_eq!(read("l.weight", DType::U32, 8).len(), 4 * 8 * 4);
        assert_eq!(read("l.scales", DType::F32, 1), late);
        assert_eq!(read("l.biases", DType::F32, 1).len(), 16);
        assert_eq!(read("l.weight", DType::F32, 64).len(), 4 * 64 * 4);
    }
}
