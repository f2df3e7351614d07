//! Legalisation and the writers that print Kernel IR.
//!
//! A template builds a kernel; [`legalise::legalise`] rewrites it for one target until every operation is one the
//! target has; [`llvm::compile`] prints legal CPU kernels as machine code in a [`blob::CodeBlob`] that needs no
//! linker.

pub mod blob;
mod constant;
pub mod gpu_profiles;
pub mod legalise;
pub mod llvm;
pub mod msl;
pub mod profiles;
mod shader;
pub mod wgsl;
