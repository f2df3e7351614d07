//! How far arenas are from their lower bounds, on models that people run, and what fusion takes off the bound.
//!
//! `MLXC_BLESS=1 cargo test -p mlxc-tests --test memory` writes the table of `docs/src/planning.md` anew.

use mlxc::Module;
use mlxc::pipeline::{Options, plan};
use mlxc::report::{EntryReport, human, report};
use mlxc_tests::shapes;

const BEGIN: &str = "<!-- arenas -->";
const END: &str = "<!-- end of arenas -->";
const HEAD: &str = "| model | entry | launches | arena | arena / bound | bound, fusion off | launches, fusion off | bound / bound, fusion off |\n\
                    |---|---|---|---|---|---|---|---|\n";

/// The entries of a module, compiled for a fixed target.
fn entries(module: &Module, fuse: bool) -> Vec<EntryReport> {
    let mut options = Options::for_target("x86-64-v4-bf16").unwrap_or_else(|e| panic!("{e}"));
    options.fuse = fuse;
    let planned = plan(module, &options).unwrap_or_else(|e| panic!("{e}"));
    report(&planned.scheduled.plan).entries
}

#[test]
fn arenas_meet_their_lower_bounds() {
    let models = shapes::all();
    let mut table = String::new();
    let mut missed = Vec::new();
    for (name, module) in &models {
        let (fused, apart) = (entries(module, true), entries(module, false));
        for (e, plain) in fused.iter().zip(&apart) {
            let ratio = e.scratch_bytes as f64 / e.lower_bound_bytes.max(1) as f64;
            table.push_str(&format!(
                "| {name} | {} | {} | {} | {ratio:.3} | {} | {} | {:.2} |\n",
                e.name,
                e.launches,
                human(e.scratch_bytes),
                human(plain.lower_bound_bytes),
                plain.launches,
                e.lower_bound_bytes as f64 / plain.lower_bound_bytes.max(1) as f64,
            ));
            if e.scratch_bytes > e.lower_bound_bytes {
                missed.push(format!("{name}, {}: {ratio}", e.name));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
    let path = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/src/planning.md");
    let page = std::fs::read_to_string(&path).expect("the page is in the repository");
    let (before, rest) = page.split_once(BEGIN).expect("the page has a place for the table");
    let (_, after) = rest.split_once(END).expect("the table ends");
    let made = format!("{before}{BEGIN}\n\n{HEAD}{table}\n{END}{after}");
    if std::env::var_os("MLXC_BLESS").is_some() {
        std::fs::write(&path, &made).expect("the page is written");
        return;
    }
    assert!(page == made, "docs/src/planning.md is old: run `MLXC_BLESS=1 cargo test -p mlxc-tests --test memory`");
}
