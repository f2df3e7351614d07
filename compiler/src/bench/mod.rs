//! Measuring a package: whole steps, and each kernel beside what the machine allows.

pub mod limits;
mod probe;
pub mod suite;

use crate::error::Errors;
use crate::executable::runtime_error;
use limits::Limits;
use mlxc_ir::Diagnostic;
use mlxc_ir::kernel::{self, Kernel};
use mlxc_package::plan::{Entry, Place, SymbolKind};
use mlxc_package::{DType, Package};
use mlxc_runtime::{Device, EntryId, LaunchTime, LoadOptions, Model, Session, Tensor, WeightMemory, peak_rss_bytes};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tokens of the prompt, for packages with `prefill` and `decode`; elsewhere every size is at its largest.
    pub prefill: usize,
    /// Decode steps after it.
    pub decode: usize,
    /// What runs the launches.
    pub device: Device,
    /// Threads; all the process may use if `None`.
    pub threads: Option<usize>,
    /// Where weights are read from.
    pub weights: WeightMemory,
    /// Repetitions of everything that is not a decode step.
    pub repeat: usize,
}

/// One kernel of an entry's step: its launches together.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Entry.
    pub entry: String,
    /// Kernel.
    pub kernel: String,
    /// What it computes.
    pub fused: String,
    /// Launches of one step.
    pub launches: u64,
    /// Median time of its launches in a step, in seconds, as each launch's begin and end are taken.
    pub seconds: f64,
    /// Bytes moved by them; none where the package was stripped of its kernels.
    pub bytes: Option<f64>,
    /// Operations, multiply-adds counted twice.
    pub flops: Option<f64>,
    /// Bytes a second.
    pub bytes_per_second: Option<f64>,
    /// Operations a second.
    pub flops_per_second: Option<f64>,
    /// Time the machine's limits allow, over the time taken.
    pub share: Option<f64>,
    /// What bounds it by those limits: `bytes` or `flops`.
    pub bound: Option<&'static str>,
}

/// One entry's steps.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Entry.
    pub entry: String,
    /// Tokens of one step; 1 where an entry has no `tokens`.
    pub tokens: u64,
    /// Median time of a step, in seconds.
    pub seconds: f64,
    /// Tokens a second.
    pub tokens_per_second: f64,
    /// Bytes of the weights a step is bound to: all rows of a table, and all experts, whichever it reads.
    pub weight_bytes: u64,
    /// Weight bytes a second.
    pub weight_bytes_per_second: f64,
    /// The same as a share of the read bandwidth measured in this run, from the same kind of memory; none where that was
    /// not measured.
    pub read_share: Option<f64>,
}

/// The launches of one step.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// Entry.
    pub entry: String,
    /// Values of its symbols.
    pub symbols: BTreeMap<String, i64>,
    /// Launches, in order.
    pub launches: Vec<LaunchTime>,
}

