//! `mlxc explain`: what was fused, what was not and why, and where memory goes.

use super::args::Explain;
use super::progress::Progress;
use super::{Failure, Outcome, file_error, print, write_file};
use mlxc::Diagnostic;
use mlxc::picture;
use mlxc::reasons::names::Names;
use mlxc::reasons::{Reasons, collect, of_package, why};
use mlxc::report;
use mlxc_ir::graph::Module;
use mlxc_package::plan::{Entry, Plan};
use serde_json::json;
use std::fmt::Write;

pub fn run(a: &Explain) -> Outcome {
    if a.html.is_some() || a.dot.is_some() {
        return draw(a);
    }
    let build = a.build.build();
    let (plan, reasons, stages): (Plan, Option<Reasons>, Vec<(&str, Module)>) = if build.is_package() {
        let package = build.open_package()?;
        let (target, plan) = a.build.plan_of(&package)?;
        let graph = |member: &'static str| {
            let text = String::from_utf8_lossy(package.member(member).ok()?).into_owned();
            Some((member, mlxc_ir::graph::text::parse_source(&text, member).ok()?))
        };
        let stages = ["ir/lowered", "ir/graph"].into_iter().filter_map(graph).collect();
        (plan.clone(), of_package(&package, &target), stages)
    } else {
        let progress = Progress::new();
        let compiled = build.compile(&mut |s| progress.stage(s))?;
        progress.finish();
        let reasons = collect(&compiled);
        let stages = vec![
            ("decompose", compiled.decomposed),
            ("join", compiled.joined),
            ("eqsat", compiled.saturated),
            ("outline", compiled.outlined),
            ("canonical", compiled.canonical),
            ("trace", compiled.traced),
        ];
        (compiled.scheduled.plan, Some(reasons), stages)
    };
    let entries: Vec<&Entry> = plan.entries.iter().filter(|e| a.entry.as_deref().is_none_or(|n| n == e.name)).collect();
    if entries.is_empty() {
        return Err(no_entry(a, &plan));
    }
    if let Some(names) = &a.why_not {
        let reasons = reasons.ok_or_else(|| {
            Diagnostic::new(909, "the package was stripped of its reasons").note("compile it again without --strip")
        })?;
        let stages = stages.iter().map(|(name, m)| (*name, m)).collect();
        return why_not(
            &Names { reasons: &reasons, plan: &plan, stages, entry: a.entry.as_deref() },
            &names[0],
            &names[1],
            a.json,
        );
    }
    if let Some(path) = &a.svg {
        return write_file(path, picture::arena::svg(&picture::entry(&plan, entries[0], None)).as_bytes());
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
        for r in reasons.merges.iter().filter(|r| r.is_merged()) {
            let _ = writeln!(
                out,
                "in {}, {{{}}} + {{{}}}: {}",
                r.function,
                r.first.join(", "),
                r.second.join(", "),
                r.text
            );
        }
        let refused = reasons.merges.iter().filter(|r| !r.is_merged()).count();
        let _ = writeln!(out, "{refused} merges were tried and refused; --why-not NAME NAME tells why");
    }
    print(&out)
}

fn no_entry(a: &Explain, plan: &Plan) -> Failure {
    Diagnostic::new(705, "there is no such entry")
        .expected(plan.entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>().join(", "))
        .found(a.entry.clone().unwrap_or_default())
        .into()
}

/// The page and the graph, and the memory plan if that is asked for too.
fn draw(a: &Explain) -> Outcome {
    let build = a.build.build();
    let name = picture::name_of(&build.model);
    let trace = match &a.trace {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| file_error(&path.display().to_string(), &e))?;
            Some(picture::Trace::read(&text)?)
        }
        None => None,
    };
    let only = a.entry.as_deref();
    let wanted = picture::Wanted { entry: only, trace: trace.as_ref() };
    let has_entry = |plan: &Plan| only.is_none_or(|n| plan.entries.iter().any(|e| e.name == n));
    let shown = if build.is_package() {
        let package = build.open_package()?;
        let targets = a.build.targets_of(&package)?;
        if let Some(t) = targets.iter().find(|t| !has_entry(package.plan_of(t))) {
            return Err(no_entry(a, package.plan_of(t)));
        }
        picture::of_package(&name, &package, &targets, wanted)?
    } else {
        let progress = Progress::new();
        // A graph is of one target, as the other outputs are.
        let all = match a.html {
            Some(_) => build.compile_all(&mut |s| progress.stage(s))?,
            None => vec![build.compile(&mut |s| progress.stage(s))?],
        };
        progress.finish();
        if let Some(c) = all.iter().find(|c| !has_entry(&c.scheduled.plan)) {
            return Err(no_entry(a, &c.scheduled.plan));
        }
        picture::of_compilation(&name, &all, wanted)?
    };
    let Some(first) = shown.targets.first() else {
        return Err(Diagnostic::new(963, "the package holds no code, so there is nothing to draw").into());
    };
    if let Some(path) = &a.dot {
        write_file(path, picture::dot::print(first).as_bytes())?;
    }
    if let (Some(path), Some(e)) = (&a.svg, first.entries.first()) {
        write_file(path, picture::arena::svg(e).as_bytes())?;
    }
    if let Some(path) = &a.html {
        write_file(path, picture::html::print(&shown).as_bytes())?;
    }
    Ok(())
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

fn why_not(names: &Names<'_>, a: &str, b: &str, json: bool) -> Outcome {
    let answers = why::why_not(names, a, b)?;
    if json {
        let report = json!({ "first": a, "second": b, "answers": answers });
        let text = serde_json::to_string_pretty(&report).expect("a report is plain data");
        return print(&format!("{text}\n"));
    }
    print(&why::print(&answers, a, b, names.plan))
}
