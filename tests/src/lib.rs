//! Shared pieces of mlxc's tests: running a partitioned function kernel by kernel in the Kernel IR interpreter,
//! comparing with the Graph IR interpreter, and random functions, models.

pub mod compare;
pub mod every;
pub mod fuzz;
pub mod gaps;
pub mod kernels;
pub mod llama;
pub mod patterns;
pub mod random;
pub mod shapes;
mod steps;
pub mod suite;
