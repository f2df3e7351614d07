//! The search: one kernel after the other, one knob after the other, what takes most of a step first.
//!
//! A step measures one value of one knob beside the best so far. From the formula's value the search goes up, and else down, for
//! as long as kernels become faster. Values that give the same kernel cost no step, and neither do those that the template refuses.

use crate::error::Errors;
use crate::pipeline::{Options, Partitioned, partitioned};
use mlxc_ir::graph::{Module, Op};
use mlxc_passes::alone::alone;
use mlxc_passes::choices::{Choices, anchor, describe, of_template};
use mlxc_passes::lower::emit::Target;
use mlxc_passes::partition::{CALL, build_chosen};
use mlxc_passes::schedule::{Scheduled, body};
use serde::Serialize;
use std::collections::BTreeMap;

/// A kernel must take less than this share of the time of the best so far to replace it.
pub const SHARE: f64 = 0.96;

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// The kernel, as the file calls it.
    pub kernel: String,
    /// The knob.
    pub knob: &'static str,
    /// Its value.
    pub value: i64,
    /// Time over that of the best before.
    pub ratio: f64,
    /// True if it is the best now.
    pub kept: bool,
}

/// What compares two kernels.
pub trait Compare {
    /// A kernel that is ready to run.
    type Ready;

    /// Makes a kernel ready.
    ///
    /// # Errors
    /// What compiling and loading say.
    fn ready(&mut self, kernel: &Scheduled) -> Result<Self::Ready, Errors>;

    /// Time of the second over that of the first.
    ///
    /// # Errors
    /// What running says.
    fn ratio(&mut self, best: &mut Self::Ready, other: &mut Self::Ready) -> Result<f64, Errors>;
}

/// A kernel with knobs: an example of all that have its description.
struct Tunable {
    name: String,
    function: usize,
    group: usize,
    /// Its part of the estimated time of the entries that launch it.
    share: f64,
}

/// Finds better sizes in at most `steps` measurements. Gives the choices and the steps in order.
///
/// # Errors
/// What compiling says, or the measure.
pub fn search<C: Compare>(
    module: &Module,
    options: &Options,
    steps: usize,
    compare: &mut C,
    began: &mut dyn FnMut(&str),
) -> Result<(Choices, Vec<Step>), Errors> {
    let all = partitioned(module, options)?;
    let mut choices = options.choices.clone();
    let mut tried = Vec::new();
    for t in tunables(&all) {
        let (f, part) = &all.functions[t.function];
        let group = &part.groups[t.group];
        let layouts = &all.layouts.params[t.function];
        let exact = options.scheduling().exact;
        let made = |choices: &Choices| {
            let target = Target { profile: &options.profile, layouts, exact, choices };
            let built = build_chosen(f, &target, &group.nodes, &group.outputs).ok()?;
            (built.template == group.built.template).then(|| (body(&built.kernel), alone(f, &target, &built)))
        };
        let Some((text, plan)) = made(&choices) else { continue };
        // Kernels that were measured, the best's among them; it is made ready when there is one to compare it with.
        let mut seen = vec![text.clone()];
        let mut best_text = text;
        let mut best = None;
        for knob in of_template(group.built.template) {
            let with = |value: i64| {
                let mut other = choices.clone();
                other.set(&t.name, knob, value);
                made(&other).map(|(text, plan)| (text, plan, other))
            };
            let candidates: Vec<_> = knob.values.iter().map(|v| with(*v)).collect();
            let here = candidates.iter().position(|c| c.as_ref().is_some_and(|(text, ..)| *text == best_text));
            for way in ways(here, candidates.len()) {
                let mut better = false;
                for i in way {
                    let Some((text, candidate, other)) = candidates[i].as_ref().filter(|c| !seen.contains(&c.0)) else {
                        continue;
                    };
                    if tried.len() == steps {
                        return Ok((choices, tried));
                    }
                    let value = knob.values[i];
                    seen.push(text.clone());
                    began(&format!("{} with {} {value}", group.built.kernel.name, knob.name));
                    let mut ready = compare.ready(candidate)?;
                    let mut before = match best.take() {
                        Some(b) => b,
                        None => compare.ready(&plan)?,
                    };
                    let ratio = compare.ratio(&mut before, &mut ready)?;
                    let kept = ratio < SHARE;
                    tried.push(Step { kernel: t.name.clone(), knob: knob.name, value, ratio, kept });
                    tracing::info!("{} with {} {value}: {ratio:.3} of the time before", t.name, knob.name);
                    best = Some(if kept { ready } else { before });
                    if !kept {
                        break;
                    }
                    (choices, best_text, better) = (other.clone(), text.clone(), true);
                }
                if better && here.is_some() {
                    break;
                }
            }
        }
    }
    Ok((choices, tried))
}

/// The orders in which values are tried, each as long as it makes a kernel faster: upwards and downwards from the value there is,
/// or, where that is none of them, each by itself.
fn ways(here: Option<usize>, values: usize) -> Vec<Vec<usize>> {
    match here {
        Some(at) => vec![(at + 1..values).collect(), (0..at).rev().collect()],
        None => (0..values).map(|i| vec![i]).collect(),
    }
}

/// Kernels with knobs, one a description, the largest share of an entry's estimated time first.
fn tunables(all: &Partitioned) -> Vec<Tunable> {
    let mut found: BTreeMap<String, Tunable> = BTreeMap::new();
    for (entry, (f, _)) in all.functions.iter().enumerate().filter(|(_, (f, _))| !f.is_block) {
        let mut times: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        count(all, entry, &mut times);
        let whole: f64 = times.values().sum();
        tracing::debug!("`{}` is estimated to take {:.3} ms", f.name, whole * 1e3);
        for ((function, group), seconds) in times {
            let (f, part) = &all.functions[function];
            let g = &part.groups[group];
            let Some(node) = anchor(f, &g.nodes, g.built.template) else { continue };
            let name = describe(f, g.built.template, node);
            let share = seconds / whole.max(f64::MIN_POSITIVE);
            let known = found.entry(name.clone()).or_insert(Tunable { name, function, group, share: 0.0 });
            known.share += share;
        }
    }
    let mut out: Vec<Tunable> = found.into_values().collect();
    out.sort_by(|a, b| b.share.total_cmp(&a.share).then_with(|| a.name.cmp(&b.name)));
    out
}

/// Adds the estimated seconds of every launch of a function.
fn count(all: &Partitioned, function: usize, times: &mut BTreeMap<(usize, usize), f64>) {
    let (f, part) = &all.functions[function];
    for (i, g) in part.groups.iter().enumerate() {
        if g.built.template != CALL {
            *times.entry((function, i)).or_default() += g.cost;
            continue;
        }
        for n in &g.nodes {
            if let Op::Call { function, .. } = f.nodes[*n as usize].op {
                count(all, function as usize, times);
            }
        }
    }
}
