//! Every op of the Graph IR in every dtype it is typed for: compiled by the real pipeline against the interpreter.

mod attention;
mod composed;
mod composite;
mod convolution;
mod elementwise;
mod empty;
mod indexed;
mod movement;
mod product;
mod quantized;
mod reduction;
mod refusals;
mod state;
mod table;

use mlxc_ir::DType;

/// The float types every template computes in f32.
const NARROW: [DType; 3] = [DType::F32, DType::BF16, DType::F16];
/// Every float type.
const FLOATS: [DType; 4] = [DType::F32, DType::BF16, DType::F16, DType::F64];
