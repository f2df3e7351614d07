//! Which targets the devices of this machine run.

use crate::error::Errors;
use mlxc_codegen::{gpu_profiles, profiles};
use mlxc_ir::{Diagnostic, TargetProfile};
use mlxc_runtime::Device;
use mlxc_runtime::gpu::{AdapterInfo, AdapterKind, adapters};

/// Names of the CPU profiles this machine runs, best first.
pub fn cpu_targets() -> Vec<String> {
    let runs = |p: &TargetProfile| profiles::cpu_target(&p.name).is_some_and(profiles::runs_here);
    profiles::all().into_iter().filter(runs).map(|p| p.name).collect()
}

/// Names of the GPU profiles that an adapter runs, the one with the most features first. Whether a package's buffers
/// are small enough shows when it is loaded.
pub fn gpu_targets(adapter: &AdapterInfo) -> Vec<String> {
    let runs = |p: &TargetProfile| {
        let (needs, has) = (&p.limits, &adapter.limits);
        adapter.missing(&gpu_profiles::required(p)).is_empty()
            && needs.buffers <= has.buffers
            && needs.group_lanes <= has.group_lanes
            && needs.group_bytes <= has.group_bytes
    };
    let mut found: Vec<TargetProfile> = gpu_profiles::all().into_iter().filter(runs).collect();
    found.sort_by_key(|p| std::cmp::Reverse(gpu_profiles::required(p).len()));
    found.into_iter().map(|p| p.name).collect()
}

/// The targets to compile for so that a device can run the result; the first is the device's.
///
/// # Errors
/// `MLXC0925` if there is no such GPU, `MLXC0901` if no target runs on it.
pub fn targets_of(device: Device) -> Result<Vec<String>, Errors> {
    let cpu = || vec!["cpu".to_string()];
    let all = match device {
        Device::Cpu | Device::Null => return Ok(cpu()),
        Device::Auto | Device::Gpu(_) => adapters(),
    };
    let chosen = match device {
        Device::Gpu(Some(n)) => all.iter().find(|a| a.number == n),
        // The same choice as the runtime's: a real GPU before an emulated one.
        Device::Gpu(None) => all.iter().min_by_key(|a| (a.kind, a.number)),
        _ => all.iter().filter(|a| a.kind != AdapterKind::Cpu).min_by_key(|a| (a.kind, a.number)),
    };
    match (chosen, device) {
        (None, Device::Auto) => Ok(cpu()),
        (None, _) => {
            let names: Vec<String> = all.iter().map(|a| format!("gpu:{} ({})", a.number, a.name)).collect();
            let found = if names.is_empty() { "none".into() } else { names.join(", ") };
            Err(Diagnostic::new(925, "there is no such GPU").expected(device.to_string()).found(found).into())
        }
        (Some(adapter), _) => match gpu_targets(adapter).first() {
            Some(name) => {
                Ok(std::iter::once(name.clone()).chain((device == Device::Auto).then(|| "cpu".into())).collect())
            }
            None => Err(Diagnostic::new(901, format!("no target runs on `{}`", adapter.name))
                .expected(gpu_profiles::NAMES.join(", "))
                .found(adapter.features.join(", "))
                .into()),
        },
    }
}
