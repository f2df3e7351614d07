//! Tuning: sizes of kernels that were measured to be faster than the formulas', in a file that compilations take as an
//! explicit input.
//!
//! Measuring is a search of bounded steps ([`mod@search`]) over the knobs that templates declare
//! ([`mlxc_passes::choices`]). What it finds differs from run to run, so compiling never measures unless it is asked to, and then
//! compiles by the file it wrote: the same file gives the same package.

pub mod search;
mod trial;

use crate::error::Errors;
use crate::pipeline::Options;
use mlxc_ir::graph::Module;
use mlxc_ir::profile::TargetKind;
use mlxc_ir::{Diagnostic, Location};
use mlxc_passes::choices::{Choices, KNOBS, of_template};
use search::Step;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of the file.
const FORMAT: u32 = 1;

/// Sizes of kernels for one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// Version of the file.
    format: u32,
    /// The profile whose kernels they are of.
    pub target: String,
    /// Values by knob, by kernel as [`describe`](mlxc_passes::choices::describe) calls it.
    kernels: BTreeMap<String, BTreeMap<String, i64>>,
}

impl Tuning {
    /// The record of choices for a target.
    pub fn new(target: &str, choices: &Choices) -> Self {
        let knobs = |k: &BTreeMap<&'static str, i64>| k.iter().map(|(name, v)| (name.to_string(), *v)).collect();
        let kernels = choices.kernels().iter().map(|(kernel, k)| (kernel.clone(), knobs(k))).collect();
        Tuning { format: FORMAT, target: target.to_string(), kernels }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// `MLXC0974` for a file that cannot be read, or what [`Tuning::parse`] says.
    pub fn read(path: &Path) -> Result<Self, Diagnostic> {
        let at = Location::new(path.display().to_string(), 0, 0);
        let text = std::fs::read_to_string(path)
            .map_err(|e| Diagnostic::new(974, "a tuning file cannot be read").at(at.clone()).found(e.to_string()))?;
        Tuning::parse(&text, &at)
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// `MLXC0975` for one that is no tuning file of this version, `MLXC0976` for a knob that its template does not have, or a
    /// value that the knob does not take.
    pub fn parse(text: &str, at: &Location) -> Result<Self, Diagnostic> {
        let wrong = |found: String| {
            Diagnostic::new(975, "a tuning file is not understood")
                .at(at.clone())
                .expected("a file that `mlxc compile --tune` wrote")
                .found(found)
        };
        let tuning: Tuning = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        if tuning.format != FORMAT {
            return Err(wrong(format!("format {}", tuning.format)));
        }
        tuning.choices(at)?;
        Ok(tuning)
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("a tuning record is plain data");
        format!("{text}\n")
    }

    /// The choices it records.
    fn choices(&self, at: &Location) -> Result<Choices, Diagnostic> {
        let mut out = Choices::default();
        for (kernel, knobs) in &self.kernels {
            let template = kernel.split(' ').next().unwrap_or_default();
            for (name, value) in knobs {
                let unknown = |expected: String, found: String| {
                    Diagnostic::new(976, format!("a tuning file chooses what `{kernel}` does not have"))
                        .at(at.clone())
                        .expected(expected)
                        .found(found)
                };
                let Some(knob) = of_template(template).find(|k| k.name == name) else {
                    let known: Vec<String> = KNOBS.iter().map(|k| format!("`{}` of {}", k.name, k.template)).collect();
                    return Err(unknown(known.join(", "), format!("`{name}`")));
                };
                if !knob.values.contains(value) {
                    let known: Vec<String> = knob.values.iter().map(ToString::to_string).collect();
                    return Err(unknown(format!("{name} in {}", known.join(", ")), value.to_string()));
                }
                out.set(kernel, knob, *value);
            }
        }
        Ok(out)
    }

    /// Gives the choices to the target they are for; `path` is the file's.
    ///
    /// # Errors
    /// `MLXC0977` if it is none of the targets.
    pub fn apply(&self, options: &mut [Options], path: &Path) -> Result<(), Diagnostic> {
        let at = Location::new(path.display().to_string(), 0, 0);
        let choices = self.choices(&at)?;
        let names: Vec<&str> = options.iter().map(|o| o.profile.name.as_str()).collect();
        let Some(i) = names.iter().position(|n| *n == self.target) else {
            return Err(Diagnostic::new(977, "a tuning file is of another target")
                .at(at)
                .expected(names.join(", "))
                .found(self.target.clone()));
        };
        options[i].choices = choices;
        Ok(())
    }
}

/// Measures kernels of a module on this machine with at most `steps` other sizes. Gives what is faster, and every step;
/// `began` is told each kernel and knob.
///
/// # Errors
/// `MLXC0978` for a target that is no CPU, what compiling says, or the runtime of a CPU that this machine is not.
pub fn tune(
    module: &Module,
    options: &Options,
    steps: usize,
    began: &mut dyn FnMut(&str),
) -> Result<(Tuning, Vec<Step>), Errors> {
    if options.profile.kind != TargetKind::Cpu {
        return Err(Diagnostic::new(978, "only kernels of CPUs can be tuned")
            .expected("the first target to be this machine's CPU")
            .found(options.profile.name.clone())
            .into());
    }
    mlxc_codegen::llvm::available()?;
    let mut clock = trial::Clock::new(options);
    let (choices, tried) = search::search(module, options, steps, &mut clock, began)?;
    Ok((Tuning::new(&options.profile.name, &choices), tried))
}
