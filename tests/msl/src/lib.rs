//! A gate for Metal Shading Language: kernels are compiled by clang as C++17 against a library that stands in for
//! Metal's, and run with every thread of a threadgroup on a fiber of its own.
//!
//! The strict build has real address spaces and almost all of clang's warnings as errors. Running shows barriers and
//! simdgroup operations that not all threads reach, and memory that is read before it is written or without a
//! barrier: threads run as far ahead of each other as they can, in three orders, over threadgroup memory that holds
//! something else in each, and a kernel whose result differs is refused. The checked build looks for accesses beyond
//! a buffer or array and for vectors that are not aligned.
//!
//! What it cannot see: what Apple's compilers do with correct text, their limits of registers, and the rounding of
//! their elementary functions.

mod failure;
mod gate;
mod machine;
mod session;
mod source;

pub use failure::Failure;
pub use gate::{Build, Gate, Library};
pub use machine::{Binding, Block, Launch, Machine, Order};
pub use session::GateSession;
