//! Text to tokens. Line ends are tokens, except inside parentheses and brackets.

use crate::{Diagnostic, Location};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A name, dots included: `sg.id`.
    Name,
    /// A number without sign.
    Number,
    /// An operator or bracket.
    Symbol,
    /// A line end or `;`.
    End,
    /// The end of the text.
    Eof,
}

/// A piece of the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'t> {
    pub(super) kind: TokenKind,
    pub(super) text: &'t str,
    pub(super) line: u32,
    pub(super) column: u32,
}

/// All tokens, and the comments by line.
pub(super) struct Lexed<'t> {
    pub(super) tokens: Vec<Token<'t>>,
    pub(super) comments: Vec<(u32, &'t str)>,
}

const SYMBOLS: &[&str] = &[
    "..=", "..", "+:", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "-", "+", "*", "/", "%", "&", "|", "^", "!",
    "<", ">", "=", "(", ")", "[", "]", "{", "}", ",", ":",
];

pub(super) fn lex<'t>(text: &'t str, file: &str) -> Result<Lexed<'t>, Diagnostic> {
    let mut out = Lexed { tokens: Vec::new(), comments: Vec::new() };
    let (mut at, mut line, mut line_start, mut depth) = (0, 1, 0, 0u32);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        let rest = &text[at..];
        let column = (at - line_start + 1) as u32;
        let b = bytes[at];
        let mut push = |kind, len: usize| out.tokens.push(Token { kind, text: &text[at..at + len], line, column });
        let len = match b {
            b'\n' => {
                if depth == 0 {
                    push(TokenKind::End, 1);
                }
                line += 1;
                line_start = at + 1;
                1
            }
            b' ' | b'\t' | b'\r' => 1,
            b';' => {
                push(TokenKind::End, 1);
                1
            }
            b'/' if rest.starts_with("//") => {
                let len = rest.find('\n').unwrap_or(rest.len());
                out.comments.push((line, rest[2..len].trim()));
                len
            }
            b'0'..=b'9' => {
                let len = number_length(rest.as_bytes());
                push(TokenKind::Number, len);
                len
            }
            b if b.is_ascii_alphabetic() || b == b'_' => {
                let len = name_length(rest.as_bytes());
                push(TokenKind::Name, len);
                len
            }
            _ => {
                let Some(symbol) = SYMBOLS.iter().find(|s| rest.starts_with(**s)) else {
                    let found = rest.chars().next().unwrap_or(' ');
                    return Err(Diagnostic::new(501, "a character that starts nothing")
                        .at(Location::new(file, line, column))
                        .found(format!("{found:?}")));
                };
                match *symbol {
                    "(" | "[" => depth += 1,
                    ")" | "]" => depth = depth.saturating_sub(1),
                    _ => {}
                }
                push(TokenKind::Symbol, symbol.len());
                symbol.len()
            }
        };
        at += len;
    }
    let column = (at - line_start + 1) as u32;
    out.tokens.push(Token { kind: TokenKind::Eof, text: "", line, column });
    Ok(out)
}

fn name_length(b: &[u8]) -> usize {
    let word = |from: usize| b[from..].iter().take_while(|c| c.is_ascii_alphanumeric() || **c == b'_').count();
    let mut n = word(0);
    while b.get(n) == Some(&b'.') && b.get(n + 1).is_some_and(|c| c.is_ascii_alphabetic() || *c == b'_') {
        n += 1 + word(n + 1);
    }
    n
}

/// `12`, `1.5`, `1e-5`, `0xff`, `0x1.8p-3`. `0..4` is two numbers, and `8x8` a number and a name.
fn number_length(b: &[u8]) -> usize {
    let digits = |from: usize| b[from..].iter().take_while(|c| c.is_ascii_digit()).count();
    let exponent = |from: usize, letter: u8| {
        if b.get(from).is_none_or(|c| c.to_ascii_lowercase() != letter) {
            return 0;
        }
        let sign = usize::from(matches!(b.get(from + 1), Some(b'+' | b'-')));
        match digits(from + 1 + sign) {
            0 => 0,
            n => 1 + sign + n,
        }
    };
    if b[0] == b'0' && b.get(1) == Some(&b'x') {
        let hex = |from: usize| b[from..].iter().take_while(|c| c.is_ascii_hexdigit()).count();
        let mut n = 2 + hex(2);
        if b.get(n) == Some(&b'.') && b.get(n + 1).is_some_and(u8::is_ascii_hexdigit) {
            n += 1 + hex(n + 1);
        }
        return n + exponent(n, b'p');
    }
    let mut n = digits(0);
    if b.get(n) == Some(&b'.') && b.get(n + 1).is_some_and(u8::is_ascii_digit) {
        n += 1 + digits(n + 1);
    }
    n + exponent(n, b'e')
}
