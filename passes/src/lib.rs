//! Passes from Graph IR to kernels and a memory plan.

pub mod activations;
pub mod alone;
pub mod canonicalise;
pub mod choices;
pub mod computed;
pub mod decompose;
pub mod eqsat;
pub mod inline;
pub mod lower;
pub mod memory;
pub mod outline;
pub mod partition;
pub mod prepare;
pub mod rewrite;
pub mod schedule;
pub mod split;
pub mod storage;
