//! Times of a run, read from the trace that `mlxc bench --trace` writes.

use super::model::{Measured, Picture};
use mlxc_ir::Diagnostic;
use serde_json::Value;
use std::collections::BTreeMap;

/// A measured run.
#[derive(Clone, Debug)]
pub struct Trace {
    target: String,
    device: String,
    entries: BTreeMap<String, Step>,
}

/// One entry's step.
#[derive(Clone, Debug, Default)]
struct Step {
    /// Values of the entry's symbols.
    values: BTreeMap<String, i64>,
    launches: Vec<Timed>,
}

#[derive(Clone, Debug)]
struct Timed {
    launch: usize,
    kernel: String,
    /// In seconds from the start of the trace.
    start: f64,
    /// In seconds.
    duration: f64,
}

impl Trace {
    /// Reads a trace.
    ///
    /// # Errors
    /// `MLXC0960` text that is no such trace.
    pub fn read(text: &str) -> Result<Self, Diagnostic> {
        let wrong = |found: &str| {
            Diagnostic::new(960, "the trace cannot be understood")
                .expected("what `mlxc bench --trace` writes")
                .found(found)
        };
        let json: Value = serde_json::from_str(text).map_err(|e| wrong(&e.to_string()))?;
        let events = json["traceEvents"].as_array().ok_or_else(|| wrong("no list `traceEvents`"))?;
        let about = |key: &str| json["otherData"][key].as_str().map(String::from);
        let target = about("target").ok_or_else(|| wrong("no name of a target in `otherData`"))?;
        let mut names: BTreeMap<u64, String> = BTreeMap::new();
        let mut entries: BTreeMap<String, Step> = BTreeMap::new();
        for e in events {
            let thread = e["tid"].as_u64().ok_or_else(|| wrong("an event without a thread"))?;
            match e["ph"].as_str() {
                Some("M") => {
                    let Some(name) = e["args"]["name"].as_str() else { continue };
                    names.insert(thread, name.into());
                    let values = e["args"]["symbols"].as_object().into_iter().flatten();
                    let values = values.filter_map(|(k, v)| Some((k.clone(), v.as_i64()?))).collect();
                    entries.insert(name.into(), Step { values, launches: Vec::new() });
                }
                Some("X") => {
                    let time = |key: &str| e[key].as_f64().filter(|t| *t >= 0.0).map(|t| t * 1e-6);
                    let launch = e["args"]["launch"].as_u64().and_then(|n| usize::try_from(n).ok());
                    let step = names.get(&thread).and_then(|n| entries.get_mut(n));
                    let (Some(step), Some(launch), Some(kernel), Some(start), Some(duration)) =
                        (step, launch, e["name"].as_str(), time("ts"), time("dur"))
                    else {
                        return Err(wrong("an event that is no launch"));
                    };
                    step.launches.push(Timed { launch, kernel: kernel.into(), start, duration });
                }
                _ => {}
            }
        }
        Ok(Trace { target, device: about("device").unwrap_or_default(), entries })
    }

    /// The value that a symbol of an entry had.
    pub(super) fn value(&self, entry: &str, symbol: &str) -> Option<i64> {
        self.entries.get(entry)?.values.get(symbol).copied()
    }

    /// Adds the times to a picture.
    ///
    /// # Errors
    /// `MLXC0961` a trace of another target, `MLXC0962` one of other kernels, `MLXC0964` one of other entries.
    pub(super) fn add_to(&self, picture: &mut Picture) -> Result<(), Diagnostic> {
        let Some(number) = picture.targets.iter().position(|t| t.name == self.target) else {
            return Err(Diagnostic::new(961, "the trace is of another target")
                .expected(picture.targets.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", "))
                .found(self.target.clone())
                .note("name the target with --target"));
        };
        let shown = &mut picture.targets[number];
        let mut measured = Vec::new();
        for (i, e) in shown.entries.iter_mut().enumerate() {
            let Some(step) = self.entries.get(&e.name) else { continue };
            let name = e.name.clone();
            let other = |found: String| {
                Diagnostic::new(962, format!("the trace is of other kernels than those of entry `{name}`"))
                    .expected("a trace of the same model, target and options")
                    .found(found)
            };
            if step.launches.len() != e.launches.len() {
                return Err(other(format!("{} launches instead of {}", step.launches.len(), e.launches.len())));
            }
            let mut starts = vec![0.0; step.launches.len()];
            for t in &step.launches {
                let known = e.launches.get_mut(t.launch).filter(|l| shown.kernels[l.kernel as usize].name == t.kernel);
                let known = known.ok_or_else(|| other(format!("launch {} of `{}`", t.launch, t.kernel)))?;
                known.measured = Some(t.duration);
                starts[t.launch] = t.start;
            }
            measured.push((i as u32, starts));
        }
        if measured.is_empty() {
            let names: Vec<&str> = shown.entries.iter().map(|e| e.name.as_str()).collect();
            return Err(Diagnostic::new(964, "the trace has none of the entries shown")
                .expected(names.join(", "))
                .found(self.entries.keys().cloned().collect::<Vec<_>>().join(", ")));
        }
        picture.measured = Some(Measured { target: number as u32, device: self.device.clone(), entries: measured });
        Ok(())
    }
}
