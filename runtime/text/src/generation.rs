//! `generation_config.json`: where generation ends and how a model wants to be sampled.

use crate::{SamplerOptions, TextError};
use serde::Deserialize;
use serde_json::Value;

/// What a model's author says about generation. Absent fields are `None` or empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// Tokens that begin a text.
    pub bos: Vec<u32>,
    /// Tokens that end one.
    pub eos: Vec<u32>,
    /// Token that fills rows.
    pub pad: Option<u32>,
    /// Whether to sample rather than take the largest logit.
    pub do_sample: Option<bool>,
    /// See [`SamplerOptions::temperature`].
    pub temperature: Option<f32>,
    /// See [`SamplerOptions::top_k`].
    pub top_k: Option<usize>,
    /// See [`SamplerOptions::top_p`].
    pub top_p: Option<f32>,
    /// See [`SamplerOptions::min_p`].
    pub min_p: Option<f32>,
}

/// The file's own field names.
#[derive(Deserialize)]
struct File {
    bos_token_id: Option<Value>,
    eos_token_id: Option<Value>,
    pad_token_id: Option<Value>,
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
}

impl GenerationConfig {
    /// Reads the bytes of a `generation_config.json`; of a `config.json` too, which has the token ids.
    ///
    /// # Errors
    /// 0753 if they are malformed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TextError> {
        let refuse = |found: String| TextError::Config {
            file: "generation_config.json",
            expected: "token ids and sampling options".into(),
            found,
        };
        let file: File = serde_json::from_slice(bytes).map_err(|e| refuse(e.to_string()))?;
        let ids = |value: Option<Value>| -> Result<Vec<u32>, TextError> {
            let id = |v: &Value| v.as_u64().and_then(|v| u32::try_from(v).ok()).ok_or_else(|| refuse(v.to_string()));
            match value {
                None | Some(Value::Null) => Ok(Vec::new()),
                Some(Value::Array(all)) => all.iter().map(id).collect(),
                Some(one) => Ok(vec![id(&one)?]),
            }
        };
        Ok(GenerationConfig {
            bos: ids(file.bos_token_id)?,
            eos: ids(file.eos_token_id)?,
            pad: ids(file.pad_token_id)?.first().copied(),
            do_sample: file.do_sample,
            temperature: file.temperature,
            top_k: file.top_k,
            top_p: file.top_p,
            min_p: file.min_p,
        })
    }

    /// The options it asks for: temperature 0 unless it says to sample.
    pub fn sampler_options(&self, seed: u64) -> SamplerOptions {
        let d = SamplerOptions::default();
        if self.do_sample != Some(true) {
            return SamplerOptions { seed, ..d };
        }
        SamplerOptions {
            temperature: self.temperature.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(d.top_k),
            top_p: self.top_p.unwrap_or(d.top_p),
            min_p: self.min_p.unwrap_or(d.min_p),
            seed,
            ..d
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_a_number_or_a_list() {
        let read = |t: &str| GenerationConfig::from_bytes(t.as_bytes());
        assert_eq!(read(r#"{"eos_token_id": 7}"#).unwrap().eos, [7]);
        assert_eq!(read(r#"{"eos_token_id": [7, 9], "bos_token_id": null}"#).unwrap().eos, [7, 9]);
        assert_eq!(read("{}").unwrap(), GenerationConfig::default());
        for bad in ["", "[]", r#"{"eos_token_id": "x"}"#, r#"{"eos_token_id": [-1]}"#, r#"{"top_k": -2}"#] {
            assert_eq!(read(bad).unwrap_err().id(), "MLXC0753", "{bad}");
        }
        let config =
            read(r#"{"do_sample": true, "temperature": 0.6, "top_p": 0.9, "transformers_version": "4"}"#).unwrap();
        let options = config.sampler_options(3);
        assert_eq!((options.temperature, options.top_p, options.top_k, options.seed), (0.6, 0.9, 0, 3));
        assert_eq!(read(r#"{"temperature": 0.6}"#).unwrap().sampler_options(0).temperature, 0.0);
    }
}
