//! `mlxc perplexity`.

use super::args::Perplexity;
use super::progress::Progress;
use super::{Outcome, file_error, print};
use mlxc::generate::TextModel;

pub fn run(a: &Perplexity) -> Outcome {
    let text = std::fs::read_to_string(&a.text).map_err(|e| file_error(&a.text.display().to_string(), &e))?;
    let progress = Progress::new();
    let package = a.build.build_for(a.run.device)?.package(&mut |s| progress.stage(s))?;
    let mut model = TextModel::load(package, &super::run::load_options(&a.run))?;
    let scored = model.perplexity(&text, a.window, &mut |done, all| progress.count(done, all))?;
    progress.finish();
    if a.json {
        let text = serde_json::to_string_pretty(&scored).expect("a report is plain data");
        return print(&format!("{text}\n"));
    }
    print(&format!(
        "mean negative log-likelihood {:.6} nats, perplexity {:.4}, {} targets at {:.1} tokens/s\n",
        scored.mean_nll, scored.perplexity, scored.targets, scored.tokens_per_second
    ))
}
