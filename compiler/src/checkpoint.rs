//! What a checkpoint says it holds: the index of its files, and the tensors a model must read.

use crate::error::Errors;
use crate::weights::{Checkpoint, damaged, unreadable};
use mlxc_ir::graph::Module;
use mlxc_ir::{Diagnostic, Location};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// Files of a checkpoint and the tensors that each is said to hold.
pub(crate) struct Index {
    /// The index, or the one file there is.
    pub origin: PathBuf,
    /// Tensors of each file; `None` for all that are in it.
    files: BTreeMap<String, Option<BTreeSet<String>>>,
}

impl Index {
    /// Reads `model.safetensors.index.json`; without one, the checkpoint is `model.safetensors`.
    ///
    /// # Errors
    /// `MLXC0920` an unreadable index, `MLXC0923` a damaged one.
    pub fn read(folder: &Path) -> Result<Self, Diagnostic> {
        let path = folder.join("model.safetensors.index.json");
        if !path.is_file() {
            let single = "model.safetensors";
            return Ok(Index { origin: folder.join(single), files: BTreeMap::from([(single.into(), None)]) });
        }
        let text = std::fs::read_to_string(&path).map_err(|e| unreadable(&path, &e))?;
        let value: Value = serde_json::from_str(&text).map_err(|e| damaged(&path, e.to_string()))?;
        let map = value.get("weight_map").and_then(Value::as_object);
        let map = map.ok_or_else(|| damaged(&path, "no object `weight_map`".into()))?;
        let mut files: BTreeMap<String, Option<BTreeSet<String>>> = BTreeMap::new();
        for (tensor, file) in map {
            let wrong = || damaged(&path, format!("the file {file} of tensor `{tensor}`"));
            let file = file.as_str().ok_or_else(wrong)?;
            // Names come from the file: they stay in the folder.
            let mut parts = Path::new(file).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                return Err(wrong().expected("the name of a file in the same folder"));
            }
            files.entry(file.into()).or_default().get_or_insert_default().insert(tensor.clone());
        }
        Ok(Index { origin: path, files })
    }

    /// Names of the files.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// True unless the index gives the tensor to another file.
    pub fn holds(&self, file: &str, tensor: &str) -> bool {
        let elsewhere = |(name, list): (&String, &Option<BTreeSet<String>>)| {
            name != file && list.as_ref().is_some_and(|l| l.contains(tensor))
        };
        !self.files.iter().any(elsewhere)
    }

    /// Compares what a file holds with what the index says.
    ///
    /// # Errors
    /// `MLXC0923` for a tensor that is listed and not there.
    pub fn check(&self, file: &str, found: &[&str]) -> Result<(), Diagnostic> {
        let found: BTreeSet<&str> = found.iter().copied().collect();
        let listed = self.files.get(file).and_then(Option::as_ref);
        match listed.and_then(|l| l.iter().find(|t| !found.contains(t.as_str()))) {
            None => Ok(()),
            Some(t) => Err(damaged(&self.origin, format!("tensor `{t}` is listed in `{file}` and is not there"))),
        }
    }
}

/// Tensors that checkpoints carry and no layer reads: tables that are computed, a head that is the embedding, and what
/// stands behind an encoder's last layer for tasks other than embedding.
const UNREAD: &[&str] =
    &["rotary_emb.inv_freq", "embeddings.position_ids", "lm_head.weight", "pooler.dense.weight", "pooler.dense.bias"];

/// Tensors of a checkpoint that no layer of a module reads, those aside that are known to be for other tasks.
pub(crate) fn unread<'c>(checkpoint: &'c Checkpoint, module: &Module) -> Vec<&'c str> {
    let read: BTreeSet<String> = module.weights.iter().flat_map(|w| checkpoint.sources(&w.name, &w.ty)).collect();
    let known = |name: &str| {
        name.starts_with("cls.")
            || UNREAD.iter().any(|u| name.strip_suffix(u).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
    };
    checkpoint.names().filter(|name| !read.contains(*name) && !known(name)).collect()
}

/// Compares the tensors of a checkpoint with those a module reads.
///
/// # Errors
/// `MLXC0931`, once for each tensor that no layer reads: its part of the model would be left out.
pub fn check_unread(checkpoint: &Checkpoint, module: &Module) -> Result<(), Errors> {
    let extra: Vec<Diagnostic> = unread(checkpoint, module)
        .into_iter()
        .map(|name| {
            let file = checkpoint.file_of(name).map(|p| p.display().to_string()).unwrap_or_default();
            Diagnostic::new(931, format!("no layer reads tensor `{name}`"))
                .at(Location::new(file, 0, 0))
                .note("the config describes another model than the checkpoint holds")
        })
        .collect();
    if extra.is_empty() { Ok(()) } else { Err(Errors(extra)) }
}
