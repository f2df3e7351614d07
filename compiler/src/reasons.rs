//! Why values did not become one kernel, kept with the package.

use crate::pipeline::Compiled;
use mlxc_package::Package;
use serde::{Deserialize, Serialize};

/// What was said of a merge that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// Function it was tried in.
    pub function: String,
    /// Values of the producing side.
    pub first: Vec<String>,
    /// Values of the consuming side.
    pub second: Vec<String>,
    /// Stable code; `raised` for a merge that was made and raised the peak of scratch memory.
    pub code: String,
    /// A sentence, with the cost model's figures where they decided.
    pub text: String,
    /// Estimated seconds of two kernels.
    pub apart_seconds: f64,
    /// Estimated seconds of one, where one can be built.
    pub together_seconds: Option<f64>,
    /// Bytes of scratch memory live at the function's peak with two kernels and with one, where that was looked at.
    pub peak_bytes: Option<[u64; 2]>,
}

impl Reason {
    /// The code of a merge that was made, and is listed because it raised the peak.
    pub const RAISED: &str = "raised";

    /// True if the values did become one kernel.
    pub fn is_merged(&self) -> bool {
        self.code == Reason::RAISED
    }
}

/// What partitioning said of the merges of a compilation; the same pair is listed once, with its last reason.
pub fn collect(compiled: &Compiled) -> Vec<Reason> {
    let mut out: Vec<Reason> = Vec::new();
    for merges in &compiled.scheduled.merges {
        let function = &merges.function;
        for r in &merges.refused {
            let reason = Reason {
                function: function.clone(),
                first: r.first.clone(),
                second: r.second.clone(),
                code: r.code.clone(),
                text: r.text.clone(),
                apart_seconds: r.figures.apart,
                together_seconds: r.figures.together,
                peak_bytes: r.figures.peak,
            };
            out.retain(|o| o.function != reason.function || o.first != reason.first || o.second != reason.second);
            out.push(reason);
        }
        out.extend(merges.raised.iter().map(|r| Reason {
            function: function.clone(),
            first: r.first.clone(),
            second: r.second.clone(),
            code: Reason::RAISED.into(),
            text: format!(
                "one kernel gains {:.2} µs and raises the peak of scratch memory from {} to {} bytes",
                r.gain * 1e6,
                r.peak[0],
                r.peak[1]
            ),
            apart_seconds: r.apart,
            together_seconds: Some(r.apart - r.gain),
            peak_bytes: Some(r.peak),
        }));
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
