//! `mlxc compile` and `mlxc inspect`.

use super::args::{Compile, Inspect};
use super::progress::Progress;
use super::{Outcome, print};
use mlxc::Diagnostic;
use mlxc::report::{PlanReport, human, report};
use serde_json::json;
use std::fmt::Write;

pub fn compile(a: &Compile) -> Outcome {
    let mut build = a.build.build();
    build.strip = a.strip;
    if build.is_package() {
        return Err(Diagnostic::new(907, "the model is a package already")
            .expected("a Hugging Face folder or a text graph")
            .found(build.model.display().to_string())
            .into());
    }
    let progress = Progress::new();
    let compiled = build.compile(&mut |s| progress.stage(s))?;
    progress.stage("opening weights");
    let weights = build.weights(&compiled.traced)?;
    let extras = build.extras(&compiled)?;
    let plan = &compiled.scheduled.plan;
    let total: u64 = plan.weights.iter().map(|w| w.bytes).sum();
    let mut written = 0;
    compiled.save(&a.output, &*weights, &extras, &mut |n| {
        written += n;
        progress.bytes(written, total);
    })?;
    let elapsed = progress.finish();
    let r = report(plan);
    if a.json {
        let stages: serde_json::Map<String, serde_json::Value> =
            compiled.times.iter().map(|(n, t)| ((*n).into(), json!(t.as_secs_f64()))).collect();
        let out = json!({
            "output": a.output.display().to_string(),
            "target": compiled.target(),
            "seconds": elapsed.as_secs_f64(),
            "stage_seconds": stages,
            "code_bytes": compiled.code.blob.bytes.len(),
            "kernels": r.kernels,
            "weight_bytes": r.weight_bytes,
            "state_bytes": r.state_bytes,
            "entries": r.entries,
        });
        return print(&format!("{out:#}\n"));
    }
    let mut out = String::new();
    for (name, time) in &compiled.times {
        let _ = writeln!(out, "{name:<12} {:>9.1} ms", time.as_secs_f64() * 1e3);
    }
    for (function, rules) in &compiled.rules {
        let fired: Vec<String> = rules.fired.iter().map(|(_, name, n)| format!("{name} {n}")).collect();
        if !fired.is_empty() {
            let _ = writeln!(out, "rules in {function}: {}", fired.join(", "));
        }
    }
    out.push_str(&table(&r));
    let _ = writeln!(
        out,
        "wrote {} for {}: {} of code, {} of weights, in {:.1} s",
        a.output.display(),
        compiled.target(),
        human(compiled.code.blob.bytes.len() as u64),
        human(r.weight_bytes),
        elapsed.as_secs_f64()
    );
    print(&out)
}

pub fn inspect(a: &Inspect) -> Outcome {
    let build = a.build.build();
    let r = if build.is_package() {
        report(build.open_package()?.plan())
    } else {
        let progress = Progress::new();
        let compiled = build.compile(&mut |s| progress.stage(s))?;
        progress.finish();
        report(&compiled.scheduled.plan)
    };
    if a.json {
        let out = serde_json::to_string_pretty(&r).expect("a report is plain data");
        return print(&format!("{out}\n"));
    }
    print(&table(&r))
}

fn table(r: &PlanReport) -> String {
    let mut out = format!(
        "{:<12} {:>8} {:>10} {:>12} {:>12} {:>7} {:>12} {:>12}\n",
        "entry", "launches", "per block", "scratch", "bound", "ratio", "state", "weights"
    );
    for e in &r.entries {
        let ratio = if e.lower_bound_bytes == 0 { 1.0 } else { e.scratch_bytes as f64 / e.lower_bound_bytes as f64 };
        let _ = writeln!(
            out,
            "{:<12} {:>8} {:>10} {:>12} {:>12} {ratio:>7.3} {:>12} {:>12}",
            e.name,
            e.launches,
            e.launches_per_block,
            human(e.scratch_bytes),
            human(e.lower_bound_bytes),
            human(e.state_bytes),
            human(e.weight_bytes)
        );
    }
    let _ =
        writeln!(out, "{} kernels, {} of weights, {} of state", r.kernels, human(r.weight_bytes), human(r.state_bytes));
    out
}
