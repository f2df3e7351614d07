//! mlxc's two intermediate representations.

pub mod diagnostic;
pub mod graph;
pub mod kernel;
pub mod profile;

pub use diagnostic::{Diagnostic, Location};
pub use mlxc_package::{DType, Layout, Range, Size, SymId};
pub use profile::TargetProfile;
