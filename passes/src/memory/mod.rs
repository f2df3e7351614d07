//! Memory planning: in which order launches run, and where each buffer lies in the arena.
//!
//! Works on plain numbers (bytes, launches, who reads and writes what), so that it can be tested against brute force
//! and used on problems from elsewhere.

pub mod arena;
pub mod exact;
pub mod greedy;
pub mod order;

pub use arena::{Interval, Misfit, Placed, Placement, check, fit, lower_bound, minimise, place};

/// Arena offsets and sizes are multiples of this many bytes.
pub const ALIGN: u64 = 256;

/// Rounds up to the arena's alignment.
pub fn align(bytes: u64) -> u64 {
    bytes.div_ceil(ALIGN) * ALIGN
}
