//! The suite: fixed workloads beside the machine's limits, all measured in one run.

mod workloads;

pub use workloads::{Bandwidth, Workload, workloads};

use super::limits::{self, Limits};
use super::{Settings, bench, median};
use crate::error::Errors;
use crate::executable::runtime_error;
use crate::pipeline::{Activations, Options, compile};
use crate::source::Build;
use crate::weights::RandomWeights;
use mlxc_ir::{Diagnostic, Scheme};
use mlxc_package::plan::Port;
use mlxc_package::{DType, Package};
use mlxc_runtime::{Device, LoadOptions, Model, Tensor, WeightMemory};
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;

/// Time that one workload's steps are repeated for, and how often at least.
const SECONDS: f64 = 1.0;
const LEAST: usize = 5;

/// One workload as measured.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Letter of its group.
    pub group: char,
    /// What it is.
    pub workload: String,
    /// Kernel launches of a step.
    pub launches: usize,
    /// Median seconds of a step.
    pub seconds: f64,
    /// Bytes that must be moved, a second.
    pub bytes_per_second: f64,
    /// Operations that must be done, a second.
    pub flops_per_second: f64,
    /// Time that the limits allow over the time taken.
    pub share: f64,
    /// The nearer limit: `triad`, `copy`, `read` or `flops`.
    pub bound: &'static str,
    /// Tokens a second, where a step is of tokens.
    pub tokens_per_second: Option<f64>,
    /// Seconds that compiling took, code generation too and weights aside.
    pub compile_seconds: f64,
}

/// A run of the suite.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Target whose code ran.
    pub target: String,
    /// Threads.
    pub threads: Option<usize>,
    /// The machine's limits, measured first.
    pub limits: Limits,
    /// The same, measured last: how much the machine changed meanwhile.
    pub limits_after: Limits,
    /// Workloads in order.
    pub rows: Vec<Row>,
    /// Largest resident memory of the process while the whole model ran, in bytes; none where it did not.
    pub model_peak_rss_bytes: Option<u64>,
    /// Seconds to load the whole model; none where it did not run.
    pub model_load_seconds: Option<f64>,
}

/// Runs the workloads of some groups (`A` to `F`); all where none is named.
///
/// # Errors
/// No LLVM, or what compiling or the runtime says.
pub fn run(groups: &[char], threads: Option<usize>, stage: &mut dyn FnMut(&str)) -> Result<Report, Errors> {
    let mut options = Options::for_host()?;
    if let Some(n) = threads {
        options.threads = n;
    }
    // The model runs first: its peak of resident memory is the process's.
    let mut models = Vec::new();
    if groups.is_empty() || groups.contains(&'F') {
        for activations in [Activations::Exact, Activations::Int8] {
            models.push(whole_model(threads, activations, stage)?);
        }
    }
    stage("limits");
    let limits = limits::measure(&options.profile, threads)?;
    let mut rows = Vec::new();
    for w in workloads(groups)? {
        stage(&w.name);
        rows.push(measure(&w, &options, threads, &limits)?);
    }
    models.iter().for_each(|m| rows.extend(m.rows(&limits)));
    let exact = models.first();
    let (peak, load) = (exact.map(|m| m.peak_rss_bytes), exact.map(|m| m.load_seconds));
    stage("limits");
    let limits_after = limits::measure(&options.profile, threads)?;
    let target = options.profile.name;
    Ok(Report { target, threads, limits, limits_after, rows, model_peak_rss_bytes: peak, model_load_seconds: load })
}

/// Seconds that limits allow, and which limit is the nearer.
fn allowed(limits: &Limits, bytes: f64, bandwidth: Bandwidth, f32_flops: f64, bf16_flops: f64) -> (f64, &'static str) {
    let (rate, name) = match bandwidth {
        Bandwidth::Triad => (limits.triad, "triad"),
        Bandwidth::Copy => (limits.copy, "copy"),
        Bandwidth::Read => (limits.read_copied, "read"),
    };
    let moving = bytes / rate;
    let computing = f32_flops / limits.f32_flops + bf16_flops / limits.best_bf16_flops();
    if computing > moving { (computing, "flops") } else { (moving, name) }
}

