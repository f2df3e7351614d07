//! The rewrite rules, by group.

mod canon;
mod horizontal;
mod layout;
mod matmul;

use super::rule::Rule;

/// Every rule, in the order they are tried.
pub fn all() -> Vec<Rule> {
    [canon::rules(), layout::rules(), matmul::rules(), horizontal::rules()].concat()
}
