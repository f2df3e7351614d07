//! `mlxc verify`: compiled code against the interpreter.

use super::args::Verify;
use super::progress::Progress;
use super::{Failure, Outcome, print};
use mlxc::verify::{Checked, verify};
use std::fmt::Write;

pub fn run(a: &Verify) -> Outcome {
    let build = a.build.build_for(a.run.device)?;
    let progress = Progress::new();
    let load = super::run::load_options(&a.run);
    let checked = verify(&build, a.size, a.seed, &load, &mut |s| progress.stage(s))?;
    progress.finish();
    let failed = checked.iter().any(|c| !c.passed);
    if a.json {
        let text = serde_json::to_string_pretty(&checked).expect("a report is plain data");
        print(&format!("{text}\n"))?;
    } else {
        let mut out = String::new();
        for Checked { entry, output, max_error, max_relative, ulp, allowed, passed } in &checked {
            let word = if *passed { "ok" } else { "FAILED" };
            let _ = writeln!(
                out,
                "{entry}.{output}: {word}, error {max_error:.3e} (relative {max_relative:.3e}, {ulp:.1} ulp), allowed {allowed:.3e}"
            );
        }
        print(&out)?;
    }
    if failed { Err(Failure::Verification) } else { Ok(()) }
}
