//! The way from a traced module to machine code: one function a stage, listed once.

use crate::code::{Code, Legalised};
use crate::error::Errors;
use mlxc_codegen::llvm::{self, CodeStore};
use mlxc_codegen::{gpu_profiles, profiles};
use mlxc_ir::graph::{Function, Module};
use mlxc_ir::{Diagnostic, TargetProfile};
use mlxc_package::PackageError;
use mlxc_passes::choices::Choices;
use mlxc_passes::partition::Partition;
use mlxc_passes::schedule::{self, Scheduled, schedule};
use mlxc_passes::split::split_weights;
use mlxc_passes::storage::{Layouts, Source, join_weights, layouts};
use mlxc_passes::{activations, canonicalise, decompose, eqsat, outline};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much precision may differ from what the dtypes say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Every op rounds to its dtype; float composites are not looked for.
    Exact,
    /// Inside a kernel precision may exceed the stated dtype and never falls below it.
    #[default]
    Strict,
}

/// What products with quantised weights read of their inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// All of them.
    #[default]
    Exact,
    /// Each group rounded to 8-bit integers with one scale: [`Op::Int8MatMul`](mlxc_ir::graph::Op::Int8MatMul).
    Int8,
}

/// What a compilation is given besides the module. Everything that its result depends on is hashed into the package's
/// manifest.
#[derive(Clone, Debug)]
pub struct Options {
    /// The machine.
    pub profile: TargetProfile,
    /// Numerics.
    pub level: Level,
    /// Activations of products with quantised weights.
    pub activations: Activations,
    /// Fuse kernels.
    pub fuse: bool,
    /// Compile repeated blocks once.
    pub outline: bool,
    /// Refuse a plan whose scratch is larger, in bytes.
    pub max_scratch: Option<u64>,
    /// Sizes of kernels that were measured, see [`Tuning`](crate::tune::Tuning); the formulas' unless given.
    pub choices: Choices,
    /// Threads that compile; the result does not depend on it.
    pub threads: usize,
    /// Where machine code of earlier compilations is found and this one's is kept; the result does not depend on it. None
    /// unless given: see [`KernelCache`](crate::cache::KernelCache).
    pub store: Option<Arc<dyn CodeStore>>,
}

impl Options {
    /// Options for the machine this runs on.
    ///
    /// # Errors
    /// `MLXC0901` if the machine's processor has no profile.
    pub fn for_host() -> Result<Self, Errors> {
        let profile = profiles::host().ok_or_else(|| {
            Diagnostic::new(901, "there is no target profile for this machine's processor")
                .expected(profiles::all().iter().map(|p| p.name.clone()).collect::<Vec<_>>().join(", "))
        })?;
        Ok(Options::for_profile(profile))
    }

    /// Options for a named target, or the host for `cpu`.
    ///
    /// # Errors
    /// `MLXC0901` for a name that is not known.
    pub fn for_target(name: &str) -> Result<Self, Errors> {
        if name == "cpu" || name == "host" {
            return Options::for_host();
        }
        // Folders for browsers hold the code of this profile.
        let profile_name = if name == crate::web::TARGET { "webgpu" } else { name };
        let profile =
            profiles::by_name(profile_name).or_else(|| gpu_profiles::by_name(profile_name)).ok_or_else(|| {
                let cpus = profiles::all().into_iter().map(|p| p.name);
                let known: Vec<String> = cpus.chain(gpu_profiles::NAMES.iter().map(|n| n.to_string())).collect();
                Diagnostic::new(901, "there is no target of that name")
                    .expected(format!("cpu, metal, web, {}", known.join(", ")))
                    .found(name.to_string())
            })?;
        Ok(Options::for_profile(profile))
    }

