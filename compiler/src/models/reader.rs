//! Reading a config.json key by key: what is asked for is understood, what is left over is an error.

use mlxc_ir::graph::Activation;
use mlxc_ir::{Diagnostic, Location};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Keys that do not change the arithmetic of inference.
const INERT: &[&str] = &[
    "_attn_implementation_autoset",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_implementation",
    "auto_map",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_implementation",
    "classifier_dropout",
    "embd_pdrop",
    "eos_token_id",
    "finetuning_task",
    "gradient_checkpointing",
    "hidden_dropout",
    "hidden_dropout_prob",
    "id2label",
    "initializer_range",
    "keys_to_ignore_at_inference",
    "label2id",
    "model_type",
    "name_or_path",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "resid_pdrop",
    "return_dict",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "sep_token_id",
    "task_specific_params",
    "tokenizer_class",
    "torchscript",
    "transformers_version",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
];

/// Keys of models that are made of other arithmetic: understood only where they are off.
const OFF: &[&str] = &[
    "add_cross_attention",
    "is_decoder",
    "is_encoder_decoder",
    "pruned_heads",
    "tie_encoder_decoder",
    "use_bidirectional_attention",
    "use_mrope",
];

/// A key that a model is not read by.
#[derive(Clone, Debug, PartialEq)]
pub struct Unread {
    /// The key, behind those of the objects it stands in.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// True for a key that is known, and read only where it is off.
    pub off: bool,
}

impl Unread {
    /// The key as an error: `MLXC0910` for a known key that is on, `MLXC0912` for an unknown one.
    fn refuse(self, file: &str) -> Diagnostic {
        let (key, found) = (self.key, self.value.to_string());
        let at = Location::new(file, 0, 0);
        if self.off {
            return Diagnostic::new(910, format!("`{key}` of the model's config is not supported"))
                .at(at)
                .expected("false")
                .found(found);
        }
        Diagnostic::new(912, format!("the model's config has a key that is not understood: `{key}`"))
            .at(at)
            .found(found)
            .note("it may change the arithmetic, so it is not skipped; null counts as not given")
    }
}

/// True for a key of a config that never changes the arithmetic.
pub fn is_inert(key: &str) -> bool {
    INERT.contains(&key)
}

/// One object of a config: the whole file or a part of it.
pub(super) struct Reader<'a> {
    map: &'a Map<String, Value>,
    file: &'a str,
    /// What stands before a key in errors: `rope_scaling.` and the like.
    prefix: String,
    asked: RefCell<BTreeSet<String>>,
    /// Where keys that nobody asked for are listed, instead of refused.
    unread: Option<Rc<RefCell<Vec<Unread>>>>,
}

impl<'a> Reader<'a> {
    pub fn new(map: &'a Map<String, Value>, file: &'a str) -> Self {
        Reader { map, file, prefix: String::new(), asked: RefCell::default(), unread: None }
    }

    /// A reader that lists keys nobody asked for, of this object and those in it.
    pub fn listing(map: &'a Map<String, Value>, file: &'a str, unread: &Rc<RefCell<Vec<Unread>>>) -> Self {
        Reader { unread: Some(unread.clone()), ..Reader::new(map, file) }
    }

    /// A value that is wrong: `MLXC0910`.
    pub fn wrong(&self, key: &str, expected: &str, found: &Value) -> Diagnostic {
        Diagnostic::new(910, format!("`{}{key}` of the model's config is not supported", self.prefix))
            .at(Location::new(self.file, 0, 0))
            .expected(expected)
            .found(found.to_string())
    }

    /// The same, of the value a key has.
    pub fn refuse(&self, key: &str, expected: &str) -> Diagnostic {
        self.wrong(key, expected, self.map.get(key).unwrap_or(&Value::Null))
    }

