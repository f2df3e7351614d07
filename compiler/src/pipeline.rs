//! The way from a traced module to machine code: one function a stage, listed once.

use crate::error::Errors;
use crate::weights::Weights;
use mlxc_codegen::legalise::{Legal, legalise};
use mlxc_codegen::llvm::{self, CpuCode};
use mlxc_codegen::profiles;
use mlxc_ir::graph::{Function, Module};
use mlxc_ir::kernel::Kernel;
use mlxc_ir::{Diagnostic, TargetProfile};
use mlxc_package::{NATIVE_ABI, PLAN, Package, PackageError, PackageWriter, TargetCode, TargetKind};
use mlxc_passes::schedule::{Scheduled, StoredWeight, schedule};
use mlxc_passes::storage::{Layouts, Source, join_weights, layouts};
use mlxc_passes::{canonicalise, decompose, eqsat, outline};
use std::path::Path;
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

/// What a compilation is given besides the module. Everything here is hashed into the package's manifest.
#[derive(Clone, Debug)]
pub struct Options {
    /// The machine.
    pub profile: TargetProfile,
    /// Numerics.
    pub level: Level,
    /// Fuse kernels.
    pub fuse: bool,
    /// Compile repeated blocks once.
    pub outline: bool,
    /// Refuse a plan whose scratch is larger, in bytes.
    pub max_scratch: Option<u64>,
    /// Threads that compile; the result does not depend on it.
    pub threads: usize,
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
        let profile = profiles::by_name(name).ok_or_else(|| {
            let known: Vec<String> = profiles::all().iter().map(|p| p.name.clone()).collect();
            Diagnostic::new(901, "there is no target of that name")
                .expected(format!("cpu, {}", known.join(", ")))
                .found(name.to_string())
        })?;
        Ok(Options::for_profile(profile))
    }

    fn for_profile(profile: TargetProfile) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, Into::into);
        Options { profile, level: Level::Strict, fuse: true, outline: true, max_scratch: None, threads }
    }

    fn fingerprint(&self) -> String {
        let profile = serde_json::to_string(&self.profile).expect("a profile is plain data");
        let text = format!("{:?} {} {} {:?} {profile}", self.level, self.fuse, self.outline, self.max_scratch);
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
    pub legal: Vec<Legal>,
    /// Machine code.
    pub code: CpuCode,
    /// Rules that fired, by function.
    pub rules: Vec<(String, eqsat::Report)>,
    /// Time each stage took.
    pub times: Vec<(&'static str, Duration)>,
    options: Options,
}

/// Compiles a module to machine code and a plan. Weights are not needed until the package is written.
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
    llvm::available()?;
    let mut clock = Clock { times: Vec::new(), started: Instant::now(), stage };
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
    let decomposed = clock
        .run("decompose", || each(&joined, |f| decompose::decompose(f).and_then(|g| canonicalise::canonicalise(&g))))?;
    verified("decompose", &decomposed)?;
    let layouts = layouts(&decomposed, &options.profile)?;
    let mut scheduled = clock.run("partition", || {
        let how = mlxc_passes::schedule::Options { fuse: options.fuse, exact: options.level == Level::Exact };
        schedule(&decomposed, &sources, &layouts, &options.profile, how)
    })?;
    let legal = clock.run("legal", || {
        scheduled
            .kernels
            .iter()
            .map(|k| legalise(k, &options.profile).map_err(|mut d| of_kernel(k, d.swap_remove(0))))
            .collect::<Result<Vec<Legal>, Diagnostic>>()
    })?;
    let code =
        clock.run("llvm", || llvm::compile(&legal, &options.profile, &llvm::Options { threads: options.threads }))?;
    bind_code(&mut scheduled, &code)?;
    if let Some(most) = options.max_scratch {
        check_scratch(&scheduled, most)?;
    }
    let times = clock.times;
    Ok(Compiled {
        traced: module.clone(),
        canonical,
        outlined,
        saturated,
        joined,
        decomposed,
        sources,
        layouts,
        scheduled,
        legal,
        code,
        rules,
        times,
        options: options.clone(),
    })
}

