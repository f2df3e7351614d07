//! Words of the text form.

use crate::diagnostic::{Diagnostic, Location};
use std::sync::Arc;

/// A word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(String),
    Text(String),
    /// A number as written.
    Number(String),
    Mark(&'static str),
    End,
}

impl Token {
    pub(super) fn show(&self) -> String {
        match self {
            Token::Name(n) => format!("`{n}`"),
            Token::Text(t) => format!("\"{t}\""),
            Token::Number(n) => n.clone(),
            Token::Mark(m) => format!("`{m}`"),
            Token::End => "the end of the text".into(),
        }
    }
}

const MARKS: [&str; 18] = ["..=", ">=", "{", "}", "(", ")", "[", "]", ":", ",", "=", "%", ".", "@", "+", "-", "*", "/"];

/// Splits text into words with their places.
pub(super) fn lex(text: &str, file: &str) -> Result<Vec<(Token, Location)>, Diagnostic> {
    let file: Arc<str> = file.into();
    let mut out = Vec::new();
    let mut rest = text;
    let (mut line, mut column) = (1u32, 1u32);
    while let Some(c) = rest.chars().next() {
        let at = Location::new(file.clone(), line, column);
        let (token, taken) = if c.is_whitespace() {
            (None, c.len_utf8())
        } else if rest.starts_with("//") {
            (None, rest.find('\n').unwrap_or(rest.len()))
        } else if c.is_ascii_alphabetic() || c == '_' {
            let n = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            (Some(Token::Name(rest[..n].into())), n)
        } else if c.is_ascii_digit() {
            (Some(Token::Number(rest[..number(rest)].into())), number(rest))
        } else if c == '"' {
            let (value, n) = string(rest, &at)?;
            (Some(Token::Text(value)), n)
        } else if let Some(m) = MARKS.iter().find(|m| rest.starts_with(**m)) {
            (Some(Token::Mark(m)), m.len())
        } else {
            return Err(Diagnostic::new(201, "this character begins no word").at(at).found(format!("{c:?}")));
        };
        out.extend(token.map(|t| (t, at)));
        for c in rest[..taken].chars() {
            (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
        }
        rest = &rest[taken..];
    }
    out.push((Token::End, Location::new(file, line, column)));
    Ok(out)
}

/// Length of the number at the start: digits, hex, or a float with fraction and exponent. `1..=2` begins with `1`.
fn number(text: &str) -> usize {
    let b = text.as_bytes();
    let digits = |mut i: usize| {
        while b.get(i).is_some_and(u8::is_ascii_alphanumeric) {
            i += 1;
        }
        i
    };
    if text.starts_with("0x") {
        return digits(2);
    }
    let plain = |mut i: usize| {
        while b.get(i).is_some_and(u8::is_ascii_digit) {
            i += 1;
        }
        i
    };
    let mut i = plain(0);
    if b.get(i) == Some(&b'.') && b.get(i + 1).is_some_and(u8::is_ascii_digit) {
        i = plain(i + 1);
    }
    if matches!(b.get(i), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(b.get(i + 1), Some(b'+' | b'-')));
        if b.get(i + 1 + sign).is_some_and(u8::is_ascii_digit) {
            i = plain(i + 1 + sign);
        }
    }
    i
}

/// A string literal with `\"`, `\\`, `\n` and `\u{…}`; its value and length.
fn string(text: &str, at: &Location) -> Result<(String, usize), Diagnostic> {
    let open = || Diagnostic::new(201, "a string has no end").at(at.clone());
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Ok((out, i + 1)),
            '\\' => {
                let (_, e) = chars.next().ok_or_else(open)?;
                match e {
                    '"' | '\\' => out.push(e),
                    'n' => out.push('\n'),
                    'u' => {
                        let start = i + 3;
                        let end = text[start.min(text.len())..].find('}').ok_or_else(open)? + start;
                        let code = text.get(start..end).and_then(|h| u32::from_str_radix(h, 16).ok());
                        let c = code.and_then(char::from_u32).ok_or_else(|| {
                            Diagnostic::new(201, "a string has an escape that is no character").at(at.clone())
                        })?;
                        out.push(c);
                        while chars.next().is_some_and(|(_, c)| c != '}') {}
                    }
                    other => {
                        return Err(Diagnostic::new(201, "a string has an unknown escape")
                            .at(at.clone())
                            .expected("\\\", \\\\, \\n or \\u{…}")
                            .found(format!("\\{other}")));
                    }
                }
            }
            c => out.push(c),
        }
    }
    Err(open())
}
