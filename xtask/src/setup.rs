//! Installs what a build needs and the machine lacks.
//!
//! rustup brings the pinned toolchain with its own LLVM, which is all that code generation links. What is left is a
//! linker for Rust itself.

use std::process::Command;

/// A program and the Debian package that has it.
const NEEDED: &[(&str, &str)] = &[("cc", "gcc")];

/// Checks for each program and installs the package of one that is missing.
///
/// # Errors
/// The command to run by hand, where installing fails.
pub fn run() -> Result<(), String> {
    for (program, package) in NEEDED {
        if starts(program, &["--version"]) {
            continue;
        }
        println!("xtask: `{program}` is missing; installing the package `{package}`");
        let by_hand = format!("`{program}` is missing: run `apt-get update && apt-get install -y {package}`");
        if !starts("apt-get", &["update"]) || !starts("apt-get", &["install", "-y", package]) {
            return Err(by_hand);
        }
        if !starts(program, &["--version"]) {
            return Err(by_hand);
        }
    }
    for component in ["rustfmt", "clippy"] {
        let tool = if component == "rustfmt" { "fmt" } else { "clippy" };
        if starts("cargo", &[tool, "--version"]) {
            continue;
        }
        println!("xtask: installing the toolchain's {component}");
        if !starts("rustup", &["component", "add", component]) {
            return Err(format!("{component} is missing: run `rustup component add {component}`"));
        }
    }
    Ok(())
}

fn starts(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).output().is_ok_and(|o| o.status.success())
}
