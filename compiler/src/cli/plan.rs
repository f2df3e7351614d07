//! `mlxc plan`: offsets for buffers that are given as CSV.

use super::args::Plan;
use super::{Failure, Outcome, file_error, print, write_file};
use mlxc::Diagnostic;
use mlxc::minimalloc;
use mlxc::report::human;
use mlxc_passes::memory::{self, Misfit, Placed};
use serde_json::json;
use std::fmt::Write;
use std::time::Instant;

pub fn run(a: &Plan) -> Outcome {
    let name = a.buffers.display().to_string();
    let bytes = std::fs::read(&a.buffers).map_err(|e| file_error(&name, &e))?;
    let buffers = minimalloc::read(&bytes, &name)?;
    let start = Instant::now();
    let placed = match a.capacity {
        Some(capacity) => {
            memory::fit(&buffers.intervals, capacity, a.steps).map_err(|m| misfit(m, capacity, a.steps))?
        }
        None => memory::minimise(&buffers.intervals, a.steps),
    };
    let seconds = start.elapsed().as_secs_f64();
    // Nothing that overlaps is ever written or reported.
    if let Err((i, j)) = memory::check(&buffers.intervals, &placed.placement) {
        panic!("a placement keeps live buffers apart: {} and {}", buffers.ids[i], buffers.ids[j]);
    }
    if let Some(path) = &a.output {
        write_file(path, &minimalloc::write(&buffers, &placed.placement.offsets))?;
    }
    let bound = memory::lower_bound(&buffers.intervals);
    let ratio = if bound == 0 { 1.0 } else { placed.placement.bytes as f64 / bound as f64 };
    if a.json {
        let report = json!({
            "buffers": buffers.ids.len(),
            "capacity": a.capacity,
            "lower_bound": bound,
            "proved_bound": placed.bound,
            "bytes": placed.placement.bytes,
            "ratio": ratio,
            "strategy": placed.placement.strategy,
            "steps": placed.steps,
            "seconds": seconds,
            "checked": true,
            "output": a.output,
        });
        let text = serde_json::to_string_pretty(&report).expect("a report is plain data");
        return print(&format!("{text}\n"));
    }
    print(&table(buffers.ids.len(), bound, ratio, &placed, seconds))
}

fn table(buffers: usize, bound: u64, ratio: f64, placed: &Placed, seconds: f64) -> String {
    let p = &placed.placement;
    let proof = if p.bytes <= placed.bound {
        "no arena is smaller".into()
    } else {
        format!("no arena is below {}", placed.bound)
    };
    let mut out = String::new();
    let _ = writeln!(out, "buffers      {buffers}");
    let _ = writeln!(out, "lower bound  {bound} bytes ({})", human(bound));
    let _ = writeln!(out, "placed       {} bytes ({}), {proof}", p.bytes, human(p.bytes));
    let _ = writeln!(out, "ratio        {ratio:.4}");
    let _ = writeln!(out, "strategy     {}", p.strategy);
    let _ = writeln!(out, "steps        {}", placed.steps);
    let _ = writeln!(out, "time         {:.1} ms", 1e3 * seconds);
    let _ = writeln!(out, "check        passed: buffers that live at one time do not overlap");
    out
}

fn misfit(misfit: Misfit, capacity: u64, steps: u64) -> Failure {
    let of = |id: u16, message: &str| Diagnostic::new(id, message).expected(format!("at most {capacity} bytes"));
    let d = match misfit {
        Misfit::Bound(bound) => {
            of(426, "more bytes are live at one time than the capacity has").found(format!("{bound} bytes"))
        }
        Misfit::Impossible(taken) => of(427, "no placement fits the capacity")
            .note(format!("an exhaustive search proved it in {taken} steps, although no time has more bytes live")),
        Misfit::Open(bytes) => of(428, "no placement was found").found(format!("{bytes} bytes at best")).note(format!(
            "{steps} steps were not enough to find one or to prove that there is none; --steps allows more"
        )),
    };
    d.into()
}
