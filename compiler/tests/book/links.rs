//! Links to files and headings, and the table of contents.

use crate::{chapters, pages, prose, read, root};
use std::collections::BTreeSet;
use std::path::Path;

/// Targets of Markdown links in a text, code aside.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    for (line, text) in prose(text) {
        // What stands between backquotes is code.
        let plain: String = text.split('`').step_by(2).collect::<Vec<_>>().join("code");
        let mut rest = plain.as_str();
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let end = rest.find(')').unwrap_or(rest.len());
            out.push((line, rest[..end].to_string()));
            rest = &rest[end..];
        }
    }
    out
}

/// Anchors of a text's headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|(_, l)| l.starts_with('#')).map(|(_, l)| l.trim_start_matches('#').trim());
    let letters = headings.map(|h| {
        h.to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    });
    letters.collect()
}

fn check(file: &Path, text: &str, problems: &mut Vec<String>) {
    for (line, target) in targets(text) {
        if target.contains("://") {
            continue;
        }
        let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
        let to = if path.is_empty() { file.to_path_buf() } else { file.parent().expect("a folder").join(path) };
        let place = format!("{}:{line}", file.display());
        if !to.exists() {
            problems.push(format!("{place}: there is no `{path}`"));
        } else if !anchor.is_empty() && !anchors(&read(&to)).contains(anchor) {
            problems.push(format!("{place}: `{path}` has no heading `{anchor}`"));
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let mut problems = Vec::new();
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/src/SUMMARY.md"] {
        let path = root().join(name);
        check(&path, &read(&path), &mut problems);
    }
    for (name, text) in pages() {
        check(&chapters().join(name), &text, &mut problems);
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Folders of the repository that a path may begin with.
const FOLDERS: [&str; 9] =
    ["ir/src/", "passes/", "codegen/", "runtime/", "compiler/", "tests/", "examples/", "docs/", "xtask/"];

#[test]
fn named_files_exist() {
    let mut missing = Vec::new();
    let contributing = ("CONTRIBUTING.md".to_string(), read(&root().join("CONTRIBUTING.md")));
    for (name, text) in pages().into_iter().chain([contributing]) {
        for (line, text) in prose(&text) {
            let code = text.split('`').skip(1).step_by(2);
            let paths = code.filter(|c| FOLDERS.iter().any(|f| c.starts_with(f)) && !c.contains([' ', '…', '*']));
            for path in paths.filter(|p| !root().join(p).exists()) {
                missing.push(format!("{name}:{line}: {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn the_summary_lists_every_chapter_once() {
    let listed: Vec<String> = targets(&read(&chapters().join("SUMMARY.md"))).into_iter().map(|(_, t)| t).collect();
    let mut sorted = listed.clone();
    sorted.sort();
    let names: Vec<String> = pages().into_iter().map(|(n, _)| n).collect();
    assert_eq!(sorted, names);
}

#[test]
fn anchors_are_those_of_rendered_pages() {
    let text = "# Reading `explain`\n\n```text\n# no heading\n```\n## mlxc compile\n";
    assert_eq!(anchors(text).into_iter().collect::<Vec<_>>(), ["mlxc-compile", "reading-explain"]);
}
