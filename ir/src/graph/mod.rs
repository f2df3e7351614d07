//! Graph IR: typed tensor functions in SSA form.
//!
//! A [`Module`] has weights and states that all its functions share. A [`Function`] is a list of
//! [`Node`]s in topological order; a value is one result of one node and has a dtype and a shape of
//! [`Size`](mlxc_package::Size)s. Parameters have a [`Role`]: input, host-known scalar, weight, state or block argument.
//! A state has at most one successor version: once `slice_update` made it, the old version is not read again
//! ([`verify`] refuses it). Every node keeps the user's source line.
//!
//! Layers of the crate: [`op`] says which operations exist, [`infer`] types them, [`build`] appends
//! nodes with inferred types, [`verify`] checks a whole module, [`text`] prints and parses, and [`interpret`]
//! says what a function means.

pub mod build;
mod infer;
pub mod interpret;
pub mod op;
pub mod text;
mod types;
pub mod verify;

pub use build::FunctionBuilder;
pub use infer::{broadcast_shapes, infer};
pub use op::{Activation, ArgOp, BinaryOp, CompareOp, Dense, Literal, Op, Real, ReduceOp, ScanOp, ScatterOp, UnaryOp};
pub use types::{
    Function, Module, Node, Output, Param, Role, State, Symbol, SymbolKind, TensorType, ValueId, Weight, ranges,
    symbol_name,
};
