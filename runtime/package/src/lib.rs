//! The mlxc package format: what the compiler writes and the runtime reads.
//!
//! A package is a ZIP64 archive of stored members whose data is aligned to 16 KiB, so that it can be mapped and any ZIP
//! tool can list it:
//!
//! | member | holds |
//! |---|---|
//! | `weights/…` | the stored bytes of a weight |
//! | `kernels/<target>/code`, `kernels/<target>/symbols.json` | code, and where its functions or modules begin |
//! | `plan`, … | a [`plan::Plan`] as JSON, one for each class of targets |
//! | `text/…`, `ir/…`, `reasons/…` | tokenizer and chat template; what dump, verify and explain need |
//! | `manifest.json` | the [`Manifest`]: format, writer, targets, checksums |
//!
//! This crate holds the data both sides share (dtypes, size expressions, the plan), the reader and writer of
//! the archive, and the check that makes an untrusted plan safe to use. It knows nothing of the IRs, of passes or of
//! devices, but for the names of CPU features.

mod archive;
mod check;
mod directory;
mod dtype;
mod error;
mod features;
mod layout;
mod manifest;
mod package;
pub mod plan;
pub mod size;
mod writer;

pub use archive::MEMBER_ALIGNMENT;
pub use check::{BUFFER_ALIGNMENT, MAX_BYTES, MAX_GROUP_BYTES, MAX_GROUPS, check_plan};
pub use dtype::DType;
pub use error::PackageError;
pub use features::has_feature;
pub use layout::Layout;
pub use manifest::{FORMAT, Manifest, NATIVE_ABI, Target, TargetKind, WRITER, sha256};
pub use package::{OpenOptions, PLAN, Package};
pub use size::{Range, Size, SymId};
pub use writer::{PackageWriter, TargetCode};