fn measure(w: &Workload, options: &Options, threads: Option<usize>, limits: &Limits) -> Result<Row, Errors> {
    let start = Instant::now();
    let compiled = compile(&w.module, options)?;
    let compile_seconds = start.elapsed().as_secs_f64();
    let package = compiled.package(&RandomWeights { seed: 1 }, &Vec::new())?;
    let load = LoadOptions { threads, weights: WeightMemory::Copied, ..LoadOptions::default() };
    let mut session = Model::load(Arc::new(package), &load).and_then(|m| m.session()).map_err(runtime_error)?;
    let entry = &compiled.scheduled.plan.entries[0];
    let id = session.entry(&entry.name).map_err(runtime_error)?;
    let values: Vec<i64> =
        entry.symbols.iter().map(|s| w.sizes.get(s.name.as_str()).copied().unwrap_or(s.range.hi)).collect();
    let scalar = |p: &Port| entry.symbols.iter().zip(&values).find(|(s, _)| s.name == p.name && p.shape.is_empty());
    let mut inputs = Vec::new();
    for p in &entry.inputs {
        inputs.push(match scalar(p) {
            Some((_, value)) => Tensor::scalar(*value as i32).map_err(runtime_error)?,
            None => filled(p, &values)?,
        });
    }
    let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
    let mut outputs = session.outputs(id);
    let mut times = Vec::new();
    // The first step pages memory in.
    session.step(id, &views, &mut outputs).map_err(runtime_error)?;
    let begin = Instant::now();
    while times.len() < LEAST || begin.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        session.step(id, &views, &mut outputs).map_err(runtime_error)?;
        times.push(start.elapsed().as_secs_f64());
    }
    let seconds = median(&mut times);
    let (least, bound) = allowed(limits, w.bytes, w.bandwidth, w.f32_flops, w.bf16_flops);
    Ok(Row {
        group: w.group,
        workload: w.name.clone(),
        launches: entry.launches.len(),
        seconds,
        bytes_per_second: w.bytes / seconds,
        flops_per_second: (w.f32_flops + w.bf16_flops) / seconds,
        share: least / seconds,
        bound,
        tokens_per_second: w.sizes.get("S").map(|s| *s as f64 / seconds),
        compile_seconds,
    })
}

/// An input of numbers between -1 and 1.
fn filled(p: &Port, values: &[i64]) -> Result<Tensor, Errors> {
    let shape: Vec<u64> = p.shape.iter().map(|d| d.eval(values).max(0) as u64).collect();
    let mut t = Tensor::zeros(p.dtype, &shape).map_err(runtime_error)?;
    let number = |i: usize| ((i * 7919 % 2003) as f32 - 1001.0) / 1001.0;
    match p.dtype {
        DType::F32 => {
            let x = t.as_mut_slice::<f32>().map_err(runtime_error)?;
            x.iter_mut().enumerate().for_each(|(i, x)| *x = number(i));
        }
        // A bf16 is the upper half of an f32.
        DType::BF16 => t.bytes_mut().chunks_exact_mut(2).enumerate().for_each(|(i, x)| {
            x.copy_from_slice(&number(i).to_le_bytes()[2..]);
        }),
        _ => {}
    }
    Ok(t)
}

/// Llama 3.2 1B's shape.
const MODEL: &str = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":2048,
"intermediate_size":8192,"num_hidden_layers":16,"num_attention_heads":32,"num_key_value_heads":8,"head_dim":64,
"vocab_size":128256,"rms_norm_eps":1e-5,"rope_theta":500000.0,"max_position_embeddings":2048,
"tie_word_embeddings":true,"hidden_act":"silu","torch_dtype":"bfloat16"}"#;
/// Operations of the model's products for a token, the head and attention aside.
const LAYERS_FLOPS: f64 = 2.0 * 16.0 * (2048.0 * 48.0 * 64.0 + 32.0 * 64.0 * 2048.0 + 3.0 * 2048.0 * 8192.0);

