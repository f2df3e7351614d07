//! What a case is.

use mlxc::{Array, Context};

/// How near a result is to MLX's.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// The same values; NaN is NaN.
    Exact,
    /// Ulp of the tensor's largest value.
    Ulp(f64),
}

/// A case of the fixture.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name there.
    pub name: &'static str,
    /// How near the result is.
    pub limit: Limit,
    /// The same with this project's API.
    pub trace: fn(&Context, &[Array]) -> Vec<Array>,
}

/// A case whose results are MLX's.
pub fn exact(name: &'static str, trace: fn(&Context, &[Array]) -> Vec<Array>) -> Case {
    Case { name, limit: Limit::Exact, trace }
}

/// A case whose results are within some ulp of MLX's.
pub fn near(name: &'static str, ulp: f64, trace: fn(&Context, &[Array]) -> Vec<Array>) -> Case {
    Case { name, limit: Limit::Ulp(ulp), trace }
}
