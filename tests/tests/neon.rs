//! The kernels of the templates, built and compiled for aarch64 with NEON and run: by qemu, where that is not this machine.

#![cfg(target_os = "linux")]

#[path = "lowering.rs"]
mod lowering;
