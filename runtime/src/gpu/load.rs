//! Loading a package on a GPU: picks adapter and target, compiles pipelines and uploads weights.

use super::adapter::{AdapterKind, Candidate, candidates, none};
use super::cache::Cache;
use super::device::Gpu;
use super::shader::{self, Language, Pipelines, Refused};
use super::weights::Weights;
use crate::error::list;
use crate::{LoadOptions, RuntimeError};
use mlxc_package::{Package, Target, TargetKind};

/// The feature of targets whose text is in Metal's language.
const METAL: &str = "metal";

/// A package on a device, ready for sessions.
pub(crate) struct Loaded {
    /// The target's number in the manifest.
    pub(crate) target: usize,
    pub(super) pipelines: Pipelines,
    pub(super) weights: Weights,
    /// Bytes of shader text.
    pub(super) code: u64,
    pub(super) gpu: Gpu,
}

impl Loaded {
    /// Loads on the adapter of that number, or on the best one.
    pub(crate) fn new(package: &Package, number: Option<u32>, options: &LoadOptions) -> Result<Self, RuntimeError> {
        shader_targets(package)?;
        let mut found = candidates();
        if found.is_empty() {
            return Err(none());
        }
        if let Some(number) = number {
            let count = found.len();
            found.retain(|c| c.info.number == number);
            if found.is_empty() {
                let found = format!("{count}, numbered from 0");
                return Err(RuntimeError::NoAdapter { expected: format!("a GPU of number {number}"), found });
            }
        }
        let (candidate, target) = choose(package, found)?;
        Self::on(package, candidate, target, options)
    }

    /// Loads on the best adapter that is no emulation; none if there is none that the package has code for.
    pub(crate) fn automatic(package: &Package, options: &LoadOptions) -> Result<Option<Self>, RuntimeError> {
        if shader_targets(package).is_err() {
            return Ok(None);
        }
        let mut found = candidates();
        found.retain(|c| c.info.kind != AdapterKind::Cpu);
        match choose(package, found) {
            Ok((candidate, target)) => Self::on(package, candidate, target, options).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn on(package: &Package, candidate: Candidate, number: usize, options: &LoadOptions) -> Result<Self, RuntimeError> {
        let target = &package.manifest().targets[number];
        let plan = package.plan_of(target);
        let modules = package.modules(target)?;
        let gpu = Gpu::open(candidate, target, plan, options.profile)?;
        let language = if target.features.iter().any(|f| f == METAL) {
            Language::Metal
        } else {
            Language::Wgsl { checked: package.is_untrusted() }
        };
        let cache = Cache::open(&gpu, options.cache.as_deref(), &target.sha256);
        let pipelines = shader::compile(&gpu, plan, &modules, language, &cache);
        let pipelines = pipelines.map_err(|Refused { symbol, reason }| {
            let expected = if reason.is_some() { "to compile" } else { "among its symbols" };
            RuntimeError::Code {
                path: package.path().into(),
                target: target.name.clone(),
                expected: format!("`{symbol}` {expected}"),
                found: reason.unwrap_or_else(|| "none".into()),
            }
        })?;
        cache.save();
        let weights = Weights::new(&gpu, package, plan, options.weights)?;
        Ok(Loaded { target: number, pipelines, weights, code: target.bytes, gpu })
    }

    /// Name of the adapter.
    pub(crate) fn adapter(&self) -> &str {
        &self.gpu.info.name
    }
}

/// The targets of a package that are for GPUs, with their numbers.
fn shader_targets(package: &Package) -> Result<Vec<(usize, &Target)>, RuntimeError> {
    let targets = &package.manifest().targets;
    let found: Vec<_> = targets.iter().enumerate().filter(|(_, t)| t.kind == TargetKind::Shader).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let found = list(targets.iter().map(|t| t.name.as_str()));
    Err(RuntimeError::NoTarget { path: package.path().into(), expected: "a GPU".into(), found })
}

/// The best adapter that runs a target, and the number of the target with the most features that it has.
fn choose(package: &Package, mut found: Vec<Candidate>) -> Result<(Candidate, usize), RuntimeError> {
    let targets = shader_targets(package)?;
    found.sort_by_key(|c| (c.info.kind, c.info.number));
    let mut nearest: Option<(usize, RuntimeError)> = None;
    for candidate in found {
        let mut info = candidate.info.clone();
        if package.is_untrusted() {
            // Nothing would check what such code reads and writes.
            info.features.retain(|f| *f != METAL);
        }
        let mut best: Option<(usize, &Target)> = None;
        for (number, target) in &targets {
            let missing = info.missing(&target.features);
            if missing.is_empty() {
                if best.is_none_or(|(_, b)| b.features.len() < target.features.len()) {
                    best = Some((*number, *target));
                }
            } else if nearest.as_ref().is_none_or(|(n, _)| *n > missing.len()) {
                let refused = RuntimeError::MissingFeatures {
                    path: package.path().into(),
                    target: target.name.clone(),
                    device: info.title(),
                    missing: missing.join(", "),
                };
                nearest = Some((missing.len(), refused));
            }
        }
        if let Some((number, _)) = best {
            return Ok((candidate, number));
        }
    }
    Err(nearest.map_or_else(none, |(_, refused)| refused))
}
