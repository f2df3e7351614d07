//! Chat templates: Jinja as Hugging Face's `apply_chat_template` sets it up.

use crate::TextError;
use crate::clock::strftime;
use minijinja::value::{Kwargs, Value as Jinja};
use minijinja::{Environment, ErrorKind, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::SystemTime;

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// Its text.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into() }
    }
}

/// What a template is given beside the messages.
#[derive(Clone, Debug, Default)]
pub struct RenderOptions {
    /// Ends the text where the assistant is to go on.
    pub add_generation_prompt: bool,
    /// The time `strftime_now` tells, in UTC; the system's if `None`.
    pub now: Option<SystemTime>,
    /// Further variables, such as `tools` or `enable_thinking`.
    pub variables: serde_json::Map<String, Value>,
}

/// A chat template.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// A template from its source, such as a `chat_template.jinja`.
    ///
    /// # Errors
    /// 0754 if it does not parse.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, TextError> {
        let template = ChatTemplate { source: without_generation_tags(source), bos: bos.into(), eos: eos.into() };
        let found = match environment(None).template_from_str(&template.source) {
            Ok(_) => None,
            Err(e) => Some(message(&e)),
        };
        match found {
            None => Ok(template),
            Some(found) => Err(TextError::Template { found }),
        }
    }

    /// The template of a `tokenizer_config.json`, if it has one. Where it has several, `default` is taken, else the first.
    ///
    /// # Errors
    /// 0753 if the file is malformed, 0754 if the template does not parse.
    pub fn from_config(bytes: &[u8]) -> Result<Option<Self>, TextError> {
        let (bos, eos, config) = Self::tokens(bytes)?;
        let named = |t: &Value, name: &str| t["name"] == name;
        let source = match &config["chat_template"] {
            Value::Array(all) => all.iter().find(|t| named(t, "default")).or(all.first()).map(|t| &t["template"]),
            one => Some(one),
        };
        match source {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(source)) => Self::new(source, &bos, &eos).map(Some),
            Some(_) => Err(refuse("a chat template as text", "another value")),
        }
    }

    /// The texts of the tokens that begin and end a text in a `tokenizer_config.json`, empty where it has none.
    ///
    /// # Errors
    /// 0753 if the file is malformed.
    pub fn special_tokens(bytes: &[u8]) -> Result<(String, String), TextError> {
        Self::tokens(bytes).map(|(bos, eos, _)| (bos, eos))
    }

    fn tokens(bytes: &[u8]) -> Result<(String, String, Value), TextError> {
        let config: Value = serde_json::from_slice(bytes).map_err(|e| refuse("JSON", e))?;
        // Either the text itself or an object with it.
        let token = |name: &str| {
            let value = &config[name];
            value.as_str().or(value["content"].as_str()).unwrap_or_default().to_string()
        };
        Ok((token("bos_token"), token("eos_token"), config.clone()))
    }

    /// The text of a conversation: a list of [`Message`]s, or of whatever else serialises to what the template reads.
    ///
    /// # Errors
    /// 0755 if the template fails or raises an exception.
    pub fn render(&self, messages: &impl Serialize, options: &RenderOptions) -> Result<String, TextError> {
        let failed = |e: minijinja::Error| TextError::Render { found: message(&e) };
        let environment = environment(options.now);
        let mut context = options.variables.clone();
        let messages =
            serde_json::to_value(messages).map_err(|e| TextError::Render { found: format!("messages: {e}") })?;
        context.insert("messages".into(), messages);
        context.insert("bos_token".into(), self.bos.clone().into());
        context.insert("eos_token".into(), self.eos.clone().into());
        context.insert("add_generation_prompt".into(), options.add_generation_prompt.into());
        environment.render_str(&self.source, Jinja::from_serialize(&context)).map_err(failed)
    }
}

fn refuse(expected: &str, found: impl ToString) -> TextError {
    TextError::Config { file: "tokenizer_config.json", expected: expected.into(), found: found.to_string() }
}

fn message(error: &minijinja::Error) -> String {
    match (error.detail(), error.line()) {
        (Some(detail), Some(line)) => format!("line {line}: {detail}"),
        (Some(detail), None) => detail.to_string(),
        _ => error.to_string(),
    }
}

fn environment(now: Option<SystemTime>) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |text: String| -> Result<Jinja, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, text))
    });
    environment
        .add_function("strftime_now", move |format: String| strftime(&format, now.unwrap_or_else(SystemTime::now)));
    environment.add_filter("tojson", to_json);
    environment
}

