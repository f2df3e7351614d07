//! The machine's limits, measured with kernels of this compiler: what a benchmark's figures are shares of, and what
//! calibration puts into a profile.
//!
//! Streams are of 256 MiB, far more than most caches hold: a weight in the package's mapping or in a copy in huge pages, the
//! two ways the runtime reads weights, and the arena. Peaks are independent multiply-adds in registers. Every probe binds
//! the stream, because the runtime gives launches with little memory one thread.

use super::probe::{ELEMENTS, Probe, Probes, TASKS, Use};
use crate::error::Errors;
use mlxc_codegen::llvm;
use mlxc_ir::kernel::{Access, Kernel, KernelBuilder, Subgroup, TileOrder, TileRole, Type, Work};
use mlxc_ir::profile::{Feature, TileShape};
use mlxc_ir::{DType, TargetProfile};
use mlxc_runtime::WeightMemory;
use serde::Serialize;

/// What the machine can do with so many threads; medians of repeated measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Bytes a second read from mapped weights.
    pub read_mapped: f64,
    /// Bytes a second read from weights copied to huge pages.
    pub read_copied: f64,
    /// Bytes a second when copying with nontemporal stores, read and written bytes together.
    pub copy: f64,
    /// Bytes a second of `a = b + s * c` with nontemporal stores, read and written bytes together.
    pub triad: f64,
    /// f32 multiply-adds a second, times two.
    pub f32_flops: f64,
    /// Packed bf16 products a second, times two; none without such instructions.
    pub bf16_flops: Option<f64>,
    /// Packed products of 8-bit integers a second, times two; none without such instructions.
    pub int8_ops: Option<f64>,
    /// Products in bf16 matrix tiles a second, times two; none without such instructions.
    pub tile_flops: Option<f64>,
    /// Seconds from one launch to the next with next to nothing to do.
    pub launch_seconds: f64,
}

impl Limits {
    /// Products of bf16 a second, times two, by the fastest instructions there are.
    pub fn best_bf16_flops(&self) -> f64 {
        [self.tile_flops, self.bf16_flops].into_iter().flatten().fold(self.f32_flops, f64::max)
    }

    /// Seconds that a kernel's operations take at least.
    pub fn computing(&self, w: &Work) -> f64 {
        let (pairs, fours) = (self.bf16_flops.unwrap_or(self.f32_flops), self.int8_ops.unwrap_or(self.f32_flops));
        w.flops / self.f32_flops
            + w.dot_flops / pairs
            + w.int8_ops / fours
            + w.tile_flops / self.tile_flops.unwrap_or(pairs)
    }
}

/// Steps of each chain of multiply-adds.
const STEPS: i64 = 25_000;
/// Launches of the step that measures what one costs.
const LAUNCHES: u32 = 2_000;

/// Measures the limits with the code of a profile.
///
/// # Errors
/// No LLVM, no temporary file, or what the runtime says.
pub fn measure(profile: &TargetProfile, threads: Option<usize>) -> Result<Limits, Errors> {
    llvm::available()?;
    let lanes = (profile.vector_bits / 32).clamp(4, 16) as u8;
    // As many independent accumulators as registers hold: latency must not bound them.
    let count = (profile.registers - 4).min(24);
    let (bf16, int8) = (profile.has(Feature::Bf16Dot), profile.has(Feature::Int8Dot));
    let chain = |name, terms| Probe::new(chains(name, lanes, count, terms), &[Use::Stream, Use::Sums], 1);
    let mut all = vec![
        Probe::new(read(lanes), &[Use::Stream, Use::Sums], 1),
        Probe::new(copy(lanes), &[Use::Stream, Use::Arena], 1),
        Probe::new(triad(lanes), &[Use::Stream, Use::Arena], 1),
        Probe::new(launch(), &[Use::Stream, Use::Sums], LAUNCHES),
        chain("f32", 1),
    ];
    all.extend(bf16.then(|| chain("bf16", 2)));
    all.extend(int8.then(|| chain("int8", 4)));
    let tile = profile.tiles.iter().find(|t| t.input == DType::BF16);
    all.extend(tile.map(|t| Probe::new(tiles(t), &[Use::Stream, Use::Sums], 1)));
    let probes = Probes::new(&all, profile, threads)?;
    let bytes = (TASKS * ELEMENTS * 4) as f64;
    let operations = |terms: f64| (TASKS * STEPS) as f64 * f64::from(count) * f64::from(lanes) * 2.0 * terms;
    let (mapped, copied) = (WeightMemory::Mapped, WeightMemory::Copied);
    Ok(Limits {
        read_mapped: bytes / probes.seconds(mapped, "read")?,
        read_copied: bytes / probes.seconds(copied, "read")?,
        copy: 2.0 * bytes / probes.seconds(copied, "copy")?,
        triad: 1.5 * bytes / probes.seconds(copied, "triad")?,
        f32_flops: operations(1.0) / probes.seconds(mapped, "f32")?,
        bf16_flops: if bf16 { Some(operations(2.0) / probes.seconds(mapped, "bf16")?) } else { None },
        int8_ops: if int8 { Some(operations(4.0) / probes.seconds(mapped, "int8")?) } else { None },
        tile_flops: match tile {
            Some(t) => {
                let one = 2.0 * f64::from(t.rows) * f64::from(t.columns) * f64::from(t.depth);
                Some((TASKS * STEPS * 4) as f64 * one / probes.seconds(mapped, "tiles")?)
            }
            None => None,
        },
        launch_seconds: probes.seconds(mapped, "launch")? / f64::from(LAUNCHES),
    })
}

