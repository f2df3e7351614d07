//! mlxc's two intermediate representations, and what they share.
//!
//! - [`graph`]: the Graph IR. Typed tensor functions in SSA form; what model code means. Its reference is the module's
//!   own documentation, with one entry an operation in [`graph::Op`] and the text form in [`graph::text`].
//! - [`kernel`]: the Kernel IR. One scheduled, loop-level, typed kernel between lowering and the writers. Its reference is
//!   the module's own documentation.
//! - [`profile`]: what lowering and legalisation need to know of a machine, as plain data.
//! - [`quantize`]: the schemes of quantised weights and their bit layout.
//! - [`diagnostic`]: errors as values.
//!
//! Both IRs have a builder, a verifier, a text form that parses back, and an interpreter that says what they mean. Sizes
//! ([`Size`]), dtypes and storage orders come from `mlxc-package`, which the runtime shares.
//!
//! ```
//! use mlxc_ir::graph::interpret::{Mode, Tensor, run};
//! use mlxc_ir::graph::text;
//! use mlxc_ir::DType;
//!
//! let module = text::parse(
//!     r#"entry "double" {
//!          size S in 1..=8
//!          param "x": f32[S] input
//!          %0 = param {index: 0} (): f32[S]
//!          %1 = add (%0, %0): f32[S]
//!          result "y" = %1
//!        }"#,
//!     "double.graph",
//! )?;
//! mlxc_ir::graph::verify::verify(&module).map_err(|mut d| d.remove(0))?;
//! let x = Tensor::floats(DType::F32, &[3], &[1.0, 2.0, 3.0]);
//! let out = run(&module, &module.functions[0], &[x], Mode::Reference)?;
//! assert_eq!(out.results[0].to_floats(), [2.0, 4.0, 6.0]);
//! # Ok::<(), mlxc_ir::Diagnostic>(())
//! ```

pub mod diagnostic;
pub mod graph;
pub mod kernel;
pub mod profile;
pub mod quantize;

pub use diagnostic::{Diagnostic, Location};
pub use mlxc_package::{DType, Layout, Range, Size, SymId, has_feature};
pub use profile::TargetProfile;
pub use quantize::{QuantMode, Scheme};
