//! `mlxc calibrate`.

use super::args::Calibrate;
use super::progress::Progress;
use super::{Outcome, print, write_file};
use mlxc::Options;
use mlxc::calibrate::Calibration;
use std::fmt::Write;

pub fn run(a: &Calibrate) -> Outcome {
    let known = Options::for_target(&a.target)?.profile;
    let progress = Progress::new();
    progress.stage("limits");
    let measured = Calibration::measure(&known, a.threads)?;
    progress.finish();
    write_file(&a.output, measured.text().as_bytes())?;
    let (new, old) = (&measured.rates, &known.rates);
    let mut out = format!("{} on {} cores: measured, and what the target says\n", measured.target, measured.cores);
    for (name, unit, scale, new, old) in [
        ("read", "GB/s", 1e-9, new.read_bytes, old.read_bytes),
        ("copy", "GB/s", 1e-9, new.copy_bytes, old.copy_bytes),
        ("f32", "GFLOP/s", 1e-9, new.f32_flops, old.f32_flops),
        ("bf16 products", "GFLOP/s", 1e-9, new.bf16_flops, old.bf16_flops),
        ("int8 products", "GFLOP/s", 1e-9, new.int8_ops, old.int8_ops),
        ("tiles", "GFLOP/s", 1e-9, new.tile_flops, old.tile_flops),
        ("launch", "µs", 1e6, new.launch_seconds, old.launch_seconds),
    ] {
        let _ = writeln!(out, "{name:<14} {:>9.2} {:>9.2} {unit}", new * scale, old * scale);
    }
    let _ = writeln!(out, "wrote {}", a.output.display());
    print(&out)
}
