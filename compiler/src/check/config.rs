//! Keys of a config that the model is not read by, and keys that are read and change nothing.

use super::Finding;
use crate::models::{Config, Unread, is_inert};
use mlxc_ir::{Diagnostic, Location};
use serde_json::{Map, Value, json};

/// All keys that compiling would refuse, the first of which ends it.
pub(super) fn unread(list: &[Unread], file: &str) -> Vec<Finding> {
    let one = |u: &Unread| {
        let expected = if u.off { "false, or no such key" } else { "keys of the family alone" };
        let d = Diagnostic::new(981, format!("the model ignores the key `{}` of its config", u.key))
            .at(Location::new(file, 0, 0))
            .expected(expected)
            .found(u.value.to_string())
            .note("compiling refuses it, since it may change the arithmetic: take it out, or set it to null, if it does not");
        Finding::warning(d)
    };
    list.iter().map(one).collect()
}

/// Keys that are read and whose value could be another one without changing the model: each is read again with other
/// values, and the model it gives compared.
pub(super) fn without_effect(map: &Map<String, Value>, config: &Config, file: &str) -> Vec<Finding> {
    let is_idle = |path: &[&str], changed: Value| {
        let Ok((other, unread)) = Config::examine(&with(map, path, changed), file) else { return false };
        // A key that nobody reads is listed as that.
        let key = path.join(".");
        other == *config && !unread.iter().any(|u| u.key == key)
    };
    let mut idle = Vec::new();
    for (key, value) in map.iter().filter(|(k, _)| !is_inert(k) && !is_repeated(map, k)) {
        search(key, value, &mut vec![], &is_idle, &mut idle);
    }
    let one = |(key, value): (String, Value)| {
        let d = Diagnostic::new(982, format!("the key `{key}` of the model's config changes nothing here"))
            .at(Location::new(file, 0, 0))
            .expected("a key that this model is computed by")
            .found(value.to_string())
            .note("its value may be any other: another key turns it off, or this model has no use for it");
        Finding::note(d)
    };
    idle.into_iter().map(one).collect()
}

/// Lists a key if it is idle, or those of its keys that are; an object is idle with all it holds. Gives whether it is.
fn search<'m>(
    key: &'m str,
    value: &'m Value,
    path: &mut Vec<&'m str>,
    is_idle: &dyn Fn(&[&str], Value) -> bool,
    out: &mut Vec<(String, Value)>,
) -> bool {
    path.push(key);
    let name = path.join(".");
    let idle = match value {
        Value::Null => true,
        Value::Object(inner) => {
            let before = out.len();
            // Every one of them is looked at, idle or not.
            let idle = inner.iter().filter(|(k, v)| !search(k, v, path, is_idle, out)).count() == 0;
            if idle {
                out.truncate(before);
            }
            idle && !inner.is_empty()
        }
        _ => others(value).into_iter().all(|v| is_idle(path, v)),
    };
    path.pop();
    if idle && !value.is_null() {
        out.push((name, value.clone()));
    }
    idle
}

/// True for a second spelling of a key that says the same.
fn is_repeated(map: &Map<String, Value>, key: &str) -> bool {
    let first = match key {
        "torch_dtype" => "dtype",
        "quantization_config" => "quantization",
        _ => return false,
    };
    map.get(first) == map.get(key)
}

/// The object with one value changed.
fn with(map: &Map<String, Value>, path: &[&str], value: Value) -> Map<String, Value> {
    let mut out = map.clone();
    match path {
        [key] => drop(out.insert((*key).into(), value)),
        [key, rest @ ..] => {
            if let Some(Value::Object(inner)) = map.get(*key) {
                out.insert((*key).into(), Value::Object(with(inner, rest, value)));
            }
        }
        [] => {}
    }
    out
}

/// Other values of the same kind.
fn others(value: &Value) -> Vec<Value> {
    match value {
        Value::Bool(b) => vec![json!(!b)],
        Value::Number(n) => match n.as_i64() {
            Some(n) => vec![json!(n.saturating_add(1)), json!(n.saturating_mul(2))],
            None => n.as_f64().map_or_else(Vec::new, |x| vec![json!(x * 2.0), json!(x * 0.5)]),
        },
        Value::String(_) => vec![json!("?")],
        Value::Array(list) => vec![json!([]), Value::Array(list.iter().skip(1).cloned().collect())],
        Value::Object(_) | Value::Null => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(changes: Value) -> Map<String, Value> {
        let mut base = json!({"model_type": "qwen2", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "torch_dtype": "bfloat16",
            "max_position_embeddings": 128, "rope_theta": 1e4, "rms_norm_eps": 1e-6, "hidden_act": "silu"});
        for (k, v) in changes.as_object().unwrap() {
            base[k] = v.clone();
        }
        base.as_object().unwrap().clone()
    }

    fn found(changes: Value) -> (Vec<String>, Vec<String>) {
        let map = small(changes);
        let (config, list) = Config::examine(&map, "config.json").unwrap();
        let text = |f: Vec<Finding>| f.into_iter().map(|f| f.diagnostic.message).collect();
        (text(unread(&list, "config.json")), text(without_effect(&map, &config, "config.json")))
    }

    #[test]
    fn every_unknown_key_is_listed() {
        let scaling = json!({"rope_type": "linear", "factor": 2.0, "mrope_section": [1]});
        let (unread, _) =
            found(json!({"logit_scale": 0.5, "use_mrope": true, "rope_scaling": scaling, "id2label": {}}));
        assert_eq!(unread.len(), 3, "{unread:?}");
        for key in ["`logit_scale`", "`use_mrope`", "`rope_scaling.mrope_section`"] {
            assert!(unread.iter().any(|m| m.contains(key)), "{key} in {unread:?}");
        }
    }

    #[test]
    fn keys_that_other_keys_turn_off_are_noted() {
        let off = json!({"use_sliding_window": false, "sliding_window": 8, "max_window_layers": 1});
        let (unread, idle) = found(off);
        assert!(unread.is_empty());
        assert_eq!(idle.len(), 2, "{idle:?}");
        for key in ["`max_window_layers`", "`sliding_window`"] {
            assert!(idle.iter().any(|m| m.contains(key)), "{key} in {idle:?}");
        }
        // A second dtype that differs is not read.
        let (_, idle) = found(json!({"dtype": "float16"}));
        assert!(idle.iter().any(|m| m.contains("torch_dtype")), "{idle:?}");
    }

    #[test]
    fn keys_in_use_and_inert_keys_are_not() {
        let on = json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 1, "id2label": {"0": "a"},
            "attention_dropout": 0.1, "rope_scaling": {"rope_type": "linear", "factor": 2.0}, "dtype": "bfloat16"});
        assert_eq!(found(on), (Vec::new(), Vec::new()));
        assert_eq!(found(json!({})), (Vec::new(), Vec::new()));
    }
}