    /// A key's value, null counted as none.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.asked.borrow_mut().insert(key.into());
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// True for a key that is written, be it as null.
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The object under a key.
    pub fn object(&self, key: &str) -> Result<Option<Reader<'a>>, Diagnostic> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => {
                let prefix = format!("{}{key}.", self.prefix);
                let unread = self.unread.clone();
                Ok(Some(Reader { map, file: self.file, prefix, asked: RefCell::default(), unread }))
            }
            Some(other) => Err(self.wrong(key, "an object", other)),
        }
    }

    pub fn int(&self, key: &str) -> Result<Option<i64>, Diagnostic> {
        match self.get(key) {
            None => Ok(None),
            Some(v) => match v.as_i64() {
                Some(n) if (1..=1 << 31).contains(&n) => Ok(Some(n)),
                _ => Err(self.wrong(key, "a whole number from 1 to 2^31", v)),
            },
        }
    }

    pub fn need(&self, key: &str) -> Result<i64, Diagnostic> {
        self.int(key)?.ok_or_else(|| self.wrong(key, "a whole number", &Value::Null))
    }

    /// The number of layers. Each is traced, so their number has a bound of its own.
    pub fn layers(&self) -> Result<usize, Diagnostic> {
        match self.need("num_hidden_layers")? {
            n @ 1..=4096 => Ok(n as usize),
            _ => Err(self.refuse("num_hidden_layers", "a whole number from 1 to 4096")),
        }
    }

    pub fn real(&self, key: &str) -> Result<Option<f64>, Diagnostic> {
        match self.get(key) {
            None => Ok(None),
            Some(v) => match v.as_f64() {
                Some(x) if x > 0.0 && x.is_finite() => Ok(Some(x)),
                _ => Err(self.wrong(key, "a positive number", v)),
            },
        }
    }

    pub fn need_real(&self, key: &str) -> Result<f64, Diagnostic> {
        self.real(key)?.ok_or_else(|| self.wrong(key, "a positive number", &Value::Null))
    }

    /// A list of positive numbers.
    pub fn reals(&self, key: &str) -> Result<Vec<f64>, Diagnostic> {
        let list = self.get(key).and_then(Value::as_array);
        let list = list.and_then(|l| l.iter().map(|v| v.as_f64().filter(|x| *x > 0.0)).collect());
        list.ok_or_else(|| self.refuse(key, "a list of positive numbers"))
    }

    pub fn flag(&self, key: &str, default: bool) -> Result<bool, Diagnostic> {
        match self.get(key) {
            None => Ok(default),
            Some(v) => v.as_bool().ok_or_else(|| self.wrong(key, "true or false", v)),
        }
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>, Diagnostic> {
        match self.get(key) {
            None => Ok(None),
            Some(v) => v.as_str().map(Some).ok_or_else(|| self.wrong(key, "a string", v)),
        }
    }

    pub fn activation(&self, key: &str, default: Activation) -> Result<Activation, Diagnostic> {
        Ok(match self.text(key)? {
            None => default,
            Some("silu" | "swish") => Activation::Silu,
            Some("gelu") => Activation::Gelu,
            Some("gelu_pytorch_tanh" | "gelu_new") => Activation::GeluApprox,
            Some("relu") => Activation::Relu,
            Some(_) => return Err(self.refuse(key, "silu, gelu, gelu_pytorch_tanh or relu")),
        })
    }

    /// Refuses what was not asked for and is not known to be without effect, or lists it.
    ///
    /// # Errors
    /// `MLXC0910` for a known key that is on, `MLXC0912` for an unknown one.
    pub fn finish(&self) -> Result<(), Diagnostic> {
        let left = self.left();
        match &self.unread {
            Some(list) => list.borrow_mut().extend(left),
            None => {
                if let Some(first) = left.into_iter().next() {
                    return Err(first.refuse(self.file));
                }
            }
        }
        Ok(())
    }

    fn left(&self) -> Vec<Unread> {
        let asked = self.asked.borrow();
        let mut out = Vec::new();
        for (key, value) in self.map.iter().filter(|(k, v)| !asked.contains(*k) && !v.is_null()) {
            let top = self.prefix.is_empty();
            if top && is_inert(key) {
                continue;
            }
            let off = top && OFF.contains(&key.as_str());
            let is_off = match value {
                Value::Bool(on) => !on,
                Value::Object(m) => m.is_empty(),
                _ => false,
            };
            if !(off && is_off) {
                out.push(Unread { key: format!("{}{key}", self.prefix), value: value.clone(), off });
            }
        }
        out
    }
}
