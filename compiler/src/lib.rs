//! An ahead-of-time graph compiler and kernel fuser for MLX-style model code.

pub mod activations;
pub mod bench;
pub mod calibrate;
pub mod check;
pub mod checkpoint;
pub mod code;
pub mod convert;
pub mod devices;
pub mod embed;
pub mod error;
pub mod executable;
mod experts;
pub mod files;
pub mod generate;
pub mod losses;
pub mod models;
pub mod nn;
pub mod packaging;
pub mod picture;
pub mod pipeline;
pub mod quantization;
pub mod reasons;
pub mod report;
pub mod rewrites;
pub mod source;
pub mod trace;
pub mod verify;
pub mod web;
pub mod weights;

pub use error::Errors;
pub use executable::Executable;
pub use mlxc_ir::graph::{Activation, Module, ScatterOp};
pub use mlxc_ir::{DType, Diagnostic, Location, QuantMode, Scheme};
pub use pipeline::{Options, compile};
pub use quantization::Quantization;
pub use trace::{Array, Context, Convolution, PadMode, random, trace, trace_module};
