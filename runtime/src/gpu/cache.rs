//! Compiled pipelines, kept in the user's cache folder for the next load, where the driver hands them out.
//!
//! A file holds the SHA-256 of what follows, so that a driver is never given bytes it did not make. Whatever goes wrong
//! here costs time, not results.

use super::device::Gpu;
use mlxc_package::sha256;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use wgpu::{Features, PipelineCacheDescriptor};

/// Hexadecimal digits of a SHA-256.
const DIGITS: usize = 64;

/// The pipelines of one target on one adapter.
pub(super) struct Cache {
    pub(super) pipelines: Option<wgpu::PipelineCache>,
    path: Option<PathBuf>,
    /// SHA-256 of what was read.
    read: Option<String>,
}

impl Cache {
    /// What earlier loads left for code of this hash.
    pub(super) fn open(gpu: &Gpu, folder: Option<&Path>, code: &str) -> Self {
        let none = Cache { pipelines: None, path: None, read: None };
        let key = wgpu::util::pipeline_cache_key(&gpu.device.adapter_info());
        let Some(key) = key.filter(|_| gpu.device.features().contains(Features::PIPELINE_CACHE)) else { return none };
        let folder = folder.map(Path::to_path_buf).or_else(user_folder);
        let path = folder.map(|f| f.join(format!("{key}_{}", code.get(..16).unwrap_or(code))));
        let stored = path.as_ref().and_then(|p| std::fs::read(p).ok());
        let stored = stored.filter(|s| s.len() > DIGITS && sha256(&s[DIGITS..]).as_bytes() == &s[..DIGITS]);
        let descriptor =
            PipelineCacheDescriptor { label: None, data: stored.as_deref().map(|s| &s[DIGITS..]), fallback: true };
        // SAFETY: the data came from `get_data` of a cache of an adapter with this key: its checksum says that it is
        // what `save` wrote.
        let made = gpu.caught(|| unsafe { gpu.device.create_pipeline_cache(&descriptor) });
        let read = stored.map(|s| String::from_utf8_lossy(&s[..DIGITS]).into_owned());
        Cache { pipelines: made.ok(), path, read }
    }

    /// Leaves what there is now for later loads.
    pub(super) fn save(&self) {
        let (Some(pipelines), Some(path)) = (&self.pipelines, &self.path) else { return };
        let Some(data) = pipelines.get_data() else { return };
        let sum = sha256(&data);
        if self.read.as_ref() == Some(&sum) {
            return;
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let partial = path.with_extension(format!("{}-{next}.partial", std::process::id()));
        let written = std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&partial, [sum.as_bytes(), &data].concat()))
            .and_then(|()| std::fs::rename(&partial, path));
        if written.is_err() {
            let _ = std::fs::remove_file(&partial);
        }
    }
}

/// `mlxc/pipelines` in the folder that the system sets aside for a user's caches.
fn user_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let caches = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_vendor = "apple") {
        variable("HOME").map(|h| h.join("Library/Caches"))
    } else {
        variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|h| h.join(".cache")))
    };
    caches.map(|c| c.join("mlxc/pipelines"))
}
