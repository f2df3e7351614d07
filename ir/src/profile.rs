//! Target profiles: what lowering and legalisation need to know of a machine, as plain data.
//!
//! A profile decides nothing. Instances live with the code generators; each figure carries its source.

use crate::kernel::MathFn;
use mlxc_package::DType;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What kind of machine runs the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// Groups are tasks of one lane; SIMD is explicit vectors.
    Cpu,
    /// Groups are workgroups of many lanes.
    Gpu,
}

/// Something a target may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// Fused multiply-add of f32 in one instruction.
    Fma,
    /// Loads and stores of the first n elements of a vector (AVX-512, SVE); else a lane loop.
    MaskedMemory,
    /// `dot2` of bf16 into f32 (vdpbf16ps, bfdot).
    Bf16Dot,
    /// `dot4` of 8-bit integers into i32 (vpdpbusd, sdot, dot4I8Packed).
    Int8Dot,
    /// Conversions between f32 and bf16 in hardware.
    Bf16Convert,
    /// Conversions between f32 and f16 in hardware.
    F16Convert,
    /// Arithmetic on f16 without widening.
    F16Arithmetic,
    /// Table look-up of 16- and 32-bit elements (`lut`) in one instruction.
    Permute,
    /// Subgroup operations.
    Subgroups,
    /// Matrix tiles of [`TargetProfile::tiles`].
    Tiles,
    /// Integer atomics on buffers.
    Atomics,
}

/// The set of features, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<Feature>", into = "Vec<Feature>")]
pub struct Features(u32);

impl Features {
    /// No features.
    pub const NONE: Features = Features(0);

    /// Exactly these.
    pub const fn of(list: &[Feature]) -> Self {
        let (mut bits, mut i) = (0, 0);
        while i < list.len() {
            bits |= 1 << list[i] as u32;
            i += 1;
        }
        Features(bits)
    }

    /// True if it is in the set.
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & (1 << feature as u32) != 0
    }

    /// The set with it.
    pub const fn with(self, feature: Feature) -> Self {
        Features(self.0 | 1 << feature as u32)
    }

    /// The set without it.
    pub const fn without(self, feature: Feature) -> Self {
        Features(self.0 & !(1 << feature as u32))
    }
}

impl From<Vec<Feature>> for Features {
    fn from(list: Vec<Feature>) -> Self {
        Features::of(&list)
    }
}

impl From<Features> for Vec<Feature> {
    fn from(set: Features) -> Self {
        use Feature::*;
        [
            Fma,
            MaskedMemory,
            Bf16Dot,
            Int8Dot,
            Bf16Convert,
            F16Convert,
            F16Arithmetic,
            Permute,
            Subgroups,
            Tiles,
            Atomics,
        ]
        .into_iter()
        .filter(|f| set.has(*f))
        .collect()
    }
}

/// Which widths a target's subgroups may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubgroupWidth {
    /// There are none.
    None,
    /// Known only when running.
    Any,
    /// Always this many lanes.
    Fixed(u8),
}

/// A matrix tile the target multiplies natively.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TileShape {
    /// Type of the factors.
    pub input: DType,
    /// Type of the accumulator.
    pub accumulator: DType,
    /// Rows of the accumulator.
    pub rows: u8,
    /// Columns of the accumulator.
    pub columns: u8,
    /// Columns of the left factor.
    pub depth: u8,
}

/// What a launch may not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Buffers one phase may use.
    pub buffers: u32,
    /// Bytes of one buffer.
    pub buffer_bytes: u64,
    /// Lanes in a group; 1 on CPUs.
    pub group_lanes: u32,
    /// Bytes of group memory: workgroup memory on GPUs, the share of L2 that packing may use on CPUs.
    pub group_bytes: u64,
    /// Grid axes; CPUs have no limit and say 255.
    pub grid_axes: u8,
    /// Groups along one axis.
    pub grid_extent: u64,
    /// Bytes of scalar parameters of a launch.
    pub scalar_bytes: u32,
}