/// Sums each task's elements, in eight vectors.
fn read(lanes: u8) -> Kernel {
    let k = KernelBuilder::new("read");
    let w = i64::from(lanes);
    let x = k.buffer("x", DType::F32, &[k.int(TASKS), k.int(ELEMENTS)], Access::Read);
    let y = k.buffer("y", DType::F32, &[k.int(TASKS)], Access::Write);
    k.phase("main", &[("t", k.int(TASKS))], 1, Subgroup::None, |ix| {
        let sums = k.reg("sum", Type::vector(DType::F32, lanes), &[8], Some(k.constant(0.0, DType::F32)));
        k.for_("c", k.int(0), k.int(ELEMENTS), 8 * w, false, |c| {
            k.for_("i", k.int(0), k.int(8), 1, true, |i| {
                sums.set([i], sums.get([i]) + x.at([ix[0], c + i * w]).vec(lanes).load());
            });
        });
        let total = (1..8).fold(sums.get([k.int(0)]), |t, i| t + sums.get([k.int(i)]));
        y.at([ix[0]]).store(total.hsum());
    });
    k.finish()
}
/// Copies each task's elements.
fn copy(lanes: u8) -> Kernel {
    let k = KernelBuilder::new("copy");
    let w = i64::from(lanes);
    let shape = [k.int(TASKS), k.int(ELEMENTS)];
    let x = k.buffer("x", DType::F32, &shape, Access::Read);
    let y = k.buffer("y", DType::F32, &shape, Access::Write);
    k.phase("main", &[("t", k.int(TASKS))], 1, Subgroup::None, |ix| {
        k.for_("c", k.int(0), k.int(ELEMENTS), 4 * w, false, |c| {
            k.for_("i", k.int(0), k.int(4), 1, true, |i| {
                y.at([ix[0], c + i * w]).vec(lanes).store_nt(x.at([ix[0], c + i * w]).vec(lanes).load());
            });
        });
    });
    k.finish()
}

/// Adds one half of each task's elements to a multiple of the other half.
fn triad(lanes: u8) -> Kernel {
    let k = KernelBuilder::new("triad");
    let w = i64::from(lanes);
    let half = ELEMENTS / 2;
    let x = k.buffer("x", DType::F32, &[k.int(TASKS), k.int(ELEMENTS)], Access::Read);
    let y = k.buffer("y", DType::F32, &[k.int(TASKS), k.int(ELEMENTS)], Access::Write);
    k.phase("main", &[("t", k.int(TASKS))], 1, Subgroup::None, |ix| {
        let s = k.constant(0.5, DType::F32).splat(lanes);
        k.for_("c", k.int(0), k.int(half), 4 * w, false, |c| {
            k.for_("i", k.int(0), k.int(4), 1, true, |i| {
                let at = c + i * w;
                let (b, c) = (x.at([ix[0], at]).vec(lanes).load(), x.at([ix[0], at + half]).vec(lanes).load());
                y.at([ix[0], at]).vec(lanes).store_nt(c.mad(s, b));
            });
        });
    });
    k.finish()
}

/// Next to nothing.
fn launch() -> Kernel {
    let k = KernelBuilder::new("launch");
    let x = k.buffer("x", DType::F32, &[k.int(TASKS), k.int(ELEMENTS)], Access::Read);
    let y = k.buffer("y", DType::F32, &[k.int(TASKS)], Access::Write);
    k.phase("main", &[("t", k.int(TASKS))], 1, Subgroup::None, |ix| {
        y.at([ix[0]]).store(x.at([k.int(0), ix[0]]).load());
    });
    k.finish()
}

