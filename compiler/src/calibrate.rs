//! Calibration: a machine's measured rates and cache sizes in a file, which compilations take as an explicit input.
//!
//! What is measured differs from run to run, so compiling never measures: the same file gives the same package.

use crate::bench::limits;
use crate::error::Errors;
use mlxc_codegen::profiles;
use mlxc_ir::profile::{Caches, Rates, TargetKind};
use mlxc_ir::{Diagnostic, Location, TargetProfile};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Version of the file.
const FORMAT: u32 = 1;

/// Figures of one machine for one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Version of the file.
    format: u32,
    /// The profile whose figures they replace.
    pub target: String,
    /// Cores that were used.
    pub cores: u32,
    /// Rates of all of them together.
    pub rates: Rates,
    /// Cache sizes in bytes; 0 where the system does not say.
    pub caches: Caches,
}

impl Calibration {
    /// Measures this machine with the code of a CPU profile. Rates that nothing measures keep the profile's proportion to
    /// those that are.
    ///
    /// # Errors
    /// `MLXC0970` for a target that is no CPU, or what measuring says.
    pub fn measure(profile: &TargetProfile, threads: Option<usize>) -> Result<Self, Errors> {
        if profile.kind != TargetKind::Cpu {
            return Err(Diagnostic::new(970, "only CPU targets can be calibrated")
                .expected(profiles::all().iter().map(|p| p.name.clone()).collect::<Vec<_>>().join(", "))
                .found(profile.name.clone())
                .into());
        }
        let limits = limits::measure(profile, threads)?;
        let known = &profile.rates;
        let bf16 = limits.bf16_flops.unwrap_or(limits.f32_flops * known.bf16_flops / known.f32_flops);
        let cores = threads.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
        Ok(Calibration {
            format: FORMAT,
            target: profile.name.clone(),
            cores: cores as u32,
            rates: Rates {
                read_bytes: limits.read_copied,
                copy_bytes: limits.copy,
                f32_flops: limits.f32_flops,
                bf16_flops: bf16,
                tile_flops: limits.tile_flops.unwrap_or(0.0),
                int8_ops: limits.int8_ops.unwrap_or(limits.f32_flops * known.int8_ops / known.f32_flops),
                launch_seconds: limits.launch_seconds,
            },
            caches: caches(Path::new("/sys/devices/system/cpu/cpu0/cache")),
        })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// `MLXC0971` for a file that cannot be read, `MLXC0972` for one that is no calibration of this version or whose figures
    /// are none.
    pub fn read(path: &Path) -> Result<Self, Diagnostic> {
        let at = Location::new(path.display().to_string(), 0, 0);
        let text = std::fs::read_to_string(path)
            .map_err(|e| Diagnostic::new(971, "a profile cannot be read").at(at.clone()).found(e.to_string()))?;
        Calibration::parse(&text, &at)
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// `MLXC0972` as [`Calibration::read`].
    pub fn parse(text: &str, at: &Location) -> Result<Self, Diagnostic> {
        let wrong = |found: String| {
            Diagnostic::new(972, "a profile is not understood")
                .at(at.clone())
                .expected("a file that `mlxc calibrate` wrote")
                .found(found)
        };
        let c: Calibration = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        if c.format != FORMAT {
            return Err(wrong(format!("format {}", c.format)));
        }
        let r = &c.rates;
        let figures = [
            ("read_bytes", r.read_bytes),
            ("copy_bytes", r.copy_bytes),
            ("f32_flops", r.f32_flops),
            ("bf16_flops", r.bf16_flops),
            ("int8_ops", r.int8_ops),
            ("launch_seconds", r.launch_seconds),
        ];
        match figures.into_iter().find(|(_, x)| !(x.is_finite() && *x > 0.0)) {
            Some((name, x)) => Err(wrong(format!("{name} {x}"))),
            None if !(r.tile_flops.is_finite() && r.tile_flops >= 0.0) => {
                Err(wrong(format!("tile_flops {}", r.tile_flops)))
            }
            None if !(1..=4096).contains(&c.cores) => Err(wrong(format!("{} cores", c.cores))),
            None => Ok(c),
        }
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("a calibration is plain data");
        format!("{text}\n")
    }

    /// Puts the figures into the profile they are of.
    pub fn apply(&self, profile: &mut TargetProfile) {
        profile.cores = self.cores;
        let known = profile.rates.tile_flops;
        profile.rates = self.rates;
        if self.rates.tile_flops == 0.0 {
            profile.rates.tile_flops = known;
        }
        let keep = |measured: u64, known: u64| if measured > 0 { measured } else { known };
        let (new, old) = (self.caches, profile.caches);
        profile.caches = Caches { l1: keep(new.l1, old.l1), l2: keep(new.l2, old.l2), l3: keep(new.l3, old.l3) };
        for source in profile.sources.iter_mut().filter(|(k, _)| k.starts_with("rates.") || *k == "caches") {
            *source.1 = "measured by `mlxc calibrate`".into();
        }
    }
}

/// Data and unified caches as Linux lists them for a core.
fn caches(folder: &Path) -> Caches {
    let mut out = Caches::default();
    for index in 0..8 {
        let read = |name: &str| std::fs::read_to_string(folder.join(format!("index{index}/{name}"))).ok();
        let (Some(level), Some(kind), Some(size)) = (read("level"), read("type"), read("size")) else { continue };
        let bytes = match size.trim().split_at(size.trim().len().saturating_sub(1)) {
            (n, "K") => n.parse::<u64>().unwrap_or(0) << 10,
            (n, "M") => n.parse::<u64>().unwrap_or(0) << 20,
            _ => size.trim().parse().unwrap_or(0),
        };
        match (level.trim(), kind.trim()) {
            ("1", "Data") => out.l1 = bytes,
            ("2", "Data" | "Unified") => out.l2 = bytes,
            ("3", "Data" | "Unified") => out.l3 = bytes,
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Calibration {
        let profile = profiles::by_name("x86-64-v3").expect("a profile");
        let caches = Caches { l1: 48 << 10, l2: 2 << 20, l3: 0 };
        Calibration { format: FORMAT, target: profile.name, cores: 3, rates: profile.rates, caches }
    }

    #[test]
    fn a_file_reads_back_and_changes_the_profile() {
        let at = Location::new("p.json", 0, 0);
        let mut c = sample();
        c.rates.read_bytes = 12.5e9;
        let read = Calibration::parse(&c.text(), &at).expect("its own text");
        assert_eq!(read, c);
        let mut profile = profiles::by_name("x86-64-v3").expect("a profile");
        let l3 = profile.caches.l3;
        read.apply(&mut profile);
        assert_eq!((profile.cores, profile.rates.read_bytes), (3, 12.5e9));
        assert_eq!(profile.caches, Caches { l1: 48 << 10, l2: 2 << 20, l3 });
        assert!(profile.sources["rates.read_bytes"].contains("calibrate"));
    }

    #[test]
    fn figures_that_are_none_are_refused() {
        let at = Location::new("p.json", 0, 0);
        let text = sample().text();
        for (from, to) in [
            ("\"format\": 1", "\"format\": 2"),
            ("\"cores\": 3", "\"cores\": 0"),
            ("\"launch_seconds\": 3e-7", "\"launch_seconds\": -3e-7"),
            ("\"cores\"", "\"kernels\""),
            ("{", "["),
        ] {
            assert!(text.contains(from), "{from} in {text}");
            assert_eq!(Calibration::parse(&text.replacen(from, to, 1), &at).expect_err("damaged").id, 972, "{to}");
        }
    }
}
