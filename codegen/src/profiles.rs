//! The CPU target profiles, and for each what LLVM and a loader must know of it.
//!
//! A profile is data; which one a package is built for is the caller's choice. The figures are for the cost
//! model: wrong ones make kernels slower, never wrong.

use std::collections::BTreeMap;

use mlxc_ir::profile::{
    Caches, Feature, Features, Limits, Rates, Slack, SubgroupWidth, TargetKind, TargetProfile, TileShape,
};
use mlxc_ir::{DType, has_feature};

/// An operation that one instruction of the target performs on whole registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Native {
    /// `dot2` of bf16 into this many f32, or `dot4` of u8 and i8 into this many i32.
    Dot {
        /// 2 or 4.
        terms: u8,
        /// Lanes of the sum.
        lanes: u8,
    },
    /// `lut` with a table and indices of this many elements of this many bits.
    Lut {
        /// Bits of an element.
        bits: u8,
        /// Elements.
        lanes: u8,
    },
}

/// How LLVM and a loader name a CPU profile. The legaliser attaches it to a kernel; the writer copies it.
#[derive(Debug, PartialEq, Eq)]
pub struct CpuTarget {
    /// Name of the profile.
    pub profile: &'static str,
    /// LLVM target triple: the instruction set and calling convention of the code.
    pub triple: &'static str,
    /// LLVM `target-cpu`.
    pub cpu: &'static str,
    /// LLVM `target-features`.
    pub features: &'static str,
    /// LLVM `tune-cpu`.
    pub tune: &'static str,
    /// LLVM `prefer-vector-width`, in bits.
    pub vector_bits: u32,
    /// Features a loader must find before it runs the code, as `std::arch` detection names them.
    pub required: &'static [&'static str],
    /// LLVM intrinsics of whole-register operations.
    pub natives: &'static [(Native, &'static str)],
    /// LLVM intrinsic that orders nontemporal stores before later ones, where there is one.
    pub store_fence: Option<&'static str>,
}

const X86_LINUX: &str = "x86_64-unknown-linux-gnu";
const ARM_LINUX: &str = "aarch64-unknown-linux-gnu";
const SFENCE: Option<&str> = Some("llvm.x86.sse.sfence");

/// Features of x86-64, those of each profile before what the next one adds.
#[rustfmt::skip]
const X86_FEATURES: [&str; 24] = [
    "sse3", "ssse3", "sse4.1", "sse4.2", "popcnt",
    "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe",
    "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl",
    "avx512bf16", "avx512vnni",
    "avx512fp16",
    "amx-tile", "amx-bf16", "amx-int8",
];
const V2_REQUIRED: &[&str] = X86_FEATURES.split_at(5).0;
const V3_REQUIRED: &[&str] = X86_FEATURES.split_at(13).0;
const V4_REQUIRED: &[&str] = X86_FEATURES.split_at(18).0;
const V4_BF16_REQUIRED: &[&str] = X86_FEATURES.split_at(20).0;
const V4_FP16_REQUIRED: &[&str] = X86_FEATURES.split_at(21).0;
const V4_AMX_REQUIRED: &[&str] = &X86_FEATURES;