/// What a run found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Target whose code ran.
    pub target: String,
    /// The GPU that ran it, if one did.
    pub adapter: Option<String>,
    /// Threads.
    pub threads: usize,
    /// `mapped` or `copied`.
    pub weights: &'static str,
    /// The CPU's limits, measured in this run; none where a GPU ran.
    pub limits: Option<Limits>,
    /// Prompt tokens a second; none without the entry `prefill`.
    pub prefill_tokens_per_second: Option<f64>,
    /// Decode steps a second; none without the entry `decode`.
    pub decode_tokens_per_second: Option<f64>,
    /// Steps by entry.
    pub steps: Vec<Step>,
    /// Kernels by entry, those that take longest first.
    pub rows: Vec<Row>,
    /// Time to load the package, in seconds.
    pub load_seconds: f64,
    /// Largest resident memory of the process, in bytes, before the limits were measured.
    pub peak_rss_bytes: u64,
    /// The launches of the last step of each entry.
    #[serde(skip)]
    pub timelines: Vec<Timeline>,
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// Measures a package.
///
/// # Errors
/// `MLXC0949` sizes that the package does not take, or what the runtime says.
pub fn bench(package: &Arc<Package>, settings: &Settings, stage: &mut dyn FnMut(&str)) -> Result<Report, Errors> {
    let load = LoadOptions {
        device: settings.device,
        threads: settings.threads,
        weights: settings.weights,
        ..LoadOptions::default()
    };
    stage("load");
    let start = Instant::now();
    let model = Model::load(package.clone(), &load).map_err(runtime_error)?;
    let mut session = model.session().map_err(runtime_error)?;
    let load_seconds = start.elapsed().as_secs_f64();
    let plan = model.plan();
    let named = |name: &str| plan.entries.iter().position(|e| e.name == name);
    let decoder = named("prefill").zip(named("decode"));
    let mut runs: Vec<Run> = Vec::new();
    match decoder {
        Some((prefill, decode)) => {
            if settings.prefill > 0 {
                runs.extend(prompt(&plan.entries[prefill], prefill, settings.prefill)?);
            }
            let first = settings.prefill as i64;
            for i in 0..settings.decode as i64 {
                runs.push(Run::new(decode, [("position", first + i)].into(), 1));
            }
        }
        None => {
            for (i, e) in plan.entries.iter().enumerate() {
                let largest: BTreeMap<&str, i64> = e.symbols.iter().map(|s| (s.name.as_str(), s.range.hi)).collect();
                let values: Vec<i64> = e.symbols.iter().map(|s| s.range.hi).collect();
                let tokens = e.inputs.iter().find(|p| p.name == "tokens");
                let tokens = tokens.map_or(1, |p| p.shape.iter().map(|d| d.eval(&values).max(0) as u64).product());
                runs.push(Run::new(i, largest, tokens));
            }
        }
    }
    stage("steps");
    let whole = measure(&mut session, plan, &runs, settings, &mut |_, _| {})?;
    let peak = peak_rss_bytes().unwrap_or(0);
    stage("kernels");
    let load = LoadOptions { profile: true, ..load };
    let mut profiled = Model::load(package.clone(), &load).and_then(|m| m.session()).map_err(runtime_error)?;
    let mut times: BTreeMap<(usize, u32), Vec<f64>> = BTreeMap::new();
    let mut last: BTreeMap<usize, Timeline> = BTreeMap::new();
    measure(&mut profiled, plan, &runs, settings, &mut |session, run| {
        let id = session.entry(&plan.entries[run.entry].name).expect("the entry was run");
        let mut sums: BTreeMap<u32, f64> = BTreeMap::new();
        let launches = session.times(id);
        for t in &launches {
            let launch = &plan.entries[run.entry].launches[t.launch];
            *sums.entry(launch.kernel).or_default() += t.nanoseconds as f64 * 1e-9;
        }
        let e = &plan.entries[run.entry];
        let symbols = e.symbols.iter().map(|s| (s.name.clone(), run.value(&s.name, s.range.lo))).collect();
        last.insert(run.entry, Timeline { entry: e.name.clone(), symbols, launches });
        for (kernel, seconds) in sums {
            times.entry((run.entry, kernel)).or_default().push(seconds);
        }
    })?;
    let target = model.target().unwrap_or_default().to_string();
    let adapter = model.adapter().map(str::to_string);
    let limits = if adapter.is_none() {
        stage("limits");
        let profile = mlxc_codegen::profiles::by_name(&target).ok_or_else(|| {
            Diagnostic::new(901, "there is no target profile of the package's code").found(target.clone())
        })?;
        Some(limits::measure(&profile, settings.threads)?)
    } else {
        None
    };
    let kernels = kernels(package, &target);
    let mut rows: Vec<Row> = times
        .into_iter()
        .map(|((entry, k), mut seconds)| {
            let run = last_run(&runs, entry);
            let e = &plan.entries[entry];
            let work = kernels.get(&plan.kernels[k as usize].name).map(|kernel| step_work(e, plan, k, kernel, run));
            row(e, &plan.kernels[k as usize], median(&mut seconds), k, work, limits.as_ref(), settings)
        })
        .collect();
    rows.sort_by(|a, b| a.entry.cmp(&b.entry).then(b.seconds.total_cmp(&a.seconds)));
    let read = limits.as_ref().map(|l| read_rate(l, settings));
    let steps: Vec<Step> =
        whole.into_iter().map(|(entry, times)| step(&plan.entries[entry], plan, times, read)).collect();
    let rate = |name: &str| steps.iter().find(|s| s.entry == name).map(|s| s.tokens_per_second);
    Ok(Report {
        target,
        adapter,
        threads: model.threads(),
        weights: if settings.weights == WeightMemory::Mapped { "mapped" } else { "copied" },
        limits,
        prefill_tokens_per_second: decoder.and_then(|_| rate("prefill")),
        decode_tokens_per_second: decoder.and_then(|_| rate("decode")),
        steps,
        rows,
        load_seconds,
        peak_rss_bytes: peak,
        timelines: last.into_values().collect(),
    })
}

impl Report {
    /// The last step of each entry as a trace that Chrome's `about:tracing` and Perfetto show: an event a launch, times in
    /// microseconds, an entry a thread. Launches stand one after another, as they ran.
    pub fn chrome_trace(&self) -> serde_json::Value {
        let mut events = Vec::new();
        for (thread, timeline) in self.timelines.iter().enumerate() {
            events.push(json!({
                "name": "thread_name", "ph": "M", "pid": 1, "tid": thread, "args": { "name": timeline.entry, "symbols": timeline.symbols },
            }));
            let mut at = 0u64;
            for t in &timeline.launches {
                events.push(json!({
                    "name": t.kernel,
                    "cat": t.phase,
                    "ph": "X",
                    "pid": 1,
                    "tid": thread,
                    "ts": at as f64 / 1e3,
                    "dur": t.nanoseconds as f64 / 1e3,
                    "args": { "launch": t.launch, "phase": t.phase },
                }));
                at += t.nanoseconds;
            }
        }
        let device = self.adapter.clone().unwrap_or_else(|| format!("{} threads", self.threads));
        json!({ "traceEvents": events, "displayTimeUnit": "ns", "otherData": { "target": self.target, "device": device } })
    }
}

