//! `mlxc embed`.

use super::args::Embed;
use super::progress::Progress;
use super::{Outcome, file_error, print};
use mlxc::Diagnostic;
use mlxc::embed::EmbeddingModel;
use mlxc_runtime::{TensorView, npy};

pub fn run(a: &Embed) -> Outcome {
    let mut texts = a.text.clone();
    if let Some(path) = &a.input {
        let file = std::fs::read_to_string(path).map_err(|e| file_error(&path.display().to_string(), &e))?;
        texts.extend(file.lines().filter(|l| !l.trim().is_empty()).map(String::from));
    }
    if texts.is_empty() {
        return Err(Diagnostic::new(951, "there is no text to embed").expected("--text or lines in --input").into());
    }
    let progress = Progress::new();
    let package = a.build.build_for(a.run.device)?.package(&mut |s| progress.stage(s))?;
    progress.stage("load");
    let mut model = EmbeddingModel::load(&package, &super::run::load_options(&a.run))?;
    let mut rows = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        rows.push(model.embed(text, a.truncate)?);
        progress.count(i as u64 + 1, texts.len() as u64);
    }
    progress.finish();
    let Some(path) = &a.output else {
        let text = serde_json::to_string(&rows).expect("a report is plain data");
        return print(&format!("{text}\n"));
    };
    let shape = [rows.len() as u64, rows[0].embedding.len() as u64];
    let all: Vec<f32> = rows.into_iter().flat_map(|r| r.embedding).collect();
    let view = TensorView::from_slice(&shape, &all).map_err(super::run::error)?;
    Ok(npy::save(path, view).map_err(super::run::error)?)
}
