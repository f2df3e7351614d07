//! Passes from Graph IR to kernels and a memory plan.

pub mod lower;
