//! What became one kernel, what did not and why, kept with the package.
//!
//! [`names`] finds what a user calls a value; [`why`] answers for two of them.

pub mod names;
pub mod why;

#[cfg(test)]
mod tests;

use crate::pipeline::Compiled;
use mlxc_package::Package;
use mlxc_passes::computed::Computer;
use serde::{Deserialize, Serialize};

/// What is kept of a target's partition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reasons {
    /// What was said of merges, in the order they were tried.
    pub merges: Vec<Reason>,
    /// What each kernel computes, function by function, producers first.
    pub kernels: Vec<Computed>,
}

/// What one kernel, or one call of a block, computes of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Computed {
    /// The function.
    pub function: String,
    /// The kernel's name, or that of the block that is called.
    pub kernel: String,
    /// Names of the values it computes.
    pub values: Vec<String>,
    /// The place each of them came from; empty where that is not known.
    pub places: Vec<String>,
    /// Names of the values that others read or the caller gets.
    pub outputs: Vec<String>,
    /// Names of the values and parameters it reads or updates.
    pub inputs: Vec<String>,
    /// Positions, in the list of all, of what computes those values.
    pub reads: Vec<u32>,
    /// Of a call: what is passed, and the parameter of the block that it is passed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<Vec<(String, String)>>,
}

impl Computed {
    /// True if it computes all of these values.
    pub fn holds(&self, values: &[String]) -> bool {
        values.iter().all(|v| self.values.contains(v))
    }
}

impl Reasons {
    /// True where a kernel is launched for other values of the function as well, since equal kernels are one.
    pub fn is_shared(&self, k: &Computed) -> bool {
        self.kernels.iter().filter(|o| o.function == k.function && o.kernel == k.kernel).count() > 1
    }

    /// Kernels that hold a side of a merge that was tried: those with all of its values, or with some where values have moved
    /// since. None of a merge whose sides came together after all.
    pub fn around(&self, merge: &Reason) -> Vec<&Computed> {
        let here: Vec<&Computed> =
            self.kernels.iter().filter(|k| k.function == merge.function && k.passed.is_none()).collect();
        if here.iter().any(|k| k.holds(&merge.first) && k.holds(&merge.second)) {
            return Vec::new();
        }
        let side = |values: &[String]| -> Vec<usize> {
            let all = |i: &usize| here[*i].holds(values);
            let some = |i: &usize| values.iter().any(|v| here[*i].values.contains(v));
            let whole: Vec<usize> = (0..here.len()).filter(all).collect();
            if whole.is_empty() { (0..here.len()).filter(some).collect() } else { whole }
        };
        let mut found = [side(&merge.first), side(&merge.second)].concat();
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|i| here[i]).collect()
    }
}

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

/// What partitioning did in a compilation.
pub fn collect(compiled: &Compiled) -> Reasons {
    let scheduled = &compiled.scheduled;
    let kernels = scheduled.computed.iter().map(|c| {
        let (kernel, passed) = match &c.by {
            Computer::Kernel(n) => (scheduled.plan.kernels[*n as usize].name.clone(), None),
            Computer::Block(name, passed) => (name.clone(), Some(passed.clone())),
        };
        Computed {
            function: c.function.clone(),
            kernel,
            values: c.values.iter().map(|(name, _)| name.clone()).collect(),
            places: c.values.iter().map(|(_, at)| at.as_ref().map_or_else(String::new, ToString::to_string)).collect(),
            outputs: c.outputs.clone(),
            inputs: c.inputs.clone(),
            reads: c.reads.clone(),
            passed,
        }
    });
    Reasons { merges: merges(compiled), kernels: kernels.collect() }
}

/// What was said of merges; the same pair is listed once, with its last reason.
fn merges(compiled: &Compiled) -> Vec<Reason> {
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
pub fn of_package(package: &Package, target: &str) -> Option<Reasons> {
    serde_json::from_slice(package.member(&member(target)).ok()?).ok()
}
