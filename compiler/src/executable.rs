//! Compiled functions that run in this process, on the runtime's own path.

use crate::error::Errors;
use crate::pipeline::{Compiled, Options, compile, package_error};
use crate::weights::{NoWeights, Weights};
use mlxc_ir::Diagnostic;
use mlxc_ir::graph::Module;
use mlxc_package::Package;
use mlxc_runtime::{LoadOptions, Model, RuntimeError, Session, Tensor, TensorView};
use std::path::Path;
use std::sync::Arc;

/// A module compiled and loaded.
pub struct Executable {
    compiled: Compiled,
    package: Arc<Package>,
    session: Session,
}

impl Executable {
    /// Compiles a module without weights.
    ///
    /// # Errors
    /// What a stage or the runtime says.
    pub fn new(module: &Module, options: &Options) -> Result<Self, Errors> {
        Executable::with_weights(module, options, &NoWeights)
    }

    /// Compiles a module with its weights.
    ///
    /// # Errors
    /// What a stage, the weights or the runtime says.
    pub fn with_weights(module: &Module, options: &Options, weights: &dyn Weights) -> Result<Self, Errors> {
        Executable::load(module, options, weights, &LoadOptions::default())
    }

    /// Compiles a module and loads it with given options.
    ///
    /// # Errors
    /// What a stage, the weights or the runtime says.
    pub fn load(module: &Module, options: &Options, weights: &dyn Weights, load: &LoadOptions) -> Result<Self, Errors> {
        let compiled = compile(module, options)?;
        let package = Arc::new(compiled.package(weights, &Vec::new())?);
        let model = Model::load(package.clone(), load).map_err(runtime_error)?;
        let session = model.session().map_err(runtime_error)?;
        Ok(Executable { compiled, package, session })
    }

    /// Runs the only entry; gives outputs in order.
    ///
    /// # Errors
    /// `MLXC0905` if the module has several entries, or what the runtime says of the inputs.
    pub fn run(&mut self, inputs: &[(&str, TensorView<'_>)]) -> Result<Vec<Tensor>, Errors> {
        let entries = &self.package.plan().entries;
        let [entry] = entries.as_slice() else {
            let names: Vec<&str> = entries.iter().map(|e| e.name.as_str()).collect();
            return Err(Diagnostic::new(905, "the module has several entries")
                .expected("a call of `run_entry` with one of them")
                .found(names.join(", "))
                .into());
        };
        let name = entry.name.clone();
        self.run_entry(&name, inputs)
    }

    /// Runs an entry; gives outputs in order.
    ///
    /// # Errors
    /// What the runtime says of the inputs.
    pub fn run_entry(&mut self, entry: &str, inputs: &[(&str, TensorView<'_>)]) -> Result<Vec<Tensor>, Errors> {
        let outputs = self.session.run(entry, inputs).map_err(runtime_error)?;
        Ok(outputs.into_iter().map(|(_, t)| t).collect())
    }

    /// Every level of the compilation.
    pub fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    /// The session: states and scratch.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Writes the package.
    ///
    /// # Errors
    /// What the weights or the file system say.
    pub fn save(&self, path: &Path, weights: &dyn Weights) -> Result<(), Errors> {
        self.compiled.save(path, weights, &Vec::new(), &mut |_| {})
    }
}

/// A runtime error as a diagnostic.
pub fn runtime_error(e: RuntimeError) -> Diagnostic {
    let id = e.id().trim_start_matches("MLXC").parse().unwrap_or(700);
    Diagnostic::new(id, e.to_string())
}

/// Opens and loads a package.
///
/// # Errors
/// What the package or the runtime says.
pub fn open(path: &Path, load: &LoadOptions) -> Result<Model, Errors> {
    let package = Arc::new(Package::open(path).map_err(package_error)?);
    Ok(Model::load(package, load).map_err(runtime_error)?)
}
