//! What rewrite rules did, kept with the package.

use crate::pipeline::Compiled;
use mlxc_package::Package;
use mlxc_passes::eqsat::Report;
use mlxc_passes::eqsat::rule::Group;
use serde::{Deserialize, Serialize};

/// The member of a package: rules do not depend on the target.
pub const MEMBER: &str = "reasons/rules.json";

/// A rule that found something new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fired {
    /// What it is for.
    pub group: String,
    /// Its name.
    pub rule: String,
    /// How often.
    pub count: usize,
}

/// The rewriting of one function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrites {
    /// The function.
    pub function: String,
    /// Rules, in the order of their groups.
    pub fired: Vec<Fired>,
    /// E-nodes at the end.
    pub nodes: usize,
    /// Classes at the end.
    pub classes: usize,
    /// Rounds of all rules.
    pub rounds: usize,
    /// Cost of the function as it came, in picoseconds of the rewriting's own model.
    pub cost_before: u64,
    /// Cost of the function as it left.
    pub cost_after: u64,
    /// Caps that were met.
    pub warnings: Vec<String>,
}

/// What rules did in each function of a compilation.
pub fn collect(compiled: &Compiled) -> Vec<Rewrites> {
    compiled.rules.iter().map(|(function, report)| of_report(function, report)).collect()
}

/// The rewriting a package tells of; `None` if it was stripped, or written before there was such a member.
pub fn of_package(package: &Package) -> Option<Vec<Rewrites>> {
    serde_json::from_slice(package.member(MEMBER).ok()?).ok()
}

fn of_report(function: &str, r: &Report) -> Rewrites {
    let fired = r.fired.iter().map(|(group, rule, count)| Fired {
        group: group_name(*group).into(),
        rule: (*rule).into(),
        count: *count,
    });
    Rewrites {
        function: function.into(),
        fired: fired.collect(),
        nodes: r.nodes,
        classes: r.classes,
        rounds: r.iterations,
        cost_before: r.cost_before,
        cost_after: r.cost_after,
        warnings: r.warnings.iter().map(ToString::to_string).collect(),
    }
}

fn group_name(group: Group) -> &'static str {
    match group {
        Group::Canon => "canon",
        Group::Detect => "detect",
        Group::Layout => "layout",
        Group::MatMul => "matmul",
        Group::Horizontal => "horizontal",
    }
}
