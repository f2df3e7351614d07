//! Partitions against the best there is.

use mlxc_codegen::profiles;
use mlxc_tests::gaps::against_all;

#[test]
fn growth_is_close_to_the_best_of_all_partitions() {
    let cpu = profiles::by_name("x86-64-v4-bf16").expect("a profile");
    let gaps = against_all(0..2400, 9, 9, &cpu);
    println!("growth against all partitions of at most 9 ops: {gaps}");
    assert!(gaps.cases() >= 2000, "{} cases", gaps.cases());
    assert!(gaps.least() > -1e-9, "growth beats the oracle by {}", gaps.least());
    assert!(gaps.mean() < 0.02, "{gaps}");
}
