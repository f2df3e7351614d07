//! Times of a run, read from the trace that `mlxc bench --trace` writes.

use super::model::{Measured, Picture};
use mlxc_ir::Diagnostic;
use serde_json::Value;
use std::collections::BTreeMap;

/// One entry's launches: number, kernel, start and duration in microseconds.
type Launches = Vec<(usize, String, f64, f64)>;

/// Adds the times of a trace to a picture.
///
/// # Errors
/// `MLXC0960` text that is no such trace, `MLXC0961` one of another target, `MLXC0962` one of other kernels.
pub fn add(picture: &mut Picture, text: &str) -> Result<(), Diagnostic> {
    let (target, device, entries) = read(text)?;
    let Some(number) = picture.targets.iter().position(|t| t.name == target) else {
        return Err(Diagnostic::new(961, "the trace is of another target")
            .expected(picture.targets.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", "))
            .found(target)
            .note("name the target with --target"));
    };
    let shown = &mut picture.targets[number];
    let mut measured = Vec::new();
    for (i, e) in shown.entries.iter_mut().enumerate() {
        let Some(times) = entries.get(&e.name) else { continue };
        let other = |found: String| {
            Diagnostic::new(962, format!("the trace is of other kernels than those of entry `{}`", e.name))
                .expected("a trace of the same model, target and options")
                .found(found)
        };
        if times.len() != e.launches.len() {
            return Err(other(format!("{} launches instead of {}", times.len(), e.launches.len())));
        }
        let mut starts = vec![0.0; times.len()];
        for (launch, kernel, start, duration) in times {
            let known = e.launches.get_mut(*launch).filter(|l| shown.kernels[l.kernel as usize].name == *kernel);
            let known = known.ok_or_else(|| other(format!("launch {launch} of `{kernel}`")))?;
            known.measured = Some(duration * 1e-6);
            starts[*launch] = start * 1e-6;
        }
        measured.push((i as u32, starts));
    }
    if measured.is_empty() {
        let names: Vec<&str> = shown.entries.iter().map(|e| e.name.as_str()).collect();
        return Err(Diagnostic::new(962, "the trace has none of the entries shown")
            .expected(names.join(", "))
            .found(entries.into_keys().collect::<Vec<_>>().join(", ")));
    }
    picture.measured = Some(Measured { target: number as u32, device, entries: measured });
    Ok(())
}

/// The target, the device and each entry's launches.
fn read(text: &str) -> Result<(String, String, BTreeMap<String, Launches>), Diagnostic> {
    let wrong = |found: &str| {
        Diagnostic::new(960, "the trace cannot be understood").expected("what `mlxc bench --trace` writes").found(found)
    };
    let json: Value = serde_json::from_str(text).map_err(|e| wrong(&e.to_string()))?;
    let events = json["traceEvents"].as_array().ok_or_else(|| wrong("no list `traceEvents`"))?;
    let about = |key: &str| json["otherData"][key].as_str().map(String::from);
    let target = about("target").ok_or_else(|| wrong("no name of a target in `otherData`"))?;
    let mut names: BTreeMap<u64, String> = BTreeMap::new();
    let mut out: BTreeMap<String, Launches> = BTreeMap::new();
    for e in events {
        let thread = e["tid"].as_u64().ok_or_else(|| wrong("an event without a thread"))?;
        match e["ph"].as_str() {
            Some("M") => {
                if let Some(name) = e["args"]["name"].as_str() {
                    names.insert(thread, name.into());
                }
            }
            Some("X") => {
                let time = |key: &str| e[key].as_f64().filter(|t| t.is_finite() && *t >= 0.0);
                let launch = e["args"]["launch"].as_u64().and_then(|n| usize::try_from(n).ok());
                let (Some(launch), Some(kernel), Some(start), Some(duration), Some(entry)) =
                    (launch, e["name"].as_str(), time("ts"), time("dur"), names.get(&thread))
                else {
                    return Err(wrong("an event that is no launch"));
                };
                out.entry(entry.clone()).or_default().push((launch, kernel.into(), start, duration));
            }
            _ => {}
        }
    }
    Ok((target, about("device").unwrap_or_default(), out))
}
