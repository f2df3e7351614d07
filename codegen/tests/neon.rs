//! What the other tests run on this machine's own profiles, run for aarch64 with NEON: every operation on every type, random
//! expressions, the kernel files, the kernels in plain Rust, elementary functions. On other machines qemu runs the code.

#![cfg(target_os = "linux")]
// Each of the files is a program of its own elsewhere, and brings what runs its kernels.
#![allow(clippy::duplicate_mod)]

#[path = "differential.rs"]
mod differential;
#[path = "kernels.rs"]
mod kernels;
#[path = "math.rs"]
mod math;
#[path = "math_f64.rs"]
mod math_f64;
