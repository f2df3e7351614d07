//! House rules that a program can check: which crate may use which, how long a file may be, and what may not stand in
//! the code.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Edges between the workspace's crates. `tests`, `examples` and dev-dependencies may use anything.
const EDGES: &[(&str, &[&str])] = &[
    ("mlxc-package", &[]),
    ("mlxc-text", &[]),
    ("mlxc-ir", &["mlxc-package"]),
    ("mlxc-passes", &["mlxc-ir", "mlxc-package"]),
    ("mlxc-codegen", &["mlxc-ir"]),
    ("mlxc-runtime", &["mlxc-package"]),
    ("mlxc", &["mlxc-package", "mlxc-text", "mlxc-ir", "mlxc-passes", "mlxc-codegen", "mlxc-runtime"]),
    ("xtask", &[]),
];

/// Lines of a source file, tests aside.
const MOST_LINES: usize = 800;

/// Marks of unfinished work. Written in two parts so that this file passes its own check.
const FORBIDDEN: &[(&str, &str)] =
    &[("todo", "!("), ("unimplemented", "!("), ("dbg", "!("), ("FIX", "ME"), ("XX", "X")];

/// Names that say nothing of what a file holds.
const EMPTY_NAMES: &[&str] = &["utils.rs", "util.rs", "common.rs", "helpers.rs", "manager.rs", "misc.rs"];

/// Checks the workspace.
///
/// # Errors
/// Every rule that is broken, with its place.
pub fn run(root: &Path) -> Result<(), String> {
    let mut problems = Vec::new();
    edges(root, &mut problems)?;
    let mut files = Vec::new();
    rust_files(root, &mut files)?;
    for file in &files {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(file).display().to_string();
        source(&name, &text, &mut problems);
    }
    for needed in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        if !root.join(needed).is_file() {
            problems.push(format!("{needed} is missing"));
        }
    }
    if problems.is_empty() {
        println!("xtask: tidy: {} files", files.len());
        return Ok(());
    }
    Err(format!("tidy found:\n  {}", problems.join("\n  ")))
}

fn edges(root: &Path, problems: &mut Vec<String>) -> Result<(), String> {
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    for folder in ["ir", "passes", "codegen", "runtime", "runtime/package", "runtime/text", "compiler", "xtask"] {
        let path = root.join(folder).join("Cargo.toml");
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        problems.extend(edge_problems(&text, &allowed).map_err(|e| format!("{}: {e}", path.display()))?);
    }
    Ok(())
}

fn edge_problems(manifest: &str, allowed: &BTreeMap<&str, &[&str]>) -> Result<Vec<String>, String> {
    let table: toml::Table = manifest.parse().map_err(|e: toml::de::Error| e.to_string())?;
    let name = table.get("package").and_then(|p| p.get("name")).and_then(|n| n.as_str()).unwrap_or_default();
    let Some(may) = allowed.get(name) else { return Ok(vec![format!("crate `{name}` is not in tidy's table")]) };
    let Some(dependencies) = table.get("dependencies").and_then(|d| d.as_table()) else { return Ok(Vec::new()) };
    Ok(dependencies
        .keys()
        .filter(|d| (d.starts_with("mlxc") || *d == "xtask") && !may.contains(&d.as_str()))
        .map(|d| format!("crate `{name}` may not depend on `{d}`"))
        .collect())
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                rust_files(&path, out)?;
            }
        } else if name.ends_with(".rs") {
            out.push(path);
        }
    }
    Ok(())
}

fn source(name: &str, text: &str, problems: &mut Vec<String>) {
    let is_test = name.ends_with("/tests.rs")
        || name.starts_with("tests/")
        || name.contains("/tests/")
        || name.contains("/benches/");
    let lines = text.lines().count();
    if !is_test && lines > MOST_LINES {
        problems.push(format!("{name} has {lines} lines; {MOST_LINES} is the limit"));
    }
    if EMPTY_NAMES.iter().any(|n| name.ends_with(&format!("/{n}"))) {
        problems.push(format!("{name} is named after nothing"));
    }
    if !is_test && !text.starts_with("//!") && !name.ends_with("build.rs") {
        problems.push(format!("{name} has no module doc"));
    }
    // Unit tests stand at the end of a file; unwrap is theirs alone.
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    for (i, line) in code.lines().enumerate() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("//") {
            continue;
        }
        if !is_test && trimmed.contains(concat!(".unwrap", "()")) {
            problems.push(format!("{name}:{} unwraps outside tests", i + 1));
        }
        for (a, b) in FORBIDDEN {
            if trimmed.contains(&format!("{a}{b}")) {
                problems.push(format!("{name}:{} has `{a}{b}`", i + 1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> BTreeMap<&'static str, &'static [&'static str]> {
        EDGES.iter().copied().collect()
    }

    #[test]
    fn an_edge_upwards_is_found() {
        let ok = "[package]\nname = \"mlxc-runtime\"\n[dependencies]\nmlxc-package.workspace = true\nlibc = \"1\"";
        assert_eq!(edge_problems(ok, &allowed()), Ok(Vec::new()));
        let bad = ok.replace("mlxc-package", "mlxc-ir");
        assert_eq!(edge_problems(&bad, &allowed()).map(|p| p.len()), Ok(1));
    }

    #[test]
    fn source_rules_find_their_breaches() {
        let check = |name: &str, text: &str| {
            let mut p = Vec::new();
            source(name, text, &mut p);
            p.len()
        };
        assert_eq!(check("a/b.rs", "//! Doc.\nfn f() {}\n"), 0);
        assert_eq!(check("a/b.rs", "fn f() {}\n"), 1);
        assert_eq!(check("a/utils.rs", "//! Doc.\n"), 1);
        assert_eq!(check("a/b.rs", &format!("//! Doc.\nlet x = y{}{};\n", ".unwrap", "()")), 1);
        assert_eq!(check("a/b.rs", &format!("//! Doc.\n#[cfg(test)]\nlet x = y{}{};\n", ".unwrap", "()")), 0);
        assert_eq!(check("a/b.rs", &format!("//! Doc.\n{}{})\n", "todo", "!(")), 1);
        assert_eq!(check("a/b.rs", &format!("//! Doc.\n{}", "//\n".repeat(900))), 1);
        assert_eq!(check("tests/b.rs", &"//\n".repeat(900)), 0);
    }
}
