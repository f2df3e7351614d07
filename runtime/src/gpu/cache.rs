//! Compiled pipelines, kept in the user's cache folder for the next load, where the driver hands them out.
//!
//! A driver is never given bytes it did not make. Whatever goes wrong here costs time, not results.

use super::device::Gpu;
use crate::kept;
use std::path::{Path, PathBuf};
use wgpu::{Features, PipelineCacheDescriptor};

/// The pipelines of one target on one adapter.
pub(super) struct Cache {
    pub(super) pipelines: Option<wgpu::PipelineCache>,
    path: Option<PathBuf>,
    /// What was read.
    read: Option<Vec<u8>>,
}

impl Cache {
    /// What earlier loads left for code of this hash.
    pub(super) fn open(gpu: &Gpu, folder: Option<&Path>, code: &str) -> Self {
        let none = Cache { pipelines: None, path: None, read: None };
        let key = wgpu::util::pipeline_cache_key(&gpu.device.adapter_info());
        let Some(key) = key.filter(|_| gpu.device.features().contains(Features::PIPELINE_CACHE)) else { return none };
        let folder = folder.map(Path::to_path_buf).or_else(|| kept::folder("pipelines"));
        let path = folder.map(|f| f.join(format!("{key}_{}", code.get(..16).unwrap_or(code))));
        let read = path.as_ref().and_then(|p| kept::read(p)).filter(|data| !data.is_empty());
        let descriptor = PipelineCacheDescriptor { label: None, data: read.as_deref(), fallback: true };
        // SAFETY: the data came from `get_data` of a cache of an adapter with this key: its checksum says that it is
        // what `save` wrote.
        let made = gpu.caught(|| unsafe { gpu.device.create_pipeline_cache(&descriptor) });
        Cache { pipelines: made.ok(), path, read }
    }

    /// Leaves what there is now for later loads.
    pub(super) fn save(&self) {
        let (Some(pipelines), Some(path)) = (&self.pipelines, &self.path) else { return };
        let Some(data) = pipelines.get_data() else { return };
        if self.read.as_ref() != Some(&data) {
            // A folder that cannot be written costs the next load its time.
            let _ = kept::write(path, &data);
        }
    }
}
