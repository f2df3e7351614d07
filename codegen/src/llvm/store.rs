//! Keeping machine code: what identifies the code of one kernel, and its form as bytes.
//!
//! The key is a hash of everything that decides the code: the kernel's LLVM IR as it is written, the target, the passes,
//! LLVM, and the sources of this generator. Names are not in it: phases have numbers until their code is known, so a kernel
//! of another model or entry finds the code of its equal. Where code is kept, and how long, is the store's matter.

use std::fmt::Debug;

use mlxc_ir::Diagnostic;
use sha2::{Digest, Sha256};

use super::PhaseCode;
use crate::blob::CodeBlob;
use crate::profiles::CpuTarget;

/// A place where code of earlier compilations may be found. The result of a compilation does not depend on it.
pub trait CodeStore: Debug + Send + Sync {
    /// The bytes kept under a key, if they are there and whole.
    fn find(&self, key: &str) -> Option<Vec<u8>>;

    /// Keeps bytes under a key, in place of what was there. A store that cannot says so by itself.
    fn keep(&self, key: &str, code: &[u8]);
}

/// Generator: its version, and a hash of the sources that decide code.
const GENERATOR: [&str; 2] = [env!("CARGO_PKG_VERSION"), env!("MLXC_GENERATOR")];

/// The key of a kernel's code, 64 hexadecimal digits. `bitcode` is its module before any pass, `settings` what LLVM is told to
/// do with it, `llvm` which LLVM that is.
pub(super) fn key(bitcode: &[u8], target: &CpuTarget, settings: &str, llvm: &str) -> String {
    let bits = target.vector_bits.to_string();
    let target = [target.triple, target.cpu, target.features, target.tune, &bits];
    let texts = GENERATOR.into_iter().chain(target).chain([settings, llvm]).map(str::as_bytes);
    digest(texts.chain([bitcode]))
}

/// SHA-256 of parts, each with its length, so that nothing moves from one to the next unnoticed.
fn digest<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// The code of one kernel, its phases known by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KernelCode {
    align: u64,
    /// Where each phase begins.
    offsets: Vec<u64>,
    bytes: Vec<u8>,
}

impl KernelCode {
    /// Takes the blob of a module whose functions are called by `name`.
    pub(super) fn new(blob: CodeBlob, phases: usize, name: impl Fn(usize) -> String) -> Result<Self, Diagnostic> {
        let offset = |n| {
            blob.offset(&name(n)).ok_or_else(|| {
                Diagnostic::new(805, "LLVM cannot generate machine code").found(format!("no code for `{}`", name(n)))
            })
        };
        let offsets = (0..phases).map(offset).collect::<Result<_, _>>()?;
        Ok(KernelCode { align: blob.align, offsets, bytes: blob.bytes })
    }

    /// The blob, with the symbols of its phases.
    pub(super) fn blob(self, phases: &[PhaseCode]) -> CodeBlob {
        let mut symbols: Vec<(String, u64)> = phases.iter().map(|p| p.symbol.clone()).zip(self.offsets).collect();
        symbols.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        CodeBlob { bytes: self.bytes, symbols, align: self.align }
    }

    /// As bytes: alignment, number of phases, their offsets, each a little-endian word; then code.
    pub(super) fn encode(&self) -> Vec<u8> {
        let words = [self.align, self.offsets.len() as u64].into_iter().chain(self.offsets.iter().copied());
        words.flat_map(u64::to_le_bytes).chain(self.bytes.iter().copied()).collect()
    }

    /// What [`encode`](Self::encode) wrote for a kernel with so many phases.
    pub(super) fn decode(bytes: &[u8], phases: usize) -> Option<Self> {
        let (head, code) = bytes.split_at_checked((2 + phases) * 8)?;
        let mut words = head.chunks_exact(8).map(|w| w.iter().rev().fold(0, |word, b| word << 8 | u64::from(*b)));
        let (align, count) = (words.next()?, words.next()?);
        let offsets: Vec<u64> = words.collect();
        let right = align.is_power_of_two() && count == phases as u64;
        let inside = offsets.iter().all(|o| *o < code.len() as u64);
        (right && inside).then(|| KernelCode { align, offsets, bytes: code.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profiles::cpu_target;

    #[test]
    fn everything_that_decides_code_is_in_the_key() {
        let v3 = cpu_target("x86-64-v3").unwrap();
        let base = key(b"module", v3, "passes", "22");
        assert_eq!(base.len(), 64);
        assert_eq!(base, key(b"module", v3, "passes", "22"));
        let others = ["x86-64-v4-bf16", "x86-64-v4", "x86-64-v2", "aarch64-neon"];
        let targets = others.map(|n| key(b"module", cpu_target(n).unwrap(), "passes", "22"));
        let rest = [
            key(b"other", v3, "passes", "22"),
            key(b"module", v3, "others", "22"),
            key(b"module", v3, "passes", "23"),
            key(b"module", v3, "passes2", "2"),
        ];
        let mut all: Vec<String> = targets.into_iter().chain(rest).chain([base]).collect();
        let number = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), number);
    }

    #[test]
    fn the_generator_is_known_by_its_sources() {
        assert_eq!(GENERATOR[1].len(), 64);
        assert!(GENERATOR[1].bytes().all(|b| b.is_ascii_hexdigit()));
        let with = |generator: &'static str| digest([generator.as_bytes(), b"module"].into_iter());
        assert_ne!(with("one"), with("other"));
    }

    #[test]
    fn code_comes_back_as_it_was_and_nonsense_does_not() {
        let code = KernelCode { align: 64, offsets: vec![0, 2], bytes: vec![1, 2, 3] };
        let bytes = code.encode();
        assert_eq!(KernelCode::decode(&bytes, 2), Some(code.clone()));
        assert_eq!(KernelCode::decode(&bytes, 1), None);
        assert_eq!(KernelCode::decode(&bytes, 3), None);
        assert_eq!(KernelCode::decode(&bytes[..31], 2), None);
        assert_eq!(KernelCode::decode(&bytes[..34], 2), None, "the second phase begins past the end");
        let odd = KernelCode { align: 3, ..code };
        assert_eq!(KernelCode::decode(&odd.encode(), 2), None);
    }
}
