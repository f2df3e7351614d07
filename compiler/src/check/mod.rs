//! What is worth a look in a model before anything is compiled or run: one file a check.
//!
//! A check is a function from a traced module, a config or a checkpoint to findings, which are values. A `warning` is
//! something that most likely is not meant; a `note` is true and may well be meant. What a compilation refuses stays an
//! error of the compilation.

mod config;
mod extents;
mod fixed;
mod growing;
mod half;
mod values;
mod weights;
mod widened;

#[cfg(test)]
mod tests;

use crate::error::Errors;
use crate::models::{Config, object};
use crate::pipeline::Level;
use crate::source::Build;
use crate::weights::Checkpoint;
use mlxc_ir::graph::Module;
use mlxc_ir::{Diagnostic, Location};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Most likely not meant.
    Warning,
    /// True, and may be meant.
    Note,
}

impl Severity {
    /// The word that stands before a finding.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// Something that a check found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What it is, where, and what to do.
    pub diagnostic: Diagnostic,
}

impl Finding {
    fn warning(diagnostic: Diagnostic) -> Self {
        Finding { severity: Severity::Warning, diagnostic }
    }

    fn note(diagnostic: Diagnostic) -> Self {
        Finding { severity: Severity::Note, diagnostic }
    }
}

/// Checks a traced module.
pub fn module(module: &Module, level: Level) -> Vec<Finding> {
    let mut out = widened::check(module);
    out.extend(weights::dead(module));
    out.extend(growing::check(module));
    out.extend(half::check(module, level));
    out.extend(fixed::check(module));
    out
}

/// Checks what a build names: a folder with its config and checkpoint, a package's graph, or a graph in text form.
///
/// # Errors
/// What keeps the model from being traced, and `MLXC0909` for a package without its graph.
pub fn build(build: &Build) -> Result<Vec<Finding>, Errors> {
    if build.is_package() {
        let package = build.open_package()?;
        let text = package.member("ir/graph").map_err(|_| {
            Diagnostic::new(909, "the package was stripped of its graph").note("compile it again without --strip")
        })?;
        let traced = mlxc_ir::graph::text::parse_source(&String::from_utf8_lossy(text), "ir/graph")?;
        return Ok(module(&traced, build.level));
    }
    if !build.model.is_dir() {
        return Ok(module(&build.trace()?, build.level));
    }
    let (text, file) = build.config()?;
    let map = object(&text, &file)?;
    let (read, unread) = Config::examine(&map, &file)?;
    let mut out = config::unread(&unread, &file);
    out.extend(config::without_effect(&map, &read, &file));
    let traced = build.trace_config(read, &file)?;
    if build.random_weights.is_none() && Checkpoint::is_in(&build.model) {
        out.extend(weights::unread(&Checkpoint::open(&build.model)?, &traced));
    }
    out.extend(module(&traced, build.level));
    Ok(out)
}

/// Lists a place once, however many layers and entries come by it.
struct Places<T>(Vec<(Option<Location>, T)>);

impl<T> Places<T> {
    fn new() -> Self {
        Places(Vec::new())
    }

    /// What is known of a line; `new` where nothing is. Values without a line are each their own.
    fn of(&mut self, at: Option<&Location>, new: impl FnOnce() -> T) -> &mut T {
        let line = at.map(|l| Location::new(l.file.clone(), l.line, 0));
        let known = self.0.iter().position(|(l, _)| line.is_some() && *l == line);
        let i = known.unwrap_or_else(|| {
            self.0.push((line, new()));
            self.0.len() - 1
        });
        &mut self.0[i].1
    }

    fn into_values(self) -> impl Iterator<Item = T> {
        self.0.into_iter().map(|(_, t)| t)
    }
}
