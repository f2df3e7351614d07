//! The GPU target profiles: Metal by GPU family, Vulkan, and what every WebGPU implementation has.
//!
//! A profile promises the least that its devices have; figures that only steer the cost model may be beaten by a
//! device. What a device must have beyond the profile's baseline is in [`required`], and a loader looks for it.

use std::collections::BTreeMap;

use mlxc_ir::DType;
use mlxc_ir::kernel::MathFn;
use mlxc_ir::profile::{
    Caches, Feature, Features, Limits, Rates, Slack, SubgroupWidth, TargetKind, TargetProfile, TileShape,
};

/// How a GPU profile's kernels are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShaderLanguage {
    /// Metal Shading Language.
    Msl,
    /// WebGPU Shading Language.
    Wgsl,
}

/// Names of all GPU profiles.
pub const NAMES: &[&str] = &["webgpu", "vulkan", "vulkan32", "apple7", "apple8", "apple9", "apple10"];

/// Every GPU profile.
pub fn all() -> Vec<TargetProfile> {
    NAMES.iter().filter_map(|n| by_name(n)).collect()
}

/// The GPU profile of this name; `metal` is the oldest Apple family, whose kernels run on all of them.
pub fn by_name(name: &str) -> Option<TargetProfile> {
    match name {
        "webgpu" => Some(webgpu()),
        "vulkan" => Some(vulkan()),
        "vulkan32" => Some(vulkan32()),
        "metal" => Some(apple("apple7")),
        "apple7" | "apple8" | "apple9" | "apple10" => Some(apple(name)),
        _ => None,
    }
}

/// The language of a GPU profile's kernels.
pub fn language(profile: &TargetProfile) -> ShaderLanguage {
    if profile.name.starts_with("apple") { ShaderLanguage::Msl } else { ShaderLanguage::Wgsl }
}

/// What a device must have beyond the baseline, in the names that packages use.
pub fn required(profile: &TargetProfile) -> Vec<&'static str> {
    let has = |f| profile.has(f);
    let mut out = Vec::new();
    if language(profile) == ShaderLanguage::Msl {
        out.push("metal");
    }
    if has(Feature::Subgroups) {
        out.push("subgroups");
    }
    if let SubgroupWidth::Fixed(32) = profile.subgroup {
        out.push("subgroup-width-32");
    }
    if profile.storage.contains(&DType::F16) {
        out.push("f16");
    }
    if profile.storage.contains(&DType::I64) {
        out.push("i64");
    }
    if profile.limits.group_bytes > 16 << 10 {
        out.push("workgroup-32k");
    }
    out
}

const SPECIFICATION: &str = "WebGPU, W3C candidate recommendation, section 3.6.2 Limits";
const PORTABLE: &str = "least of the limits seen on wgpu's and Chromium's adapters";
const VULKAN: &str = "least of the limits in vulkan.gpuinfo.org's desktop reports";
const ASSUMED: &str = "that of an integrated GPU; devices differ by a factor of 50, so it only ranks merges";
const FEATURE_SET: &str = "Apple, Metal Feature Set Tables, October 2025";
const METAL_LANGUAGE: &str = "Apple, Metal Shading Language Specification 4, section 8.3";

/// What both languages leave to the compiler.
const SLACK: Slack =
    Slack { contracts: true, flushes: true, reassociates: true, assumes_finite: true, divide_ulp: 3, sqrt_ulp: 3 };

fn sources(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    list.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
}

/// Both WGSL profiles: no type below 32 bits in memory but f16, division and root of bounded error, no infinities
/// assured.
fn wgsl(name: &str, wide: &[DType]) -> TargetProfile {
    let words = [DType::U32, DType::I32, DType::F32];
    TargetProfile {
        name: name.to_string(),
        kind: TargetKind::Gpu,
        vector_bits: 128,
        registers: 64,
        cores: 8,
        features: Features::of(&[Feature::Atomics]),
        subgroup: SubgroupWidth::None,
        tiles: Vec::new(),
        storage: words.iter().chain(wide).copied().collect(),
        arithmetic: words.iter().chain(wide).copied().collect(),
        math: BTreeMap::new(),
        slack: SLACK,
        caches: Caches { l1: 32 << 10, l2: 2 << 20, l3: 0 },
        limits: Limits {
            buffers: 10,
            buffer_bytes: 128 << 20,
            group_lanes: 256,
            group_bytes: 16 << 10,
            grid_axes: 3,
            grid_extent: 65_535,
            scalar_bytes: 64 << 10,
        },
        rates: Rates {
            read_bytes: 80e9,
            copy_bytes: 80e9,
            f32_flops: 2e12,
            bf16_flops: 2e12,
            tile_flops: 0.0,
            int8_ops: 2e12,
            launch_seconds: 4e-6,
        },
        sources: sources(&[
            ("limits", SPECIFICATION),
            ("limits.buffers", PORTABLE),
            ("slack", "WebGPU Shading Language, section 15.7.4 Accuracy"),
            ("rates", ASSUMED),
            ("cores", ASSUMED),
        ]),
    }
}

fn webgpu() -> TargetProfile {
    wgsl("webgpu", &[])
}

