//! Loading a package for a device: which one, and what sessions share.

#[cfg(feature = "gpu")]
use crate::gpu;
use crate::session::Session;
use crate::{Device, RuntimeError, cpu};
use mlxc_package::plan::Plan;
use mlxc_package::{Package, Target};
use std::path::PathBuf;
use std::sync::Arc;

/// Where weights are read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightMemory {
    /// The package's mapping: no copy, shared between processes, paged in on first use. A GPU with memory of its own
    /// copies all the same.
    #[default]
    Mapped,
    /// A copy in huge pages, or in the GPU's memory: slower to load and private, faster to stream.
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
    /// Folder where compiled GPU pipelines are kept for the next load; one in the user's cache folder if `None`.
    pub cache: Option<PathBuf>,
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
    // Before the package, whose mapping it reads.
    pub(crate) backend: Backend,
    pub(crate) package: Arc<Package>,
    pub(crate) options: LoadOptions,
}

/// A package as it was loaded for a device.
pub(crate) enum Backend {
    Cpu(cpu::Loaded),
    #[cfg(feature = "gpu")]
    Gpu(gpu::Loaded),
    Null,
}

impl Shared {
    fn target(&self) -> Option<&Target> {
        let number = match &self.backend {
            Backend::Cpu(loaded) => loaded.target,
            #[cfg(feature = "gpu")]
            Backend::Gpu(loaded) => loaded.target,
            Backend::Null => return None,
        };
        self.package.manifest().targets.get(number)
    }

    /// What the target runs; on the null device, the first target's plan.
    pub(crate) fn plan(&self) -> &Plan {
        self.target().map_or_else(|| self.package.plan(), |t| self.package.plan_of(t))
    }
}

impl Model {
    /// Loads a package.
    ///
    /// # Errors
    /// 0701 if the package holds no code for the device, 0702 if the device lacks features it uses, 0703 if a function
    /// is missing or does not compile, 0704 if there is no memory, 0716 to 0720 where there is no such GPU or it is too
    /// small or fails, 0608 if the package was opened as untrusted, 0603 if its code is damaged.
    pub fn load(package: Arc<Package>, options: &LoadOptions) -> Result<Self, RuntimeError> {
        let backend = match options.device {
            Device::Cpu => Backend::Cpu(cpu::Loaded::new(&package, options)?),
            Device::Null => Backend::Null,
            #[cfg(feature = "gpu")]
            Device::Gpu(number) => Backend::Gpu(gpu::Loaded::new(&package, number, options)?),
            #[cfg(feature = "gpu")]
            Device::Auto => match gpu::Loaded::automatic(&package, options)? {
                Some(loaded) => Backend::Gpu(loaded),
                None => Backend::Cpu(cpu::Loaded::new(&package, options)?),
            },
            #[cfg(not(feature = "gpu"))]
            Device::Auto => Backend::Cpu(cpu::Loaded::new(&package, options)?),
            #[cfg(not(feature = "gpu"))]
            Device::Gpu(_) => {
                let (expected, found) = ("a runtime with the feature `gpu`".into(), "one without".into());
                return Err(RuntimeError::NoAdapter { expected, found });
            }
        };
        Ok(Model { shared: Arc::new(Shared { backend, package, options: options.clone() }) })
    }

    /// The package.
    pub fn package(&self) -> &Arc<Package> {
        &self.shared.package
    }

    /// Name of the target whose code runs; `None` on the null device.
    pub fn target(&self) -> Option<&str> {
        self.shared.target().map(|t| t.name.as_str())
    }

    /// What it runs: the plan of its target.
    pub fn plan(&self) -> &Plan {
        self.shared.plan()
    }

    /// Name of the GPU that runs it, if one does.
    pub fn adapter(&self) -> Option<&str> {
        match &self.shared.backend {
            #[cfg(feature = "gpu")]
            Backend::Gpu(loaded) => Some(loaded.adapter()),
            _ => None,
        }
    }

    /// Threads of this machine that take part in a step.
    pub fn threads(&self) -> usize {
        match &self.shared.backend {
            Backend::Cpu(loaded) => loaded.pool.threads(),
            _ => 1,
        }
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
