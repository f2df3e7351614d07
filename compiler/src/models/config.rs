//! config.json of a Hugging Face checkpoint, for the families this compiler traces.
//!
//! Every key is either used, known not to change the arithmetic, or an error: a key that would be ignored in silence
//! would give another model's output.

use mlxc_ir::graph::Activation;
use mlxc_ir::{DType, Diagnostic, Location};
use serde_json::{Map, Value};

/// A Llama-type configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Inner width of the feed-forward layer.
    pub intermediate_size: i64,
    /// Layers.
    pub num_hidden_layers: i64,
    /// Query heads.
    pub num_attention_heads: i64,
    /// Key and value heads.
    pub num_key_value_heads: i64,
    /// Features of a head.
    pub head_dim: i64,
    /// Rows of the embedding.
    pub vocab_size: i64,
    /// Longest sequence the model was made for.
    pub max_position_embeddings: i64,
    /// Added to the mean of squares in norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Rotary frequencies in radians a position, where scaling changes them.
    pub rope_frequencies: Option<Vec<f32>>,
    /// The output head is the embedding.
    pub tie_word_embeddings: bool,
    /// Activation of the gate.
    pub activation: Activation,
    /// Bias on all four attention projections.
    pub attention_bias: bool,
    /// Bias on the feed-forward projections.
    pub mlp_bias: bool,
    /// dtype the checkpoint was trained in.
    pub dtype: DType,
}

/// Keys that do not change the arithmetic of inference.
const INERT: &[&str] = &[
    "architectures",
    "model_type",
    "torch_dtype",
    "dtype",
    "transformers_version",
    "initializer_range",
    "use_cache",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "unk_token_id",
    "attention_dropout",
    "hidden_dropout",
    "pretraining_tp",
    "_name_or_path",
    "name_or_path",
    "id2label",
    "label2id",
    "return_dict",
    "output_attentions",
    "output_hidden_states",
    "gradient_checkpointing",
];

struct Reader<'a> {
    map: &'a Map<String, Value>,
    file: &'a str,
}

impl Reader<'_> {
    fn wrong(&self, key: &str, expected: &str, found: &Value) -> Diagnostic {
        Diagnostic::new(910, format!("`{key}` of the model's config is not supported"))
            .at(Location::new(self.file, 0, 0))
            .expected(expected)
            .found(found.to_string())
    }

    fn int(&self, key: &str) -> Result<Option<i64>, Diagnostic> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(v) => match v.as_i64() {
                Some(n) if (1..=1 << 31).contains(&n) => Ok(Some(n)),
                _ => Err(self.wrong(key, "a whole number from 1 to 2^31", v)),
            },
        }
    }

    fn need(&self, key: &str) -> Result<i64, Diagnostic> {
        self.int(key)?.ok_or_else(|| self.wrong(key, "a whole number", &Value::Null))
    }

    fn float(&self, key: &str, default: f64) -> Result<f64, Diagnostic> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(v) => match v.as_f64() {
                Some(x) if x > 0.0 && x.is_finite() => Ok(x),
                _ => Err(self.wrong(key, "a positive number", v)),
            },
        }
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool, Diagnostic> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(v) => v.as_bool().ok_or_else(|| self.wrong(key, "true or false", v)),
        }
    }
}

