//! Runs every block of kind `console`, in a folder that holds the fixtures it names as the repository has them, and the
//! graphs and texts beside the chapters.
//!
//! A line `$ COMMAND` is a command for the shell, with `mlxc` the program under test; a `\` at its end continues it. The
//! lines behind it are what it prints: standard output, then standard error. `...` stands for anything: alone on a line for
//! any number of lines, within one for any text. A command without such lines prints what it likes. It ends with code 0, or
//! with N in a block of kind `console,exit-N`. Commands of a chapter run in order in one folder.

use crate::{chapters, pages, root};
use std::path::Path;
use std::process::Command;

struct Example {
    line: usize,
    command: String,
    printed: Vec<String>,
    exit: i32,
}

/// The console examples of a chapter.
fn examples(text: &str) -> Vec<Example> {
    let mut out: Vec<Example> = Vec::new();
    let mut exit = None;
    let mut open = false;
    for (i, line) in text.lines().enumerate() {
        if let Some(kind) = line.strip_prefix("```") {
            let console = exit.is_none() && kind.split(',').next() == Some("console");
            let code = kind.split("exit-").nth(1).map_or(0, |n| n.trim().parse().expect("an exit code"));
            exit = console.then_some(code);
            open = false;
            continue;
        }
        let Some(exit) = exit else { continue };
        let command = if open { Some(line.trim_start()) } else { line.strip_prefix("$ ") };
        match command {
            Some(part) => {
                let whole = part.strip_suffix('\\');
                let text = whole.unwrap_or(part);
                match out.last_mut().filter(|_| open) {
                    Some(e) => e.command.push_str(text),
                    None => out.push(Example { line: i + 1, command: text.into(), printed: Vec::new(), exit }),
                }
                open = whole.is_some();
            }
            None => out.last_mut().expect("a block begins with a command").printed.push(line.trim_end().into()),
        }
    }
    out
}

/// True if a line is the expected one, where `...` is any text.
fn same_line(want: &str, got: &str) -> bool {
    let mut parts = want.split("...");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = got.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The first expected line that has no match, if there is one.
fn difference<'a>(want: &'a [String], got: &[&str]) -> Option<&'a str> {
    let Some((first, others)) = want.split_first() else {
        return (!got.is_empty()).then_some("the end");
    };
    if first.trim() == "..." {
        let tails = (0..=got.len()).map(|i| difference(others, &got[i..]));
        return tails.min_by_key(Option::is_some).flatten();
    }
    match got.split_first() {
        Some((line, tail)) if same_line(first, line) => difference(others, tail),
        _ => Some(first),
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for file in std::fs::read_dir(from).expect("the fixtures are in the repository") {
        let file = file.expect("a file");
        let (source, target) = (file.path(), to.join(file.file_name()));
        if source.is_dir() {
            copy(&source, &target)
        } else {
            std::fs::copy(&source, &target).map(drop).expect("a copy")
        }
    }
}

/// Runs a chapter's examples; gives what differs.
fn run(name: &str, examples: &[Example]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixtures = root().join("tests/fixtures");
    for fixture in std::fs::read_dir(&fixtures).expect("the fixtures are in the repository") {
        let name = fixture.expect("a folder").file_name().into_string().expect("a name is text");
        let part = format!("tests/fixtures/{name}");
        if examples.iter().any(|e| e.command.contains(&part)) {
            copy(&root().join(&part), &folder.path().join(&part));
        }
    }
    let inputs =
        std::fs::read_dir(chapters()).expect("the book is in the repository").map(|f| f.expect("a file").path());
    for input in inputs.filter(|p| p.extension().is_some_and(|e| e == "graph" || e == "txt")) {
        std::fs::copy(&input, folder.path().join(input.file_name().expect("a name"))).expect("a copy");
    }
    let program = Path::new(env!("CARGO_BIN_EXE_mlxc")).parent().expect("a folder").to_path_buf();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([program].into_iter().chain(std::env::split_paths(&path))).expect("a path");
    let mut problems = Vec::new();
    for e in examples {
        let out = Command::new("sh")
            .args(["-c", &e.command])
            .env("PATH", &path)
            .env("COLUMNS", "100")
            .env_remove("RUST_LOG")
            .current_dir(folder.path())
            .output()
            .expect("a shell");
        let text = format!("{}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        let got: Vec<&str> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
        let want: Vec<String> = e.printed.iter().filter(|l| !l.is_empty()).cloned().collect();
        let place = format!("docs/src/{name}:{}: `{}`", e.line, e.command);
        if out.status.code() != Some(e.exit) {
            problems.push(format!("{place} ended with {:?}, not {}:\n{text}", out.status.code(), e.exit));
        } else if let Some(line) = difference(&want, &got).filter(|_| !want.is_empty()) {
            problems.push(format!("{place} did not print `{line}`, but:\n{text}"));
        }
    }
    problems
}

#[cfg(unix)]
#[test]
fn console_examples_do_what_they_say() {
    let chapters: Vec<(String, Vec<Example>)> = pages().into_iter().map(|(n, t)| (n, examples(&t))).collect();
    assert!(chapters.iter().map(|(_, e)| e.len()).sum::<usize>() > 20);
    let problems: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> =
            chapters.iter().filter(|(_, e)| !e.is_empty()).map(|(name, e)| scope.spawn(move || run(name, e))).collect();
        runs.into_iter().flat_map(|r| r.join().expect("a chapter runs")).collect()
    });
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

#[test]
fn dots_stand_for_anything() {
    let lines = |t: &str| t.lines().map(String::from).collect::<Vec<_>>();
    let fits = |want: &str, got: &str| difference(&lines(want), &got.lines().collect::<Vec<_>>()).is_none();
    assert!(fits("a\n...\nd", "a\nb\nc\nd"));
    assert!(fits("...", ""));
    assert!(fits("took ... ms, ... MiB", "took 3.0 ms, 4 MiB"));
    assert!(!fits("a\n...\nd", "a\nb"));
    assert!(!fits("a", "a\nb"));
    assert!(!fits("took ... ms", "took 3 s"));
    let e = examples("```console,exit-2\n$ mlxc \\\n    x\nout\n```\n```text\n$ no\n```\n");
    assert_eq!((e.len(), e[0].command.as_str(), e[0].exit, e[0].printed.len()), (1, "mlxc x", 2, 1));
}
