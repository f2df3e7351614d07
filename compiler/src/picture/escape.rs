//! Names and code are other people's text: how it stands in HTML, in a script's data and in a DOT file.

use std::fmt::Write;

/// Text as HTML or XML shows it, in an element or a quoted attribute. Characters that XML has no way to write become
/// U+FFFD.
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' => out.push(c),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// JSON that may stand in a `script` element: nothing in it ends the element or begins a comment.
pub fn script(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // These occur in strings only, where an escape means the same.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

/// A quoted string of DOT. Backslashes are doubled, for they begin escapes there; lines are kept.
pub fn dot(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_text() {
        let name = "</script><script>alert('1')</script><!-- \"x\" & \u{0}\u{2028}";
        let shown = html(name);
        assert!(!shown.contains(['<', '>', '"', '\'', '\u{0}']), "{shown}");
        assert!(shown.starts_with("&lt;/script&gt;") && shown.contains("&amp;"));
        let json = serde_json::to_string(name).unwrap();
        let embedded = script(&json);
        assert!(!embedded.contains(['<', '>', '&', '\u{2028}']), "{embedded}");
        assert_eq!(serde_json::from_str::<String>(&embedded).unwrap(), name);
    }

    #[test]
    fn quoted_strings_of_dot_end_where_they_should() {
        assert_eq!(dot("a\"b\\c\nd\u{7}"), "\"a\\\"b\\\\c\\nd\u{fffd}\"");
        assert_eq!(dot("ends with \\"), "\"ends with \\\\\"");
    }
}
