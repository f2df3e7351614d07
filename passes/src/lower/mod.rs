//! Lowering: from a group of nodes to one kernel.

pub mod coord;
