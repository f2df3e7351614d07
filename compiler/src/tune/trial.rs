//! Kernels compiled alone and timed in turns, on data that is made up.

use super::search::Compare;
use crate::code::{Code, Legalised};
use crate::error::Errors;
use crate::executable::runtime_error;
use crate::pipeline::{Options, package_error};
use mlxc_codegen::llvm;
use mlxc_package::plan::Port;
use mlxc_package::{DType, PLAN, Package, PackageWriter};
use mlxc_passes::schedule::Scheduled;
use mlxc_runtime::{EntryId, LoadOptions, Model, Session, Tensor};
use std::sync::Arc;
use std::time::Instant;

/// Seconds that one sample takes, at least.
const SAMPLE: f64 = 3e-3;
/// Pairs of samples of one series, and how many series must agree.
const PAIRS: usize = 7;
const SERIES: usize = 2;
/// Pairs after which a kernel that is slower is left.
const FEW: usize = 3;

/// A kernel that runs.
pub(super) struct Ready {
    session: Session,
    entry: EntryId,
    inputs: Vec<Tensor>,
}

impl Ready {
    /// Seconds of a run, over so many.
    fn seconds(&mut self, runs: usize) -> Result<f64, Errors> {
        let views: Vec<_> = self.inputs.iter().map(Tensor::view).collect();
        let start = Instant::now();
        for _ in 0..runs {
            self.session.step(self.entry, &views, &mut []).map_err(runtime_error)?;
        }
        Ok(start.elapsed().as_secs_f64() / runs as f64)
    }
}

/// What compiles and times.
pub(super) struct Clock<'a> {
    options: &'a Options,
}

impl<'a> Clock<'a> {
    pub fn new(options: &'a Options) -> Self {
        Clock { options }
    }
}

impl Compare for Clock<'_> {
    type Ready = Ready;

    fn ready(&mut self, kernel: &Scheduled) -> Result<Ready, Errors> {
        let profile = &self.options.profile;
        let mut scheduled = kernel.clone();
        let legal = Legalised::new(&mut scheduled, profile)?;
        let how = llvm::Options { threads: 1, store: self.options.store.as_deref() };
        let code = Code::new(&legal, profile, &how)?;
        code.bind(&legal, &mut scheduled)?;
        let mut writer = PackageWriter::in_memory();
        writer.add_plan(PLAN, &scheduled.plan).map_err(package_error)?;
        writer.add_target(&code.target(profile, PLAN, &[])).map_err(package_error)?;
        let bytes = writer.finish_bytes("trial").map_err(package_error)?;
        let package = Arc::new(Package::from_bytes(bytes).map_err(package_error)?);
        let session = Model::load(package, &LoadOptions::default()).and_then(|m| m.session()).map_err(runtime_error)?;
        let entry = &scheduled.plan.entries[0];
        let inputs = entry.inputs.iter().map(filled).collect::<Result<_, _>>()?;
        let entry = session.entry(&entry.name).map_err(runtime_error)?;
        Ok(Ready { session, entry, inputs })
    }

    /// The larger of the medians of some series of pairs, so that a change of the machine's speed cannot make one.
    fn ratio(&mut self, best: &mut Ready, other: &mut Ready) -> Result<f64, Errors> {
        // The first run pages memory in.
        let once = best.seconds(1)?.max(other.seconds(1)?).min(best.seconds(1)?);
        let runs = (SAMPLE / once.max(1e-9)).ceil().clamp(1.0, 10_000.0) as usize;
        let mut worst: f64 = 0.0;
        for series in 0..SERIES {
            let mut ratios = Vec::with_capacity(PAIRS);
            for pair in 0..PAIRS {
                // Whoever runs first takes turns too.
                let (a, b) = if (series + pair) % 2 == 0 {
                    let a = best.seconds(runs)?;
                    (a, other.seconds(runs)?)
                } else {
                    let b = other.seconds(runs)?;
                    (best.seconds(runs)?, b)
                };
                ratios.push(b / a);
                // What is slower after a few pairs is not worth the others.
                if ratios.len() == FEW && crate::bench::median(&mut ratios) >= 1.0 {
                    break;
                }
            }
            worst = worst.max(crate::bench::median(&mut ratios));
            if worst >= super::search::SHARE {
                break;
            }
        }
        Ok(worst)
    }
}

/// An input of numbers between -1 and 1, or of small integers.
fn filled(p: &Port) -> Result<Tensor, Errors> {
    let shape: Vec<u64> = p.shape.iter().map(|d| d.as_const().unwrap_or(0).max(0) as u64).collect();
    let mut t = Tensor::zeros(p.dtype, &shape).map_err(runtime_error)?;
    // A linear congruence: cheap, and the same in every trial.
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let unit = |x: u32| x as f32 / (1 << 23) as f32 - 1.0;
    match p.dtype {
        DType::F32 => t.bytes_mut().chunks_exact_mut(4).for_each(|x| x.copy_from_slice(&unit(next()).to_le_bytes())),
        // A bf16 is the upper half of an f32.
        DType::BF16 => {
            t.bytes_mut().chunks_exact_mut(2).for_each(|x| x.copy_from_slice(&unit(next()).to_le_bytes()[2..]));
        }
        // Bits of an f16 between a half and one.
        DType::F16 => t.bytes_mut().chunks_exact_mut(2).for_each(|x| {
            x.copy_from_slice(&(0x3800 | (next() & 0x3ff) as u16).to_le_bytes());
        }),
        // Codes are any bits; indices are clamped where they are used.
        DType::U8 | DType::U32 => t.bytes_mut().iter_mut().for_each(|x| *x = next() as u8),
        _ => {}
    }
    Ok(t)
}
