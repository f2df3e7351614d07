//! The thin runtime that loads and runs mlxc packages. It knows packages and nothing of how they were compiled.
//!
//! ```no_run
//! use mlxc_runtime::{LoadOptions, Model, Package, Tensor};
//! use std::sync::Arc;
//!
//! let package = Arc::new(Package::open("model.mlxc")?);
//! let mut session = Model::load(package, &LoadOptions::default())?.session()?;
//! let tokens = Tensor::from_slice(&[3], &[1i32, 2, 3])?;
//! let position = Tensor::scalar(0i32)?;
//! let outputs = session.run("prefill", &[("tokens", tokens.view()), ("pos", position.view())])?;
//! println!("{} {:?}", outputs[0].0, outputs[0].1);
//! # Ok::<(), mlxc_runtime::RuntimeError>(())
//! ```
//!
//! [`Model::load`] maps code and weights, a [`Session`] holds states and scratch memory, and a step
//! ([`Session::run`], or [`Session::step`] in a loop) checks its inputs and runs the plan's launches as one parallel
//! region. Loading native code means trusting who wrote the package, see [`Package`].

mod cpu;
mod device;
mod error;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod kept;
mod memory;
mod model;
pub mod npy;
mod null;
mod poison;
mod report;
mod session;
mod signature;
mod sizes;
mod steps;
mod tensor;

pub use device::Device;
pub use error::RuntimeError;
pub use memory::peak_rss_bytes;
pub use mlxc_package::{DType, OpenOptions, Package, PackageError};
pub use model::{LoadOptions, Model, WeightMemory};
pub use report::MemoryReport;
pub use session::{EntryId, LaunchTime, Session};
pub use tensor::{Element, Tensor, TensorView};
