//! Why values did not become one kernel, kept with the package.

use crate::pipeline::Compiled;
use mlxc_package::Package;
use serde::{Deserialize, Serialize};

/// A merge that was tried and refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Function it was tried in.
    pub function: String,
    /// Values of the producing side.
    pub first: Vec<String>,
    /// Values of the consuming side.
    pub second: Vec<String>,
    /// Stable code.
    pub code: String,
    /// A sentence, with the cost model's figures where they decided.
    pub text: String,
}

/// Every refused merge of a compilation; the same pair is listed once, with its last reason.
pub fn collect(compiled: &Compiled) -> Vec<Reason> {
    let mut out: Vec<Reason> = Vec::new();
    for (function, refused) in &compiled.scheduled.refused {
        for r in refused {
            let reason = Reason {
                function: function.clone(),
                first: r.first.clone(),
                second: r.second.clone(),
                code: r.code.clone(),
                text: r.text.clone(),
            };
            out.retain(|o| o.function != reason.function || o.first != reason.first || o.second != reason.second);
            out.push(reason);
        }
    }
    out
}

/// The member of a target's reasons.
pub fn member(target: &str) -> String {
    format!("reasons/{target}.json")
}

/// The reasons a package carries for a target; `None` if it was stripped.
pub fn of_package(package: &Package, target: &str) -> Option<Vec<Reason>> {
    serde_json::from_slice(package.member(&member(target)).ok()?).ok()
}

/// Reasons that name both values, in either order.
pub fn between<'a>(reasons: &'a [Reason], a: &str, b: &str) -> Vec<&'a Reason> {
    let has = |side: &[String], name: &str| side.iter().any(|v| v == name);
    reasons.iter().filter(|r| has(&r.first, a) && has(&r.second, b) || has(&r.first, b) && has(&r.second, a)).collect()
}
