//! Code for aarch64 on another machine: a runner in C, cross-compiled once and run by qemu, makes the calls.

use super::{Call, Memory};
use mlxc_codegen::llvm::CpuCode;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const COMPILER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";
const INSTALL: &str = "apt-get install -y qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross";

/// True in the test program that runs what others run on this machine's own profiles for NEON, where it is not the
/// machine's own.
pub fn is_on() -> bool {
    env!("CARGO_CRATE_NAME") == "neon" && !cfg!(target_arch = "aarch64")
}

/// The runner, compiled once a process and left for the next, which compiles it anew.
fn runner() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let module = module_path!().replace("::", "-");
        let (made, whole) = (folder.join(format!("{module}-{}", std::process::id())), folder.join(module));
        let mut compiler = Command::new(COMPILER)
            .args(["-static", "-O1", "-Wall", "-Werror", "-x", "c", "-", "-o"])
            .arg(&made)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{COMPILER} does not start ({e}): run `{INSTALL}`"));
        compiler.stdin.take().unwrap().write_all(include_bytes!("runner.c")).unwrap();
        let out = compiler.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        std::fs::rename(&made, &whole).unwrap();
        whole
    })
}

fn word(out: &mut Vec<u8>, word: u64) {
    out.extend_from_slice(&word.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    word(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(8), 0);
}

/// Makes the calls; the buffers hold what the kernels left in them.
pub fn execute(code: &CpuCode, scalars: &[u64], buffers: &mut [Memory], calls: &[Call]) {
    let mut input = Vec::new();
    bytes(&mut input, &code.blob.bytes);
    word(&mut input, buffers.len() as u64);
    buffers.iter().for_each(|b| bytes(&mut input, b.bytes()));
    word(&mut input, scalars.len() as u64);
    scalars.iter().for_each(|s| word(&mut input, *s));
    word(&mut input, calls.len() as u64);
    for call in calls {
        for w in [call.offset, call.lo as u64, call.hi as u64, call.group_bytes, call.counters.len() as u64] {
            word(&mut input, w);
        }
        call.counters.iter().for_each(|c| word(&mut input, *c));
    }
    let mut child = Command::new(EMULATOR)
        .arg(runner())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{EMULATOR} does not start ({e}): run `{INSTALL}`"));
    // The runner reads everything before it writes, so neither waits for the other.
    let sent = child.stdin.take().unwrap().write_all(&input);
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && sent.is_ok(), "the runner ends with {}: {said}", out.status);
    let mut rest = &out.stdout[..];
    for buffer in buffers {
        let (head, tail) = rest.split_at(buffer.bytes().len());
        buffer.bytes_mut().copy_from_slice(head);
        rest = tail;
    }
    assert!(rest.is_empty());
}