/// One step to run: symbol values, and the tokens it processes.
struct Run {
    entry: usize,
    values: BTreeMap<String, i64>,
    tokens: u64,
}

impl Run {
    fn new(entry: usize, values: BTreeMap<&str, i64>, tokens: u64) -> Self {
        Run { entry, values: values.into_iter().map(|(k, v)| (k.to_string(), v)).collect(), tokens }
    }

    fn value(&self, name: &str, lowest: i64) -> i64 {
        self.values.get(name).copied().unwrap_or(lowest)
    }
}

/// The steps of a prompt, in chunks.
fn prompt(e: &Entry, entry: usize, tokens: usize) -> Result<Vec<Run>, Diagnostic> {
    let most = |name: &str| e.symbols.iter().find(|s| s.name == name).map(|s| s.range.hi);
    let refuse = |expected: String| {
        Diagnostic::new(949, "the prompt does not fit the package").expected(expected).found(format!("{tokens} tokens"))
    };
    let chunk = most("S").ok_or_else(|| refuse("an entry `prefill` with a size `S`".into()))?.max(1) as usize;
    let context = most("position").map_or(usize::MAX, |p| p as usize + 1);
    if tokens > context {
        return Err(refuse(format!("at most {context} tokens")));
    }
    let run = |first: usize| {
        let n = chunk.min(tokens - first);
        Run::new(entry, [("S", n as i64), ("position", first as i64)].into(), n as u64)
    };
    Ok((0..tokens).step_by(chunk).map(run).collect())
}

fn last_run(runs: &[Run], entry: usize) -> &Run {
    // The middle one stands for all.
    let of: Vec<&Run> = runs.iter().filter(|r| r.entry == entry).collect();
    of[of.len() / 2]
}

/// Runs everything, repeated; gives each entry's steps: tokens and median seconds. Consecutive steps of one entry with
/// several tokens are one prompt.
fn measure(
    session: &mut Session,
    plan: &mlxc_package::plan::Plan,
    runs: &[Run],
    settings: &Settings,
    after: &mut dyn FnMut(&Session, &Run),
) -> Result<Vec<(usize, (u64, f64))>, Errors> {
    let mut found: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    let mut tokens: BTreeMap<usize, u64> = BTreeMap::new();
    let entries: Vec<usize> = {
        let mut all: Vec<usize> = runs.iter().map(|r| r.entry).collect();
        all.dedup();
        all
    };
    for entry in entries {
        let of: Vec<&Run> = runs.iter().filter(|r| r.entry == entry).collect();
        let e = &plan.entries[entry];
        let id = session.entry(&e.name).map_err(runtime_error)?;
        let single = of.iter().all(|r| r.tokens == 1) && of.len() > 1;
        let mut outputs = session.outputs(id);
        // The first round warms caches and pages the weights in.
        for round in 0..=settings.repeat.max(1) {
            let mut whole = 0.0;
            for run in &of {
                let inputs = inputs(e, run)?;
                let seconds = timed(session, id, &inputs, &mut outputs)?;
                whole += seconds;
                if round > 0 {
                    after(session, run);
                    if single {
                        found.entry(entry).or_default().push(seconds);
                    }
                }
            }
            if round > 0 && !single {
                found.entry(entry).or_default().push(whole);
            }
            // Decode steps repeat themselves.
            if round > 0 && single {
                break;
            }
        }
        tokens.insert(entry, if single { 1 } else { of.iter().map(|r| r.tokens).sum() });
    }
    Ok(found.into_iter().map(|(e, mut times)| (e, (tokens[&e], median(&mut times)))).collect())
}

