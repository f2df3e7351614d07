//! Text of a value and how tightly it binds.

use super::Ix;

/// A name, a literal, a call.
pub(crate) const PRIMARY: u8 = 3;
/// A product, or an operand with a prefix.
pub(crate) const PRODUCT: u8 = 2;
/// A sum.
pub(crate) const SUM: u8 = 1;

/// Text of a value, and how tightly it binds.
pub(crate) struct Text {
    pub(crate) text: String,
    level: u8,
}

impl Text {
    pub(crate) fn primary(text: impl Into<String>) -> Text {
        Text { text: text.into(), level: PRIMARY }
    }

    pub(crate) fn new(text: String, level: u8) -> Text {
        Text { text, level }
    }

    /// As an operand that must bind at least so tightly.
    pub(crate) fn at(self, level: u8) -> String {
        if self.level >= level { self.text } else { format!("({})", self.text) }
    }
}

/// The text without parentheses around all of it.
pub(crate) fn bare(text: &str) -> &str {
    let Some(inner) = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) else { return text };
    let mut depth = 0i32;
    for b in inner.bytes() {
        depth += i32::from(b == b'(') - i32::from(b == b')');
        if depth < 0 {
            return text;
        }
    }
    inner
}

const COMPONENTS: [&str; 4] = ["x", "y", "z", "w"];

/// One element of a vector.
pub(crate) fn component(vector: &str, i: Ix) -> String {
    match i {
        Ix::Const(c) => format!("{vector}.{}", COMPONENTS.get(c as usize).copied().unwrap_or("x")),
        i => format!("{vector}[{}]", i.text()),
    }
}

/// The letters of elements with constant numbers; `None` if one is not constant.
pub(crate) fn swizzle(picks: &[Ix]) -> Option<String> {
    let letter = |p: &Ix| match p {
        Ix::Const(c) => COMPONENTS.get(*c as usize).copied(),
        Ix::Text(..) => None,
    };
    picks.iter().map(letter).collect()
}
