//! Models to copy from, and the Rust examples of the book in `docs/` as doc tests: what the book shows compiles and runs.

pub mod models;

macro_rules! chapters {
    ($($name:ident $file:literal,)*) => {$(
        #[cfg(doctest)]
        #[doc = include_str!(concat!("../../docs/src/", $file))]
        pub struct $name;
    )*};
}

chapters! {
    Tracing "tracing.md",
    Quantisation "quantisation.md",
    Text "text.md",
    Ops "op-set.md",
    Package "package.md",
    Numerics "numerics.md",
}
