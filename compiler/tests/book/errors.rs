//! docs/src/errors.md lists every error id with the messages that the sources give it. `MLXC_BLESS=1` writes it anew.

use crate::{chapters, read, root};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// Ranges of ids and what they are about.
const RANGES: [(u16, &str); 9] = [
    (100, "Building a graph"),
    (200, "Graph IR: text, verification, interpretation"),
    (300, "Passes"),
    (400, "Memory planning"),
    (500, "Kernel IR: text, verification, interpretation, legalisation"),
    (600, "Packages"),
    (700, "The runtime, tokens and text"),
    (800, "Code generation"),
    (900, "Models and the command line"),
];

/// Folders of the crates that give errors.
const FOLDERS: [&str; 7] = ["ir", "passes", "codegen", "runtime", "runtime/package", "runtime/text", "compiler"];

/// An id that two crates give: the command looks up an entry's name as the runtime does.
const SHARED: [u16; 1] = [705];

/// Messages by id, and the crates they come from.
#[derive(Default)]
struct Found(BTreeMap<u16, (BTreeSet<String>, BTreeSet<String>)>);

impl Found {
    fn add(&mut self, id: u16, message: &str, folder: &str) {
        let (messages, folders) = self.0.entry(id).or_default();
        messages.insert(tidy(message));
        folders.insert(folder.into());
    }
}

/// A format string as a reader sees it: arguments as `…`, continued lines joined.
fn tidy(message: &str) -> String {
    let joined = message.split("\\\n").map(str::trim_start).collect::<Vec<_>>();
    let first = message.split("\\\n").next().unwrap_or_default();
    let text = joined.join("").replace("\\\"", "\"").replace("\\n", " ");
    assert!(!first.is_empty(), "a message has text");
    let mut out = String::new();
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '{' => {
                depth += 1;
                out.push('…');
            }
            '}' if depth > 0 => depth -= 1,
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    let plain = out.replace('|', "\\|").replace("……", "…").replace("`…`", "…");
    // What stands between backquotes is code, and shown as it is.
    let parts = plain.split('`').enumerate();
    let shown: Vec<String> = parts.map(|(i, p)| if i % 2 == 0 { p.replace('<', "&lt;") } else { p.into() }).collect();
    shown.join("`")
}

/// The string literal that begins here, if one does.
fn literal(text: &str) -> Option<&str> {
    let body = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = body.char_indices().find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    })?;
    Some(&body[..end.0])
}

/// Ids with their messages in one source file.
fn scan(code: &str, folder: &str, found: &mut Found) {
    let bytes = code.as_bytes();
    for at in 0..bytes.len().saturating_sub(4) {
        let number = &bytes[at..at + 3];
        let alone = at > 0 && !(bytes[at - 1].is_ascii_alphanumeric() || matches!(bytes[at - 1], b'_' | b'.' | b'"'));
        if !alone || !number.iter().all(u8::is_ascii_digit) || bytes[at + 3] != b',' || bytes[at] == b'0' {
            continue;
        }
        let id: u16 = code[at..at + 3].parse().expect("digits");
        let behind = code[at + 4..].trim_start();
        let direct = behind.strip_prefix("format!(").map_or(behind, str::trim_start);
        let made = code[..at].trim_end().ends_with("Diagnostic::new(") || behind.starts_with("message)");
        if let Some(message) = literal(direct) {
            found.add(id, message, folder);
        } else if made {
            // Messages chosen behind the id, or just before the call.
            let arms = behind.strip_prefix("match").map(|b| &b[..b.find('}').unwrap_or(b.len())]);
            let behind: Vec<&str> = arms
                .into_iter()
                .flat_map(|b| b.match_indices("=> \"").filter_map(|(i, _)| literal(&b[i + 3..])))
                .collect();
            behind.iter().for_each(|m| found.add(id, m, folder));
            let before = code[..at].rfind("let message = format!(").filter(|b| at - b < 300);
            if let Some(message) = before.and_then(|b| literal(&code[b + "let message = format!(".len()..])) {
                found.add(id, message, folder);
            }
        }
    }
    for (at, made) in code.match_indices("Diagnostic::new(") {
        let id = code[at + made.len()..].trim_start().get(..3).and_then(|d| d.parse::<u16>().ok());
        assert!(id.is_none_or(|id| found.0.contains_key(&id)), "no message is read for {id:?} in {folder}");
    }
    // Error enums: the message stands over the variant, the id in a match.
    for (at, _) in code.match_indices("\"MLXC0") {
        let id: u16 = code[at + 5..at + 9].parse().expect("digits");
        let name = code[..at].lines().last().and_then(|l| l.split("::").nth(1)?.split([' ', '(', '{']).next());
        let variant = name.and_then(|n| ["{", "("].iter().find_map(|open| code.find(&format!("\n    {n} {open}"))));
        let Some(variant) = variant else { continue };
        let message = code[..variant].rfind("#[error(").and_then(|b| literal(code[b + 8..].trim_start()));
        found.add(id, message.expect("a variant has a message"), folder);
    }
    // The one message that is printed before diagnostics can be.
    for (at, _) in code.match_indices("error: MLXC0") {
        let rest = &code[at + 11..];
        let message = rest[6..].split(['"', '\\']).next().unwrap_or_default();
        found.add(rest[1..4].parse().expect("digits"), message, folder);
    }
}

