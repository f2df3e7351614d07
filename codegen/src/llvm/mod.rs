//! The LLVM writer: legal CPU kernels to position-independent machine code.
//!
//! # Calling convention
//!
//! Phase `p` of kernel `k` becomes `k__p(record: *const u64, slot: *mut u8, lo: i64, hi: i64)`, which runs the
//! tasks `lo..hi`. Tasks number the grid row-major, the last axis fastest. The record holds, a 64-bit word each: the
//! address of every buffer in the kernel's order; every symbol; every argument (an index as `i64`, a scalar as
//! its bits, zero-extended); the counters of the `serial` steps around the phase, outermost first. Buffers are
//! 256-byte aligned and do not overlap. `slot` is 64-byte aligned memory of
//! [`PhaseCode::group_bytes`] bytes that no other thread uses meanwhile.
//!
//! Which instructions a kernel may use was decided by `legalise`; nothing here asks for the target.

use mlxc_ir::Diagnostic;
use mlxc_ir::profile::TargetProfile;

use crate::blob::CodeBlob;
use crate::legalise::Legal;
#[cfg(have_llvm)]
use store::KernelCode;

#[cfg(have_llvm)]
mod expr;
#[cfg(have_llvm)]
mod machine;
#[cfg(have_llvm)]
mod memory;
#[cfg(have_llvm)]
mod phase;
#[cfg(have_llvm)]
mod stmt;
#[cfg_attr(not(have_llvm), allow(dead_code))]
mod store;
#[cfg(have_llvm)]
mod tile;
#[cfg(have_llvm)]
mod values;

pub use store::CodeStore;

/// Choices of a compilation that do not change its result.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Threads to compile on, at least 1; the code does not depend on it.
    pub threads: usize,
    /// Where code of earlier compilations is found, and this one's is kept.
    pub store: Option<&'a dyn CodeStore>,
}

impl Default for Options<'_> {
    /// As many threads as the machine runs at once, and nothing kept.
    fn default() -> Self {
        Options { threads: std::thread::available_parallelism().map_or(1, |n| n.get()), store: None }
    }
}

/// One compiled phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseCode {
    /// Name of the kernel.
    pub kernel: String,
    /// Name of the phase.
    pub phase: String,
    /// Name of the function in [`CpuCode::blob`].
    pub symbol: String,
    /// Bytes of group memory a worker needs to run it.
    pub group_bytes: u64,
}

/// Compiled kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuCode {
    /// The machine code of all phases.
    pub blob: CodeBlob,
    /// The phases of all kernels, in order.
    pub phases: Vec<PhaseCode>,
}

/// Says whether this build can generate CPU code.
///
/// # Errors
/// 0801 if no LLVM 22 was found when the crate was built, with what to install.
pub fn available() -> Result<(), Diagnostic> {
    if cfg!(have_llvm) {
        return Ok(());
    }
    Err(Diagnostic::new(801, "this build has no CPU code generator")
        .expected("LLVM 22, from `llvm-config-22` or the Rust toolchain")
        .found(env!("MLXC_LLVM_FOUND"))
        .note("install it with `apt install llvm-22-dev`, or set MLXC_LLVM_PREFIX, and build again"))
}

/// Compiles kernels for the profile they are legal for.
///
/// # Errors
/// 0801 without LLVM, 0802 if LLVM lacks the target, 0803 if code needs a linker, 0804 and 0805 if LLVM rejects it,
/// 0806 if two phases have one symbol, 0807 if a kernel is legal for another target.
#[cfg(have_llvm)]
pub fn compile(kernels: &[Legal], profile: &TargetProfile, options: &Options<'_>) -> Result<CpuCode, Diagnostic> {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    available()?;
    let target = target_of(profile)?;
    for legal in kernels {
        if legal.target() != target {
            return Err(Diagnostic::new(807, format!("kernel `{}` is legal for another target", legal.kernel().name))
                .expected(target.profile)
                .found(legal.target().profile));
        }
    }
    unique_symbols(kernels)?;
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<Result<Made, Diagnostic>>>> = Mutex::new(vec![None; kernels.len()]);
    let work = || {
        let mut machine = None;
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(legal) = kernels.get(at) else { break };
            let result = match &machine {
                Some(m) => compile_kernel(legal, m, options.store),
                None => {
                    machine::Machine::new(target).and_then(|m| compile_kernel(legal, machine.insert(m), options.store))
                }
            };
            done.lock().expect("invariant: no compile thread panics holding the lock")[at] = Some(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..options.threads.clamp(1, kernels.len().max(1)) {
            scope.spawn(work);
        }
        work();
    });
    let mut code = CpuCode { blob: CodeBlob { bytes: Vec::new(), symbols: Vec::new(), align: 64 }, phases: Vec::new() };
    let mut found = 0;
    for made in done.into_inner().expect("invariant: no compile thread panics holding the lock") {
        let made = made.expect("invariant: every kernel was compiled")?;
        code.blob.append(made.code.blob);
        code.phases.extend(made.code.phases);
        found += usize::from(made.found);
    }
    if options.store.is_some() {
        tracing::info!("{found} of {} kernels were compiled before", kernels.len());
    }
    Ok(code)
}