/// Python's `json.dumps` with `ensure_ascii=False`; Jinja's own filter escapes for HTML.
fn to_json(_: &State<'_, '_>, value: Jinja, arguments: Kwargs) -> Result<String, minijinja::Error> {
    let failed = |e: &dyn std::fmt::Display| minijinja::Error::new(ErrorKind::BadSerialization, e.to_string());
    let indent: Option<usize> = arguments.get("indent")?;
    // Its other arguments change nothing that a template can see here.
    for name in ["ensure_ascii", "separators", "sort_keys"] {
        let _: Option<Jinja> = arguments.get(name)?;
    }
    arguments.assert_all_used()?;
    let mut out = Vec::new();
    let result = match indent {
        Some(n) => {
            let indent = " ".repeat(n);
            let pretty = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, pretty))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)),
    };
    result.map_err(|e| failed(&e))?;
    String::from_utf8(out).map_err(|e| failed(&e))
}

/// JSON with a space after commas and colons.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W, first: bool) -> std::io::Result<()> {
        w.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, w: &mut W, first: bool) -> std::io::Result<()> {
        w.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        w.write_all(b": ")
    }
}

/// `{% generation %}` marks the assistant's text for training and prints as its contents; Jinja itself has no such tag.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}").map(|i| i + 2) else { break };
        let tag = &rest[start..start + length];
        let word = tag[2..length - 2].trim_matches(['-', '+']).trim();
        out.push_str(&rest[..start]);
        match word {
            "generation" => out.push_str(&tag.replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&tag.replacen("endgeneration", "endif", 1)),
            _ => out.push_str(tag),
        }
        rest = &rest[start + length..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn render(source: &str, messages: Value, options: &RenderOptions) -> Result<String, TextError> {
        ChatTemplate::new(source, "<s>", "</s>")?.render(&messages, options)
    }

    #[test]
    fn a_common_template_renders_as_in_python() {
        let source = "{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0].content.strip() %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set rest = messages %}
{%- endif %}
{{- bos_token }}
{%- for m in rest %}
    {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {{- '<|' + m.role + '|>' + (system ~ ': ' if system is defined and loop.first else '') + m.content.split('!')[0] }}
    {% generation %}{{ eos_token }}{% endgeneration %}
{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";
        let messages = json!([
            {"role": "system", "content": " be kind "},
            {"role": "user", "content": "hi!"},
            {"role": "assistant", "content": "ho"},
        ]);
        let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
        let text = render(source, messages, &options).unwrap();
        assert_eq!(text, "<s><|user|>be kind: hi\n</s><|assistant|>ho\n</s><|assistant|>");
        let wrong = json!([{"role": "assistant", "content": "x"}]);
        let error = render(source, wrong, &options).unwrap_err();
        assert_eq!(error.id(), "MLXC0755");
        assert!(error.to_string().contains("roles must alternate"), "{error}");
    }

    #[test]
    fn functions_filters_and_variables() {
        let mut options =
            RenderOptions { now: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400)), ..Default::default() };
        options.variables.insert("tools".into(), json!([{"name": "f<'x'>", "n": 1}]));
        let text = render("{{ strftime_now('%d %b %Y') }} {{ tools | tojson }}", json!([]), &options).unwrap();
        assert_eq!(text, "02 Jan 1970 [{\"name\": \"f<'x'>\", \"n\": 1}]");
        let text = render("{{ tools[0] | tojson(indent=2) }}", json!([]), &options).unwrap();
        assert_eq!(text, "{\n  \"name\": \"f<'x'>\",\n  \"n\": 1\n}");
        let text = render(
            "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
            json!([Message::new("user", "<a>"), Message::new("user", "b")]),
            &options,
        )
        .unwrap();
        assert_eq!(text, "<a>");
    }

    #[test]
    fn configurations_in_every_form() {
        let read = |t: &str| ChatTemplate::from_config(t.as_bytes());
        assert!(read("{}").unwrap().is_none());
        assert_eq!(read("x").unwrap_err().id(), "MLXC0753");
        assert_eq!(read(r#"{"chat_template": 3}"#).unwrap_err().id(), "MLXC0753");
        assert_eq!(read(r#"{"chat_template": "{% if %}"}"#).unwrap_err().id(), "MLXC0754");
        let config = r#"{"bos_token": {"content": "<b>"}, "eos_token": "<e>", "chat_template": [
            {"name": "tool_use", "template": "no"}, {"name": "default", "template": "{{ bos_token }}{{ eos_token }}"}]}"#;
        let template = read(config).unwrap().unwrap();
        assert_eq!(template.render(&json!([]), &RenderOptions::default()).unwrap(), "<b><e>");
        assert_eq!(ChatTemplate::special_tokens(config.as_bytes()).unwrap(), ("<b>".into(), "<e>".into()));
    }
}