struct Clock<'a> {
    times: Vec<(&'static str, Duration)>,
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

/// A kernel's diagnostic with the user's lines and ops.
fn of_kernel(kernel: &Kernel, d: Diagnostic) -> Diagnostic {
    let ops = kernel.comment.iter().map(|ops| format!("the kernel computes {ops}"));
    let lines = (!kernel.origin.is_empty()).then(|| format!("from {}", kernel.origin.join(", ")));
    ops.chain(lines).fold(d, Diagnostic::note)
}

/// A stage that breaks a module is a defect of that stage, and is named.
fn verified(stage: &str, module: &Module) -> Result<(), Errors> {
    mlxc_ir::graph::verify::verify(module)
        .map_err(|d| Errors(d.into_iter().map(|d| d.note(format!("found after stage `{stage}`"))).collect()))
}

/// Group memory and symbols come from the code that was generated.
fn bind_code(scheduled: &mut Scheduled, code: &CpuCode) -> Result<(), Diagnostic> {
    let mut phases = code.phases.iter();
    for k in &mut scheduled.plan.kernels {
        for p in &mut k.phases {
            let made = phases.next().filter(|c| c.kernel == k.name && c.phase == p.name);
            let made = made.ok_or_else(|| Diagnostic::new(902, format!("kernel `{}` has no code", k.name)))?;
            p.symbol.clone_from(&made.symbol);
            p.group_bytes = made.group_bytes;
        }
    }
    for e in &mut scheduled.plan.entries {
        let bytes = |l: &mlxc_package::plan::Launch| {
            scheduled.plan.kernels[l.kernel as usize].phases[l.phase as usize].group_bytes
        };
        e.arena.worker_bytes = e.launches.iter().map(bytes).max().unwrap_or(0);
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

/// Further members of a package: name and bytes.
pub type Extras = Vec<(String, Vec<u8>)>;

impl Compiled {
    /// Name of the target.
    pub fn target(&self) -> &str {
        &self.options.profile.name
    }

    /// Writes the package to a file, one weight at a time; `done` is told the bytes of each weight as it is written.
    ///
    /// # Errors
    /// What the weights or the file system say; then no file is left behind.
    pub fn save(
        &self,
        path: &Path,
        weights: &dyn Weights,
        extras: &Extras,
        done: &mut dyn FnMut(u64),
    ) -> Result<(), Errors> {
        let mut writer = PackageWriter::create(path).map_err(package_error)?;
        self.fill(&mut writer, weights, extras, done)?;
        writer.finish(&self.options.fingerprint()).map_err(package_error)?;
        Ok(())
    }

    /// The package in memory.
    ///
    /// # Errors
    /// What the weights say.
    pub fn package(&self, weights: &dyn Weights, extras: &Extras) -> Result<Package, Errors> {
        Ok(Package::from_bytes(self.package_bytes(weights, extras)?).map_err(package_error)?)
    }

    /// The bytes of the package.
    ///
    /// # Errors
    /// What the weights say.
    pub fn package_bytes(&self, weights: &dyn Weights, extras: &Extras) -> Result<Vec<u8>, Errors> {
        let mut writer = PackageWriter::in_memory();
        self.fill(&mut writer, weights, extras, &mut |_| {})?;
        Ok(writer.finish_bytes(&self.options.fingerprint()).map_err(package_error)?)
    }

    fn fill(
        &self,
        writer: &mut PackageWriter,
        weights: &dyn Weights,
        extras: &Extras,
        done: &mut dyn FnMut(u64),
    ) -> Result<(), Errors> {
        writer.add_plan(PLAN, &self.scheduled.plan).map_err(package_error)?;
        let cpu = profiles::cpu_target(&self.options.profile.name).expect("a compiled profile is a CPU's");
        let arch = cpu.triple.split('-').next().unwrap_or_default();
        writer
            .add_target(&TargetCode {
                name: cpu.profile,
                kind: TargetKind::Native,
                plan: PLAN,
                arch,
                features: cpu.required,
                abi: NATIVE_ABI,
                align: self.code.blob.align,
                code: &self.code.blob.bytes,
                symbols: &self.code.blob.symbols,
            })
            .map_err(package_error)?;
        for (name, bytes) in extras {
            writer.add(name, bytes).map_err(package_error)?;
        }
        for (w, planned) in self.scheduled.weights.iter().zip(&self.scheduled.plan.weights) {
            let bytes = self.stored(w, weights)?;
            writer.add(&planned.member, &bytes).map_err(package_error)?;
            done(bytes.len() as u64);
        }
        Ok(())
    }

    /// A weight's bytes as stored.
    fn stored(&self, w: &StoredWeight, weights: &dyn Weights) -> Result<Vec<u8>, Diagnostic> {
        let original = |n: u32| {
            let weight = &self.traced.weights[n as usize];
            weights.read(&weight.name, &weight.ty)
        };
        let shape: Vec<u64> = w.ty.const_shape().unwrap_or_default().iter().map(|n| *n as u64).collect();
        let size = w.ty.dtype.bytes() as usize;
        match &w.source {
            Source::Constant(d) => Ok(w.layout.store(&d.bytes, &shape, size)),
            Source::Original(n) => Ok(w.layout.store(&original(*n)?, &shape, size)),
            Source::Joined(parts) => {
                let mut rows = Vec::new();
                for p in parts {
                    rows.extend_from_slice(&original(*p)?);
                }
                Ok(w.layout.store(&rows, &shape, size))
            }
        }
    }
}

pub(crate) fn package_error(e: PackageError) -> Diagnostic {
    let id = e.id().trim_start_matches("MLXC").parse().unwrap_or(600);
    Diagnostic::new(id, e.to_string())
}
