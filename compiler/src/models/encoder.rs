//! Encoders of BERT's shape: one entry that turns a text into a vector.
//!
//! The number of tokens is symbolic, so nothing is padded and nothing masked.

use super::entries::EntryOptions;
use crate::error::Errors;
use crate::nn::{Embedding, LayerNorm, Linear};
use crate::trace::{Array, Context, ModuleTracer, Scoring};
use mlxc_ir::graph::Activation;
use mlxc_ir::{DType, Diagnostic, Location};
use serde_json::Value;

/// An encoder's sizes and arithmetic.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoder {
    /// What the names of weights begin with.
    pub prefix: String,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Inner width of the feed-forward layer.
    pub intermediate_size: i64,
    /// Number of layers.
    pub layers: usize,
    /// Heads.
    pub heads: i64,
    /// Rows of the embedding.
    pub vocab_size: i64,
    /// Kinds of segments.
    pub type_vocab_size: i64,
    /// Most tokens of a text.
    pub max_position_embeddings: i64,
    /// Added to the variance in norms.
    pub layer_norm_eps: f64,
    /// Activation of the feed-forward layer.
    pub activation: Activation,
    /// How tokens become one vector.
    pub pooling: Pooling,
    /// The vector is divided by its length.
    pub normalize: bool,
}

/// How the vectors of tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first one.
    First,
}

/// A length below which a vector is not scaled up, as in other software.
const SHORTEST: f64 = 1e-12;

impl Encoder {
    /// Reads how sentence-transformers pools: `1_Pooling/config.json`.
    ///
    /// # Errors
    /// `MLXC0911` text that is no JSON object, `MLXC0910` a way of pooling that is not known.
    pub fn read_pooling(&mut self, text: &str, file: &str) -> Result<(), Diagnostic> {
        let at = || Location::new(file, 0, 0);
        let value: Value = serde_json::from_str(text)
            .map_err(|e| Diagnostic::new(911, "the pooling config is not JSON").at(at()).found(e.to_string()))?;
        let map = value.as_object().ok_or_else(|| Diagnostic::new(911, "the pooling config is no object").at(at()))?;
        let on: Vec<&str> = map
            .iter()
            .filter(|(k, v)| k.starts_with("pooling_mode") && **v == Value::Bool(true))
            .map(|(k, _)| k.as_str())
            .chain(map.get("pooling_mode").and_then(Value::as_str))
            .collect();
        self.pooling = match on.as_slice() {
            ["pooling_mode_mean_tokens" | "mean"] => Pooling::Mean,
            ["pooling_mode_cls_token" | "cls"] => Pooling::First,
            other => {
                return Err(Diagnostic::new(910, "the pooling is not supported")
                    .at(at())
                    .expected("mean or cls, one of them")
                    .found(other.join(", ")));
            }
        };
        Ok(())
    }

    /// Reads whether sentence-transformers normalises: `modules.json`.
    ///
    /// # Errors
    /// `MLXC0911` text that is no list of modules, `MLXC0910` a module that is not known.
    pub fn read_modules(&mut self, text: &str, file: &str) -> Result<(), Diagnostic> {
        let at = || Location::new(file, 0, 0);
        let value: Option<Value> = serde_json::from_str(text).ok();
        let list = value.as_ref().and_then(Value::as_array);
        let list = list.ok_or_else(|| Diagnostic::new(911, "the list of modules is no JSON list").at(at()))?;
        self.normalize = false;
        for module in list {
            let kind = module.get("type").and_then(Value::as_str).unwrap_or_default();
            match kind.rsplit('.').next() {
                Some("Normalize") => self.normalize = true,
                Some("Transformer" | "Pooling") => {}
                _ => {
                    return Err(Diagnostic::new(910, "a module behind the encoder is not supported")
                        .at(at())
                        .expected("Transformer, Pooling or Normalize")
                        .found(kind.to_string()));
                }
            }
        }
        Ok(())
    }

    /// Traces the entry `embed`.
    pub(super) fn trace(&self, m: &ModuleTracer, options: EntryOptions) -> Result<(), Errors> {
        if options.context > self.max_position_embeddings {
            return Err(Diagnostic::new(930, "the context is longer than the model's table of positions")
                .expected(format!("at most {} tokens", self.max_position_embeddings))
                .found(format!("{} tokens", options.context))
                .into());
        }
        m.entry("embed", |cx| {
            let s = cx.dim("S", 1..=options.context);
            let tokens = cx.input("tokens", DType::I32, [&s]);
            let types = cx.input("token_types", DType::I32, [&s]);
            let hidden = self.hidden(cx, &tokens, &types, options.dtype).astype(DType::F32);
            let pooled = match self.pooling {
                Pooling::Mean => hidden.mean(0, false),
                Pooling::First => hidden.slice(0, 0, 1).reshape([self.hidden_size]),
            };
            let embedding = match self.normalize {
                true => &pooled / pooled.square().sum(0, true).sqrt().maximum(SHORTEST),
                false => pooled,
            };
            cx.output("embedding", &embedding);
        });
        Ok(())
    }

    fn hidden(&self, cx: &Context, tokens: &Array, types: &Array, dtype: DType) -> Array {
        let name = |n: &str| format!("{}{n}", self.prefix);
        let table = |n: &str, rows: i64| Embedding::new(cx, &name(n), rows, self.hidden_size, dtype);
        let linear = |n: &str, i: i64, o: i64| Linear::new(cx, n, i, o, true, dtype);
        let norm = |n: &str| LayerNorm::new(cx, n, self.hidden_size, self.layer_norm_eps, true, dtype);
        let words = table("embeddings.word_embeddings", self.vocab_size).forward(tokens);
        let kinds = table("embeddings.token_type_embeddings", self.type_vocab_size).forward(types);
        // Token s stands at position s: the first rows of the table.
        let positions = table("embeddings.position_embeddings", self.max_position_embeddings).rows(&tokens.dim(0));
        let sum = words + kinds + positions;
        let mut x = norm(&name("embeddings.LayerNorm")).forward(&sum).named("embedded");
        let (width, inner) = (self.hidden_size, self.intermediate_size);
        for i in 0..self.layers {
            let p = name(&format!("encoder.layer.{i}"));
            let part = |n: &str| linear(&format!("{p}.attention.self.{n}"), width, width).forward(&x);
            let y = self.attend([part("query"), part("key"), part("value")]);
            let y = linear(&format!("{p}.attention.output.dense"), width, width).forward(&y);
            let y = norm(&format!("{p}.attention.output.LayerNorm")).forward(&(&x + y)).named("attended");
            let z = linear(&format!("{p}.intermediate.dense"), width, inner).forward(&y);
            let z = z.activate(self.activation).named("activated");
            let z = linear(&format!("{p}.output.dense"), inner, width).forward(&z);
            x = norm(&format!("{p}.output.LayerNorm")).forward(&(&y + z)).named("hidden");
        }
        x
    }

    /// Every token sees every other.
    fn attend(&self, parts: [Array; 3]) -> Array {
        let s = parts[0].dim(0);
        let d = self.hidden_size / self.heads;
        let [q, k, v] = parts.map(|y| y.reshape((1, &s, self.heads, d)).transpose([0, 2, 1, 3]));
        let how = Scoring { scale: 1.0 / (d as f64).sqrt(), ..Scoring::default() };
        let y = q.scaled_dot_product_attention(&k, &v, &how);
        y.transpose([0, 2, 1, 3]).reshape((&s, self.hidden_size)).named("attention")
    }
}
