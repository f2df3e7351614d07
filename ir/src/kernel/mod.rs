//! The Kernel IR: one typed, scheduled, loop-level language between lowering and the writers.
//!
//! A [`Kernel`] is a list of *phases* over *buffers*. A phase is one launch over a grid of *groups*; a group has
//! lanes, which on a GPU are the invocations of a workgroup and on a CPU are one task (SIMD is vector values). Each
//! lane runs the phase's body: `let`, `var`, `reg`, `for`, `if`, stores and barriers over pure expressions.
//!
//! Templates build kernels with [`KernelBuilder`]; [`parse()`] and [`print()`] convert from and to text; [`verify()`]
//! proves types, scopes, uniform control flow and that every access is in range; [`run()`] interprets a kernel and
//! finds what cannot be proved: races, undefined memory, uncovered outputs.
//!
//! # Values
//!
//! | type | meaning |
//! |---|---|
//! | `index` | exact integer that is never stored: symbols, index arguments, grid axes, loop variables, `lane`, `sg.*`, and `idx(v, lo..hi)`, a data value clamped into a range, the only way from data to an address |
//! | `bool`, `boolxN` | predicate; never stored (bool tensors are `u8`) |
//! | `i8 … u64 f16 bf16 f32 f64` | scalars |
//! | `TxN` | vectors of 2, 4, 8, 16, 32 or 64 elements, little-endian under `as<…>` |
//! | `tile<T, RxC, role>` | matrix a subgroup holds; role `a`, `b` or accumulator |
//!
//! There are no implicit conversions. Float operations round once to nearest even; `mad`, `dot2`, `mma` and subgroup
//! sums are the only ones whose rounding a target may choose.
//!
//! # Memory
//!
//! *Buffers* are row-major, 256-byte aligned and never overlap; a view is index arithmetic. *Group arrays* have constant
//! size and are shared by the lanes of a group. *Registers* are a lane's own. Accesses have one index per axis:
//! `x[i, j]`, `x[i, j +: 16]` (a vector along the last axis), `x[i, j +: 16 first n]` (its first n elements) and
//! `x[i +: 8, j +: 8]` (a tile). One index per axis is what makes the range proofs linear: `c + 4 <= T`, never
//! `r*T + c < S*T`.
//!
//! # Rules the verifier holds a kernel to
//!
//! * Every index is proved within its axis from the bounds of symbols, arguments, axes and loops, enclosing `if`s and
//!   `require`. What is not proved is refused: write a guard, a `min`, or `idx`.
//! * Barriers and collective operations stand only in control flow that is the same for the whole group.
//! * Expressions are trees, sharing is a `let`; a name is visible from its declaration to the end of its block.
//!
//! # Text
//!
//! ```text
//! kernel scale {
//!   sym S in 1..=4096
//!   buf x: f32[S, 64] read
//!   buf y: f32[S, 64] write
//!   phase main grid(s: S) {
//!     for c in 0..64 step 16 {
//!       y[s, c +: 16] = x[s, c +: 16] * 2.0
//!     }
//!   }
//! }
//! ```

// A diagnostic is large, and made at most once.
#![allow(clippy::result_large_err)]

mod build;
mod index;
mod interpret;
mod names;
mod ops;
mod parse;
mod print;
mod scalar;
mod types;
mod verify;
mod walk;
mod work;

pub use build::{Axes, Buf, Group, Ix, KernelBuilder, PlaceRef, Reg, Val, Var};
pub use index::{Builtin, Index, IndexArena};
pub use interpret::{BufferData, Options, Order, Scalar, run};
pub use ops::{BinaryOp, Comparison, FoldOp, MathFn, SubgroupOp, UnaryOp};
pub use parse::parse;
pub use print::{print, print_index};
pub use types::*;
pub use verify::{Facts, STATEMENT_CAP, check, facts, unrolled_statements, verify};
pub use work::{Work, work};
