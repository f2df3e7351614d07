//! Sizes of an entry, each once, so that a step evaluates none twice.

use mlxc_package::Size;
use std::collections::HashMap;

/// Sizes and the numbers they are known by.
#[derive(Default)]
pub(crate) struct Sizes {
    all: Vec<Size>,
    by_size: HashMap<Size, u32>,
}

impl Sizes {
    /// The number of a size.
    pub(crate) fn id(&mut self, size: &Size) -> u32 {
        if let Some(id) = self.by_size.get(size) {
            return *id;
        }
        let id = self.all.len() as u32;
        self.all.push(size.clone());
        self.by_size.insert(size.clone(), id);
        id
    }

    /// Writes the values of all sizes, by number.
    pub(crate) fn evaluate(&self, symbols: &[i64], values: &mut Vec<i64>) {
        values.clear();
        values.extend(self.all.iter().map(|s| s.eval(symbols)));
    }
}

/// Tasks or groups of a grid; an extent below zero counts as none.
pub(crate) fn product(extents: impl Iterator<Item = i64>) -> i64 {
    extents.fold(1, |p, e| p.saturating_mul(e.max(0)))
}