impl Config {
    /// Reads a config.json; `file` names it in errors.
    ///
    /// # Errors
    /// `MLXC0910` for a key whose value is not understood, `MLXC0911` for text that is no JSON object, `MLXC0912` for a
    /// key that is not known.
    pub fn parse(text: &str, file: &str) -> Result<Self, Diagnostic> {
        let value: Value = serde_json::from_str(text).map_err(|e| {
            Diagnostic::new(911, "the model's config is not JSON")
                .at(Location::new(file, e.line() as u32, e.column() as u32))
                .found(e.to_string())
        })?;
        let Value::Object(map) = &value else {
            return Err(Diagnostic::new(911, "the model's config is no JSON object").at(Location::new(file, 0, 0)));
        };
        let r = Reader { map, file };
        match map.get("model_type").and_then(Value::as_str) {
            Some("llama") => {}
            other => {
                let found = other.map_or(Value::Null, |s| Value::String(s.into()));
                return Err(r.wrong("model_type", "\"llama\"", &found));
            }
        }
        let hidden_size = r.need("hidden_size")?;
        let heads = r.need("num_attention_heads")?;
        let kv = r.int("num_key_value_heads")?.unwrap_or(heads);
        if heads % kv != 0 {
            return Err(r.wrong("num_key_value_heads", &format!("a divisor of {heads}"), &Value::from(kv)));
        }
        let head_dim = match r.int("head_dim")? {
            Some(d) => d,
            None if hidden_size % heads == 0 => hidden_size / heads,
            None => return Err(r.wrong("head_dim", "a number, as heads do not divide the width", &Value::Null)),
        };
        if head_dim % 2 != 0 {
            return Err(r.wrong("head_dim", "an even number", &Value::from(head_dim)));
        }
        let rope_theta = r.float("rope_theta", 10000.0)?;
        let activation = match map.get("hidden_act").and_then(Value::as_str).unwrap_or("silu") {
            "silu" | "swish" => Activation::Silu,
            "gelu" => Activation::Gelu,
            "gelu_pytorch_tanh" | "gelu_new" => Activation::GeluApprox,
            "relu" => Activation::Relu,
            other => return Err(r.wrong("hidden_act", "silu, gelu, gelu_pytorch_tanh or relu", &Value::from(other))),
        };
        let dtype = match map.get("torch_dtype").or(map.get("dtype")).and_then(Value::as_str) {
            Some("bfloat16") => DType::BF16,
            Some("float16") => DType::F16,
            None | Some("float32") => DType::F32,
            Some(other) => return Err(r.wrong("torch_dtype", "bfloat16, float16 or float32", &Value::from(other))),
        };
        let used = [
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "vocab_size",
            "max_position_embeddings",
            "rms_norm_eps",
            "rope_theta",
            "rope_scaling",
            "tie_word_embeddings",
            "hidden_act",
            "attention_bias",
            "mlp_bias",
        ];
        if let Some(key) = map.keys().find(|k| !used.contains(&k.as_str()) && !INERT.contains(&k.as_str())) {
            return Err(Diagnostic::new(912, format!("the model's config has a key that is not understood: `{key}`"))
                .at(Location::new(file, 0, 0))
                .found(map[key].to_string())
                .note("it may change the arithmetic, so it is not skipped"));
        }
        Ok(Config {
            hidden_size,
            intermediate_size: r.need("intermediate_size")?,
            num_hidden_layers: r.need("num_hidden_layers")?,
            num_attention_heads: heads,
            num_key_value_heads: kv,
            head_dim,
            vocab_size: r.need("vocab_size")?,
            max_position_embeddings: r.int("max_position_embeddings")?.unwrap_or(2048),
            rms_norm_eps: r.float("rms_norm_eps", 1e-6)?,
            rope_theta,
            rope_frequencies: rope_frequencies(&r, rope_theta, head_dim)?,
            tie_word_embeddings: r.flag("tie_word_embeddings", false)?,
            activation,
            attention_bias: r.flag("attention_bias", false)?,
            mlp_bias: r.flag("mlp_bias", false)?,
            dtype,
        })
    }
}

/// Frequencies under `rope_scaling`: linear, or Llama 3's (its published factors, per wavelength).
fn rope_frequencies(r: &Reader<'_>, theta: f64, dims: i64) -> Result<Option<Vec<f32>>, Diagnostic> {
    let scaling = match r.map.get("rope_scaling") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(m)) => m,
        Some(other) => return Err(r.wrong("rope_scaling", "an object", other)),
    };
    let get = |key: &str| {
        scaling.get(key).and_then(Value::as_f64).filter(|x| *x > 0.0).ok_or_else(|| {
            r.wrong(&format!("rope_scaling.{key}"), "a positive number", scaling.get(key).unwrap_or(&Value::Null))
        })
    };
    let kind = scaling.get("rope_type").or(scaling.get("type")).and_then(Value::as_str).unwrap_or("");
    let plain = (0..dims / 2).map(|i| 1.0 / theta.powf(2.0 * i as f64 / dims as f64));
    match kind {
        "default" => Ok(None),
        "linear" => {
            let factor = get("factor")?;
            Ok(Some(plain.map(|w| (w / factor) as f32).collect()))
        }
        "llama3" => {
            let (factor, low, high) = (get("factor")?, get("low_freq_factor")?, get("high_freq_factor")?);
            let context = get("original_max_position_embeddings")?;
            Ok(Some(
                plain
                    .map(|w| {
                        let turns = context * w / std::f64::consts::TAU;
                        let blend = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                        (w / factor * (1.0 - blend) + w * blend) as f32
                    })
                    .collect(),
            ))
        }
        other => Err(r.wrong("rope_scaling.rope_type", "default, linear or llama3", &Value::from(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "torch_dtype": "bfloat16"}"#;

    #[test]
    fn a_small_config_is_read() {
        let c = Config::parse(SMALL, "config.json").unwrap();
        assert_eq!((c.head_dim, c.num_key_value_heads, c.dtype), (16, 2, DType::BF16));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (change, id) in [
            ("\"model_type\": \"mamba\", \"x\": 1", 910),
            ("\"model_type\": \"llama\", \"sliding_window\": 4096", 912),
            ("\"model_type\": \"llama\", \"hidden_act\": \"mish\"", 910),
            ("\"model_type\": \"llama\", \"rope_scaling\": {\"rope_type\": \"yarn\"}", 910),
            ("\"model_type\": \"llama\", \"num_key_value_heads\": 3", 910),
        ] {
            let text =
                SMALL.replace("\"model_type\": \"llama\"", change).replacen("\"num_key_value_heads\": 2,", "", 1);
            assert_eq!(Config::parse(&text, "config.json").unwrap_err().id, id, "{change}");
        }
        assert_eq!(Config::parse("[1]", "config.json").unwrap_err().id, 911);
        assert_eq!(Config::parse("{", "config.json").unwrap_err().id, 911);
    }
}