fn vulkan() -> TargetProfile {
    let mut p = wgsl("vulkan", &[DType::F16, DType::I64, DType::U64]);
    p.features = p.features.with(Feature::Subgroups);
    p.subgroup = SubgroupWidth::Any;
    p.limits.group_bytes = 32 << 10;
    p.limits.buffers = 16;
    p.limits.buffer_bytes = (2 << 30) - 4;
    p.sources.extend(sources(&[("limits", VULKAN), ("limits.buffers", VULKAN)]));
    p
}

/// A GPU whose subgroups always have 32 lanes: teams of lanes then need no group memory. That lane n is lane n % 32 of
/// subgroup n / 32 is every such driver's way with groups of one axis, though no specification says so.
fn vulkan32() -> TargetProfile {
    let mut p = vulkan();
    p.name = "vulkan32".to_string();
    p.subgroup = SubgroupWidth::Fixed(32);
    p.sources.extend(sources(&[("subgroup", "NVIDIA, Vulkan subgroup tutorial: 32 lanes on all its GPUs")]));
    p
}

/// An Apple GPU: figures of the smallest chip of each family.
fn apple(family: &str) -> TargetProfile {
    let (cores, bandwidth, flops, source) = match family {
        "apple7" => (7, 68e9, 2.6e12, "M1: Apple newsroom, 10 November 2020"),
        "apple8" => (8, 100e9, 3.6e12, "M2: Apple newsroom, 6 June 2022"),
        "apple9" => {
            (8, 100e9, 3.6e12, "M3: Apple, technical specifications; operations as of the M2, Apple states none")
        }
        _ => (10, 153e9, 3.6e12, "M5: Apple newsroom, 15 October 2025; operations as of the M2, Apple states none"),
    };
    let tile = |input| TileShape { input, accumulator: DType::F32, rows: 8, columns: 8, depth: 8 };
    let types: Vec<DType> = DType::ALL.into_iter().filter(|d| !matches!(d, DType::F64 | DType::Bool)).collect();
    // The precise variants; section 8.3 gives 4 ulp for each.
    let native = [MathFn::Exp, MathFn::Exp2, MathFn::Log, MathFn::Log2, MathFn::Sin, MathFn::Cos];
    TargetProfile {
        name: family.to_string(),
        kind: TargetKind::Gpu,
        vector_bits: 128,
        registers: 96,
        cores,
        features: Features::of(&[Feature::Fma, Feature::Atomics, Feature::Subgroups, Feature::Tiles]),
        subgroup: SubgroupWidth::Fixed(32),
        tiles: vec![tile(DType::F32), tile(DType::F16)],
        storage: types.clone(),
        // Arithmetic on bfloat is slow before the M3 and rounds every step everywhere.
        arithmetic: types.into_iter().filter(|d| !matches!(d, DType::F16 | DType::BF16)).collect(),
        math: native.into_iter().map(|f| (f, 4.0)).collect(),
        slack: SLACK,
        caches: Caches { l1: 8 << 10, l2: 8 << 20, l3: 8 << 20 },
        limits: Limits {
            // 31 arguments, of which the scalars take one and wgpu reserves one.
            buffers: 29,
            buffer_bytes: 4 << 30,
            group_lanes: 1024,
            group_bytes: 32 << 10,
            grid_axes: 3,
            grid_extent: 65_535,
            scalar_bytes: 4 << 10,
        },
        rates: Rates {
            read_bytes: bandwidth,
            copy_bytes: bandwidth,
            f32_flops: flops,
            bf16_flops: flops,
            tile_flops: flops,
            int8_ops: flops,
            launch_seconds: 3e-6,
        },
        sources: sources(&[
            ("cores", source),
            ("rates.read_bytes", source),
            ("rates.copy_bytes", "the bandwidth, as no copy rate is stated"),
            ("rates.f32_flops", source),
            ("rates.bf16_flops", "that of f32: tiles multiply in f32"),
            ("rates.tile_flops", "that of f32"),
            ("rates.launch_seconds", "assumed; ranks merges only"),
            ("limits", FEATURE_SET),
            ("subgroup", FEATURE_SET),
            ("math", METAL_LANGUAGE),
            ("slack", METAL_LANGUAGE),
            ("caches", "unstated by Apple; as reverse-engineered in dougallj's applegpu notes"),
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_profile_with_sources() {
        for name in NAMES {
            let p = by_name(name).unwrap();
            assert_eq!(p.name, *name);
            assert_eq!(p.kind, TargetKind::Gpu);
            assert!(p.sources.contains_key("limits"), "{name}");
            assert!(!p.storage.contains(&DType::F64), "{name}");
        }
        assert_eq!(by_name("metal").unwrap().name, "apple7");
        assert!(by_name("glide").is_none());
    }

    #[test]
    fn only_webgpu_needs_nothing() {
        assert!(required(&webgpu()).is_empty());
        assert_eq!(required(&vulkan()), ["subgroups", "f16", "i64", "workgroup-32k"]);
        assert!(required(&vulkan32()).contains(&"subgroup-width-32"));
        assert!(required(&apple("apple7")).contains(&"metal"));
    }
}
