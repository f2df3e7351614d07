//! LLVM's machine side: a target machine, the lean pass list, objects and assembly text.

use std::sync::Once;

use inkwell::OptimizationLevel;
use inkwell::module::Module;
use inkwell::passes::PassBuilderOptions;
use inkwell::targets::{CodeModel, FileType, InitializationConfig, RelocMode, Target, TargetMachine, TargetTriple};
use mlxc_ir::Diagnostic;

use crate::profiles::CpuTarget;

/// Scalar passes only: vectors and unrolling are explicit in Kernel IR. Loses nothing against `default<O3>` on
/// such code and takes under half its time (measured on 60 kernels).
const PASSES: &str = "function(sroa,early-cse<memssa>,instcombine<no-verify-fixpoint>,simplifycfg,loop-mssa(licm),\
     instcombine<no-verify-fixpoint>,simplifycfg,gvn,dse,adce)";

/// How machine code is generated, as far as no target decides it.
const LEVEL: OptimizationLevel = OptimizationLevel::Aggressive;
const RELOCATION: RelocMode = RelocMode::PIC;
const MODEL: CodeModel = CodeModel::Small;

/// One target machine; it belongs to the thread that made it.
pub(super) struct Machine {
    machine: TargetMachine,
    triple: TargetTriple,
}

impl Machine {
    pub(super) fn new(target: &CpuTarget) -> Result<Machine, Diagnostic> {
        static INITIALISE: Once = Once::new();
        INITIALISE.call_once(|| {
            Target::initialize_x86(&InitializationConfig::default());
            Target::initialize_aarch64(&InitializationConfig::default());
        });
        let triple = TargetTriple::create(target.triple);
        let refuse =
            |found: String| Diagnostic::new(802, "LLVM has no such target").expected(target.triple).found(found);
        let machine = Target::from_triple(&triple)
            .map_err(|e| refuse(e.to_string()))?
            .create_target_machine(&triple, target.cpu, target.features, LEVEL, RELOCATION, MODEL)
            .ok_or_else(|| refuse(format!("cpu {}", target.cpu)))?;
        Ok(Machine { machine, triple })
    }

    /// Verifies the module and runs the pass list over it.
    pub(super) fn optimise(&self, module: &Module<'_>) -> Result<(), Diagnostic> {
        self.prepare(module);
        let broken = |e: String| Diagnostic::new(804, "LLVM rejects the code written for a kernel").found(e);
        module.verify().map_err(|e| broken(e.to_string()))?;
        module.run_passes(PASSES, &self.machine, PassBuilderOptions::create()).map_err(|e| broken(e.to_string()))
    }

    /// Gives the module this machine's triple and data layout.
    pub(super) fn prepare(&self, module: &Module<'_>) {
        module.set_triple(&self.triple);
        module.set_data_layout(&self.machine.get_target_data().get_data_layout());
    }

    /// What identifies the code of a module that no pass has changed yet. Bitcode names the LLVM that wrote it, down to the
    /// vendor's suffix.
    pub(super) fn key(&self, module: &Module<'_>, target: &CpuTarget) -> String {
        let settings = format!("{PASSES} {LEVEL:?} {RELOCATION:?} {MODEL:?}");
        let bitcode = module.write_bitcode_to_memory();
        super::store::key(bitcode.as_slice(), target, &settings, env!("MLXC_LLVM_FOUND"))
    }

    /// The module as an ELF object.
    pub(super) fn object(&self, module: &Module<'_>) -> Result<Vec<u8>, Diagnostic> {
        self.emit(module, FileType::Object)
    }

    /// The module as assembly text.
    pub(super) fn assembly(&self, module: &Module<'_>) -> Result<String, Diagnostic> {
        Ok(String::from_utf8_lossy(&self.emit(module, FileType::Assembly)?).into_owned())
    }

    fn emit(&self, module: &Module<'_>, kind: FileType) -> Result<Vec<u8>, Diagnostic> {
        self.machine
            .write_to_memory_buffer(module, kind)
            .map(|buffer| buffer.as_slice().to_vec())
            .map_err(|e| Diagnostic::new(805, "LLVM cannot generate machine code").found(e.to_string()))
    }
}
