//! Names that mean something to MSL, to the C++ it is made of, or to the writer.

/// Keywords, attributes' qualifiers, macros, and functions and types that are called by their short names.
pub(super) const NAMES: &[&str] = &[
    // C++
    "alignas", "alignof", "and", "and_eq", "asm", "auto", "bitand", "bitor", "bool", "break", "case", "catch",
    "char", "char16_t", "char32_t", "class", "compl", "const", "const_cast", "constexpr", "continue", "decltype",
    "default", "delete", "do", "double", "dynamic_cast", "else", "enum", "explicit", "export", "extern", "false",
    "float", "for", "friend", "goto", "if", "inline", "int", "long", "mutable", "namespace", "new", "noexcept",
    "not", "not_eq", "nullptr", "operator", "or", "or_eq", "private", "protected", "public", "register",
    "reinterpret_cast", "return", "short", "signed", "sizeof", "static", "static_assert", "static_cast", "struct",
    "switch", "template", "this", "thread_local", "throw", "true", "try", "typedef", "typeid", "typename", "union",
    "unsigned", "using", "virtual", "void", "volatile", "wchar_t", "while", "xor", "xor_eq", "override", "final",
    "main", "assert", "std",
    // MSL
    "access", "array", "array_ref", "atomic", "atomic_bool", "atomic_float", "atomic_int", "atomic_uint",
    "atomic_ulong", "bfloat", "constant", "device", "fragment", "half", "kernel", "mesh", "metal", "object",
    "object_data", "packed_bfloat", "ray_data", "sampler", "simd", "stitchable", "thread", "threadgroup",
    "threadgroup_imageblock", "tile", "uchar", "uint", "ulong", "ushort", "vec", "vertex", "visible", "size_t",
    "ptrdiff_t", "int8_t", "uint8_t", "int16_t", "uint16_t", "int32_t", "uint32_t", "int64_t", "uint64_t",
    "precise", "fast", "matrix", "patch", "command_buffer", "mem_flags", "memory_order", "memory_order_relaxed",
    "thread_scope", "simdgroup_matrix", "texture1d", "texture2d", "texture3d", "texturecube", "depth2d",
    // Macros
    "INFINITY", "NAN", "HUGE_VAL", "HUGE_VALF", "HUGE_VALH", "MAXFLOAT", "MAXHALF", "MAXBFLOAT", "INT_MAX",
    "INT_MIN", "UINT_MAX", "LONG_MAX", "LONG_MIN", "ULONG_MAX", "SHRT_MAX", "SHRT_MIN", "USHRT_MAX", "CHAR_BIT",
    "CHAR_MAX", "CHAR_MIN", "SCHAR_MAX", "SCHAR_MIN", "UCHAR_MAX", "FLT_MAX", "FLT_MIN", "FLT_EPSILON", "HALF_MAX",
    "HALF_MIN", "M_E_F", "M_PI_F", "M_LN2_F", "M_E_H", "M_PI_H", "METAL_FUNC", "NULL",
    // Called
    "Scalars", "abs", "as_type", "atomic_fetch_add_explicit", "atomic_fetch_and_explicit",
    "atomic_fetch_max_explicit", "atomic_fetch_min_explicit", "atomic_fetch_or_explicit",
    "atomic_fetch_xor_explicit", "atomic_load_explicit", "atomic_store_explicit", "ceil", "clamp", "fabs", "floor",
    "fma", "make_filled_simdgroup_matrix", "max", "min", "rint", "select", "simd_all", "simd_and", "simd_any",
    "simd_broadcast", "simd_max", "simd_min", "simd_or", "simd_shuffle_xor", "simd_sum", "simd_xor",
    "simdgroup_barrier", "simdgroup_load", "simdgroup_multiply_accumulate", "simdgroup_store",
    "threadgroup_barrier", "trunc", "simdgroup_float8x8", "simdgroup_half8x8", "simdgroup_bfloat8x8",
];

/// Vector types, plain and packed.
pub(super) fn vectors() -> impl Iterator<Item = String> {
    let scalars = [
        "bool", "char", "uchar", "short", "ushort", "int", "uint", "long", "ulong", "half", "bfloat", "float",
    ];
    let of = |one: &str| [2, 3, 4].map(|n| [format!("{one}{n}"), format!("packed_{one}{n}")]);
    scalars.into_iter().flat_map(move |one| of(one).into_iter().flatten())
}