struct WholeModel {
    activations: Activations,
    /// Name, tokens of a step, seconds, weight bytes, launches.
    steps: Vec<(String, u64, f64, u64, usize)>,
    compile_seconds: f64,
    peak_rss_bytes: u64,
    load_seconds: f64,
}

/// The whole 1B shape in 4 bits, groups of 64, from mapped memory.
fn whole_model(
    threads: Option<usize>,
    activations: Activations,
    stage: &mut dyn FnMut(&str),
) -> Result<WholeModel, Errors> {
    let failed = |e: std::io::Error| Diagnostic::new(904, "no temporary folder can be made").found(e.to_string());
    let folder = tempfile::tempdir().map_err(failed)?;
    std::fs::write(folder.path().join("config.json"), MODEL).map_err(failed)?;
    let mut build = Build::new(folder.path());
    build.random_weights = Some(1);
    build.quantize = Scheme::affine(4, 64);
    build.activations = activations;
    stage("compile the 1B shape");
    let start = Instant::now();
    let all = build.compile_all(&mut |_| {})?;
    let compile_seconds = start.elapsed().as_secs_f64();
    stage("write the 1B shape");
    let path = folder.path().join("model.mlxc");
    let weights = build.weights(&all[0].traced)?;
    crate::packaging::Packaging::new(&all).save(&path, &*weights, &build.extras(&all)?, &mut |_| {})?;
    let package = Arc::new(Package::open(&path).map_err(crate::pipeline::package_error)?);
    let mut steps = Vec::new();
    let (mut peak, mut load) = (0, 0.0);
    for prefill in [128usize, 512] {
        stage("run the 1B shape");
        let settings = Settings {
            prefill,
            decode: if prefill == 128 { 64 } else { 1 },
            device: Device::Cpu,
            threads,
            weights: WeightMemory::Mapped,
            repeat: 5,
        };
        let report = bench(&package, &settings, &mut |_| {})?;
        if prefill == 128 {
            (peak, load) = (report.peak_rss_bytes, report.load_seconds);
        }
        for s in report.steps.iter().filter(|s| s.entry == "prefill" || prefill == 128) {
            let launches = package.plan().entries.iter().find(|e| e.name == s.entry).map_or(0, |e| e.launches.len());
            let name = if s.entry == "decode" { "decode at 128".into() } else { format!("prefill {prefill}") };
            steps.push((name, s.tokens, s.seconds, s.weight_bytes, launches));
        }
    }
    Ok(WholeModel { activations, steps, compile_seconds, peak_rss_bytes: peak, load_seconds: load })
}

impl WholeModel {
    fn rows(&self, limits: &Limits) -> Vec<Row> {
        let row = |(name, tokens, seconds, bytes, launches): &(String, u64, f64, u64, usize)| {
            let flops = LAYERS_FLOPS * *tokens as f64;
            let int8 = self.activations == Activations::Int8;
            // Products of 8-bit integers, of one digit or of three, count as so many of the best bf16 ones.
            let digits = if int8 { 1.0 } else { 3.0 };
            let rate = limits.int8_ops.map_or(1.0, |r| limits.best_bf16_flops() * digits / r).min(1.0);
            let (least, bound) = allowed(limits, *bytes as f64, Bandwidth::Read, 0.0, flops * rate);
            let rounded = if int8 { ", int8 activations" } else { "" };
            Row {
                group: 'F',
                workload: format!("1B shape, 4 bits group 64, {name}{rounded}"),
                launches: *launches,
                seconds: *seconds,
                bytes_per_second: *bytes as f64 / seconds,
                flops_per_second: flops / seconds,
                share: least / seconds,
                bound,
                tokens_per_second: Some(*tokens as f64 / seconds),
                compile_seconds: self.compile_seconds,
            }
        };
        self.steps.iter().map(row).collect()
    }
}
