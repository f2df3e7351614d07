//! The rewrite rules, by group.

mod activation;
mod affine;
mod attention;
mod canon;
mod horizontal;
mod layout;
mod matmul;
mod norm;

use super::rule::Rule;

/// Every rule, in the order they are tried.
pub fn all() -> Vec<Rule> {
    [
        canon::rules(),
        norm::rules(),
        activation::rules(),
        attention::rules(),
        layout::rules(),
        matmul::rules(),
        horizontal::rules(),
    ]
    .concat()
}