/// Source files of a folder, except those that are tests as a whole.
fn sources(folder: &Path, each: &mut dyn FnMut(&Path, String)) {
    for file in std::fs::read_dir(folder).expect("the sources are in the repository") {
        let path = file.expect("a file").path();
        if path.is_dir() {
            sources(&path, each);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            let text = read(&path);
            each(&path, text);
        }
    }
}

fn found() -> Found {
    let mut found = Found::default();
    for name in FOLDERS {
        sources(&root().join(name).join("src"), &mut |_, text| {
            scan(text.split("#[cfg(test)]").next().unwrap_or_default(), name, &mut found);
        });
    }
    found
}

fn page(found: &Found) -> String {
    let mut out = String::from(
        "# Errors\n\nWritten by `MLXC_BLESS=1 cargo test -p mlxc --test book errors` from the messages in the sources.\n\n\
         An error has an id, a sentence, a place where there is one, and what was expected and found. An id keeps its meaning \
         and is never given to another one; messages may be reworded. `…` stands for what depends on the case.\n",
    );
    for (first, about) in RANGES {
        let _ = write!(out, "\n## {:02}xx {about}\n\n| id | messages |\n|---|---|\n", first / 100);
        for (id, (messages, _)) in found.0.range(first..first + 100) {
            let all: Vec<&str> = messages.iter().map(String::as_str).collect();
            let _ = writeln!(out, "| `MLXC{id:04}` | {} |", all.join("<br>"));
        }
    }
    out
}

#[test]
fn errors_are_listed() {
    let made = page(&found());
    let path = chapters().join("errors.md");
    if std::env::var_os("MLXC_BLESS").is_some() {
        std::fs::write(&path, &made).expect("the page is written");
    }
    assert!(read(&path) == made, "docs/src/errors.md is old: run `MLXC_BLESS=1 cargo test -p mlxc --test book errors`");
}

#[test]
fn an_id_belongs_to_one_crate() {
    let several: Vec<String> = found()
        .0
        .iter()
        .filter(|(id, (_, folders))| folders.len() > 1 && !SHARED.contains(id))
        .map(|(id, (_, folders))| format!("MLXC{id:04} in {folders:?}"))
        .collect();
    assert!(several.is_empty(), "{}", several.join("\n"));
}

/// Ids that chapters and doc comments name are ids that the sources give.
#[test]
fn named_ids_exist() {
    let found = found();
    let mut texts = crate::pages();
    for name in FOLDERS {
        sources(&root().join(name).join("src"), &mut |path, text| texts.push((path.display().to_string(), text)));
    }
    let mut unknown = Vec::new();
    for (name, text) in texts {
        for (at, _) in text.match_indices("MLXC0") {
            let id = text.get(at + 4..at + 8).and_then(|d| d.parse::<u16>().ok());
            if id.is_some_and(|id| !found.0.contains_key(&id)) {
                unknown.push(format!("{name}: {}", &text[at..at + 8]));
            }
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}
