//! This machine's CPU: code is mapped and called, and a step is one parallel region.

mod code;
mod pool;
mod prepared;
mod region;
mod session;

pub(crate) use session::CpuSession;

use crate::error::list;
use crate::memory::{Region, pack};
use crate::{LoadOptions, RuntimeError, WeightMemory};
use code::{Code, PAGE, Thunk};
use mlxc_package::plan::Plan;
use mlxc_package::{NATIVE_ABI, Package, Target, TargetKind, has_feature};
use pool::Pool;
use std::collections::HashMap;

/// A package's code and weights, ready for sessions.
pub(crate) struct Loaded {
    /// The target's number in the manifest.
    pub(crate) target: usize,
    code: Code,
    /// The thunk of every kernel and phase.
    thunks: Vec<Vec<Thunk>>,
    /// Address of every weight.
    weights: Vec<u64>,
    /// Holds copied weights.
    copied: Option<Region>,
    pub(crate) pool: Pool,
}

fn weights(package: &Package, plan: &Plan, memory: WeightMemory) -> Result<(Vec<u64>, Option<Region>), RuntimeError> {
    let members: Vec<&[u8]> = plan.weights.iter().map(|w| package.member(&w.member)).collect::<Result<_, _>>()?;
    if memory == WeightMemory::Mapped {
        return Ok((members.iter().map(|m| m.as_ptr() as u64).collect(), None));
    }
    let (offsets, total) = pack(members.iter().map(|m| m.len() as u64));
    let mut region = Region::new("weights", total)?;
    for (member, offset) in members.iter().zip(&offsets) {
        region.bytes_mut()[*offset as usize..][..member.len()].copy_from_slice(member);
    }
    let base = region.address();
    Ok((offsets.iter().map(|o| base + o).collect(), Some(region)))
}

impl Loaded {
    /// Loads the best target for this CPU.
    pub(crate) fn new(package: &Package, options: &LoadOptions) -> Result<Self, RuntimeError> {
        let number = choose(package)?;
        let target = &package.manifest().targets[number];
        let plan = package.plan_of(target);
        let path = || package.path().to_string();
        let refuse = |expected: String, found: String| RuntimeError::Code {
            path: path(),
            target: target.name.clone(),
            expected,
            found,
        };
        if target.align > PAGE {
            return Err(refuse(format!("an alignment of at most {PAGE} bytes"), target.align.to_string()));
        }
        let bytes = package.code(target)?;
        let code = Code::new(bytes).map_err(|source| RuntimeError::Memory {
            what: "executable code".into(),
            bytes: bytes.len() as u64,
            source,
        })?;
        let offsets: HashMap<String, u64> = package.symbols(target)?.into_iter().collect();
        let thunk = |symbol: &String| {
            let offset = offsets.get(symbol).ok_or_else(|| refuse(format!("a function `{symbol}`"), "none".into()))?;
            code.thunk(*offset).ok_or_else(|| refuse(format!("`{symbol}` within the code"), format!("byte {offset}")))
        };
        let kernels = plan.kernels.iter();
        let thunks = kernels.map(|k| k.phases.iter().map(|p| thunk(&p.symbol)).collect()).collect::<Result<_, _>>()?;
        let (weights, copied) = weights(package, plan, options.weights)?;
        let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
        Ok(Loaded { target: number, code, thunks, weights, copied, pool: Pool::of(threads) })
    }
}

/// The number of the target with the most features among those that this machine runs.
fn choose(package: &Package) -> Result<usize, RuntimeError> {
    let path = || package.path().to_string();
    let arch = std::env::consts::ARCH;
    let targets = &package.manifest().targets;
    let runs = |t: &Target| t.kind == TargetKind::Native && t.arch == arch && t.abi == NATIVE_ABI;
    let mine = || targets.iter().enumerate().filter(|(_, t)| runs(t));
    if mine().next().is_none() {
        let found = list(targets.iter().map(|t| t.name.as_str()));
        return Err(RuntimeError::NoTarget { path: path(), expected: format!("{arch}, ABI {NATIVE_ABI}"), found });
    }
    let mut best: Option<(usize, &Target)> = None;
    let mut nearest: Option<(&Target, Vec<&str>)> = None;
    for (number, target) in mine() {
        let missing: Vec<&str> = target.features.iter().map(String::as_str).filter(|f| !has_feature(f)).collect();
        if missing.is_empty() {
            if best.is_none_or(|(_, b)| b.features.len() < target.features.len()) {
                best = Some((number, target));
            }
        } else if nearest.as_ref().is_none_or(|(_, m)| m.len() > missing.len()) {
            nearest = Some((target, missing));
        }
    }
    best.map(|(number, _)| number).ok_or_else(|| {
        let (target, missing) = nearest.expect("invariant: a target that does not run lacks a feature");
        let device = "this machine's CPU".into();
        RuntimeError::MissingFeatures { path: path(), target: target.name.clone(), device, missing: missing.join(", ") }
    })
}
