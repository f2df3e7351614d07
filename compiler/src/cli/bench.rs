//! `mlxc bench`.

use super::args::{Bench, BuildArgs};
use super::progress::Progress;
use super::{Outcome, print, write_file};
use mlxc::bench::{Report, Settings, bench, limits::Limits, suite};
use mlxc::report::human;
use mlxc_runtime::WeightMemory;
use std::fmt::Write;

pub fn run(a: &Bench) -> Outcome {
    let Some(model) = &a.model else { return suite(a) };
    let progress = Progress::new();
    let build = BuildArgs { model: model.clone(), options: a.options.clone() };
    let package = build.build_for(a.run.device)?.package(&mut |s| progress.stage(s))?;
    let settings = Settings {
        prefill: a.prefill,
        decode: a.decode,
        device: a.run.device,
        threads: a.run.threads,
        weights: if a.copied { WeightMemory::Copied } else { WeightMemory::Mapped },
        repeat: a.repeat,
    };
    let report = bench(&package, &settings, &mut |s| progress.stage(s))?;
    progress.finish();
    if let Some(path) = &a.trace {
        write_file(path, format!("{}\n", report.chrome_trace()).as_bytes())?;
    }
    if a.json {
        let text = serde_json::to_string_pretty(&report).expect("a report is plain data");
        return print(&format!("{text}\n"));
    }
    print(&table(&report))
}

/// Fixed workloads.
fn suite(a: &Bench) -> Outcome {
    let named = a.suite.as_deref().unwrap_or_default().to_uppercase();
    let groups: Vec<char> = named.chars().filter(|c| !matches!(c, ',' | ' ')).collect();
    if let Some(c) = groups.iter().find(|c| !('A'..='F').contains(c)) {
        return Err(mlxc::Diagnostic::new(995, "there is no such group of workloads")
            .expected("letters of A to F")
            .found(c.to_string())
            .into());
    }
    let progress = Progress::new();
    let report = suite::run(&groups, a.run.threads, &mut |s| progress.stage(s))?;
    progress.finish();
    if a.json {
        let text = serde_json::to_string_pretty(&report).expect("a report is plain data");
        return print(&format!("{text}\n"));
    }
    print(&suite_table(&report))
}

/// What follows the f32 rate in a list of limits.
fn packed_rates(l: &Limits) -> String {
    [(l.bf16_flops, "bf16"), (l.int8_ops, "int8"), (l.tile_flops, "bf16 in tiles")]
        .iter()
        .filter_map(|(rate, name)| rate.map(|r| format!(", {:.0} {name}", r / 1e9)))
        .collect()
}

fn suite_table(r: &suite::Report) -> String {
    let giga = |x: f64| x / 1e9;
    let mut out = format!("{}\n", r.target);
    for (when, l) in [("before", &r.limits), ("after", &r.limits_after)] {
        let packed = packed_rates(l);
        let _ = writeln!(
            out,
            "limits {when}: read {:.1} GB/s mapped, {:.1} copied; copy {:.1}, triad {:.1}; {:.0} GFLOP/s f32{packed}; launch {:.2} µs",
            giga(l.read_mapped),
            giga(l.read_copied),
            giga(l.copy),
            giga(l.triad),
            giga(l.f32_flops),
            l.launch_seconds * 1e6
        );
    }
    let _ = writeln!(
        out,
        "\n  {:<52} {:>8} {:>10} {:>8} {:>9} {:>7}  {:<6} {:>10} {:>9}",
        "workload", "launches", "ms", "GB/s", "GFLOP/s", "share", "bound", "tokens/s", "compile s"
    );
    for row in &r.rows {
        let tokens = row.tokens_per_second.map_or("-".into(), |t| format!("{t:.1}"));
        let _ = writeln!(
            out,
            "{} {:<52} {:>8} {:>10.3} {:>8.1} {:>9.1} {:>6.0}%  {:<6} {tokens:>10} {:>9.2}",
            row.group,
            row.workload,
            row.launches,
            row.seconds * 1e3,
            giga(row.bytes_per_second),
            giga(row.flops_per_second),
            row.share * 100.0,
            row.bound,
            row.compile_seconds
        );
    }
    if let (Some(peak), Some(load)) = (r.model_peak_rss_bytes, r.model_load_seconds) {
        let _ = writeln!(out, "\n1B shape: loaded in {load:.3} s, peak memory {}", human(peak));
    }
    out
}

fn table(r: &Report) -> String {
    let giga = |x: f64| x / 1e9;
    let on = r.adapter.clone().unwrap_or_else(|| format!("{} threads", r.threads));
    let mut out = format!("{} on {on}, {} weights", r.target, r.weights);
    if let Some(limits) = &r.limits {
        let packed = packed_rates(limits);
        let _ = write!(
            out,
            "; limits in this run: read {:.1} GB/s mapped, {:.1} copied; {:.0} GFLOP/s f32{packed}",
            giga(limits.read_mapped),
            giga(limits.read_copied),
            giga(limits.f32_flops)
        );
    }
    out.push('\n');
    let _ = writeln!(out, "loaded in {:.3} s, peak memory {}\n", r.load_seconds, human(r.peak_rss_bytes));
    let _ = writeln!(
        out,
        "{:<12} {:>7} {:>11} {:>11} {:>13} {:>11}",
        "entry", "tokens", "step ms", "tokens/s", "weights GB/s", "of read"
    );
    for s in &r.steps {
        let _ = writeln!(
            out,
            "{:<12} {:>7} {:>11.3} {:>11.1} {:>13.1} {:>11}",
            s.entry,
            s.tokens,
            s.seconds * 1e3,
            s.tokens_per_second,
            giga(s.weight_bytes_per_second),
            s.read_share.map_or("-".into(), |share| format!("{:.0} %", share * 100.0))
        );
    }
    let mut entry = "";
    for row in &r.rows {
        if row.entry != entry {
            entry = &row.entry;
            let _ = writeln!(
                out,
                "\n{entry:<28} {:>8} {:>10} {:>9} {:>10} {:>7}  bound",
                "launches", "ms", "GB/s", "GFLOP/s", "share"
            );
        }
        let number = |x: Option<f64>, digits: usize| x.map_or("-".to_string(), |x| format!("{:.digits$}", giga(x)));
        let _ = writeln!(
            out,
            "{:<28} {:>8} {:>10.3} {:>9} {:>10} {:>7}  {}",
            row.kernel,
            row.launches,
            row.seconds * 1e3,
            number(row.bytes_per_second, 1),
            number(row.flops_per_second, 1),
            row.share.map_or("-".into(), |s| format!("{:.0} %", s * 100.0)),
            row.bound.unwrap_or("-")
        );
    }
    out
}
