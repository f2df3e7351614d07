//! Prints how far heuristics are from the best: `cargo run --release -p mlxc-tests --example gaps`.
//!
//! Extraction has its figures from `cargo test -p mlxc-passes gaps -- --nocapture`, arenas and launch orders from
//! `cargo test -p mlxc-passes --test arena -- --nocapture` and `--test launch_order`.

#![allow(clippy::print_stdout)]

use mlxc::pipeline::{Options, plan};
use mlxc_codegen::profiles;
use mlxc_tests::gaps::{against_all, against_beam};
use mlxc_tests::shapes;

/// Partitions that the wide search keeps at each step.
const WIDTH: usize = 48;
/// Nodes of the largest function it is tried on.
const MOST_NODES: usize = 1000;

fn main() {
    for name in ["x86-64-v4-bf16", "x86-64-v3", "aarch64-neon"] {
        let profile = profiles::by_name(name).expect("a profile of that name");
        println!("growth, at most 9 ops, {name}: {}", against_all(0..2400, 9, 9, &profile));
    }
    let profile = profiles::by_name("x86-64-v4-bf16").expect("a profile of that name");
    println!("growth, at most 14 ops, 2 copies: {}", against_all(5000..5024, 14, 2, &profile));
    let mut options = Options::for_target("x86-64-v4-bf16").unwrap_or_else(|e| panic!("{e}"));
    options.profile = profile.clone();
    for (name, module) in shapes::all() {
        let planned = plan(&module, &options).unwrap_or_else(|e| panic!("{e}"));
        // A beam over hundreds of kernels takes hours.
        if planned.decomposed.functions.iter().all(|f| f.nodes.len() < MOST_NODES) {
            let gaps = against_beam(name, &planned.decomposed, &profile, WIDTH);
            println!("growth against a beam of {WIDTH}, {name}: {gaps}");
        }
        let times: Vec<String> =
            planned.times.iter().map(|(n, t)| format!("{n} {:.0} ms", t.as_secs_f64() * 1e3)).collect();
        println!("  stages of {name}: {}", times.join(", "));
    }
}
