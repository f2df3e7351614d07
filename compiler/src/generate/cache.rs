//! Prompt caches: the processed tokens and their keys and values, in a safetensors file.

use super::TextModel;
use crate::error::Errors;
use crate::executable::runtime_error;
use crate::files::beside;
use mlxc_ir::{DType, Diagnostic, Location};
use mlxc_runtime::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

/// What the file's metadata says it is.
const FORMAT: &str = "mlxc prompt cache 1";

impl TextModel {
    /// Tokens whose keys and values the state holds.
    pub fn history(&self) -> &[u32] {
        &self.history
    }

    /// Writes the processed tokens and their part of every state.
    ///
    /// # Errors
    /// `MLXC0944` a file that cannot be written; then there is none.
    pub fn save_cache(&self, path: &Path) -> Result<(), Errors> {
        let unwritable = |e: &dyn std::fmt::Display| {
            Diagnostic::new(944, "the prompt cache cannot be written")
                .at(Location::new(path.display().to_string(), 0, 0))
                .found(e.to_string())
        };
        let n = self.history.len();
        let tokens: Vec<u8> = self.history.iter().flat_map(|t| t.to_le_bytes()).collect();
        let mut parts = vec![("tokens".to_string(), Dtype::U32, vec![n], tokens)];
        for s in &self.session.model().plan().states {
            let state = self.session.state(&s.name).map_err(runtime_error)?;
            let shape: Vec<usize> = s.shape.iter().map(|d| *d as usize).collect();
            let (rows, bytes) = rows(&shape, self.context, n, s.dtype);
            let mut shape = shape;
            if let Some(axis) = rows.axis {
                shape[axis] = n;
            }
            let mut data = Vec::with_capacity(bytes);
            rows.each(|at, len| data.extend_from_slice(&state.bytes()[at..at + len]));
            parts.push((s.name.clone(), file_dtype(s.dtype), shape, data));
        }
        let views = parts.iter().map(|(name, dtype, shape, data)| {
            safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).map(|v| (name.clone(), v))
        });
        let views: Vec<_> = views.collect::<Result<_, _>>().map_err(|e| unwritable(&e))?;
        let about = HashMap::from([
            ("format".to_string(), FORMAT.to_string()),
            ("model".to_string(), self.package.fingerprint()),
        ]);
        let bytes = safetensors::serialize(views, Some(about)).map_err(|e| unwritable(&e))?;
        let mut file = beside(path).map_err(|e| unwritable(&e))?;
        file.write_all(&bytes).map_err(|e| unwritable(&e))?;
        file.persist(path).map_err(|e| unwritable(&e.error))?;
        Ok(())
    }

    /// Reads what [`TextModel::save_cache`] wrote with the same package.
    ///
    /// # Errors
    /// `MLXC0945` a file that is no cache, is damaged, or is of another model.
    pub fn load_cache(&mut self, path: &Path) -> Result<(), Errors> {
        let refuse = |expected: &str, found: String| {
            Diagnostic::new(945, "the prompt cache cannot be used")
                .at(Location::new(path.display().to_string(), 0, 0))
                .expected(expected)
                .found(found)
        };
        let bytes = std::fs::read(path).map_err(|e| refuse("a file", e.to_string()))?;
        let damaged = |e: safetensors::SafeTensorError| refuse("a safetensors file", e.to_string());
        let (_, about) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let says = |key: &str| about.metadata().as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default();
        if says("format") != FORMAT {
            return Err(refuse(FORMAT, format!("`{}`", says("format"))).into());
        }
        if says("model") != self.package.fingerprint() {
            return Err(refuse("a cache of this very package", "one of another".into()).into());
        }
        let tokens = file.tensor("tokens").map_err(damaged)?;
        if tokens.dtype() != Dtype::U32 || tokens.shape().len() != 1 {
            let found = format!("{:?}{:?}", tokens.dtype(), tokens.shape());
            return Err(refuse("`tokens`, a row of U32", found).into());
        }
        let tokens: Vec<u32> =
            tokens.data().chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
        if tokens.len() > self.context {
            return Err(refuse("tokens that fit the context", format!("{} tokens", tokens.len())).into());
        }
        self.history.clear();
        let states = self.session.model().plan().states.clone();
        for s in &states {
            let part = file.tensor(&s.name).map_err(damaged)?;
            let shape: Vec<usize> = s.shape.iter().map(|d| *d as usize).collect();
            let (rows, bytes) = rows(&shape, self.context, tokens.len(), s.dtype);
            if part.dtype() != file_dtype(s.dtype) || part.data().len() != bytes {
                let found = format!("{:?} of {} bytes", part.dtype(), part.data().len());
                return Err(refuse(&format!("{bytes} bytes of {} in `{}`", s.dtype, s.name), found).into());
            }
            let mut whole = vec![0; shape.iter().product::<usize>() * s.dtype.bytes() as usize];
            let mut from = 0;
            rows.each(|at, len| {
                whole[at..at + len].copy_from_slice(&part.data()[from..from + len]);
                from += len;
            });
            let view = TensorView::new(s.dtype, &s.shape, &whole).map_err(runtime_error)?;
            self.session.set_state(&s.name, view).map_err(runtime_error)?;
        }
        self.history = tokens;
        Ok(())
    }
}

/// The stretches of bytes of a state that hold its first positions.
struct Rows {
    /// The axis of positions.
    axis: Option<usize>,
    blocks: usize,
    stride: usize,
    len: usize,
}

impl Rows {
    fn each(&self, mut f: impl FnMut(usize, usize)) {
        (0..self.blocks).for_each(|b| f(b * self.stride, self.len));
    }
}

/// The part of a state with the first `n` positions, and its bytes. Positions run along the axis before the last whose
/// extent is the context; a state without one is kept whole.
fn rows(shape: &[usize], context: usize, n: usize, dtype: DType) -> (Rows, usize) {
    let size = dtype.bytes() as usize;
    let axis = (0..shape.len().saturating_sub(1)).rev().find(|a| shape[*a] == context);
    let rows = match axis {
        Some(a) => {
            let inner = shape[a + 1..].iter().product::<usize>() * size;
            Rows { axis, blocks: shape[..a].iter().product(), stride: context * inner, len: n * inner }
        }
        None => {
            let all = shape.iter().product::<usize>() * size;
            Rows { axis, blocks: 1, stride: all, len: all }
        }
    };
    let bytes = rows.blocks * rows.len;
    (rows, bytes)
}

fn file_dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::Bool => Dtype::BOOL,
        DType::U8 => Dtype::U8,
        DType::U16 => Dtype::U16,
        DType::U32 => Dtype::U32,
        DType::U64 => Dtype::U64,
        DType::I8 => Dtype::I8,
        DType::I16 => Dtype::I16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
    }
}
