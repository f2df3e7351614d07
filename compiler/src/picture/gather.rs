//! From a plan, and what else is known of it, to what a picture shows.

use super::Wanted;
use super::model::{Access, Arena, Buffer, Code, Edge, Entry, Kernel, Launch, Place, Refusal, Side, Symbol, Target};
use super::texts::Texts;
use super::timeline::Trace;
use crate::reasons::{Computed, Reason, Reasons};
use mlxc_ir::TargetProfile;
use mlxc_ir::kernel;
use mlxc_package::plan::{self, Plan};
use mlxc_package::{Size, SymId};
use std::collections::BTreeMap;

/// What is known of one target.
pub struct Known<'a> {
    /// Name of the profile.
    pub name: String,
    /// The plan.
    pub plan: &'a Plan,
    /// The profile, for the cost model's rates.
    pub profile: Option<TargetProfile>,
    /// Kernel IR by name.
    pub kernels: BTreeMap<String, kernel::Kernel>,
    /// Functions by the number that launches of a block carry.
    pub functions: Vec<String>,
    /// Languages with the text of each kernel, by name.
    pub code: Vec<(String, BTreeMap<String, String>)>,
    /// What partitioning tried.
    pub reasons: Option<Reasons>,
}

/// A target's part of the picture, its code aside.
pub fn target(known: &Known<'_>, wanted: Wanted<'_>) -> Target {
    let plan = known.plan;
    let counted = plan.kernels.iter().all(|k| known.kernels.contains_key(&k.name));
    let chosen = plan.entries.iter().filter(|e| wanted.entry.is_none_or(|n| n == e.name));
    let mut out = Target {
        name: known.name.clone(),
        counted,
        weight_bytes: plan.weights.iter().map(|w| w.bytes).sum(),
        state_bytes: plan.states.iter().map(|s| s.bytes).sum(),
        kernels: plan.kernels.iter().map(kernel_of).collect(),
        entries: chosen.map(|e| entry(plan, e, wanted.trace)).collect(),
        refused: known.reasons.as_ref().map(|r| refusals(plan, r)),
    };
    let chosen = plan.entries.iter().filter(|e| wanted.entry.is_none_or(|n| n == e.name));
    for (e, planned) in out.entries.iter_mut().zip(chosen) {
        for (l, planned_launch) in e.launches.iter_mut().zip(&planned.launches) {
            if let Some((block, _)) = planned_launch.block {
                l.function =
                    known.functions.get(block as usize).cloned().unwrap_or_else(|| format!("{}.block", planned.name));
            }
        }
        if counted {
            count(known, planned, e, wanted.trace);
        }
    }
    out
}

/// Merges with the kernels around them.
fn refusals(plan: &Plan, reasons: &Reasons) -> Vec<Refusal> {
    let number = |name: &str| plan.kernels.iter().position(|k| k.name == name).map(|i| i as u32);
    let side = |k: &Computed| {
        let outputs = if reasons.is_shared(k) { k.outputs.clone() } else { Vec::new() };
        Some(Side { kernel: number(&k.kernel)?, outputs })
    };
    let one = |reason: &Reason| {
        let kernels = reasons.around(reason).into_iter().filter_map(side).collect();
        Refusal { reason: reason.clone(), kernels }
    };
    reasons.merges.iter().map(one).collect()
}

/// Gives a target's kernels their texts in one language; the texts that come first are the last to be left out.
pub fn code(known: &Known<'_>, language: &str, kernels: &mut [Kernel], texts: &mut Texts) {
    for (_, written) in known.code.iter().filter(|(l, _)| l == language) {
        for k in kernels.iter_mut() {
            if let Some(text) = written.get(&k.name) {
                let (text, left_out) = texts.add(text);
                k.code.push(Code { language: language.into(), text, left_out });
            }
        }
    }
}