/// Compiles kernels for the profile they are legal for.
///
/// # Errors
/// 0801: this build has no LLVM.
#[cfg(not(have_llvm))]
pub fn compile(_: &[Legal], _: &TargetProfile, _: &Options<'_>) -> Result<CpuCode, Diagnostic> {
    available()
        .map(|()| CpuCode { blob: CodeBlob { bytes: Vec::new(), symbols: Vec::new(), align: 64 }, phases: Vec::new() })
}

/// LLVM IR of one kernel as it is written, before LLVM's passes.
///
/// # Errors
/// As [`compile`].
#[cfg(have_llvm)]
pub fn print_ir(legal: &Legal) -> Result<String, Diagnostic> {
    let machine = machine::Machine::new(legal.target())?;
    let context = inkwell::context::Context::create();
    let (module, _) = phase::write(&context, legal, phase::Names::Own);
    machine.prepare(&module);
    Ok(module.print_to_string().to_string())
}

/// LLVM IR of one kernel as it is written, before LLVM's passes.
///
/// # Errors
/// 0801: this build has no LLVM.
#[cfg(not(have_llvm))]
pub fn print_ir(_: &Legal) -> Result<String, Diagnostic> {
    available().map(|()| String::new())
}

/// Assembly text of one kernel.
///
/// # Errors
/// As [`compile`].
#[cfg(have_llvm)]
pub fn print_assembly(legal: &Legal) -> Result<String, Diagnostic> {
    let machine = machine::Machine::new(legal.target())?;
    let context = inkwell::context::Context::create();
    let (module, _) = phase::write(&context, legal, phase::Names::Own);
    machine.optimise(&module)?;
    machine.assembly(&module)
}

/// Assembly text of one kernel.
///
/// # Errors
/// 0801: this build has no LLVM.
#[cfg(not(have_llvm))]
pub fn print_assembly(_: &Legal) -> Result<String, Diagnostic> {
    available().map(|()| String::new())
}

#[cfg(have_llvm)]
fn unique_symbols(kernels: &[Legal]) -> Result<(), Diagnostic> {
    let mut seen = std::collections::HashSet::new();
    for legal in kernels {
        for phase in legal.kernel().phases() {
            let symbol = phase::symbol(legal.kernel(), phase);
            if seen.contains(&symbol) {
                return Err(Diagnostic::new(806, "two phases would have one name").found(symbol));
            }
            seen.insert(symbol);
        }
    }
    Ok(())
}

#[cfg(have_llvm)]
fn target_of(profile: &TargetProfile) -> Result<&'static crate::profiles::CpuTarget, Diagnostic> {
    crate::profiles::cpu_target(&profile.name).ok_or_else(|| {
        Diagnostic::new(802, "LLVM has no such target").expected("a CPU profile").found(profile.name.clone())
    })
}

/// The code of one kernel, and whether it was compiled before.
#[cfg(have_llvm)]
#[derive(Clone)]
struct Made {
    code: CpuCode,
    found: bool,
}

/// A kernel is a module of its own: what is found again is one kernel, and LLVM takes no longer than for several at once.
#[cfg(have_llvm)]
fn compile_kernel(
    legal: &Legal,
    machine: &machine::Machine,
    store: Option<&dyn CodeStore>,
) -> Result<Made, Diagnostic> {
    let context = inkwell::context::Context::create();
    let (module, phases) = phase::write(&context, legal, phase::Names::Numbers);
    machine.prepare(&module);
    let place = store.map(|s| (s, machine.key(&module, legal.target())));
    let found = place.as_ref().and_then(|(s, key)| KernelCode::decode(&s.find(key)?, phases.len()));
    let was_found = found.is_some();
    let code = match found {
        Some(code) => code,
        None => {
            tracing::debug!("LLVM compiles {}", legal.kernel().name);
            machine.optimise(&module)?;
            let blob = CodeBlob::from_object(&machine.object(&module)?)?;
            let code = KernelCode::new(blob, phases.len(), phase::number)?;
            if let Some((store, key)) = &place {
                store.keep(key, &code.encode());
            }
            code
        }
    };
    Ok(Made { code: CpuCode { blob: code.blob(&phases), phases }, found: was_found })
}
