//! The manifest: what the package is, who wrote it and which targets it holds code for.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The package format this crate writes and reads. It grows with every change of the manifest, the plan or the code's
/// calling convention that an older reader would misread.
pub const FORMAT: u32 = 2;

/// Calling convention of native code: `(record, slot, lo, hi)`, see [`Target::abi`].
pub const NATIVE_ABI: u32 = 1;

/// The mlxc version that writes packages.
pub const WRITER: &str = concat!("mlxc ", env!("CARGO_PKG_VERSION"));

/// What a target's code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// Machine code that is mapped and called.
    Native,
    /// UTF-8 text that the device's own, checking compiler reads: one module for each phase. Buffer `i` of the kernel
    /// is `@group(0) @binding(1 + i)`, or `[[buffer(1 + i)]]`; the launch's scalars are a uniform buffer of 32-bit words
    /// at binding 0.
    Shader,
}

/// Code for one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Name of the target profile.
    pub name: String,
    /// What the code is.
    pub kind: TargetKind,
    /// Member that holds the plan its code was made for. Targets of one class share one.
    pub plan: String,
    /// Instruction set, as `std::env::consts::ARCH` names it; empty for shaders.
    pub arch: String,
    /// Features a loader must find first: of CPUs as `std::arch` detection names them, of GPUs as the runtime names
    /// those of an adapter.
    pub features: Vec<String>,
    /// Calling convention. 1: `f(record: *const u64, slot: *mut u8, lo: i64, hi: i64)` in the System V convention
    /// of the architecture, where `record` holds buffer addresses, then scalars.
    pub abi: u32,
    /// Alignment in bytes at which the code is to be mapped, a power of two.
    pub align: u64,
    /// Member that holds the code.
    pub code: String,
    /// Member that maps symbol names to byte offsets in the code, as a JSON object. A shader's module reaches from its
    /// symbol's offset to the next one, and the symbol is its entry point.
    pub symbols: String,
    /// Bytes of code.
    pub bytes: u64,
    /// SHA-256 of the code, in hexadecimal.
    pub sha256: String,
}

/// The member `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Package format, [`FORMAT`].
    pub format: u32,
    /// The mlxc version that wrote the package.
    pub writer: String,
    /// Hash of the options and profiles the compiler was given, in hexadecimal.
    pub options: String,
    /// SHA-256, in hexadecimal, of every member that is a plan.
    pub plan_sha256: BTreeMap<String, String>,
    /// Targets, best first within an architecture; at least one where there is more than one plan.
    pub targets: Vec<Target>,
}

/// The part of a manifest that every format has.
#[derive(Deserialize)]
pub(crate) struct Origin {
    pub(crate) format: u32,
    pub(crate) writer: String,
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
