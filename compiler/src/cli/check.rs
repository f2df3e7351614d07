//! `mlxc check`: what is worth a look before anything is compiled.

use super::args::Check;
use super::{Failure, Outcome, print};
use mlxc::check::{Finding, Severity, build};
use serde_json::{Value, json};
use std::fmt::Write;

pub fn run(a: &Check) -> Outcome {
    let findings = build(&a.build.build())?;
    let count = |s: Severity| findings.iter().filter(|f| f.severity == s).count();
    let (warnings, notes) = (count(Severity::Warning), count(Severity::Note));
    if a.json {
        let list: Vec<Value> = findings.iter().map(finding_json).collect();
        let report = json!({ "findings": list, "warnings": warnings, "notes": notes });
        let text = serde_json::to_string_pretty(&report).expect("a report is plain data");
        print(&format!("{text}\n"))?;
    } else {
        let mut out = String::new();
        for f in &findings {
            let _ = writeln!(out, "{}: {}\n", f.severity.name(), f.diagnostic);
        }
        let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let _ = writeln!(out, "{}, {}", plural(warnings, "warning"), plural(notes, "note"));
        print(&out)?;
    }
    if warnings > 0 { Err(Failure::Verification) } else { Ok(()) }
}

fn finding_json(f: &Finding) -> Value {
    let d = &f.diagnostic;
    let at = d.at.as_ref().map(|at| json!({ "file": &*at.file, "line": at.line, "column": at.column }));
    json!({
        "severity": f.severity.name(),
        "id": format!("MLXC{:04}", d.id),
        "message": d.message,
        "at": at,
        "expected": d.expected,
        "found": d.found,
        "notes": d.notes,
    })
}
