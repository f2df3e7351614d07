//! Ending a text where one of several strings stands.

/// Watches pieces of a text for stop strings. What may be the beginning of one is held back until it is known.
#[derive(Clone, Debug)]
pub struct StopStrings {
    strings: Vec<String>,
    held: String,
}

/// What is certain after a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Text before any stop string.
    pub text: String,
    /// A stop string was met; the text ends before it.
    pub stopped: bool,
}

impl StopStrings {
    /// Watches for strings; empty ones are left out.
    pub fn new(strings: impl IntoIterator<Item = String>) -> Self {
        StopStrings { strings: strings.into_iter().filter(|s| !s.is_empty()).collect(), held: String::new() }
    }

    /// Adds a piece. Where several stop strings stand, the text ends before the first.
    pub fn push(&mut self, piece: &str) -> Piece {
        self.held.push_str(piece);
        if let Some(at) = self.strings.iter().filter_map(|s| self.held.find(s.as_str())).min() {
            self.held.truncate(at);
            return Piece { text: std::mem::take(&mut self.held), stopped: true };
        }
        // The longest end of the text that begins a stop string.
        let begins = |s: &String| {
            let ends = s.char_indices().map(|(i, _)| i).skip(1).filter(|n| self.held.ends_with(&s[..*n]));
            ends.max().unwrap_or(0)
        };
        let kept = self.strings.iter().map(begins).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - kept);
        Piece { text: std::mem::replace(&mut self.held, rest), stopped: false }
    }

    /// The text held back, at the end.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(strings: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut s = StopStrings::new(strings.iter().map(|s| (*s).to_string()));
        let mut out = String::new();
        for p in pieces {
            let piece = s.push(p);
            out.push_str(&piece.text);
            if piece.stopped {
                return (out, true);
            }
        }
        out.push_str(&s.finish());
        (out, false)
    }

    #[test]
    fn strings_across_pieces() {
        assert_eq!(all(&["stop"], &["a st", "op b"]), ("a ".into(), true));
        assert_eq!(all(&["stop"], &["a st", "ep", " sto"]), ("a step sto".into(), false));
        assert_eq!(all(&["bc", "abcd"], &["xab", "cd"]), ("x".into(), true));
        assert_eq!(all(&["ß!"], &["aß", "!"]), ("a".into(), true));
        assert_eq!(all(&[""], &["a"]), ("a".into(), false));
        assert_eq!(all(&["aab"], &["aaab"]), ("a".into(), true));
    }

    proptest! {
        #[test]
        fn equal_to_a_search_of_the_whole(
            text in "[abß]{0,40}",
            stop in prop::collection::vec("[abß]{1,4}", 0..3),
            cuts in prop::collection::vec(0usize..40, 0..8),
        ) {
            let mut bounds: Vec<usize> = cuts.into_iter().filter(|c| text.is_char_boundary(*c)).collect();
            bounds.extend([0, text.len()]);
            bounds.sort_unstable();
            let pieces: Vec<&str> = bounds.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            let stops: Vec<&str> = stop.iter().map(String::as_str).collect();
            // Pieces may complete a later stop string first only where it also ends first.
            let (got, stopped) = all(&stops, &pieces);
            prop_assert_eq!(stopped, stops.iter().any(|s| text.contains(s)));
            prop_assert!(text.starts_with(&got));
            if !stopped {
                prop_assert_eq!(got, text);
            } else {
                prop_assert!(stops.iter().any(|s| text[got.len()..].starts_with(s)));
            }
        }
    }
}
