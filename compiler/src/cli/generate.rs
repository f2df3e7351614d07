//! `mlxc generate`.

use super::args::Generate;
use super::progress::Progress;
use super::{Outcome, print};
use mlxc::generate::{Request, TextModel};
use mlxc::report::human;
use mlxc_text::SamplerOptions;
use std::io::Write;

pub fn run(a: &Generate) -> Outcome {
    let progress = Progress::new();
    let package = a.build.build().package(&mut |s| progress.stage(s))?;
    progress.stage("load");
    let mut model = TextModel::load(package, &super::run::load_options(&a.run))?;
    progress.finish();
    let request = Request {
        prompt: a.prompt.clone(),
        chat: a.chat,
        max_tokens: a.max_tokens,
        sampler: SamplerOptions {
            temperature: a.temperature,
            top_p: a.top_p,
            top_k: a.top_k,
            min_p: a.min_p,
            seed: a.seed,
        },
        ignore_eos: a.ignore_eos,
    };
    if a.json {
        let written = model.generate(&request, &mut |_| {})?;
        let text = serde_json::to_string_pretty(&written).expect("a report is plain data");
        return print(&format!("{text}\n"));
    }
    let mut out = std::io::stdout().lock();
    // A closed pipe is noticed at the end: the figures still go to standard error.
    let _ = write!(out, "{}", a.prompt).and_then(|()| out.flush());
    let written = model.generate(&request, &mut |s| {
        let _ = write!(out, "{s}").and_then(|()| out.flush());
    })?;
    let _ = writeln!(out).and_then(|()| out.flush());
    eprintln!(
        "prompt {} tokens at {:.1} tokens/s, wrote {} tokens at {:.1} tokens/s, loaded in {:.3} s, peak memory {}",
        written.prompt_tokens.len(),
        written.prefill_tokens_per_second,
        written.tokens.len(),
        written.decode_tokens_per_second,
        written.load_seconds,
        human(written.peak_rss_bytes)
    );
    Ok(())
}