    fn for_profile(profile: TargetProfile) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, Into::into);
        Options {
            profile,
            level: Level::Strict,
            activations: Activations::Exact,
            fuse: true,
            outline: true,
            max_scratch: None,
            choices: Choices::default(),
            threads,
            store: None,
        }
    }

    /// How kernels are made.
    pub(crate) fn scheduling(&self) -> schedule::Options<'_> {
        schedule::Options {
            fuse: self.fuse,
            exact: self.level == Level::Exact,
            threads: self.threads,
            choices: &self.choices,
        }
    }

    pub(crate) fn fingerprint(&self) -> String {
        let profile = serde_json::to_string(&self.profile).expect("a profile is plain data");
        let mut text = format!("{:?} {} {} {:?} {profile}", self.level, self.fuse, self.outline, self.max_scratch);
        if self.activations != Activations::Exact {
            text.push_str(&format!(" {:?}", self.activations));
        }
        if !self.choices.is_empty() {
            text.push_str(&format!(" {:?}", self.choices.kernels()));
        }
        text.bytes()
            .fold([0xcbf2_9ce4_8422_2325u64, 0x6c62_272e_07bb_0142], |[a, b], x| {
                let a = (a ^ u64::from(x)).wrapping_mul(0x0000_0100_0000_01b3);
                [a, (b ^ a.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15)]
            })
            .iter()
            .map(|h| format!("{h:016x}"))
            .collect()
    }
}

/// The names of the stages, in order, as `mlxc dump --stage` takes them.
pub const STAGES: &[&str] = &[
    "trace",
    "canonical",
    "outline",
    "eqsat",
    "join",
    "decompose",
    "partition",
    "plan",
    "kernels",
    "legal",
    "llvm",
    "asm",
    "wgsl",
    "spirv",
    "msl",
];

/// Every level of one compilation.
pub struct Compiled {
    /// As traced.
    pub traced: Module,
    /// After canonicalisation.
    pub canonical: Module,
    /// After outlining of repeated blocks.
    pub outlined: Module,
    /// After equality saturation.
    pub saturated: Module,
    /// After joining weights.
    pub joined: Module,
    /// After decomposition of composites; what is partitioned.
    pub decomposed: Module,
    /// Where each weight of the decomposed module comes from.
    pub sources: Vec<Source>,
    /// Storage orders.
    pub layouts: Layouts,
    /// Kernels, launches and memory.
    pub scheduled: Scheduled,
    /// Legal kernels.
    pub legal: Legalised,
    /// Machine code or shaders.
    pub code: Code,
    /// Rules that fired, by function.
    pub rules: Vec<(String, eqsat::Report)>,
    /// Time each stage took.
    pub times: StageTimes,
    pub(crate) options: Options,
}

/// Compiles a module to code for one target and a plan. Weights are not needed until the package is written.
///
/// # Errors
/// What a stage refuses, with the user's source line where there is one.
pub fn compile(module: &Module, options: &Options) -> Result<Compiled, Errors> {
    compile_with(module, options, &mut |_| {})
}

