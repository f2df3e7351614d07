//! What an entry takes: finds the symbols' values in its inputs and refuses inputs that do not fit.

use crate::{RuntimeError, TensorView};
use mlxc_package::plan::{Entry, Port, SymbolKind};
use mlxc_package::{Size, SymId};

#[derive(Clone, Copy)]
enum Source {
    Extent { input: usize, axis: usize },
    Scalar { input: usize },
}

impl Source {
    fn input(self) -> usize {
        match self {
            Source::Extent { input, .. } | Source::Scalar { input } => input,
        }
    }
}

/// Where the values of an entry's symbols come from.
pub(crate) struct Signature {
    sources: Vec<Source>,
}

impl Signature {
    pub(crate) fn new(entry: &Entry) -> Self {
        let source = |(i, symbol): (usize, &mlxc_package::plan::Symbol)| {
            let mut inputs = entry.inputs.iter().enumerate();
            match symbol.kind {
                SymbolKind::Size => inputs.find_map(|(input, p)| {
                    let axis = p.shape.iter().position(|s| s.as_symbol() == Some(SymId(i as u32)))?;
                    Some(Source::Extent { input, axis })
                }),
                SymbolKind::Scalar => {
                    inputs.find(|(_, p)| p.name == symbol.name).map(|(input, _)| Source::Scalar { input })
                }
            }
            .expect("invariant: the plan's check found an input for every symbol")
        };
        Signature { sources: entry.symbols.iter().enumerate().map(source).collect() }
    }

    /// Checks inputs and writes the symbols' values.
    pub(crate) fn solve(
        &self,
        entry: &Entry,
        inputs: &[TensorView<'_>],
        values: &mut Vec<i64>,
    ) -> Result<(), RuntimeError> {
        if inputs.len() != entry.inputs.len() {
            return Err(RuntimeError::PortCount {
                entry: entry.name.clone(),
                what: "inputs",
                expected: entry.inputs.len(),
                found: inputs.len(),
            });
        }
        let at = |i: usize| format!("entry `{}`, input `{}`", entry.name, entry.inputs[i].name);
        for (i, (port, input)) in entry.inputs.iter().zip(inputs).enumerate() {
            if port.dtype != input.dtype() {
                return Err(RuntimeError::DType { at: at(i), expected: port.dtype, found: input.dtype() });
            }
            if port.shape.len() != input.shape().len() {
                let expected = shape_text(entry, port, None);
                return Err(RuntimeError::Shape { at: at(i), expected, found: input.shape().to_vec() });
            }
        }
        values.clear();
        for (symbol, source) in entry.symbols.iter().zip(&self.sources) {
            let found = match *source {
                Source::Extent { input, axis } => i64::try_from(inputs[input].shape()[axis]).unwrap_or(i64::MAX),
                Source::Scalar { input } => {
                    let word: Option<[u8; 4]> = inputs[input].bytes().try_into().ok();
                    i64::from(i32::from_ne_bytes(word.expect("invariant: i32[] has four bytes")))
                }
            };
            let (name, at) = (symbol.name.clone(), || at(source.input()));
            if !(symbol.range.lo..=symbol.range.hi).contains(&found) {
                let (lo, hi) = (symbol.range.lo, symbol.range.hi);
                return Err(RuntimeError::OutOfBounds { at: at(), symbol: name, lo, hi, found });
            }
            if found % symbol.multiple != 0 {
                return Err(RuntimeError::NotAMultiple { at: at(), symbol: name, multiple: symbol.multiple, found });
            }
            values.push(found);
        }
        for (i, (port, input)) in entry.inputs.iter().zip(inputs).enumerate() {
            let fits = |(size, extent): (&Size, &u64)| u64::try_from(size.eval(values)).ok() == Some(*extent);
            if !port.shape.iter().zip(input.shape()).all(fits) {
                let expected = shape_text(entry, port, Some(values));
                return Err(RuntimeError::Shape { at: at(i), expected, found: input.shape().to_vec() });
            }
        }
        for condition in &entry.requires {
            let found = condition.eval(values);
            if found < 0 {
                let names = |id: SymId| symbol_name(entry, id);
                let values: Vec<String> =
                    entry.symbols.iter().zip(&*values).map(|(s, v)| format!("{} = {v}", s.name)).collect();
                return Err(RuntimeError::Condition {
                    entry: entry.name.clone(),
                    condition: condition.display(&names).to_string(),
                    found,
                    values: values.join(", "),
                });
            }
        }
        Ok(())
    }
}

fn symbol_name(entry: &Entry, id: SymId) -> String {
    entry.symbols.get(id.0 as usize).map_or_else(|| format!("s{}", id.0), |s| s.name.clone())
}

/// `[S, 8]`, or `[S = 3, 8]` with values.
fn shape_text(entry: &Entry, port: &Port, values: Option<&[i64]>) -> String {
    let names = |id: SymId| symbol_name(entry, id);
    let extents = port.shape.iter().map(|size| match (size.as_const(), values) {
        (None, Some(values)) => format!("{} = {}", size.display(&names), size.eval(values)),
        _ => size.display(&names).to_string(),
    });
    format!("[{}]", extents.collect::<Vec<_>>().join(", "))
}

/// The shape of an output for given symbol values.
pub(crate) fn extents(entry: &Entry, port: &Port, values: &[i64], out: &mut Vec<u64>) -> Result<(), RuntimeError> {
    out.clear();
    for size in &port.shape {
        let found = size.eval(values);
        let Ok(extent) = u64::try_from(found) else {
            return Err(RuntimeError::Condition {
                entry: entry.name.clone(),
                condition: format!("an extent of output `{}`", port.name),
                found,
                values: shape_text(entry, port, Some(values)),
            });
        };
        out.push(extent);
    }
    Ok(())
}