const V3_NATIVES: &[(Native, &str)] = &[(Native::Lut { bits: 32, lanes: 8 }, "llvm.x86.avx2.permd")];
const V4_NATIVES: &[(Native, &str)] = &[
    (Native::Lut { bits: 16, lanes: 32 }, "llvm.x86.avx512.permvar.hi.512"),
    (Native::Lut { bits: 16, lanes: 16 }, "llvm.x86.avx512.permvar.hi.256"),
    (Native::Lut { bits: 16, lanes: 8 }, "llvm.x86.avx512.permvar.hi.128"),
    (Native::Lut { bits: 32, lanes: 16 }, "llvm.x86.avx512.permvar.si.512"),
    (Native::Lut { bits: 32, lanes: 8 }, "llvm.x86.avx2.permd"),
];
const V4_BF16_NATIVES: &[(Native, &str)] = &[
    (Native::Dot { terms: 2, lanes: 16 }, "llvm.x86.avx512bf16.dpbf16ps.512"),
    (Native::Dot { terms: 4, lanes: 16 }, "llvm.x86.avx512.vpdpbusd.512"),
    (Native::Dot { terms: 2, lanes: 8 }, "llvm.x86.avx512bf16.dpbf16ps.256"),
    (Native::Dot { terms: 4, lanes: 8 }, "llvm.x86.avx512.vpdpbusd.256"),
    (Native::Dot { terms: 2, lanes: 4 }, "llvm.x86.avx512bf16.dpbf16ps.128"),
    (Native::Dot { terms: 4, lanes: 4 }, "llvm.x86.avx512.vpdpbusd.128"),
    (Native::Lut { bits: 16, lanes: 32 }, "llvm.x86.avx512.permvar.hi.512"),
    (Native::Lut { bits: 16, lanes: 16 }, "llvm.x86.avx512.permvar.hi.256"),
    (Native::Lut { bits: 16, lanes: 8 }, "llvm.x86.avx512.permvar.hi.128"),
    (Native::Lut { bits: 32, lanes: 16 }, "llvm.x86.avx512.permvar.si.512"),
    (Native::Lut { bits: 32, lanes: 8 }, "llvm.x86.avx2.permd"),
];

/// Best first, so that the first one a machine can run is the one to take.
static CPU_TARGETS: [CpuTarget; 7] = [
    CpuTarget {
        profile: "x86-64-v4-amx",
        triple: X86_LINUX,
        cpu: "x86-64-v4",
        features: "+avx512bf16,+avx512vnni,+avx512fp16,+amx-tile,+amx-bf16,+amx-int8",
        tune: "sapphirerapids",
        vector_bits: 512,
        required: V4_AMX_REQUIRED,
        natives: V4_BF16_NATIVES,
        store_fence: SFENCE,
    },
    CpuTarget {
        profile: "x86-64-v4-fp16",
        triple: X86_LINUX,
        cpu: "x86-64-v4",
        features: "+avx512bf16,+avx512vnni,+avx512fp16",
        tune: "sapphirerapids",
        vector_bits: 512,
        required: V4_FP16_REQUIRED,
        natives: V4_BF16_NATIVES,
        store_fence: SFENCE,
    },
    CpuTarget {
        profile: "x86-64-v4-bf16",
        triple: X86_LINUX,
        cpu: "x86-64-v4",
        features: "+avx512bf16,+avx512vnni",
        tune: "znver4",
        vector_bits: 512,
        required: V4_BF16_REQUIRED,
        natives: V4_BF16_NATIVES,
        store_fence: SFENCE,
    },
    CpuTarget {
        profile: "x86-64-v4",
        triple: X86_LINUX,
        cpu: "x86-64-v4",
        features: "",
        tune: "x86-64-v4",
        vector_bits: 512,
        required: V4_REQUIRED,
        natives: V4_NATIVES,
        store_fence: SFENCE,
    },
    CpuTarget {
        profile: "x86-64-v3",
        triple: X86_LINUX,
        cpu: "x86-64-v3",
        features: "",
        tune: "x86-64-v3",
        vector_bits: 256,
        required: V3_REQUIRED,
        natives: V3_NATIVES,
        store_fence: SFENCE,
    },
    CpuTarget {
        profile: "x86-64-v2",
        triple: X86_LINUX,
        cpu: "x86-64-v2",
        features: "",
        tune: "x86-64-v2",
        vector_bits: 128,
        required: V2_REQUIRED,
        natives: &[],
        store_fence: SFENCE,
    },
    CpuTarget {
        profile: "aarch64-neon",
        triple: ARM_LINUX,
        cpu: "generic",
        features: "+neon",
        tune: "generic",
        vector_bits: 128,
        required: &["neon"],
        natives: &[],
        store_fence: None,
    },
];

