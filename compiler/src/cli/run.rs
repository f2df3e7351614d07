//! `mlxc run`: one entry on .npy files.

use super::args::{Run, RunArgs};
use super::progress::Progress;
use super::{Failure, Outcome};
use mlxc::executable::runtime_error;
use mlxc::{Diagnostic, Errors};
use mlxc_runtime::{LoadOptions, Model, Tensor, TensorView, npy};

/// How the runtime is loaded for given arguments.
pub fn load_options(a: &RunArgs) -> LoadOptions {
    LoadOptions { threads: a.threads, device: a.device, ..LoadOptions::default() }
}

pub fn run(a: &Run) -> Outcome {
    let progress = Progress::new();
    let package = a.build.build().package(&mut |s| progress.stage(s))?;
    progress.finish();
    let model = Model::load(package, &load_options(&a.run)).map_err(error)?;
    let mut session = model.session().map_err(error)?;
    let inputs: Vec<(String, Tensor)> = a
        .input
        .iter()
        .map(|(name, path)| npy::load(path).map(|t| (name.clone(), t)))
        .collect::<Result<_, _>>()
        .map_err(error)?;
    let views: Vec<(&str, TensorView<'_>)> = inputs.iter().map(|(n, t)| (n.as_str(), t.view())).collect();
    let outputs = session.run(&a.entry, &views).map_err(error)?;
    for (name, path) in &a.output {
        let Some((_, tensor)) = outputs.iter().find(|(n, _)| n == name) else {
            let known: Vec<&str> = outputs.iter().map(|(n, _)| n.as_str()).collect();
            return Err(Failure::from(
                Diagnostic::new(915, "the entry has no such output").expected(known.join(", ")).found(name.clone()),
            ));
        };
        npy::save(path, tensor.view()).map_err(error)?;
    }
    if a.output.is_empty() {
        for (name, t) in &outputs {
            super::print(&format!("{name}: {} {:?}\n", t.dtype(), t.shape()))?;
        }
    }
    Ok(())
}

/// A runtime error as errors of the command.
pub fn error(e: mlxc_runtime::RuntimeError) -> Errors {
    runtime_error(e).into()
}