fn kernel_of(k: &plan::Kernel) -> Kernel {
    Kernel {
        name: k.name.clone(),
        template: k.template.clone(),
        fused: k.comment.split(", ").filter(|op| !op.is_empty()).map(String::from).collect(),
        origin: k.origin.clone(),
        access: k
            .buffers
            .iter()
            .map(|a| match a {
                plan::Access::Read => Access::Read,
                plan::Access::Write => Access::Write,
                plan::Access::Update => Access::Update,
            })
            .collect(),
        phases: k.phases.iter().map(|p| p.name.clone()).collect(),
        code: Vec::new(),
    }
}

/// An entry as the plan alone tells it: bytes are those of the buffers, times are not known.
pub fn entry(plan: &Plan, e: &plan::Entry, trace: Option<&Trace>) -> Entry {
    let name = |id: SymId| e.symbols.get(id.0 as usize).map_or_else(|| format!("?{}", id.0), |s| s.name.clone());
    let sizes = |list: &[Size]| list.iter().map(|s| s.display(&name).to_string()).collect::<Vec<_>>();
    let at = values(e, trace);
    let buffers: Vec<Buffer> = e
        .buffers
        .iter()
        .map(|b| {
            let (place, offset) = match b.place {
                plan::Place::Input(_) => (Place::Input, None),
                plan::Place::Output(_) => (Place::Output, None),
                plan::Place::Weight(_) => (Place::Weight, None),
                plan::Place::State(_) => (Place::State, None),
                plan::Place::Arena { offset } => (Place::Arena, Some(offset)),
            };
            Buffer {
                name: b.name.clone(),
                place,
                offset,
                dtype: b.dtype.to_string(),
                shape: sizes(&b.shape),
                bytes: b.bytes,
                first: b.first,
                last: b.last,
                alias: b.alias.as_ref().map(|a| (a.of, a.reason.clone())),
            }
        })
        .collect();
    let launches: Vec<Launch> = e
        .launches
        .iter()
        .map(|l| Launch {
            kernel: l.kernel,
            phase: l.phase,
            function: e.name.clone(),
            repetition: l.block.map(|(_, n)| n),
            grid: sizes(&l.grid),
            buffers: l.buffers.clone(),
            bytes: l.buffers.iter().map(|b| e.buffers[*b as usize].bytes as f64).sum(),
            flops: None,
            seconds: None,
            bound: None,
            measured: None,
        })
        .collect();
    let symbols = e.symbols.iter().zip(&at);
    Entry {
        name: e.name.clone(),
        symbols: symbols
            .map(|(s, at)| Symbol { name: s.name.clone(), least: s.range.lo, most: s.range.hi, at: *at })
            .collect(),
        edges: edges(plan, e, &buffers),
        arena: arena(&e.arena, &buffers, launches.len()),
        buffers,
        launches,
    }
}

/// Sizes at their largest, and so are host scalars, unless the entry does not allow both; then those are at their least.
fn largest(e: &plan::Entry) -> Vec<i64> {
    let most: Vec<i64> = e.symbols.iter().map(|s| s.range.hi).collect();
    if e.requires.iter().all(|r| r.eval(&most) >= 0) {
        return most;
    }
    let scalar = |s: &plan::Symbol| s.kind == plan::SymbolKind::Scalar;
    e.symbols.iter().map(|s| if scalar(s) { s.range.lo } else { s.range.hi }).collect()
}

/// The values that work is counted at: those of a run, else the largest.
fn values(e: &plan::Entry, trace: Option<&Trace>) -> Vec<i64> {
    let measured = |s: &plan::Symbol| trace?.value(&e.name, &s.name).filter(|v| s.range.lo <= *v && *v <= s.range.hi);
    e.symbols.iter().map(measured).collect::<Option<Vec<i64>>>().unwrap_or_else(|| largest(e))
}

