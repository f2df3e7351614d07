//! Finds LLVM 22 and links it so that every binary of the workspace starts without environment variables.
//!
//! Search order: `MLXC_LLVM_PREFIX`, `LLVM_SYS_221_PREFIX`, `llvm-config-22` and `llvm-config` on the path,
//! then the libLLVM that the Rust toolchain itself ships. `MLXC_LLVM_PREFIX=none` builds without LLVM.
//!
//! A library's build script cannot give an rpath to the binaries that depend on it. Instead the crate links
//! against a stub: an empty shared library that names the same functions and whose SONAME is LLVM's absolute
//! path. Linkers copy a SONAME verbatim into `DT_NEEDED`, and loaders open a name with a slash in it as a path.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use object::{Object, ObjectSymbol};
use sha2::{Digest, Sha256};

/// Sources that decide machine code, given a legal kernel.
const GENERATOR: [&str; 4] = ["src/llvm", "src/blob.rs", "src/constant.rs", "src/profiles.rs"];

struct Llvm {
    library: PathBuf,
    version: String,
    source: &'static str,
}

fn main() {
    println!("cargo:rustc-check-cfg=cfg(have_llvm)");
    println!("cargo:rerun-if-changed=build.rs");
    for name in ["MLXC_LLVM_PREFIX", "LLVM_SYS_221_PREFIX", "PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    println!("cargo:rustc-env=MLXC_GENERATOR={}", generator());
    let Some(llvm) = find() else {
        println!("cargo:rustc-env=MLXC_LLVM_FOUND=none");
        return;
    };
    println!("cargo:rerun-if-changed={}", llvm.library.display());
    println!("cargo:rustc-env=MLXC_LLVM_FOUND=LLVM {} ({})", llvm.version, llvm.source);
    println!("cargo:rustc-cfg=have_llvm");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    if stub(&llvm.library, &out).is_some() {
        println!("cargo:rustc-link-search=native={}", out.display());
        println!("cargo:rustc-link-lib=dylib=mlxc_llvm");
    } else {
        // Then the loader's own search has to find it: true under cargo, and for system directories.
        let name = llvm.library.file_name().and_then(|n| n.to_str()).expect("found by its name");
        println!("cargo:rustc-link-search=native={}", llvm.library.parent().unwrap_or(Path::new("/")).display());
        println!("cargo:rustc-link-lib=dylib:+verbatim={name}");
    }
}

/// Hash of the generator's sources, so that code is never taken from a store that another writer filled.
fn generator() -> String {
    let mut files = Vec::new();
    for source in GENERATOR {
        println!("cargo:rerun-if-changed={source}");
        list(Path::new(source), &mut files);
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let text = fs::read(&file).expect("the sources lie beside this script");
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// A file, or the files of a folder.
fn list(path: &Path, out: &mut Vec<PathBuf>) {
    match fs::read_dir(path) {
        Ok(entries) => {
            for entry in entries {
                list(&entry.expect("the sources can be listed").path(), out);
            }
        }
        Err(_) => out.push(path.to_path_buf()),
    }
}

fn find() -> Option<Llvm> {
    for name in ["MLXC_LLVM_PREFIX", "LLVM_SYS_221_PREFIX"] {
        if let Ok(prefix) = env::var(name) {
            if prefix == "none" {
                return None;
            }
            let config = Path::new(&prefix).join("bin/llvm-config");
            if let Some(llvm) = from_config(&config.to_string_lossy(), "from the prefix variable") {
                return Some(llvm);
            }
        }
    }
    from_config("llvm-config-22", "from llvm-config-22")
        .or_else(|| from_config("llvm-config", "from llvm-config"))
        .or_else(from_toolchain)
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

fn from_config(program: &str, source: &'static str) -> Option<Llvm> {
    let version = output(program, &["--version"])?;
    let directory = PathBuf::from(output(program, &["--libdir"])?);
    library_in(&directory, version, source)
}

fn from_toolchain() -> Option<Llvm> {
    let rustc = env::var("RUSTC").ok()?;
    let verbose = output(&rustc, &["-vV"])?;
    let version = verbose.lines().find_map(|l| l.strip_prefix("LLVM version: "))?.to_string();
    let directory = Path::new(&output(&rustc, &["--print", "sysroot"])?).join("lib");
    library_in(&directory, version, "from the Rust toolchain")
}

/// The shared library in a directory, if it is version 22: `libLLVM.so.22.1…`, `libLLVM-22.so`, `libLLVM.dylib`.
fn library_in(directory: &Path, version: String, source: &'static str) -> Option<Llvm> {
    if !version.starts_with("22.") {
        return None;
    }
    let mut names: Vec<String> =
        fs::read_dir(directory).ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    let name = names.into_iter().find(|n| {
        n.starts_with("libLLVM.so.22") || n == "libLLVM-22.so" || n == "libLLVM.so" || n == "libLLVM.dylib"
    })?;
    let library = fs::canonicalize(directory.join(name)).ok()?;
    Some(Llvm { library, version, source })
}

/// Writes `libmlxc_llvm.so` beside the crate: LLVM's C functions by name, LLVM's path as its SONAME.
fn stub(library: &Path, out: &Path) -> Option<()> {
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return None; // a dylib's install name is already a path
    }
    let bytes = fs::read(library).ok()?;
    let file = object::File::parse(&*bytes).ok()?;
    let mut names: Vec<&str> = file
        .dynamic_symbols()
        .filter(|s| s.is_definition())
        .filter_map(|s| s.name().ok())
        .filter(|n| n.starts_with("LLVM"))
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut text = String::from(".text\n");
    for name in names {
        text.push_str(&format!(".globl {name}\n.type {name},%function\n{name}:\n"));
    }
    text.push_str(".byte 0\n.section .note.GNU-stack,\"\",%progbits\n");
    let source = out.join("stub.s");
    fs::write(&source, text).ok()?;
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    let status = Command::new(compiler)
        .args(["-shared", "-nostdlib", "-o"])
        .arg(out.join("libmlxc_llvm.so"))
        .arg(format!("-Wl,-soname,{}", library.display()))
        .arg(&source)
        .status()
        .ok()?;
    status.success().then_some(())
}
