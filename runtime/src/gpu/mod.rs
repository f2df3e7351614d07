//! GPUs, through wgpu: Vulkan, Metal and Direct3D 12.
//!
//! [`adapters`] lists what there is. A model that is loaded on one shares pipelines and weights among its sessions; a
//! session has states, an arena and buffers for inputs and outputs there. A step is one submission: inputs are copied
//! in, every launch is a dispatch, outputs are copied out. Nothing is created after a session was.

mod adapter;
mod cache;
mod chunks;
mod device;
mod load;
#[cfg(target_vendor = "apple")]
mod metal;
mod prepared;
mod profile;
mod session;
mod shader;
mod transfer;
mod weights;

pub use adapter::{AdapterInfo, AdapterKind, AdapterLimits, adapters};
pub use device::Counters;
pub(crate) use load::Loaded;
pub(crate) use session::GpuSession;

use crate::Model;
use crate::model::Backend;

/// What a model and its sessions have made on their GPU so far; `None` where it runs on none.
pub fn counters(model: &Model) -> Option<Counters> {
    match &model.shared.backend {
        Backend::Gpu(loaded) => Some(loaded.gpu.counters()),
        _ => None,
    }
}