/// Rates for the cost model: sustained, of the whole device unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Bytes a second when only reading main memory.
    pub read_bytes: f64,
    /// Bytes a second when copying, counting read and written bytes.
    pub copy_bytes: f64,
    /// f32 operations a second, a fused multiply-add counting as two.
    pub f32_flops: f64,
    /// `dot2` operations a second, two for each product; the f32 rate where there are none.
    pub bf16_flops: f64,
    /// Operations a second of [`TargetProfile::tiles`], two for each product; 0 where there are none.
    #[serde(default)]
    pub tile_flops: f64,
    /// 8-bit integer dot operations a second, two for each product.
    pub int8_ops: f64,
    /// Seconds from one launch to the next with nothing to do: the spin barrier on CPUs.
    pub launch_seconds: f64,
}

impl Rates {
    /// Seconds of so many operations of f32 products, of `dot2`, of `dot4`, and of matrix tiles.
    pub fn products(&self, f32_flops: f64, bf16_flops: f64, int8_ops: f64, tile_flops: f64) -> f64 {
        // A target without tiles has no work for them.
        let tiles = if tile_flops > 0.0 { tile_flops / self.tile_flops } else { 0.0 };
        f32_flops / self.f32_flops + bf16_flops / self.bf16_flops + int8_ops / self.int8_ops + tiles
    }
}

/// What results may differ in from the Kernel IR's exact meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slack {
    /// Separate multiply and add may be contracted.
    pub contracts: bool,
    /// Subnormals may be flushed to zero.
    pub flushes: bool,
    /// Sums and products may be reassociated: constants that only round are folded away.
    pub reassociates: bool,
    /// NaN and infinity may be assumed away.
    pub assumes_finite: bool,
    /// ulp of `/`; 0 when correctly rounded.
    pub divide_ulp: u8,
    /// ulp of `sqrt`; 0 when correctly rounded.
    pub sqrt_ulp: u8,
}

/// Sizes of the caches in bytes; 0 where there is none or it is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caches {
    /// First-level data cache of a core.
    pub l1: u64,
    /// Second-level cache of a core.
    pub l2: u64,
    /// Last-level cache, shared.
    pub l3: u64,
}

/// A target as lowering and legalisation see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetProfile {
    /// Name as given on the command line: `x86-64-v4-bf16`, `metal-apple7`, `webgpu`.
    pub name: String,
    /// CPU or GPU.
    pub kind: TargetKind,
    /// Bits of a SIMD register; on GPUs the widest vector a lane loads, 128.
    pub vector_bits: u32,
    /// Vector registers a lane has: 32 with AVX-512 and NEON, 16 with AVX2.
    pub registers: u32,
    /// Cores that run groups at once, for splitting work; results never depend on it.
    pub cores: u32,
    /// What it has.
    pub features: Features,
    /// Subgroups.
    pub subgroup: SubgroupWidth,
    /// Native matrix tiles.
    pub tiles: Vec<TileShape>,
    /// Types that buffers may hold.
    pub storage: Vec<DType>,
    /// Types that arithmetic may be done in.
    pub arithmetic: Vec<DType>,
    /// Native elementary functions on f32 and their error in ulp.
    pub math: BTreeMap<MathFn, f32>,
    /// What may differ.
    pub slack: Slack,
    /// Cache sizes.
    pub caches: Caches,
    /// Launch limits.
    pub limits: Limits,
    /// Rates.
    pub rates: Rates,
    /// Where each figure is from, by field name: a manual with its section, or a measurement with its date.
    pub sources: BTreeMap<String, String>,
}

impl TargetProfile {
    /// Elements of a dtype in one SIMD register, at least 1.
    pub fn vector_lanes(&self, dtype: DType) -> u8 {
        (u64::from(self.vector_bits) / (dtype.bytes() * 8)).clamp(1, 64) as u8
    }

    /// True if it has the feature.
    pub const fn has(&self, feature: Feature) -> bool {
        self.features.has(feature)
    }
}
