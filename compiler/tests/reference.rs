//! docs/src/cli.md is what the command itself says. `MLXC_BLESS=1` writes it anew.

use std::path::PathBuf;
use std::process::Command;

const COMMANDS: [&str; 16] = [
    "compile",
    "convert",
    "generate",
    "chat",
    "perplexity",
    "embed",
    "bench",
    "run",
    "inspect",
    "explain",
    "dump",
    "verify",
    "devices",
    "cache",
    "completions",
    "man",
];

fn help(args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_mlxc"))
        .args(args)
        .arg("--help")
        .env("COLUMNS", "100")
        .output()
        .expect("the program starts");
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).expect("help is text");
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn reference() -> String {
    let mut out = String::from(
        "# The command line\n\nWritten by `MLXC_BLESS=1 cargo test -p mlxc --test reference` from the command's own help.\n\n\
         Results go to standard output, progress and errors to standard error. Every error has an id (`MLXC0903`).\n\n\
         | exit code | meaning |\n|---|---|\n| 0 | success |\n| 1 | an error in what was given: model, files, options that do \
         not fit them |\n| 2 | a wrong command line |\n| 3 | `verify` found a difference, or `check` something to warn of |\n\n",
    );
    out.push_str(&format!("## mlxc\n\n```text\n{}\n```\n", help(&[])));
    for command in COMMANDS {
        out.push_str(&format!("\n## mlxc {command}\n\n```text\n{}\n```\n", help(&[command])));
    }
    out
}

#[test]
fn the_reference_is_up_to_date() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/src/cli.md");
    let made = reference();
    if std::env::var_os("MLXC_BLESS").is_some() {
        std::fs::write(&path, &made).expect("the reference is written");
    }
    let kept = std::fs::read_to_string(&path).expect("docs/src/cli.md is in the repository");
    assert!(kept == made, "docs/src/cli.md is old: run `MLXC_BLESS=1 cargo test -p mlxc --test reference`");
    for command in COMMANDS {
        assert!(help(&[]).contains(command));
    }
}