/// How LLVM and a loader name a CPU profile; `None` for a name that is no CPU profile.
pub fn cpu_target(profile: &str) -> Option<&'static CpuTarget> {
    CPU_TARGETS.iter().find(|t| t.profile == profile)
}

/// Every CPU profile, the best of each architecture first.
pub fn all() -> Vec<TargetProfile> {
    CPU_TARGETS.iter().map(|t| profile(t, MEASURED_CORES)).collect()
}

/// The CPU profile of this name.
pub fn by_name(name: &str) -> Option<TargetProfile> {
    cpu_target(name).map(|t| profile(t, MEASURED_CORES))
}

/// The best profile this machine can run, with its own number of cores; `None` below x86-64-v2.
pub fn host() -> Option<TargetProfile> {
    let target = CPU_TARGETS.iter().find(|t| runs_here(t))?;
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    Some(profile(target, cores))
}

/// True if this machine has every feature the profile's code needs.
pub fn runs_here(target: &CpuTarget) -> bool {
    let architecture = if cfg!(target_arch = "x86_64") {
        "x86_64"
    } else if cfg!(target_arch = "aarch64") {
        "aarch64"
    } else {
        return false;
    };
    target.triple.starts_with(architecture) && target.required.iter().all(|f| has_feature(f))
}

/// Cores of the machine on which the rates were measured.
const MEASURED_CORES: u32 = 2;

const MEASURED: &str = "measured on a 2-core Zen 4 class machine";
const DERIVED: &str = "the Zen 4 figure scaled by vector width; not measured";
const MEASURED_FP16: &str = "measured on two cores of an Emerald Rapids machine";
const MEASURED_AMX: &str = "measured on two cores of a Granite Rapids machine";

/// What differs between CPU profiles, beside their code.
struct Figures {
    features: Features,
    registers: u32,
    tiles: Vec<TileShape>,
    f32_flops: f64,
    bf16_flops: f64,
    tile_flops: f64,
    int8_ops: f64,
    caches: Caches,
    source: &'static str,
    int8_source: &'static str,
    caches_source: &'static str,
}

fn figures(profile: &str) -> Figures {
    use Feature::*;
    let zen = || Figures {
        features: Features::of(&[Fma, F16Convert, Atomics]),
        registers: 32,
        tiles: Vec::new(),
        f32_flops: 115e9,
        bf16_flops: 58e9,
        tile_flops: 0.0,
        int8_ops: 115e9,
        caches: Caches { l1: 32 << 10, l2: 1 << 20, l3: 16 << 20 },
        source: DERIVED,
        int8_source: DERIVED,
        caches_source: "AMD Software Optimization Guide for Zen 4, 57647, section 2.6",
    };
    let v4_bf16 = [Fma, MaskedMemory, Bf16Dot, Int8Dot, Bf16Convert, F16Convert, Permute, Atomics];
    let sapphire_rapids = || Figures {
        features: Features::of(&v4_bf16),
        f32_flops: 345e9,
        bf16_flops: 170e9,
        int8_ops: 1510e9,
        caches: Caches { l1: 48 << 10, l2: 2 << 20, l3: 105 << 20 },
        source: MEASURED_FP16,
        int8_source: MEASURED_FP16,
        caches_source: "Intel 64 and IA-32 Optimization Reference Manual, 355308, Sapphire Rapids; L3 of a Xeon 8480+",
        ..zen()
    };
    match profile {
        "x86-64-v4-amx" => Figures {
            features: Features::of(&[&v4_bf16[..], &[Tiles]].concat()),
            tiles: vec![TileShape { input: DType::BF16, accumulator: DType::F32, rows: 16, columns: 16, depth: 32 }],
            f32_flops: 430e9,
            bf16_flops: 215e9,
            tile_flops: 6e12,
            int8_ops: 1720e9,
            source: MEASURED_AMX,
            int8_source: "four times f32, as measured on an Emerald Rapids machine",
            ..sapphire_rapids()
        },
        // A Sapphire Rapids or later that hides its tiles, told by fp16. It multiplies bf16 pairs at half the rate of f32; where
        // another processor does not, a calibrated profile says so.
        "x86-64-v4-fp16" => sapphire_rapids(),
        "x86-64-v4-bf16" => Figures {
            features: Features::of(&v4_bf16),
            f32_flops: 230e9,
            bf16_flops: 460e9,
            int8_ops: 910e9,
            source: MEASURED,
            int8_source: MEASURED,
            ..zen()
        },
        "x86-64-v4" => Figures {
            features: Features::of(&[Fma, MaskedMemory, F16Convert, Permute, Atomics]),
            f32_flops: 230e9,
            bf16_flops: 115e9,
            int8_ops: 230e9,
            ..zen()
        },
        // Zen 4 runs 512-bit operations as two of 256 bits, so its AVX2 peak is the same.
        "x86-64-v3" => Figures { registers: 16, f32_flops: 230e9, bf16_flops: 115e9, int8_ops: 230e9, ..zen() },
        "x86-64-v2" => Figures {
            features: Features::of(&[Atomics]),
            registers: 16,
            f32_flops: 58e9,
            bf16_flops: 29e9,
            int8_ops: 58e9,
            ..zen()
        },
        _ => zen(),
    }
}

