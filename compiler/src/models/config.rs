//! config.json of a Hugging Face checkpoint, for the families this compiler traces.
//!
//! Every key is either used, known not to change the arithmetic, or an error: a key that would be ignored in silence
//! would give another model's output.

use super::decoder::Decoder;
use super::encoder::Encoder;
use super::families;
use super::reader::{Reader, Unread};
use mlxc_ir::{DType, Diagnostic, Location};
use serde_json::{Map, Value};
use std::rc::Rc;

/// A checkpoint's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The family, as the checkpoint names it.
    pub model_type: String,
    /// dtype the checkpoint was trained in.
    pub dtype: DType,
    /// Longest sequence the model was made for.
    pub max_position_embeddings: i64,
    /// `quantization` (or `quantization_config`), as it is written.
    pub quantization: Option<Value>,
    /// What is computed.
    pub architecture: Architecture,
}

/// What a model computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Architecture {
    /// The next token of a text.
    Decoder(Decoder),
    /// A vector for a text.
    Encoder(Encoder),
}

/// Reads the part of a config that is a family's own.
type Family = fn(&Reader<'_>) -> Result<Architecture, Diagnostic>;

/// Families by `model_type`.
const FAMILIES: &[(&str, Family)] = &[
    ("bert", families::bert::read),
    ("gemma2", families::gemma2::read),
    ("gemma3_text", families::gemma3::read),
    ("llama", families::llama::read),
    ("mistral", families::mistral::read),
    ("mixtral", families::mixtral::read),
    ("phi3", families::phi3::read),
    ("qwen2", families::qwen2::read),
    ("qwen3", families::qwen3::read),
    ("qwen3_moe", families::qwen3_moe::read),
];

impl Config {
    /// Reads a config.json; `file` names it in errors.
    ///
    /// # Errors
    /// `MLXC0910` for a key whose value is not understood, `MLXC0911` for text that is no JSON object, `MLXC0912` for a
    /// key that is not known.
    pub fn parse(text: &str, file: &str) -> Result<Self, Diagnostic> {
        Config::read(&Reader::new(&object(text, file)?, file))
    }

    /// Reads a config's object, and lists the keys that are not known instead of refusing the first.
    ///
    /// # Errors
    /// `MLXC0910` for a key whose value is not understood.
    pub(crate) fn examine(map: &Map<String, Value>, file: &str) -> Result<(Self, Vec<Unread>), Diagnostic> {
        let unread = Rc::default();
        let config = Config::read(&Reader::listing(map, file, &unread))?;
        Ok((config, unread.take()))
    }

    fn read(r: &Reader<'_>) -> Result<Self, Diagnostic> {
        let model_type = r.text("model_type")?.unwrap_or_default();
        let Some((_, family)) = FAMILIES.iter().find(|(name, _)| *name == model_type) else {
            let known: Vec<&str> = FAMILIES.iter().map(|(name, _)| *name).collect();
            let wrong = r.refuse("model_type", &known.join(", "));
            return Err(match model_type {
                "gemma3" => wrong.note("only text models are read: the part under `text_config` is a gemma3_text"),
                _ => wrong,
            });
        };
        let (new, old) = (r.text("dtype")?, r.text("torch_dtype")?);
        let dtype = match new.or(old) {
            Some("bfloat16") => DType::BF16,
            Some("float16") => DType::F16,
            None | Some("float32") => DType::F32,
            Some(_) => {
                let key = if new.is_some() { "dtype" } else { "torch_dtype" };
                return Err(r.refuse(key, "bfloat16, float16 or float32"));
            }
        };
        let (own, other) = (r.get("quantization"), r.get("quantization_config"));
        let architecture = family(r)?;
        let longest = match &architecture {
            Architecture::Decoder(d) => d.max_position_embeddings,
            Architecture::Encoder(e) => e.max_position_embeddings,
        };
        r.finish()?;
        Ok(Config {
            model_type: model_type.into(),
            dtype,
            max_position_embeddings: longest,
            quantization: own.or(other).cloned(),
            architecture,
        })
    }
}

/// The object that a config is.
pub(crate) fn object(text: &str, file: &str) -> Result<Map<String, Value>, Diagnostic> {
    let value: Value = serde_json::from_str(text).map_err(|e| {
        Diagnostic::new(911, "the model's config is not JSON")
            .at(Location::new(file, e.line() as u32, e.column() as u32))
            .found(e.to_string())
    })?;
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(Diagnostic::new(911, "the model's config is no JSON object").at(Location::new(file, 0, 0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn small(model_type: &str) -> Value {
        json!({"model_type": model_type, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "torch_dtype": "bfloat16"})
    }

    fn with(mut base: Value, changes: Value) -> Value {
        for (k, v) in changes.as_object().unwrap() {
            base[k] = v.clone();
        }
        base
    }

    fn parse(v: &Value) -> Result<Config, Diagnostic> {
        Config::parse(&v.to_string(), "config.json")
    }

    fn decoder(v: &Value) -> Decoder {
        match parse(v).unwrap().architecture {
            Architecture::Decoder(d) => d,
            Architecture::Encoder(_) => panic!("a decoder"),
        }
    }

    #[test]
    fn a_small_config_is_read() {
        let d = decoder(&small("llama"));
        assert_eq!((d.head_dim, d.kv_heads, d.layers.len()), (16, 2, 4));
        assert_eq!(parse(&small("llama")).unwrap().dtype, DType::BF16);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (family, change, id) in [
            ("mamba", json!({"x": 1}), 910),
            ("gemma3", json!({}), 910),
            ("llama", json!({"sliding_window": 4096}), 912),
            ("llama", json!({"logit_scale": 0.5}), 912),
            ("llama", json!({"use_mrope": true}), 910),
            ("llama", json!({"hidden_act": "mish"}), 910),
            ("llama", json!({"rope_scaling": {"rope_type": "proportional"}}), 910),
            ("llama", json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}), 910),
            ("llama", json!({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "mrope_section": [1]}}), 912),
            ("llama", json!({"rope_scaling": {"factor": 2.0}, "rope_parameters": {"rope_theta": 1e4}}), 910),
            ("llama", json!({"num_key_value_heads": 3}), 910),
            ("llama", json!({"torch_dtype": "int8"}), 910),
            ("qwen2", json!({"layer_types": ["full_attention"]}), 910),
            ("qwen2", json!({"layer_types": ["full_attention", "linear_attention", "a", "b"]}), 910),
            ("phi3", json!({"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}}), 910),
            ("gemma2", json!({"use_bidirectional_attention": true}), 910),
            ("bert", json!({"position_embedding_type": "relative_key"}), 910),
        ] {
            let e = parse(&with(small(family), change.clone())).expect_err(&change.to_string());
            assert_eq!(e.id, id, "{family} {change}: {e}");
            assert_eq!(&*e.at.unwrap().file, "config.json");
        }
        assert_eq!(Config::parse("[1]", "config.json").unwrap_err().id, 911);
        assert_eq!(Config::parse("{", "config.json").unwrap_err().id, 911);
    }

    #[test]
    fn null_and_inert_keys_are_skipped() {
        let c = json!({"sliding_window": null, "use_mrope": false, "attention_dropout": 0.1, "id2label": {"0": "a"}});
        decoder(&with(small("llama"), c));
    }

    #[test]
    fn quantization_is_passed_through() {
        let q = json!({"group_size": 64, "bits": 4, "model.embed_tokens": {"bits": 8}});
        let c = parse(&with(small("llama"), json!({"quantization": q, "quantization_config": q}))).unwrap();
        assert_eq!(c.quantization, Some(q));
    }

    #[test]
    fn windows_follow_layer_types_or_the_pattern() {
        let windows = |v: &Value| decoder(v).layers.iter().map(|l| l.window.is_some()).collect::<Vec<_>>();
        let w = json!({"sliding_window": 8});
        assert_eq!(windows(&with(small("mistral"), w.clone())), [true; 4]);
        assert_eq!(windows(&with(small("mistral"), json!({"sliding_window": null}))), [false; 4]);
        // What a Mistral's file leaves out is the family's default.
        assert_eq!(decoder(&small("mistral")).layers[0].window, Some(4096));
        assert_eq!(windows(&with(small("gemma2"), w.clone())), [true, false, true, false]);
        let three = with(small("gemma3_text"), json!({"sliding_window": 8, "sliding_window_pattern": 3}));
        assert_eq!(windows(&three), [true, true, false, true]);
        let q = json!({"sliding_window": 8, "use_sliding_window": true, "max_window_layers": 3});
        assert_eq!(windows(&with(small("qwen2"), q)), [false, false, false, true]);
        assert_eq!(windows(&with(small("qwen2"), w)), [false; 4]);
        let types = json!({"sliding_window": 8, "use_sliding_window": true,
            "layer_types": ["full_attention", "sliding_attention", "full_attention", "full_attention"]});
        assert_eq!(windows(&with(small("qwen3"), types)), [false, true, false, false]);
    }

    #[test]
    fn rope_is_read_from_both_spellings() {
        let scaling = json!({"rope_type": "linear", "factor": 4.0});
        let old = with(small("llama"), json!({"rope_theta": 5e5, "rope_scaling": scaling}));
        let new = json!({"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5});
        let new = with(small("llama"), json!({"rope_parameters": new}));
        let layer = |v: &Value| decoder(v).layers[0].rotary.layer(64).unwrap();
        assert_eq!(layer(&old), layer(&new));
        assert_eq!(layer(&old).frequencies.unwrap()[0], 0.25);
    }

    #[test]
    fn dynamic_scaling_ends_at_the_trained_length() {
        let c = json!({"max_position_embeddings": 64, "rope_scaling": {"type": "dynamic", "factor": 2.0}});
        let rotary = decoder(&with(small("llama"), c)).layers[0].rotary.clone();
        assert_eq!(rotary.layer(64).unwrap().frequencies, None);
        assert_eq!(rotary.layer(65).unwrap_err().id, 930);
    }
}
