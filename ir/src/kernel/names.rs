//! Words that cannot be names.

use super::index::Builtin;
use super::ops::MathFn;
use mlxc_package::DType;

const KEYWORDS: &[&str] = &[
    "kernel", "sym", "arg", "require", "buf", "knob", "phase", "serial", "grid", "group", "subgroup", "any", "in",
    "step", "unroll", "mult", "let", "var", "reg", "for", "if", "else", "nt", "prefetch", "barrier", "first", "read",
    "write", "update", "scratch", "atomic", "index", "tile", "min", "max", "ceildiv", "idx", "select", "fma", "mad",
    "splat", "vec", "as", "extract", "shuffle", "lut", "dot2", "dot4", "hsum", "hmin", "hmax", "mma", "abs", "sqrt",
    "floor", "ceil", "trunc", "rint", "sg", "lanes", "tile_a", "tile_b", "tile_c", "tile_a_t", "tile_b_t", "tile_c_t",
    "inf", "nan", "buffers", "true", "false", "origin",
];

/// True for words with a meaning of their own: a variable with that name could not be printed.
pub(super) fn is_reserved(name: &str) -> bool {
    KEYWORDS.contains(&name)
        || Builtin::ALL.iter().any(|b| b.name() == name)
        || DType::ALL.iter().any(|d| name.strip_prefix(d.name()).is_some_and(is_width))
        || MathFn::ALL.iter().any(|f| f.name() == name)
}

fn is_width(suffix: &str) -> bool {
    suffix.is_empty()
        || suffix.strip_prefix('x').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// True for what a name may look like.
pub(super) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !is_reserved(text)
}

/// The nearest thing to a name: other characters become `_`.
pub(super) fn sanitised(text: &str) -> String {
    let mut out: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if !out.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        out.insert(0, '_');
    }
    out
}
