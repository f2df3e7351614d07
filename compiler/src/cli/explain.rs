//! `mlxc explain`: what was fused, what was not and why, and where memory goes.

use super::args::Explain;
use super::progress::Progress;
use super::{Failure, Outcome, print, write_file};
use mlxc::Diagnostic;
use mlxc::reasons::{Reason, between, collect, of_package};
use mlxc::report;
use mlxc_package::plan::{Entry, Plan};
use serde_json::json;
use std::fmt::Write;

pub fn run(a: &Explain) -> Outcome {
    let build = a.build.build();
    let (plan, reasons): (Plan, Option<Vec<Reason>>) = if build.is_package() {
        let package = build.open_package()?;
        let (target, plan) = a.build.plan_of(&package)?;
        (plan.clone(), of_package(&package, &target))
    } else {
        let progress = Progress::new();
        let compiled = build.compile(&mut |s| progress.stage(s))?;
        progress.finish();
        let reasons = collect(&compiled);
        (compiled.scheduled.plan, Some(reasons))
    };
    if let Some(names) = &a.why_not {
        let reasons = reasons.ok_or_else(|| {
            Diagnostic::new(909, "the package was stripped of its reasons").note("compile it again without --strip")
        })?;
        return why_not(&plan, &reasons, &names[0], &names[1], a.json);
    }
    let entries: Vec<&Entry> = plan.entries.iter().filter(|e| a.entry.as_deref().is_none_or(|n| n == e.name)).collect();
    if entries.is_empty() {
        return Err(Diagnostic::new(705, "there is no such entry")
            .expected(plan.entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>().join(", "))
            .found(a.entry.clone().unwrap_or_default())
            .into());
    }
    if let Some(path) = &a.svg {
        return write_file(path, report::memory_svg(entries[0]).as_bytes());
    }
    let mut out = String::new();
    if a.json {
        let list: Vec<serde_json::Value> = entries.iter().map(|e| entry_json(&plan, e)).collect();
        let text = serde_json::to_string_pretty(&json!({ "entries": list })).expect("a report is plain data");
        return print(&format!("{text}\n"));
    }
    for e in entries {
        if a.memory {
            out.push_str(&report::memory(e));
        } else {
            let _ = writeln!(out, "entry {}: {} launches\n", e.name, e.launches.len());
            out.push_str(&report::kernels(&plan, e));
            out.push('\n');
        }
    }
    if let (false, Some(reasons)) = (a.memory, &reasons) {
        for r in reasons.iter().filter(|r| r.is_merged()) {
            let _ = writeln!(
                out,
                "in {}, {{{}}} + {{{}}}: {}",
                r.function,
                r.first.join(", "),
                r.second.join(", "),
                r.text
            );
        }
        let refused = reasons.iter().filter(|r| !r.is_merged()).count();
        let _ = writeln!(out, "{refused} merges were tried and refused; --why-not NAME NAME tells why");
    }
    print(&out)
}

fn entry_json(plan: &Plan, e: &Entry) -> serde_json::Value {
    let launches: Vec<serde_json::Value> = e
        .launches
        .iter()
        .map(|l| {
            let k = &plan.kernels[l.kernel as usize];
            json!({ "kernel": k.name, "template": k.template, "fused": k.comment, "origin": k.origin, "block": l.block })
        })
        .collect();
    json!({
        "name": e.name,
        "launches": launches,
        "scratch_bytes": e.arena.bytes,
        "lower_bound_bytes": e.arena.lower_bound,
        "naive_bytes": e.arena.naive,
        "strategy": e.arena.strategy,
    })
}

fn why_not(plan: &Plan, reasons: &[Reason], a: &str, b: &str, json: bool) -> Outcome {
    let found = between(reasons, a, b);
    if json {
        let text = serde_json::to_string_pretty(&found).expect("reasons are plain data");
        return print(&format!("{text}\n"));
    }
    if found.is_empty() {
        let together = plan.kernels.iter().find(|k| k.name == a || k.name == b);
        let mut d = Diagnostic::new(914, format!("no merge of `{a}` with `{b}` was tried"));
        if let Some(k) = together {
            d = d.note(format!("kernel `{}` fused: {}", k.name, k.comment));
        }
        return Err(Failure::from(d.note("names are those of values in `dump --stage decompose`")));
    }
    let mut out = String::new();
    for r in found {
        let _ = writeln!(out, "{} [{}]", r.text, r.code);
        let _ = writeln!(out, "    in {}: {{{}}} + {{{}}}", r.function, r.first.join(", "), r.second.join(", "));
    }
    print(&out)
}