fn profile(target: &CpuTarget, cores: u32) -> TargetProfile {
    let f = figures(target.profile);
    let scale = f64::from(cores) / f64::from(MEASURED_CORES);
    let sources = [
        ("rates.f32_flops", f.source),
        ("rates.bf16_flops", f.source),
        ("rates.int8_ops", f.int8_source),
        ("rates.read_bytes", MEASURED),
        ("rates.copy_bytes", MEASURED),
        ("rates.launch_seconds", MEASURED),
        ("caches", f.caches_source),
        ("limits.group_bytes", "half of L2, so that packed panels and streamed data do not evict each other"),
    ];
    TargetProfile {
        name: target.profile.to_string(),
        kind: TargetKind::Cpu,
        vector_bits: target.vector_bits,
        registers: f.registers,
        cores,
        features: f.features,
        subgroup: SubgroupWidth::None,
        tiles: f.tiles,
        storage: DType::ALL.into_iter().filter(|d| *d != DType::Bool).collect(),
        arithmetic: DType::ALL.into_iter().filter(|d| !matches!(d, DType::F16 | DType::BF16)).collect(),
        math: BTreeMap::new(),
        // vcvtneps2bf16 and vdpbf16ps take subnormals for zero.
        slack: Slack { flushes: f.features.has(Feature::Bf16Convert), ..Slack::default() },
        caches: f.caches,
        limits: Limits {
            buffers: 256,
            buffer_bytes: i64::MAX as u64,
            group_lanes: 1,
            group_bytes: f.caches.l2 / 2,
            grid_axes: 255,
            grid_extent: i64::MAX as u64,
            scalar_bytes: 4096,
        },
        rates: Rates {
            read_bytes: 40e9,
            copy_bytes: 48e9,
            f32_flops: f.f32_flops * scale,
            bf16_flops: f.bf16_flops * scale,
            tile_flops: f.tile_flops * scale,
            int8_ops: f.int8_ops * scale,
            launch_seconds: 0.3e-6,
        },
        sources: sources.into_iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_has_a_target_and_the_host_runs_one() {
        for profile in all() {
            let target = cpu_target(&profile.name).unwrap();
            assert_eq!(target.vector_bits, profile.vector_bits);
            assert_eq!(by_name(&profile.name), Some(profile));
        }
        assert!(by_name("pdp11").is_none());
        let host = host().unwrap();
        assert!(runs_here(cpu_target(&host.name).unwrap()));
    }

    #[test]
    fn every_required_feature_is_one_detection_knows() {
        // A name that detection does not know would turn its profile off everywhere.
        let best = host().unwrap();
        if best.name == all()[0].name {
            assert!(CPU_TARGETS.iter().filter(|t| t.triple == X86_LINUX).all(runs_here));
        }
    }
}
