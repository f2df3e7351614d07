//! Kernels that are wrong, each in one way, and what the gate says of it. A gate that refuses nothing proves nothing.

#![allow(clippy::unwrap_used)]

use mlxc_msl_gate::{Build, Failure, Gate};

/// What finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// A rule that is checked in the text.
    Rule,
    /// clang.
    Compile,
    /// Running it in the strict build.
    Run,
    /// Another result in another order.
    Order,
    /// Running it in the checked build.
    Checked,
}

/// File, what finds it, part of the message.
const BROKEN: &[(&str, By, &str)] = &[
    (
        "address_space_lost",
        By::Compile,
        "cannot initialize a variable of type 'const float *' with an lvalue of type 'device float",
    ),
    ("address_space_of_threadgroup", By::Compile, "cannot initialize a variable of type 'device float *'"),
    ("atomic_of_plain_memory", By::Compile, "no matching function for call to 'atomic_fetch_add_explicit'"),
    ("barrier_diverges", By::Run, "line 8: a divergent threadgroup_barrier: 16 of 64 threads wait"),
    ("barrier_in_two_places", By::Run, "a divergent threadgroup_barrier"),
    ("barrier_missing", By::Order, "depends on the order"),
    ("bool_in_a_simd_sum", By::Compile, "a type that simdgroups do not combine"),
    ("buffer_number_beyond", By::Rule, "buffer 31 is beyond"),
    ("buffer_overrun", By::Checked, "heap-buffer-overflow"),
    ("buffer_underrun", By::Checked, "heap-buffer-overflow"),
    ("buffer_without_number", By::Rule, "`y` has no attribute"),
    ("buffers_with_one_number", By::Rule, "buffer 1 is used twice"),
    ("constant_to_device", By::Compile, "cannot initialize a variable of type 'device uint const *'"),
    ("double_type", By::Rule, "`double` is not a word of MSL"),
    ("double_literal", By::Rule, "`1.5` is a double in C++"),
    ("float_to_bfloat", By::Compile, "implicit conversion loses floating-point precision"),
    ("float4_to_bfloat4", By::Compile, "incompatible"),
    ("half_with_bfloat", By::Compile, "'bfloat' (aka '__bf16') to 'half'"),
    ("int_to_uchar", By::Compile, "implicit conversion loses integer precision"),
    ("lanes_return_before_barrier", By::Run, "a divergent threadgroup_barrier: 32 of 64 threads wait"),
    ("recursion", By::Rule, "calls itself"),
    ("simd_sum_diverges", By::Run, "a divergent simdgroup operation: 8 of 32 lanes meet"),
    ("store_to_const", By::Compile, "read-only variable is not assignable"),
    ("store_to_scalars", By::Compile, "const-qualified"),
    ("threadgroup_argument", By::Rule, "is a threadgroup argument"),
    ("threadgroup_overrun", By::Checked, "global-buffer-overflow"),
    ("threadgroup_too_large", By::Rule, "bytes of threadgroup memory, more than 32768"),
    ("threadgroup_uninitialised", By::Order, "depends on the order"),
    ("threadgroups_share", By::Order, "depends on the order"),
    ("tile_address_differs", By::Run, "a tile whose address differs inside the simdgroup"),
    ("tile_of_another_type", By::Compile, "no matching function for call to 'simdgroup_load'"),
    ("tile_of_another_shape", By::Compile, "a tile is 8x8"),
    ("tile_uninitialised", By::Run, "a tile that has no value"),
    ("unknown_attribute", By::Rule, "an unknown attribute, `thread_position_in_simdgroup`"),
    ("unknown_function", By::Compile, "use of undeclared identifier 'simd_total'"),
    ("vector_length", By::Compile, "elements of a vector: too many or too few"),
    ("vector_misaligned", By::Checked, "misaligned address"),
];

const SCALARS: &[u32] = &[64, 3];

fn verdict(gate: &Gate, name: &str, text: &str) -> (By, String) {
    let library = match gate.compile(&[(name, text)], Build::Strict) {
        Ok(library) => library,
        Err(e @ Failure::Rule { .. }) => return (By::Rule, e.to_string()),
        Err(e) => return (By::Compile, e.to_string()),
    };
    let mut buffers: Vec<Vec<u8>> =
        (0..3).map(|b| (0..256).flat_map(|i| (i as f32 * 0.37 + b as f32).to_le_bytes()).collect()).collect();
    match library.run_in_every_order("broken", [2, 1, 1], 64, SCALARS, &mut buffers) {
        Err(e @ Failure::Order { .. }) => return (By::Order, e.to_string()),
        Err(e) => return (By::Run, e.to_string()),
        Ok(()) => {}
    }
    let checked = gate.compile(&[(name, text)], Build::Checked).unwrap_or_else(|e| panic!("{name}: {e}"));
    match checked.run_in_every_order("broken", [2, 1, 1], 64, SCALARS, &mut buffers) {
        Err(e) => (By::Checked, e.to_string()),
        Ok(()) => panic!("`{name}` passes"),
    }
}

#[test]
fn every_broken_kernel_is_refused_for_its_own_reason() {
    let gate = Gate::new().unwrap_or_else(|e| panic!("{e}"));
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut wrong = Vec::new();
    for (name, by, message) in BROKEN {
        let text = std::fs::read_to_string(folder.join(format!("{name}.metal"))).unwrap();
        let (found, says) = verdict(&gate, name, &text);
        if found != *by || !says.contains(message) {
            wrong.push(format!("{name}: {found:?} and not {by:?}, `{message}`:\n{says}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let files = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(files, BROKEN.len() + 1, "a file that is not listed");
}

/// What the broken kernels are made of passes, in every build and order.
#[test]
fn the_sound_kernel_passes() {
    let gate = Gate::new().unwrap_or_else(|e| panic!("{e}"));
    let text = include_str!("broken/sound.metal");
    for build in [Build::Strict, Build::Checked] {
        let library = gate.compile(&[("sound", text)], build).unwrap_or_else(|e| panic!("{e}"));
        let mut buffers = vec![vec![0u8; 1024]; 3];
        library.run_in_every_order("broken", [2, 1, 1], 64, SCALARS, &mut buffers).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn a_kernel_that_is_missing_a_buffer_is_not_run() {
    let gate = Gate::new().unwrap_or_else(|e| panic!("{e}"));
    let library = gate.compile(&[("sound", include_str!("broken/sound.metal"))], Build::Strict).unwrap();
    let run = |entry: &str| library.run(entry, [1, 1, 1], 64, SCALARS, &mut [], mlxc_msl_gate::Order::Forward);
    assert!(matches!(run("broken"), Err(Failure::Launch(what)) if what.contains("nothing is bound")));
    assert!(matches!(run("other"), Err(Failure::Launch(what)) if what.contains("no kernel")));
}
