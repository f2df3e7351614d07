//! The mlxc package format: what the compiler writes and the runtime reads.
//!
//! A package is a ZIP64 archive with stored members at 16 KiB alignment. This crate holds the data
//! both sides share (dtypes, size expressions, the plan) and the reader and writer of the archive. It knows
//! nothing of the IRs, of passes or of devices.

mod dtype;
mod layout;
pub mod plan;
pub mod size;

pub use dtype::DType;
pub use layout::Layout;
pub use size::{Range, Size, SymId};
