//! Developer commands. `cargo xtask help` lists them.
//!
//! Each command sets up what it needs and says so; nothing is installed by hand.

#![allow(clippy::print_stdout)]

mod setup;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const HELP: &str = "\
cargo xtask demo     set up, compile the small Llama of the fixtures, show it, and let it write
cargo xtask test     set up and run every check: format, lints, tests, doc tests, tidy
cargo xtask book     build the book of docs/ into target/book
cargo xtask tidy     crate edges, file sizes, forbidden words
cargo xtask setup    install what is missing
cargo xtask bless    accept changed snapshots";

fn main() -> ExitCode {
    let root = root();
    let command = std::env::args().nth(1).unwrap_or_default();
    let outcome = match command.as_str() {
        "demo" => setup::run().and_then(|()| demo(&root)),
        "test" => setup::run().and_then(|()| test(&root)),
        "book" => book(&root),
        "tidy" => tidy::run(&root),
        "setup" => setup::run(),
        "bless" => cargo(&root, &["test", "--workspace", "--quiet"], &[("INSTA_UPDATE", "always")]),
        "" | "help" | "--help" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(format!("there is no command `{other}`\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Runs cargo in the workspace; its output goes to the terminal.
fn cargo(root: &Path, args: &[&str], env: &[(&str, &str)]) -> Result<(), String> {
    println!("xtask: cargo {}", args.join(" "));
    let status = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(args)
        .envs(env.iter().copied())
        .current_dir(root)
        .status()
        .map_err(|e| format!("cargo does not start: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("`cargo {}` failed", args.join(" "))) }
}

fn demo(root: &Path) -> Result<(), String> {
    let model = "tests/fixtures/kjv-llama";
    let package = "target/demo.mlxc";
    let mlxc = |args: &[&str]| cargo(root, &[&["run", "--quiet", "--package", "mlxc", "--"], args].concat(), &[]);
    // Cargo may be told to build elsewhere.
    std::fs::create_dir_all(root.join("target")).map_err(|e| format!("target: {e}"))?;
    println!("xtask: building the compiler; the first time this takes a few minutes");
    cargo(root, &["build", "--package", "mlxc"], &[])?;
    println!("\n== One package from a checkpoint: stages, kernels, memory\n");
    mlxc(&["compile", model, "-o", package])?;
    println!("\n== What a step launches, what each kernel fused, and where memory goes\n");
    mlxc(&["explain", package, "--entry", "decode"])?;
    mlxc(&["explain", package, "--memory"])?;
    println!("\n== The model writes\n");
    mlxc(&["generate", package, "--prompt", "In the beginning God created", "--max-tokens", "64"])
}

fn book(root: &Path) -> Result<(), String> {
    let target = root.join("target/book");
    println!("xtask: mdbook build docs");
    let status = Command::new("mdbook").args(["build", "docs", "--dest-dir"]).arg(&target).current_dir(root).status();
    match status {
        Ok(s) if s.success() => {
            println!("xtask: wrote {}", target.join("index.html").display());
            Ok(())
        }
        Ok(_) => Err("`mdbook build docs` failed".into()),
        Err(_) => Err("`mdbook` is missing: run `cargo install mdbook --locked`".into()),
    }
}

fn test(root: &Path) -> Result<(), String> {
    cargo(root, &["fmt", "--all", "--check"], &[])?;
    tidy::run(root)?;
    cargo(root, &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"], &[])?;
    // Snapshots are compared, never written; random cases are the same in every run.
    cargo(root, &["test", "--workspace"], &[("INSTA_UPDATE", "no"), ("PROPTEST_RNG_SEED", "20")])?;
    println!("xtask: all checks passed");
    Ok(())
}
