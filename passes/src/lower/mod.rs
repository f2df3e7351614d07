//! Lowering: from a group of nodes to one kernel.
//!
//! A template builds the kernel of one region: [`map`] for everything without an anchor, [`matmul`] around a product
//! with a weight, [`attention`] around an attention. The
//! [`Emitter`](emit::Emitter) computes fused nodes at whatever coordinates a template asks for, so that one region
//! fuses into every template. Whether a region can be one kernel is answered by building it.

pub mod attention;
pub mod coord;
mod elementwise;
pub mod emit;
pub mod map;
pub mod matmul;
mod memory;
mod pull;
mod reduce;
mod views;

pub use elementwise::compute;
