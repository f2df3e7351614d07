//! `mlxc bench`.

use super::args::Bench;
use super::progress::Progress;
use super::{Outcome, print, write_file};
use mlxc::bench::{Report, Settings, bench};
use mlxc::report::human;
use mlxc_runtime::WeightMemory;
use std::fmt::Write;

pub fn run(a: &Bench) -> Outcome {
    let progress = Progress::new();
    let package = a.build.build_for(a.run.device)?.package(&mut |s| progress.stage(s))?;
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

fn table(r: &Report) -> String {
    let giga = |x: f64| x / 1e9;
    let on = r.adapter.clone().unwrap_or_else(|| format!("{} threads", r.threads));
    let mut out = format!("{} on {on}, {} weights", r.target, r.weights);
    if let Some(limits) = &r.limits {
        let bf16 = limits.bf16_flops.map_or(String::new(), |f| format!(", {:.0} bf16", giga(f)));
        let _ = write!(
            out,
            "; limits in this run: read {:.1} GB/s mapped, {:.1} copied; {:.0} GFLOP/s f32{bf16}",
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
