//! `mlxc dump`: every stage, printed.

use super::args::Dump;
use super::progress::Progress;
use super::{Outcome, print, write_file};
use mlxc::Diagnostic;
use mlxc::pipeline::STAGES;
use std::fmt::Write;

pub fn run(a: &Dump) -> Outcome {
    if a.stage == "stages" {
        return print(&format!("{}\n", STAGES.join("\n")));
    }
    if !STAGES.contains(&a.stage.as_str()) {
        return Err(Diagnostic::new(908, "there is no stage of that name")
            .expected(STAGES.join(", "))
            .found(a.stage.clone())
            .into());
    }
    let text = if a.build.build().is_package() { of_package(a)? } else { of_compilation(a)? };
    match &a.output {
        Some(path) => write_file(path, text.as_bytes()),
        None => print(&text),
    }
}

fn plan_json(plan: &mlxc_package::plan::Plan) -> String {
    let mut text = serde_json::to_string_pretty(plan).expect("a plan is plain data");
    text.push('\n');
    text
}

fn of_package(a: &Dump) -> Result<String, super::Failure> {
    let package = a.build.build().open_package()?;
    let member = match a.stage.as_str() {
        "plan" if a.json => return Ok(plan_json(package.plan())),
        "plan" => return Ok(plan_text(package.plan())),
        "trace" => "ir/graph",
        "decompose" => "ir/lowered",
        "kernels" => "ir/kernels",
        other => {
            return Err(Diagnostic::new(909, format!("a package does not hold stage `{other}`"))
                .expected("trace, decompose, kernels or plan; dump the model's folder for the others")
                .into());
        }
    };
    let bytes = package.member(member).map_err(|e| {
        Diagnostic::new(909, "the package was stripped").found(e.to_string()).note("compile it again without --strip")
    })?;
    let text = String::from_utf8_lossy(bytes).into_owned();
    if a.stage == "kernels" { Ok(pick(&text, a.kernel.as_deref())) } else { Ok(text) }
}

fn of_compilation(a: &Dump) -> Result<String, super::Failure> {
    let progress = Progress::new();
    let compiled = a.build.build().compile(&mut |s| progress.stage(s))?;
    progress.finish();
    let graph = mlxc_ir::graph::text::print;
    let wanted = |name: &str| a.kernel.as_deref().is_none_or(|k| k == name);
    Ok(match a.stage.as_str() {
        "trace" => graph(&compiled.traced),
        "canonical" => graph(&compiled.canonical),
        "outline" => graph(&compiled.outlined),
        "eqsat" => graph(&compiled.saturated),
        "join" => graph(&compiled.joined),
        "decompose" => graph(&compiled.decomposed),
        "partition" => {
            let mut out = String::new();
            for e in &compiled.scheduled.plan.entries {
                let _ = writeln!(out, "entry {}", e.name);
                out.push_str(&mlxc::report::kernels(&compiled.scheduled.plan, e));
            }
            out
        }
        "plan" if a.json => plan_json(&compiled.scheduled.plan),
        "plan" => plan_text(&compiled.scheduled.plan),
        "kernels" => {
            let all: String = compiled.scheduled.kernels.iter().map(mlxc_ir::kernel::print).collect();
            pick(&all, a.kernel.as_deref())
        }
        "legal" => {
            let legal = compiled.legal.iter().filter(|l| wanted(&l.kernel().name));
            legal.map(|l| mlxc_ir::kernel::print(l.kernel())).collect()
        }
        stage => {
            let mut out = String::new();
            for l in compiled.legal.iter().filter(|l| wanted(&l.kernel().name)) {
                out.push_str(&if stage == "llvm" {
                    mlxc_codegen::llvm::print_ir(l)?
                } else {
                    mlxc_codegen::llvm::print_assembly(l)?
                });
            }
            out
        }
    })
}

/// The kernel of a name out of the text of all.
fn pick(text: &str, name: Option<&str>) -> String {
    let Some(name) = name else { return text.to_string() };
    let begins = |l: &str| l.strip_prefix("kernel ").and_then(|r| r.split_whitespace().next()) == Some(name);
    let mut out = String::new();
    let mut inside = false;
    for line in text.lines() {
        inside |= begins(line);
        if inside {
            out.push_str(line);
            out.push('\n');
        }
        inside &= line != "}";
    }
    out
}

fn plan_text(plan: &mlxc_package::plan::Plan) -> String {
    let mut out = String::new();
    for e in &plan.entries {
        let name = |id: mlxc_package::SymId| {
            e.symbols.get(id.0 as usize).map_or_else(|| format!("?{}", id.0), |s| s.name.clone())
        };
        let size = |s: &mlxc_package::Size| s.display(&name).to_string();
        let _ = writeln!(out, "entry {}: arena {} bytes, lower bound {}", e.name, e.arena.bytes, e.arena.lower_bound);
        for (i, b) in e.buffers.iter().enumerate() {
            let shape: Vec<String> = b.shape.iter().map(size).collect();
            let _ = writeln!(
                out,
                "  buffer {i} {:?}: {}[{}] {} bytes, {:?}, launches {}..={}",
                b.name,
                b.dtype,
                shape.join(", "),
                b.bytes,
                b.place,
                b.first,
                b.last
            );
        }
        for (i, l) in e.launches.iter().enumerate() {
            let k = &plan.kernels[l.kernel as usize];
            let grid: Vec<String> = l.grid.iter().map(size).collect();
            let _ = writeln!(
                out,
                "  launch {i}: {}.{} over [{}] on {:?}",
                k.name,
                k.phases[l.phase as usize].name,
                grid.join(", "),
                l.buffers
            );
        }
    }
    out
}
