//! Legal kernels and their code, for whichever kind of target.

use mlxc_codegen::blob::CodeBlob;
use mlxc_codegen::gpu_profiles::{self, ShaderLanguage};
use mlxc_codegen::legalise::{GpuLegal, Legal, legalise, legalise_gpu};
use mlxc_codegen::llvm::{self, CpuCode};
use mlxc_codegen::{msl, profiles, wgsl};
use mlxc_ir::kernel::Kernel;
use mlxc_ir::profile::TargetKind as ProfileKind;
use mlxc_ir::{Diagnostic, TargetProfile};
use mlxc_package::plan::{Place, Plan};
use mlxc_package::{NATIVE_ABI, TargetCode, TargetKind};
use mlxc_passes::schedule::Scheduled;

/// Kernels that a target has every operation of, in the plan's order.
#[derive(Clone, Debug)]
pub enum Legalised {
    /// For a CPU.
    Cpu(Vec<Legal>),
    /// For a GPU.
    Gpu(Vec<GpuLegal>),
}

impl Legalised {
    /// Legalises every kernel. The plan is told which buffers only ever hold weights.
    ///
    /// # Errors
    /// The first kernel's diagnostic, with the user's lines and ops.
    pub fn new(scheduled: &mut Scheduled, profile: &TargetProfile) -> Result<Self, Diagnostic> {
        let first = |k: &Kernel, mut d: Vec<Diagnostic>| of_kernel(k, d.swap_remove(0));
        if profile.kind == ProfileKind::Cpu {
            let all = scheduled.kernels.iter().map(|k| legalise(k, profile).map_err(|d| first(k, d)));
            return all.collect::<Result<_, _>>().map(Legalised::Cpu);
        }
        mark_constants(&mut scheduled.plan);
        let kernels = scheduled.kernels.iter().zip(&scheduled.plan.kernels);
        let all = kernels.map(|(k, plan)| legalise_gpu(k, profile, &plan.constant).map_err(|d| first(k, d)));
        all.collect::<Result<_, _>>().map(Legalised::Gpu)
    }

    /// True if groups have many lanes.
    pub fn is_gpu(&self) -> bool {
        matches!(self, Legalised::Gpu(_))
    }

    /// The kernels.
    pub fn kernels(&self) -> Vec<&Kernel> {
        match self {
            Legalised::Cpu(all) => all.iter().map(Legal::kernel).collect(),
            Legalised::Gpu(all) => all.iter().map(GpuLegal::kernel).collect(),
        }
    }
}

/// A kernel's diagnostic with the user's lines and ops.
fn of_kernel(kernel: &Kernel, d: Diagnostic) -> Diagnostic {
    let ops = kernel.comment.iter().map(|ops| format!("the kernel computes {ops}"));
    let lines = (!kernel.origin.is_empty()).then(|| format!("from {}", kernel.origin.join(", ")));
    ops.chain(lines).fold(d, Diagnostic::note)
}

/// Notes the buffers that every launch of the package binds to a weight.
fn mark_constants(plan: &mut Plan) {
    let mut constant: Vec<Vec<bool>> = plan.kernels.iter().map(|k| vec![true; k.buffers.len()]).collect();
    for e in &plan.entries {
        for l in &e.launches {
            for (flag, b) in constant[l.kernel as usize].iter_mut().zip(&l.buffers) {
                *flag &= matches!(e.buffers[*b as usize].place, Place::Weight(_));
            }
        }
    }
    for (k, flags) in plan.kernels.iter_mut().zip(constant) {
        k.constant = flags;
    }
}

/// Shader modules of a package, one behind the other.
#[derive(Clone, Debug)]
pub struct Shaders {
    /// The modules, each from its symbol's offset to the next.
    pub text: String,
    /// Entry points and where their modules begin.
    pub symbols: Vec<(String, u64)>,
    /// The language.
    pub language: ShaderLanguage,
}

/// A target's code.
#[derive(Clone, Debug)]
pub enum Code {
    /// Machine code.
    Native(CpuCode),
    /// Text for the device's own compiler.
    Shaders(Shaders),
}

/// One phase's module.
#[derive(Clone, Debug)]
pub struct ShaderModule {
    /// Kernel it is of.
    pub kernel: String,
    /// Entry point.
    pub entry: String,
    /// Text.
    pub text: String,
}

/// Prints the modules of GPU kernels. WGSL is in naga's dialect, or in that of browsers.
pub fn modules(legal: &[GpuLegal], language: ShaderLanguage, header: wgsl::Header) -> Vec<ShaderModule> {
    let mut out = Vec::new();
    for l in legal {
        let kernel = l.kernel().name.to_string();
        let written: Vec<(String, String)> = match language {
            ShaderLanguage::Wgsl => wgsl::write(l, header).into_iter().map(|m| (m.entry, m.text)).collect(),
            ShaderLanguage::Msl => msl::write(l).into_iter().map(|m| (m.entry, m.text)).collect(),
        };
        out.extend(written.into_iter().map(|(entry, text)| ShaderModule { kernel: kernel.clone(), entry, text }));
    }
    out
}

