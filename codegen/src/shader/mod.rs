//! What the writers of shading languages share: names, precedence, and index expressions in unsigned 32-bit
//! arithmetic. Their expressions have C's operators, so that one measure of how tightly text binds serves both.

mod index;
mod names;
mod text;

pub(crate) use index::{Indices, Ix};
pub(crate) use names::Names;
pub(crate) use text::{PRIMARY, PRODUCT, SUM, Text, bare, component, swizzle};
