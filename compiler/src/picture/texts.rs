//! The texts of code on a page: each once, and no more than a page can hold.

use std::collections::BTreeMap;

/// Bytes of one text, at most; the rest is cut at a line.
const MOST_OF_ONE: usize = 128 << 10;
/// Bytes of all texts, at most.
const MOST_OF_ALL: usize = 4 << 20;

/// Texts in the order they were added.
pub struct Texts {
    list: Vec<String>,
    known: BTreeMap<String, usize>,
    bytes: usize,
    most_of_one: usize,
    most_of_all: usize,
    /// Texts cut or left out, and their bytes that are missing.
    missing: (usize, usize),
}

impl Default for Texts {
    fn default() -> Self {
        Texts::with(MOST_OF_ONE, MOST_OF_ALL)
    }
}

impl Texts {
    fn with(most_of_one: usize, most_of_all: usize) -> Self {
        Texts { list: Vec::new(), known: BTreeMap::new(), bytes: 0, most_of_one, most_of_all, missing: (0, 0) }
    }

    /// Adds a text; gives its number, none where there is no room, and how many of its bytes are left out.
    pub fn add(&mut self, text: &str) -> (Option<usize>, usize) {
        let kept = if text.len() <= self.most_of_one { text } else { whole_lines(text, self.most_of_one) };
        let left_out = text.len() - kept.len();
        let number = match self.known.get(kept) {
            Some(n) => *n,
            None if self.bytes + kept.len() > self.most_of_all => {
                self.missing = (self.missing.0 + 1, self.missing.1 + text.len());
                return (None, text.len());
            }
            None => {
                self.bytes += kept.len();
                self.known.insert(kept.into(), self.list.len());
                self.list.push(kept.into());
                self.list.len() - 1
            }
        };
        if left_out > 0 {
            self.missing = (self.missing.0 + 1, self.missing.1 + left_out);
        }
        (Some(number), left_out)
    }

    /// The texts, and how many were cut or left out with the bytes that are missing.
    pub fn finish(self) -> (Vec<String>, (usize, usize)) {
        (self.list, self.missing)
    }
}

/// The lines that fit.
fn whole_lines(text: &str, most: usize) -> &str {
    let mut end = most;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].rfind('\n').map_or(&text[..end], |line| &text[..=line])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_once_and_within_bounds() {
        let mut t = Texts::with(10, 20);
        assert_eq!(t.add("one\n"), (Some(0), 0));
        assert_eq!(t.add("one\n"), (Some(0), 0));
        assert_eq!(t.add("a line\nand another\n"), (Some(1), 12));
        assert_eq!(t.add("123456789\n"), (None, 10));
        assert_eq!(t.add("ééééééé"), (None, 14), "no part of a character");
        assert_eq!(t.add("12345\n"), (Some(2), 0));
        let (list, missing) = t.finish();
        assert_eq!(list, ["one\n", "a line\n", "12345\n"]);
        assert_eq!(missing, (3, 36));
    }
}