impl Code {
    /// Says whether this build can write code for a profile.
    ///
    /// # Errors
    /// That of [`llvm::available`] for CPUs.
    pub fn available(profile: &TargetProfile) -> Result<(), Diagnostic> {
        if profile.kind == ProfileKind::Cpu { llvm::available() } else { Ok(()) }
    }

    /// Writes the code of all kernels; the options are for machine code.
    ///
    /// # Errors
    /// What LLVM says, or naga of a shader it does not accept.
    pub fn new(legal: &Legalised, profile: &TargetProfile, options: &llvm::Options<'_>) -> Result<Self, Diagnostic> {
        let kernels = match legal {
            Legalised::Cpu(all) => {
                return llvm::compile(all, profile, options).map(Code::Native);
            }
            Legalised::Gpu(all) => all,
        };
        let language = gpu_profiles::language(profile);
        let mut out = Shaders { text: String::new(), symbols: Vec::new(), language };
        for m in modules(kernels, language, wgsl::Header::Naga) {
            if language == ShaderLanguage::Wgsl {
                wgsl::validate(&m.text, profile)?;
            }
            out.symbols.push((m.entry, out.text.len() as u64));
            out.text.push_str(&m.text);
            if !m.text.ends_with('\n') {
                out.text.push('\n');
            }
        }
        Ok(Code::Shaders(out))
    }

    /// Bytes of code.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Code::Native(c) => &c.blob.bytes,
            Code::Shaders(s) => s.text.as_bytes(),
        }
    }

    /// The blob of machine code.
    pub fn blob(&self) -> Option<&CodeBlob> {
        match self {
            Code::Native(c) => Some(&c.blob),
            Code::Shaders(_) => None,
        }
    }

    /// Tells the plan the symbols, group memory and lanes of the phases.
    pub(crate) fn bind(&self, legal: &Legalised, scheduled: &mut Scheduled) -> Result<(), Diagnostic> {
        let missing = |name: &str| Diagnostic::new(902, format!("kernel `{name}` has no code"));
        match (self, legal) {
            (Code::Native(code), _) => {
                let mut phases = code.phases.iter();
                for k in &mut scheduled.plan.kernels {
                    for p in &mut k.phases {
                        let made = phases.next().filter(|c| c.kernel == k.name && c.phase == p.name);
                        let made = made.ok_or_else(|| missing(&k.name))?;
                        p.symbol.clone_from(&made.symbol);
                        p.group_bytes = made.group_bytes;
                    }
                }
            }
            (Code::Shaders(_), Legalised::Gpu(all)) => {
                for (k, l) in scheduled.plan.kernels.iter_mut().zip(all) {
                    for (p, made) in k.phases.iter_mut().zip(l.phases()) {
                        p.symbol.clone_from(&made.entry);
                        p.lanes = made.lanes;
                        p.linear = made.linear;
                        // A group has memory of its own, none of the arena.
                        p.group_bytes = 0;
                    }
                }
            }
            (Code::Shaders(_), Legalised::Cpu(_)) => return Err(missing("of a CPU")),
        }
        for e in &mut scheduled.plan.entries {
            let bytes = |l: &mlxc_package::plan::Launch| {
                scheduled.plan.kernels[l.kernel as usize].phases[l.phase as usize].group_bytes
            };
            e.arena.worker_bytes = e.launches.iter().map(bytes).max().unwrap_or(0);
        }
        Ok(())
    }

    /// The code as a package holds it, with the plan it is for.
    pub(crate) fn target<'a>(
        &'a self,
        profile: &'a TargetProfile,
        plan: &'a str,
        features: &'a [&'a str],
    ) -> TargetCode<'a> {
        match self {
            Code::Native(code) => {
                let cpu = profiles::cpu_target(&profile.name).expect("invariant: machine code is of a CPU's profile");
                TargetCode {
                    name: cpu.profile,
                    kind: TargetKind::Native,
                    plan,
                    arch: cpu.triple.split('-').next().unwrap_or_default(),
                    features: cpu.required,
                    abi: NATIVE_ABI,
                    align: code.blob.align,
                    code: &code.blob.bytes,
                    symbols: &code.blob.symbols,
                }
            }
            Code::Shaders(shaders) => TargetCode {
                name: &profile.name,
                kind: TargetKind::Shader,
                plan,
                arch: "",
                features,
                abi: 0,
                align: 1,
                code: shaders.text.as_bytes(),
                symbols: &shaders.symbols,
            },
        }
    }
}