fn timed(session: &mut Session, id: EntryId, inputs: &[Tensor], outputs: &mut [Tensor]) -> Result<f64, Errors> {
    let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
    let start = Instant::now();
    session.step(id, &views, outputs).map_err(runtime_error)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Inputs of a run: scalars at its values, floats small, ids of the first few.
fn inputs(e: &Entry, run: &Run) -> Result<Vec<Tensor>, Errors> {
    let values: Vec<i64> = e.symbols.iter().map(|s| run.value(&s.name, s.range.lo)).collect();
    let scalar = |name: &str| e.symbols.iter().any(|s| s.kind == SymbolKind::Scalar && s.name == name);
    let tensor = |p: &mlxc_package::plan::Port| -> Result<Tensor, Errors> {
        let shape: Vec<u64> = p.shape.iter().map(|d| d.eval(&values).max(0) as u64).collect();
        if scalar(&p.name) {
            return Ok(Tensor::scalar(run.value(&p.name, 0) as i32).map_err(runtime_error)?);
        }
        let mut t = Tensor::zeros(p.dtype, &shape).map_err(runtime_error)?;
        if p.dtype == DType::I32 {
            t.as_mut_slice::<i32>()
                .map_err(runtime_error)?
                .iter_mut()
                .enumerate()
                .for_each(|(i, x)| *x = (i % 61) as i32);
        }
        if p.dtype == DType::F32 {
            let x = t.as_mut_slice::<f32>().map_err(runtime_error)?;
            x.iter_mut().enumerate().for_each(|(i, x)| *x = ((i % 127) as f32 - 63.0) / 64.0);
        }
        Ok(t)
    };
    e.inputs.iter().map(tensor).collect()
}

/// The package's kernels by name; none where it was stripped.
fn kernels(package: &Package, target: &str) -> BTreeMap<String, Kernel> {
    let text = package.member(&crate::source::kernels_member(target)).ok().and_then(|b| std::str::from_utf8(b).ok());
    let parsed = text.and_then(|t| kernel::parse(t, "ir/kernels").ok()).unwrap_or_default();
    parsed.into_iter().map(|k| (k.name.to_string(), k)).collect()
}

/// Work of all of a kernel's launches in a step.
fn step_work(e: &Entry, plan: &mlxc_package::plan::Plan, k: u32, kernel: &Kernel, run: &Run) -> kernel::Work {
    let values: Vec<i64> = e.symbols.iter().map(|s| run.value(&s.name, s.range.lo)).collect();
    let mut all = kernel::Work::default();
    for launch in e.launches.iter().filter(|l| l.kernel == k) {
        let scalars: Vec<i64> = launch.scalars.iter().map(|s| s.eval(&values)).collect();
        let phase = &plan.kernels[k as usize].phases[launch.phase as usize].name;
        if let Some(w) = kernel::work(kernel, phase, &scalars) {
            all.flops += w.flops;
            all.dot_flops += w.dot_flops;
            all.int8_ops += w.int8_ops;
            all.tile_flops += w.tile_flops;
            all.bytes += w.bytes;
        }
    }
    all
}

/// Bytes a second from the kind of memory that the weights are in.
fn read_rate(limits: &Limits, settings: &Settings) -> f64 {
    match settings.weights {
        WeightMemory::Mapped => limits.read_mapped,
        WeightMemory::Copied => limits.read_copied,
    }
}

fn row(
    e: &Entry,
    kernel: &mlxc_package::plan::Kernel,
    seconds: f64,
    k: u32,
    work: Option<kernel::Work>,
    limits: Option<&Limits>,
    settings: &Settings,
) -> Row {
    let bounds = work.zip(limits).map(|(w, limits)| {
        let arithmetic = limits.computing(&w);
        (w.bytes / read_rate(limits, settings), arithmetic)
    });
    let rate = |n: f64| if seconds > 0.0 { n / seconds } else { 0.0 };
    Row {
        entry: e.name.clone(),
        kernel: kernel.name.clone(),
        fused: kernel.comment.clone(),
        launches: e.launches.iter().filter(|l| l.kernel == k).count() as u64,
        seconds,
        bytes: work.map(|w| w.bytes),
        flops: work.map(|w| w.operations()),
        bytes_per_second: work.map(|w| rate(w.bytes)),
        flops_per_second: work.map(|w| rate(w.operations())),
        share: bounds.map(|(b, f)| rate(b.max(f))),
        bound: bounds.map(|(b, f)| if b >= f { "bytes" } else { "flops" }),
    }
}

fn step(e: &Entry, plan: &mlxc_package::plan::Plan, (tokens, seconds): (u64, f64), read: Option<f64>) -> Step {
    let mut weights: Vec<u32> = e
        .buffers
        .iter()
        .filter_map(|b| match b.place {
            Place::Weight(w) => Some(w),
            _ => None,
        })
        .collect();
    weights.sort_unstable();
    weights.dedup();
    let bytes: u64 = weights.iter().map(|w| plan.weights[*w as usize].bytes).sum();
    let rate = |n: f64| if seconds > 0.0 { n / seconds } else { 0.0 };
    Step {
        entry: e.name.clone(),
        tokens,
        seconds,
        tokens_per_second: rate(tokens as f64),
        weight_bytes: bytes,
        weight_bytes_per_second: rate(bytes as f64),
        read_share: read.map(|read| rate(bytes as f64) / read),
    }
}
