//! Shared pieces of mlxc's tests: running a partitioned function kernel by kernel in the Kernel IR interpreter, and
//! comparing with the Graph IR interpreter.

pub mod compare;
pub mod kernels;