/// Independent chains of f32 multiply-adds, of packed bf16 products (two terms), or of 8-bit integers (four).
fn chains(name: &str, lanes: u8, count: u32, terms: u8) -> Kernel {
    let k = KernelBuilder::new(name);
    let x = k.buffer("x", DType::F32, &[k.int(TASKS), k.int(ELEMENTS)], Access::Read);
    let y = k.buffer("y", DType::F32, &[k.int(TASKS)], Access::Write);
    k.phase("main", &[("t", k.int(TASKS))], 1, Subgroup::None, |ix| {
        let factor = k.let_("factor", x.at([k.int(0), k.int(0)]).vec(lanes).load());
        let packed = |dtype| k.let_("packed", factor.bits(Type::vector(dtype, terms * lanes)));
        let (a, b) = match terms {
            1 => (factor, factor),
            2 => (packed(DType::BF16), packed(DType::BF16)),
            _ => (packed(DType::U8), packed(DType::I8)),
        };
        let zero = if terms == 4 { k.int_constant(0, DType::I32) } else { k.constant(0.0, DType::F32) };
        let sums = k.reg("sum", Type::vector(zero.dtype(), lanes), &[count], Some(zero));
        k.for_("s", k.int(0), k.int(STEPS), 1, false, |_| {
            k.for_("i", k.int(0), k.int(i64::from(count)), 1, true, |i| {
                let sum = sums.get([i]);
                sums.set(
                    [i],
                    match terms {
                        1 => sum.mad(a, b),
                        2 => sum.dot2(a, b),
                        _ => sum.dot4(a, b),
                    },
                );
            });
        });
        let total = (1..i64::from(count)).fold(sums.get([k.int(0)]), |t, i| t + sums.get([k.int(i)]));
        y.at([ix[0]]).store(total.hsum().cast(DType::F32));
    });
    k.finish()
}

/// Products of matrix tiles into four accumulators.
fn tiles(t: &TileShape) -> Kernel {
    let k = KernelBuilder::new("tiles");
    let x = k.buffer("x", DType::F32, &[k.int(TASKS), k.int(ELEMENTS)], Access::Read);
    let y = k.buffer("y", DType::F32, &[k.int(TASKS)], Access::Write);
    let sums_type = Type::Tile { dtype: t.accumulator, rows: t.rows, columns: t.columns, role: TileRole::C };
    // Both factors have as many bytes, whichever way their rows lie.
    let pairs = 2;
    let shape = [t.rows, t.depth].map(i64::from);
    k.phase("main", &[("t", k.int(TASKS))], 1, Subgroup::None, |ix| {
        let factor = k.group("factor", t.input, &shape);
        let results = k.group("results", t.accumulator, &[t.rows, t.columns].map(i64::from));
        let zero = k.constant(0.0, DType::F32);
        k.for_("i", k.int(0), k.int(shape[0]), 1, false, |i| {
            k.for_("j", k.int(0), k.int(shape[1]), 1, false, |j| {
                factor.at([i, j]).store(x.at([i, j]).load().cast(t.input))
            });
        });
        let sums = k.reg("sum", sums_type, &[2, 2], Some(zero.fill(sums_type)));
        let place = || factor.at([k.int(0), k.int(0)]).tile(t.rows, t.depth);
        let a: Vec<_> = (0..2).map(|_| k.let_("a", place().load_tile(TileRole::A, TileOrder::Rows))).collect();
        let b: Vec<_> =
            (0..2).map(|_| k.let_("b", place().load_tile(TileRole::B, TileOrder::Interleaved(pairs)))).collect();
        k.for_("s", k.int(0), k.int(STEPS), 1, false, |_| {
            for (i, a) in a.iter().enumerate() {
                for (j, b) in b.iter().enumerate() {
                    let at = [i, j].map(|n| k.int(n as i64));
                    sums.set(at, a.mma(*b, sums.get(at)));
                }
            }
        });
        for at in [[0, 0], [0, 1], [1, 0], [1, 1]] {
            results.at([k.int(0), k.int(0)]).tile(t.rows, t.columns).store(sums.get(at.map(|n| k.int(n))));
        }
        y.at([ix[0]]).store(results.at([k.int(0), k.int(0)]).load());
    });
    k.finish()
}