/// As [`compile`]; `stage` is told each stage's name as it begins.
///
/// # Errors
/// As [`compile`].
pub fn compile_with(
    module: &Module,
    options: &Options,
    stage: &mut dyn FnMut(&'static str),
) -> Result<Compiled, Errors> {
    let mut all = compile_targets(module, std::slice::from_ref(options), stage)?;
    Ok(all.remove(0))
}

/// Compiles a module for several targets; what does not depend on the target is done once. The options differ in the
/// profile alone.
///
/// # Errors
/// As [`compile`].
pub fn compile_targets(
    module: &Module,
    options: &[Options],
    stage: &mut dyn FnMut(&'static str),
) -> Result<Vec<Compiled>, Errors> {
    let Some(first) = options.first() else { return Ok(Vec::new()) };
    for o in options {
        Code::available(&o.profile)?;
    }
    let mut clock = Clock { times: Vec::new(), started: Instant::now(), stage };
    let front = front(module, first, &mut clock)?;
    let shared = clock.times.clone();
    let mut out = Vec::new();
    for o in options {
        clock.times = shared.clone();
        out.push(back(&front, o, &mut clock)?);
    }
    Ok(out)
}

/// Kernels, launches and memory of a module without code: what `compile` knows before it writes any. Group memory is that of
/// the Kernel IR before legalisation.
///
/// # Errors
/// As [`compile`], code generation aside.
pub fn plan(module: &Module, options: &Options) -> Result<Planned, Errors> {
    let mut clock = Clock { times: Vec::new(), started: Instant::now(), stage: &mut |_| {} };
    let front = front(module, options, &mut clock)?;
    let mut planned = planned(&front, options, &mut clock)?;
    planned.times = clock.times;
    Ok(planned)
}

/// Functions as they are lowered for a target, with their kernels and storage orders.
pub(crate) struct Partitioned {
    pub functions: Vec<(Function, Partition)>,
    pub layouts: Layouts,
}

/// The kernels of a module for one target, apart from any plan.
pub(crate) fn partitioned(module: &Module, options: &Options) -> Result<Partitioned, Errors> {
    let mut clock = Clock { times: Vec::new(), started: Instant::now(), stage: &mut |_| {} };
    let front = front(module, options, &mut clock)?;
    let (decomposed, _) = split_weights(&front.decomposed, &front.sources, options.profile.limits.buffer_bytes)?;
    let layouts = layouts(&decomposed, &options.profile)?;
    let functions = schedule::kernels(&decomposed, &layouts, &options.profile, options.scheduling())?;
    Ok(Partitioned { functions, layouts })
}

/// Stages that ran and the time each took.
pub type StageTimes = Vec<(&'static str, Duration)>;

/// The levels that every target shares.
struct Front {
    traced: Module,
    canonical: Module,
    outlined: Module,
    saturated: Module,
    joined: Module,
    decomposed: Module,
    sources: Vec<Source>,
    rules: Vec<(String, eqsat::Report)>,
}

fn front(module: &Module, options: &Options, clock: &mut Clock<'_>) -> Result<Front, Errors> {
    mlxc_ir::graph::verify::verify(module)?;
    let canonical = clock.run("canonical", || each(module, canonicalise::canonicalise))?;
    let outlined =
        clock.run("outline", || if options.outline { outline::outline(&canonical) } else { Ok(canonical.clone()) })?;
    verified("outline", &outlined)?;
    let (saturated, rules) = clock.run("eqsat", || {
        let numerics = match options.level {
            Level::Exact => eqsat::Numerics::Exact,
            Level::Strict => eqsat::Numerics::Strict,
        };
        let (saturated, reports) =
            eqsat::saturate_module(&outlined, &eqsat::Options { numerics, ..Default::default() })?;
        let names = outlined.functions.iter().map(|f| f.name.clone());
        Ok((saturated, names.zip(reports).collect::<Vec<_>>()))
    })?;
    for warning in rules.iter().flat_map(|(_, r)| &r.warnings) {
        tracing::warn!("{warning}");
    }
    verified("eqsat", &saturated)?;
    let (joined, sources) = clock.run("join", || join_weights(&saturated))?;
    verified("join", &joined)?;
    let decomposed = clock.run("decompose", || {
        each(&joined, |f| {
            let f = canonicalise::canonicalise(&decompose::decompose(f)?)?;
            if options.activations == Activations::Int8 { activations::round(&f) } else { Ok(f) }
        })
    })?;
    verified("decompose", &decomposed)?;
    let traced = module.clone();
    Ok(Front { traced, canonical, outlined, saturated, joined, decomposed, sources, rules })
}

/// The levels between the shared ones and code.
pub struct Planned {
    /// What is partitioned: composites decomposed, weights split as the target needs.
    pub decomposed: Module,
    /// Where each weight of the decomposed module comes from.
    pub sources: Vec<Source>,
    /// Storage orders.
    pub layouts: Layouts,
    /// Kernels, launches and memory.
    pub scheduled: Scheduled,
    /// Time each stage took.
    pub times: StageTimes,
}

fn planned(front: &Front, options: &Options, clock: &mut Clock<'_>) -> Result<Planned, Errors> {
    let limit = options.profile.limits.buffer_bytes;
    let (decomposed, sources) = split_weights(&front.decomposed, &front.sources, limit)?;
    verified("split", &decomposed)?;
    let layouts = layouts(&decomposed, &options.profile)?;
    let scheduled =
        clock.run("partition", || schedule(&decomposed, &sources, &layouts, &options.profile, options.scheduling()))?;
    check_buffers(&scheduled, limit)?;
    Ok(Planned { decomposed, sources, layouts, scheduled, times: Vec::new() })
}

fn back(front: &Front, options: &Options, clock: &mut Clock<'_>) -> Result<Compiled, Errors> {
    let Planned { decomposed, sources, layouts, mut scheduled, .. } = planned(front, options, clock)?;
    let legal = clock.run("legal", || Legalised::new(&mut scheduled, &options.profile))?;
    let how = llvm::Options { threads: options.threads, store: options.store.as_deref() };
    let writer = if legal.is_gpu() { "shaders" } else { "llvm" };
    let code = clock.run(writer, || Code::new(&legal, &options.profile, &how))?;
    code.bind(&legal, &mut scheduled)?;
    if let Some(most) = options.max_scratch {
        check_scratch(&scheduled, most)?;
    }
    Ok(Compiled {
        traced: front.traced.clone(),
        canonical: front.canonical.clone(),
        outlined: front.outlined.clone(),
        saturated: front.saturated.clone(),
        joined: front.joined.clone(),
        decomposed,
        sources,
        layouts,
        scheduled,
        legal,
        code,
        rules: front.rules.clone(),
        times: clock.times.clone(),
        options: options.clone(),
    })
}

struct Clock<'a> {
    times: StageTimes,
    started: Instant,
    stage: &'a mut dyn FnMut(&'static str),
}

impl Clock<'_> {
    fn run<T>(&mut self, name: &'static str, f: impl FnOnce() -> Result<T, Diagnostic>) -> Result<T, Errors> {
        (self.stage)(name);
        tracing::debug!("{name} begins");
        self.started = Instant::now();
        let out = f()?;
        self.times.push((name, self.started.elapsed()));
        tracing::info!("{name} took {:.1} ms", self.started.elapsed().as_secs_f64() * 1e3);
        Ok(out)
    }
}

