//! docs/src/ops.md says how many differential cases each op has in each dtype. `MLXC_BLESS=1` writes it anew.

use super::{attention, composite, elementwise, empty, indexed, movement, product, quantized, reduction, state};
use mlxc_ir::DType;
use mlxc_ir::graph::{Op, infer};
use mlxc_tests::suite::{Recorded, record};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn cases() -> Vec<Recorded> {
    record(|| {
        elementwise::unary_f32();
        elementwise::unary_halves();
        elementwise::unary_f64();
        elementwise::unary_integers_and_bool();
        elementwise::binary_floats();
        elementwise::remainder_of_f64();
        elementwise::binary_integers_and_bool();
        elementwise::comparisons_and_selects();
        elementwise::casts_between_all_dtypes();
        elementwise::literals_and_sizes_in_every_dtype();
        elementwise::gated_products();
        movement::views();
        movement::views_of_views();
        movement::joins();
        movement::gathers();
        movement::indices_of_every_integer_type();
        movement::windows();
        indexed::sliding_windows();
        indexed::scans();
        indexed::scans_of_every_magnitude();
        indexed::sorts();
        indexed::gathers_over_axes();
        indexed::scatters();
        indexed::scatters_along();
        indexed::bitcasts();
        indexed::random_bits();
        reduction::sums_and_extremes_of_floats();
        reduction::sums_and_extremes_of_integers();
        reduction::reductions_of_bools();
        reduction::positions_of_extremes();
        product::with_weights();
        product::without_weights();
        product::blocks();
        composite::norms_and_softmax();
        composite::norms_and_softmax_of_a_symbolic_last_axis();
        composite::rotary_embedding();
        quantized::products_with_every_scheme();
        quantized::int8_activations();
        quantized::long_rows_and_many_rows();
        quantized::values_of_every_scheme();
        quantized::other_products();
        quantized::gathered_matrices();
        attention::without_a_state();
        attention::with_an_offset();
        attention::with_masks();
        state::updates_in_every_dtype();
        state::an_update_from_the_old_contents();
        empty::values_without_elements();
        empty::folds_of_nothing();
        empty::products();
        empty::updates_of_nothing();
    })
}

/// The name of an op in the table: what its attributes make another function is another op.
fn name(op: &Op) -> String {
    match op {
        Op::Scatter { reduce, .. } | Op::ScatterAlong { reduce, .. } => format!("{} {}", op.name(), reduce.name()),
        Op::Gated(a) => format!("gated {}", a.name()),
        _ => op.name().to_string(),
    }
}

/// The dtype an op's case counts for: its data's, which is the result's where it has none.
fn dtype(r: &Recorded) -> DType {
    match r.op {
        Op::Select => r.inputs[1].dtype,
        Op::RandomBits { .. } => r.result.dtype,
        _ => r.inputs.first().map_or(r.result.dtype, |t| t.dtype),
    }
}

/// Why no case has the dtype: what inference says where every operand of the case's dtype takes this one.
fn refusal(r: &Recorded, to: DType) -> Option<String> {
    if matches!(r.op, Op::RandomBits { .. }) {
        return Some("bits of 1, 2 or 4 bytes are u8, u16 or u32".into());
    }
    let from = dtype(r);
    let mut inputs = r.inputs.clone();
    inputs.iter_mut().filter(|t| t.dtype == from).for_each(|t| t.dtype = to);
    let types: Vec<_> = inputs.iter().collect();
    match infer(&r.op, &types, &r.symbols) {
        Err(d) if d.id == 111 => d.expected.map(|e| format!("takes {e}")),
        _ => None,
    }
}

fn table() -> (String, Vec<String>) {
    let mut rows: BTreeMap<String, BTreeMap<DType, usize>> = BTreeMap::new();
    let mut samples: BTreeMap<String, Vec<Recorded>> = BTreeMap::new();
    for r in cases() {
        // A result that is an input tests no op.
        if matches!(r.op, Op::Param(_)) {
            continue;
        }
        *rows.entry(name(&r.op)).or_default().entry(dtype(&r)).or_default() += 1;
        samples.entry(name(&r.op)).or_default().push(r);
    }
    let mut notes: Vec<String> = Vec::new();
    let mut open = Vec::new();
    let total: usize = rows.values().flat_map(|r| r.values()).sum();
    let names: Vec<&str> = DType::ALL.iter().map(|d| d.name()).collect();
    let mut lines = vec![format!("| op | {} |", names.join(" | ")), format!("|---|{}", "---|".repeat(names.len()))];
    for (op, counts) in &rows {
        let cells: Vec<String> = DType::ALL
            .iter()
            .map(|d| {
                if let Some(n) = counts.get(d) {
                    return n.to_string();
                }
                let Some(why) = samples[op].iter().find_map(|r| refusal(r, *d)) else {
                    open.push(format!("{op} of {}", d.name()));
                    return "?".to_string();
                };
                let at = notes.iter().position(|n| *n == why).unwrap_or_else(|| {
                    notes.push(why);
                    notes.len() - 1
                });
                format!("({})", at + 1)
            })
            .collect();
        lines.push(format!("| `{op}` | {} |", cells.join(" | ")));
    }
    let mut out = format!(
        "# Ops and dtypes\n\nWritten by `MLXC_BLESS=1 cargo test -p mlxc-tests --test ops table` from the suites of `tests/tests/ops`.\n\n\
         A number counts differential cases. Each case is computed by the interpreter and by code for this CPU (and again for \
         x86-64-v3), at several extents of its symbols, and the results are compared: so it stands for the interpreter and for the CPU \
         alike. {total} cases in all. A number in parentheses is a note on why there is no case.\n\n\
         There is no complex dtype: `complex64` is refused by name (`MLXC0206`).\n\n"
    );
    out.push_str(&lines.join("\n"));
    out.push_str("\n\nNotes:\n\n");
    for (i, n) in notes.iter().enumerate() {
        out.push_str(&format!("{}. {n}\n", i + 1));
    }
    out.push_str("\n## Compared with MLX\n\n");
    let index: serde_json::Value =
        serde_json::from_str(include_str!("../../fixtures/mlx_ops/expected.json")).expect("the index is JSON");
    let cases: Vec<&str> =
        index["cases"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str).collect();
    out.push_str(&format!(
        "{} cases were computed by MLX {} and are traced, compiled and run by `tests/tests/mlx_ops`:\n\n",
        cases.len(),
        index["mlx"].as_str().expect("a version")
    ));
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (group, case) in cases.iter().filter_map(|c| c.split_once('/')) {
        let list = groups.entry(group).or_default();
        // Seeds and patterns of one function count once.
        let numbered = group == "random" || case.starts_with("einsum");
        let case = if numbered { case.trim_end_matches(|c: char| c.is_ascii_digit()) } else { case };
        let case = format!("`{case}`");
        if !list.contains(&case) {
            list.push(case);
        }
    }
    for (group, list) in groups {
        out.push_str(&format!("- {group}: {}\n", list.join(", ")));
    }
    (out, open)
}

#[test]
fn the_table_is_up_to_date() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/src/ops.md");
    let (made, open) = table();
    if std::env::var_os("MLXC_BLESS").is_some() {
        std::fs::write(&path, &made).expect("the table is written");
    }
    assert!(open.is_empty(), "no case and no reason: {}", open.join(", "));
    let kept = std::fs::read_to_string(&path).expect("docs/src/ops.md is in the repository");
    assert!(kept == made, "docs/src/ops.md is old: run `MLXC_BLESS=1 cargo test -p mlxc-tests --test ops table`");
}
