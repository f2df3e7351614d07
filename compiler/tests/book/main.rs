//! The book in `docs/`: its console examples run, its links lead somewhere, its list of errors is that of the sources.

mod console;
mod errors;
mod links;

use std::path::{Path, PathBuf};

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where the chapters are.
fn chapters() -> PathBuf {
    root().join("docs/src")
}

/// Names and texts of every chapter, SUMMARY.md aside, in the order of their names.
fn pages() -> Vec<(String, String)> {
    let folder = std::fs::read_dir(chapters()).expect("the book is in the repository");
    let mut names: Vec<String> =
        folder.map(|f| f.expect("a file").file_name().into_string().expect("a name is text")).collect();
    names.sort();
    let pages = names.into_iter().filter(|n| n.ends_with(".md") && n != "SUMMARY.md");
    pages.map(|n| (n.clone(), read(&chapters().join(n)))).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Lines outside fenced blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(i, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((i + 1, line))
    })
}