fn each(module: &Module, mut f: impl FnMut(&Function) -> Result<Function, Diagnostic>) -> Result<Module, Diagnostic> {
    let functions = module.functions.iter().map(&mut f).collect::<Result<_, _>>()?;
    Ok(Module { weights: module.weights.clone(), states: module.states.clone(), functions })
}

/// A stage that breaks a module is a defect of that stage, and is named.
fn verified(stage: &str, module: &Module) -> Result<(), Errors> {
    mlxc_ir::graph::verify::verify(module)
        .map_err(|d| Errors(d.into_iter().map(|d| d.note(format!("found after stage `{stage}`"))).collect()))
}

/// A buffer that the target cannot bind is refused here, where its name is known, and not when the package is loaded.
fn check_buffers(scheduled: &Scheduled, most: u64) -> Result<(), Diagnostic> {
    for e in &scheduled.plan.entries {
        if let Some(b) = e.buffers.iter().find(|b| b.bytes > most) {
            return Err(Diagnostic::new(
                411,
                format!("`{}` in entry `{}` is larger than what the target binds", b.name, e.name),
            )
            .expected(format!("at most {most} bytes"))
            .found(format!("{} bytes", b.bytes)));
        }
    }
    Ok(())
}

fn check_scratch(scheduled: &Scheduled, most: u64) -> Result<(), Diagnostic> {
    for e in &scheduled.plan.entries {
        let found = e.arena.bytes + e.arena.worker_bytes;
        if found > most {
            return Err(Diagnostic::new(410, format!("entry `{}` needs more scratch memory than allowed", e.name))
                .expected(format!("at most {most} bytes"))
                .found(format!("{} bytes of buffers and {} a worker", e.arena.bytes, e.arena.worker_bytes)));
        }
    }
    Ok(())
}

/// A package error as a diagnostic.
pub fn package_error(e: PackageError) -> Diagnostic {
    let id = e.id().trim_start_matches("MLXC").parse().unwrap_or(600);
    Diagnostic::new(id, e.to_string())
}