/// Counts the work of each launch, as `bench` does, and what the cost model makes of it.
fn count(known: &Known<'_>, planned: &plan::Entry, e: &mut Entry, trace: Option<&Trace>) {
    let at = values(planned, trace);
    let mut seen: BTreeMap<(u32, u32, Vec<i64>), Option<kernel::Work>> = BTreeMap::new();
    for (l, planned) in e.launches.iter_mut().zip(&planned.launches) {
        let scalars: Vec<i64> = planned.scalars.iter().map(|s| s.eval(&at)).collect();
        let k = &known.plan.kernels[planned.kernel as usize];
        let phase = &k.phases[planned.phase as usize].name;
        let work = *seen
            .entry((planned.kernel, planned.phase, scalars.clone()))
            .or_insert_with(|| known.kernels.get(&k.name).and_then(|kernel| kernel::work(kernel, phase, &scalars)));
        let Some(work) = work else { continue };
        l.bytes = work.bytes;
        l.flops = Some(work.operations());
        let Some(rates) = known.profile.as_ref().map(|p| &p.rates) else { continue };
        // As the partition weighs kernels, but for cores that few tasks leave idle, which a plan does not say.
        let memory = work.bytes / rates.copy_bytes;
        let arithmetic = rates.products(work.flops, work.dot_flops, work.int8_ops, work.tile_flops);
        l.seconds = Some(memory + arithmetic + rates.launch_seconds);
        l.bound = Some(if rates.launch_seconds > memory.max(arithmetic) {
            "launch"
        } else if memory >= arithmetic {
            "bytes"
        } else {
            "operations"
        });
    }
}

/// Which launch left what another one reads.
fn edges(plan: &Plan, e: &plan::Entry, buffers: &[Buffer]) -> Vec<Edge> {
    let mut writers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut out = Vec::new();
    for (i, l) in e.launches.iter().enumerate() {
        let access = &plan.kernels[l.kernel as usize].buffers;
        let each = || l.buffers.iter().copied().zip(access.iter().copied());
        for (buffer, _) in each().filter(|(_, a)| *a != plan::Access::Write) {
            let from = writers.get(&buffer).into_iter().flatten();
            out.extend(from.map(|from| Edge { from: *from, to: i as u32, buffer }));
        }
        for (buffer, a) in each().filter(|(_, a)| *a != plan::Access::Read) {
            let list = writers.entry(buffer).or_default();
            // Of a state each write changes a part; elsewhere a write makes the whole anew.
            if a == plan::Access::Write && buffers[buffer as usize].place != Place::State {
                list.clear();
            }
            list.push(i as u32);
        }
    }
    out.sort();
    out.dedup();
    out
}

/// The arena, with what is live when. Buffers in one memory count once.
fn arena(a: &plan::Arena, buffers: &[Buffer], launches: usize) -> Arena {
    let root = |mut i: usize| {
        // A plan's aliases name earlier buffers, so this ends; the bound is for plans that are damaged.
        for _ in 0..buffers.len() {
            match &buffers[i].alias {
                Some((of, _)) if (*of as usize) < buffers.len() => i = *of as usize,
                _ => break,
            }
        }
        i
    };
    let roots: Vec<usize> = (0..buffers.len()).map(root).collect();
    let live: Vec<u64> = (0..launches as u32)
        .map(|at| {
            let mut bytes: BTreeMap<usize, u64> = BTreeMap::new();
            for (b, root) in buffers.iter().zip(&roots).filter(|(b, _)| b.offset.is_some()) {
                if b.first <= at && at <= b.last {
                    let most = bytes.entry(*root).or_default();
                    *most = (*most).max(b.bytes.div_ceil(256) * 256);
                }
            }
            bytes.values().sum()
        })
        .collect();
    let most = live.iter().copied().max().unwrap_or(0);
    Arena {
        bytes: a.bytes,
        lower_bound: a.lower_bound,
        naive: a.naive,
        worker_bytes: a.worker_bytes,
        strategy: a.strategy.clone(),
        peak: live.iter().position(|l| *l == most).unwrap_or(0) as u32,
        live,
    }
}
