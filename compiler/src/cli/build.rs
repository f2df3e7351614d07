//! `mlxc compile` and `mlxc inspect`.

use super::args::{Compile, Inspect};
use super::progress::Progress;
use super::{Failure, Outcome, print, write_file};
use mlxc::Diagnostic;
use mlxc::packaging::Packaging;
use mlxc::pipeline::Compiled;
use mlxc::report::{PlanReport, human, report};
use mlxc::source::Build;
use mlxc::tune::search::Step;
use serde_json::json;
use std::fmt::Write;
use std::path::Path;

pub fn compile(a: &Compile) -> Outcome {
    let mut build = a.build.build();
    build.strip = a.strip;
    if build.is_package() {
        return Err(Diagnostic::new(907, "the model is a package already")
            .expected("a Hugging Face folder or a text graph")
            .found(build.model.display().to_string())
            .into());
    }
    let browsers = build.is_for_browsers();
    if browsers {
        mlxc::web::check_folder(&a.output)?;
    }
    let progress = Progress::new();
    let tuned = match (a.tune, build.tuning.take()) {
        (Some(steps), Some(file)) => {
            let tried = tune(&build, steps, &file, &progress)?;
            build.tuning = Some(file);
            Some(tried)
        }
        (_, file) => {
            build.tuning = file;
            None
        }
    };
    let all = build.compile_all(&mut |s| progress.stage(s))?;
    progress.stage("opening weights");
    let weights = build.weights(&all[0].traced)?;
    let extras = build.extras(&all)?;
    let packaging = Packaging::new(&all);
    let total = packaging.weight_bytes();
    let mut written = 0;
    let mut done = |n| {
        written += n;
        progress.bytes(written, total);
    };
    if browsers {
        mlxc::web::save(&a.output, &all[0], &*weights, &extras, mlxc::web::PIECE_BYTES, &mut done)?;
    } else {
        packaging.save(&a.output, &*weights, &extras, &mut done)?;
    }
    let elapsed = progress.finish();
    if a.json {
        // The first target's figures, and everybody's where there are several.
        let mut out = target_json(&all[0]);
        out["output"] = json!(a.output.display().to_string());
        out["seconds"] = json!(elapsed.as_secs_f64());
        if let Some(tried) = &tuned {
            out["tuning_steps"] = json!(tried);
        }
        if all.len() > 1 {
            out["package_weight_bytes"] = json!(total);
            out["targets"] = all.iter().map(target_json).collect();
        }
        return print(&format!("{out:#}\n"));
    }
    let mut out = tuned.as_deref().map(tuning_table).unwrap_or_default();
    for c in &all {
        if all.len() > 1 {
            let _ = writeln!(out, "== {}", c.target());
        }
        for (name, time) in &c.times {
            let _ = writeln!(out, "{name:<12} {:>9.1} ms", time.as_secs_f64() * 1e3);
        }
    }
    for (function, rules) in &all[0].rules {
        let fired: Vec<String> = rules.fired.iter().map(|(_, name, n)| format!("{name} {n}")).collect();
        if !fired.is_empty() {
            let _ = writeln!(out, "rules in {function}: {}", fired.join(", "));
        }
    }
    for c in &all {
        if all.len() > 1 {
            let _ = writeln!(out, "== {}", c.target());
        }
        out.push_str(&table(&report(&c.scheduled.plan)));
    }
    let names: Vec<&str> = all.iter().map(Compiled::target).collect();
    let code: usize = all.iter().map(|c| c.code.bytes().len()).sum();
    let _ = writeln!(
        out,
        "wrote {} for {}: {} of code, {} of weights, in {:.1} s",
        a.output.display(),
        names.join(", "),
        human(code as u64),
        human(total),
        elapsed.as_secs_f64()
    );
    print(&out)
}

/// Measures kernels and writes the file of what is faster.
fn tune(build: &Build, steps: usize, file: &Path, progress: &Progress) -> Result<Vec<Step>, Failure> {
    progress.stage("tune");
    let module = build.trace()?;
    let (tuning, tried) = mlxc::tune::tune(&module, &build.options()?[0], steps, &mut |s| progress.stage(s))?;
    write_file(file, tuning.text().as_bytes())?;
    Ok(tried)
}

fn tuning_table(tried: &[Step]) -> String {
    let kept: Vec<&Step> = tried.iter().filter(|s| s.kept).collect();
    let mut out = format!("{} sizes of kernels measured, {} of them faster\n", tried.len(), kept.len());
    for s in kept {
        let _ = writeln!(out, "{:.3} of the time with {} {}: {}", s.ratio, s.knob, s.value, s.kernel);
    }
    out
}

fn target_json(c: &Compiled) -> serde_json::Value {
    let r = report(&c.scheduled.plan);
    let stages: serde_json::Map<String, serde_json::Value> =
        c.times.iter().map(|(n, t)| ((*n).into(), json!(t.as_secs_f64()))).collect();
    json!({
        "target": c.target(),
        "stage_seconds": stages,
        "code_bytes": c.code.bytes().len(),
        "kernels": r.kernels,
        "weight_bytes": r.weight_bytes,
        "state_bytes": r.state_bytes,
        "entries": r.entries,
    })
}

pub fn inspect(a: &Inspect) -> Outcome {
    let build = a.build.build();
    let r = if build.is_package() {
        report(a.build.plan_of(&build.open_package()?)?.1)
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
