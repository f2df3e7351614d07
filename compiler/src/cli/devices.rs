//! `mlxc devices`: what this machine runs models on.

use super::args::Devices;
use super::{Outcome, print};
use mlxc::report::human;
use mlxc_codegen::{gpu_profiles, profiles};
use mlxc_ir::profile::TargetProfile;
use mlxc_runtime::gpu::{AdapterInfo, adapters};
use serde_json::json;
use std::fmt::Write;

pub fn run(a: &Devices) -> Outcome {
    let adapters = adapters();
    if a.json {
        let mut all = vec![cpu_json()];
        all.extend(adapters.iter().map(adapter_json));
        let text = serde_json::to_string_pretty(&all).expect("a list is plain data");
        return print(&format!("{text}\n"));
    }
    print(&table(&adapters))
}

/// Names of the CPU profiles this machine runs, best first.
fn cpu_targets() -> Vec<String> {
    let runs = |p: &TargetProfile| profiles::cpu_target(&p.name).is_some_and(profiles::runs_here);
    profiles::all().into_iter().filter(runs).map(|p| p.name).collect()
}

/// Names of the GPU profiles that an adapter runs. Whether a package's buffers are small enough shows when it is loaded.
fn gpu_targets(adapter: &AdapterInfo) -> Vec<String> {
    let runs = |p: &TargetProfile| {
        let (needs, has) = (&p.limits, &adapter.limits);
        adapter.missing(&gpu_profiles::required(p)).is_empty()
            && needs.buffers <= has.buffers
            && needs.group_lanes <= has.group_lanes
            && needs.group_bytes <= has.group_bytes
    };
    gpu_profiles::all().into_iter().filter(runs).map(|p| p.name).collect()
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

fn cpu_json() -> serde_json::Value {
    json!({
        "device": "cpu",
        "name": std::env::consts::ARCH,
        "threads": threads(),
        "targets": cpu_targets(),
    })
}

fn adapter_json(a: &AdapterInfo) -> serde_json::Value {
    json!({
        "device": format!("gpu:{}", a.number),
        "name": a.name,
        "backend": a.backend,
        "kind": a.kind.to_string(),
        "driver": a.driver,
        "shared_memory": a.shared_memory,
        "features": a.features,
        "subgroup_lanes": [a.limits.subgroup_lanes.0, a.limits.subgroup_lanes.1],
        "group_lanes": a.limits.group_lanes,
        "group_bytes": a.limits.group_bytes,
        "buffers": a.limits.buffers,
        "binding_bytes": a.limits.binding_bytes,
        "buffer_bytes": a.limits.buffer_bytes,
        "targets": gpu_targets(a),
    })
}

fn table(adapters: &[AdapterInfo]) -> String {
    let mut out = format!("cpu    {}, {} threads\n", std::env::consts::ARCH, threads());
    let list = |names: &[String]| if names.is_empty() { "none".to_string() } else { names.join(", ") };
    let _ = writeln!(out, "       targets   {}", list(&cpu_targets()));
    for a in adapters {
        let memory = if a.shared_memory { "shares the CPU's memory" } else { "has memory of its own" };
        let subgroup = match a.limits.subgroup_lanes {
            (0, _) => "none".into(),
            (least, most) if least == most => format!("{least} lanes"),
            (least, most) => format!("{least} to {most} lanes"),
        };
        let features: Vec<String> = a.features.iter().map(|f| f.to_string()).collect();
        let l = &a.limits;
        let _ = writeln!(out, "gpu:{:<3}{}, {}, {}, {memory}", a.number, a.name, a.kind, a.backend);
        let _ = writeln!(out, "       driver    {}", a.driver);
        let _ = writeln!(out, "       subgroups {subgroup}");
        let _ = writeln!(out, "       groups    {} lanes, {}", l.group_lanes, human(l.group_bytes));
        let _ = writeln!(
            out,
            "       buffers   {} a kernel, {} bound, {} allocated",
            l.buffers,
            human(l.binding_bytes),
            human(l.buffer_bytes)
        );
        let _ = writeln!(out, "       features  {}", list(&features));
        let _ = writeln!(out, "       targets   {}", list(&gpu_targets(a)));
    }
    out
}
