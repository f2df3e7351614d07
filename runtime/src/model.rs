//! Loading a package: picks the target this machine can run, maps its code and finds its weights.

use crate::code::{Code, PAGE, Thunk};
use crate::error::list;
use crate::memory::{Region, pack};
use crate::pool::Pool;
use crate::session::Session;
use crate::{RuntimeError, features};
use mlxc_package::{NATIVE_ABI, Package, Target, TargetKind};
use std::collections::HashMap;
use std::sync::Arc;

/// What runs the launches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// This machine's CPU.
    #[default]
    Cpu,
    /// Nothing: inputs are checked and outputs are zeros of the right shape. Needs no code for this machine.
    Null,
}

/// Where weights are read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightMemory {
    /// The package's mapping: no copy, shared between processes, paged in on first use.
    #[default]
    Mapped,
    /// A copy in huge pages: slower to load and private, faster to stream.
    Copied,
}

/// How to load a package.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Threads a step may use, the caller's among them; as many as the machine or its CPU quota allows if `None`.
    /// Results do not depend on it.
    pub threads: Option<usize>,
    /// What runs the launches.
    pub device: Device,
    /// Where weights are read from.
    pub weights: WeightMemory,
    /// Measures every launch, see [`Session::times`].
    pub profile: bool,
    /// For tests: fills arena memory with 0xFF (NaN in every float type) before a step and whenever a buffer's last
    /// use has passed, so that a wrong lifetime shows in the results.
    pub poison: bool,
}

/// A loaded package, ready for sessions. Cheap to clone.
#[derive(Clone)]
pub struct Model {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) package: Arc<Package>,
    /// Name of the target, its code, and the thunk of every kernel and phase; none for the null device.
    pub(crate) code: Option<Loaded>,
    /// Address of every weight.
    pub(crate) weights: Vec<u64>,
    /// Holds copied weights.
    pub(crate) copied: Option<Region>,
    pub(crate) pool: Pool,
    pub(crate) options: LoadOptions,
}

pub(crate) struct Loaded {
    pub(crate) target: String,
    pub(crate) code: Code,
    pub(crate) thunks: Vec<Vec<Thunk>>,
}

impl Model {
    /// Loads a package.
    ///
    /// # Errors
    /// 0701 if the package holds no CPU code for this architecture, 0702 if the CPU lacks instructions it uses, 0703
    /// if a function is missing, 0704 if there is no memory, 0608 if the package was opened as untrusted, 0603 if
    /// its code is damaged.
    pub fn load(package: Arc<Package>, options: &LoadOptions) -> Result<Self, RuntimeError> {
        let code = match options.device {
            Device::Cpu => Some(Loaded::new(&package)?),
            Device::Null => None,
        };
        let (weights, copied) = weights(&package, options.weights)?;
        let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
        let pool = Pool::of(threads);
        Ok(Model { shared: Arc::new(Shared { package, code, weights, copied, pool, options: options.clone() }) })
    }

    /// The package.
    pub fn package(&self) -> &Arc<Package> {
        &self.shared.package
    }

    /// Name of the target whose code runs; `None` on the null device.
    pub fn target(&self) -> Option<&str> {
        self.shared.code.as_ref().map(|c| c.target.as_str())
    }

    /// Threads that take part in a step.
    pub fn threads(&self) -> usize {
        self.shared.pool.threads()
    }

    /// A session with states of its own, all zero.
    ///
    /// # Errors
    /// 0704 if there is no memory.
    pub fn session(&self) -> Result<Session, RuntimeError> {
        Session::new(self.clone())
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("package", &self.shared.package.path()).field("target", &self.target()).finish()
    }
}

fn weights(package: &Package, memory: WeightMemory) -> Result<(Vec<u64>, Option<Region>), RuntimeError> {
    let members: Vec<&[u8]> =
        package.plan().weights.iter().map(|w| package.member(&w.member)).collect::<Result<_, _>>()?;
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
    fn new(package: &Package) -> Result<Self, RuntimeError> {
        let target = choose(package)?;
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
        let kernels = package.plan().kernels.iter();
        let thunks = kernels.map(|k| k.phases.iter().map(|p| thunk(&p.symbol)).collect()).collect::<Result<_, _>>()?;
        Ok(Loaded { target: target.name.clone(), code, thunks })
    }
}

/// The target with the most features among those that this machine runs.
fn choose(package: &Package) -> Result<&Target, RuntimeError> {
    let path = || package.path().to_string();
    let arch = std::env::consts::ARCH;
    let targets = &package.manifest().targets;
    let mine = || targets.iter().filter(|t| t.kind == TargetKind::Native && t.arch == arch && t.abi == NATIVE_ABI);
    if mine().next().is_none() {
        let found = list(targets.iter().map(|t| t.name.as_str()));
        return Err(RuntimeError::NoTarget { path: path(), expected: format!("{arch}, ABI {NATIVE_ABI}"), found });
    }
    let mut best: Option<&Target> = None;
    let mut nearest: Option<(&Target, Vec<&str>)> = None;
    for target in mine() {
        let missing = features::missing(&target.features);
        if missing.is_empty() {
            if best.is_none_or(|b| b.features.len() < target.features.len()) {
                best = Some(target);
            }
        } else if nearest.as_ref().is_none_or(|(_, m)| m.len() > missing.len()) {
            nearest = Some((target, missing));
        }
    }
    best.ok_or_else(|| {
        let (target, missing) = nearest.expect("invariant: a target that does not run lacks a feature");
        RuntimeError::MissingFeatures { path: path(), target: target.name.clone(), missing: missing.join(", ") }
    })
}
