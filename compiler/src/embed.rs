//! Turning texts into vectors with a package that holds an encoder.

use crate::error::Errors;
use crate::executable::runtime_error;
use crate::generate::text_error;
use mlxc_ir::Diagnostic;
use mlxc_package::Package;
use mlxc_runtime::{EntryId, LoadOptions, Model, Session, Tensor, TensorView};
use mlxc_text::Tokenizer;
use serde::Serialize;
use std::sync::Arc;

/// An encoder, loaded.
pub struct EmbeddingModel {
    session: Session,
    tokenizer: Tokenizer,
    entry: EntryId,
    context: usize,
    outputs: Vec<Tensor>,
}

/// A text's vector.
#[derive(Clone, Debug, Serialize)]
pub struct Embedded {
    /// Tokens of the text, special ones included.
    pub tokens: usize,
    /// The vector.
    pub embedding: Vec<f32>,
}

impl EmbeddingModel {
    /// Loads a package that has the entry and the tokenizer of an encoder.
    ///
    /// # Errors
    /// `MLXC0916` if it is no encoder, or what the runtime and the tokenizer say.
    pub fn load(package: &Arc<Package>, options: &LoadOptions) -> Result<Self, Errors> {
        let missing = |what: &str| {
            Diagnostic::new(916, "the package holds no encoder of texts").expected(what.to_string()).found("none")
        };
        let tokenizer =
            package.member("text/tokenizer.json").map_err(|_| missing("a tokenizer.json beside the weights"))?;
        let tokenizer = Tokenizer::from_bytes(tokenizer).map_err(text_error)?;
        let symbols = package.plan().entries.iter().find(|e| e.name == "embed").map(|e| &e.symbols);
        let tokens = symbols.and_then(|s| s.iter().find(|s| s.name == "S"));
        let context = tokens.ok_or_else(|| missing("an entry `embed` with a size `S`"))?.range.hi as usize;
        let model = Model::load(package.clone(), options).map_err(runtime_error)?;
        let session = model.session().map_err(runtime_error)?;
        let entry = session.entry("embed").map_err(runtime_error)?;
        let outputs = session.outputs(entry);
        Ok(EmbeddingModel { session, tokenizer, entry, context, outputs })
    }

    /// Tokens of a text, at most.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The vector of a text; one that is too long is cut if `truncate`, its special tokens with it.
    ///
    /// # Errors
    /// `MLXC0918` a text without tokens or with too many, or what the tokenizer and the runtime say.
    pub fn embed(&mut self, text: &str, truncate: bool) -> Result<Embedded, Errors> {
        let mut ids: Vec<i32> =
            self.tokenizer.encode(text, true).map_err(text_error)?.iter().map(|t| *t as i32).collect();
        if truncate {
            ids.truncate(self.context);
        }
        if ids.is_empty() || ids.len() > self.context {
            return Err(Diagnostic::new(918, "the text does not fit the context")
                .expected(format!("1 to {} tokens", self.context))
                .found(format!("{} tokens", ids.len()))
                .into());
        }
        let (shape, types) = ([ids.len() as u64], vec![0i32; ids.len()]);
        let tokens = TensorView::from_slice(&shape, &ids).map_err(runtime_error)?;
        let types = TensorView::from_slice(&shape, &types).map_err(runtime_error)?;
        self.session.step(self.entry, &[tokens, types], &mut self.outputs).map_err(runtime_error)?;
        let embedding = self.outputs[0].as_slice::<f32>().map_err(runtime_error)?.to_vec();
        Ok(Embedded { tokens: ids.len(), embedding })
    }
}
