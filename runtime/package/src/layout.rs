//! How the elements of a weight or state lie in memory.

use serde::{Deserialize, Serialize};

/// A storage order over the last two axes `[.., A, L]`; earlier axes stay outermost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// As the shape says.
    #[default]
    RowMajor,
    /// Panels of `block` rows: `[.., ceil(A / block), ceil(L / pair), block * pair]`, where element (a, l) lies at
    /// `[a / block, l / pair, a % block * pair + l % pair]`. Rows and columns past the end are zero. A matrix product
    /// reads a panel as one stream, `pair` neighbours of the inner axis at a time.
    Blocked {
        /// Rows a panel.
        block: u32,
        /// Neighbours of the last axis kept together: 2 for bf16 dot products.
        pair: u32,
    },
}

impl Layout {
    /// The shape of the stored array.
    pub fn stored_shape(self, shape: &[u64]) -> Vec<u64> {
        let Layout::Blocked { block, pair } = self else { return shape.to_vec() };
        let (block, pair) = (u64::from(block), u64::from(pair));
        let Some(split) = shape.len().checked_sub(2) else { return shape.to_vec() };
        let mut out = shape[..split].to_vec();
        out.extend([shape[split].div_ceil(block), shape[split + 1].div_ceil(pair), block.saturating_mul(pair)]);
        out
    }

    /// Rearranges row-major elements of `size` bytes each.
    ///
    /// # Panics
    /// If `data` does not hold `product(shape) * size` bytes.
    pub fn store(self, data: &[u8], shape: &[u64], size: usize) -> Vec<u8> {
        let elements: u64 = shape.iter().product();
        assert_eq!(data.len() as u64, elements * size as u64, "data fills its shape");
        self.map(shape, size, |out, at, i| {
            out[at * size..(at + 1) * size].copy_from_slice(&data[i * size..(i + 1) * size])
        })
    }

    /// The inverse of [`Layout::store`].
    ///
    /// # Panics
    /// If `stored` is shorter than the stored shape says.
    pub fn restore(self, stored: &[u8], shape: &[u64], size: usize) -> Vec<u8> {
        let mut out = vec![0; shape.iter().product::<u64>() as usize * size];
        self.visit(shape, |at, i| {
            out[i * size..(i + 1) * size].copy_from_slice(&stored[at * size..(at + 1) * size]);
        });
        out
    }

    fn map(self, shape: &[u64], size: usize, mut f: impl FnMut(&mut [u8], usize, usize)) -> Vec<u8> {
        let mut out = vec![0; self.stored_shape(shape).iter().product::<u64>() as usize * size];
        self.visit(shape, |at, i| f(&mut out, at, i));
        out
    }

    /// Calls `f(stored position, row-major position)` for every element.
    fn visit(self, shape: &[u64], mut f: impl FnMut(usize, usize)) {
        let (Layout::Blocked { block, pair }, Some(split)) = (self, shape.len().checked_sub(2)) else {
            (0..shape.iter().product::<u64>() as usize).for_each(|i| f(i, i));
            return;
        };
        let (block, pair) = (block as usize, pair as usize);
        let batch: usize = shape[..split].iter().product::<u64>() as usize;
        let (rows, columns) = (shape[split] as usize, shape[split + 1] as usize);
        let panel = columns.div_ceil(pair) * block * pair;
        for b in 0..batch {
            for r in 0..rows {
                let base = (b * rows.div_ceil(block) + r / block) * panel + r % block * pair;
                for c in 0..columns {
                    f(base + c / pair * block * pair + c % pair, (b * rows + r) * columns + c);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocked_storage_is_what_its_formula_says() {
        let shape = [2u64, 5, 3];
        let data: Vec<u8> = (0..30u8).flat_map(|i| [i, 100 + i]).collect();
        for (block, pair) in [(4, 2), (16, 1), (1, 1), (3, 4)] {
            let layout = Layout::Blocked { block, pair };
            let stored = layout.store(&data, &shape, 2);
            let s = layout.stored_shape(&shape);
            assert_eq!(stored.len() as u64, s.iter().product::<u64>() * 2);
            for b in 0..2u64 {
                for a in 0..5u64 {
                    for l in 0..3u64 {
                        let (k, p) = (u64::from(block), u64::from(pair));
                        let at = ((b * s[1] + a / k) * s[2] + l / p) * s[3] + a % k * p + l % p;
                        let i = (b * 5 + a) * 3 + l;
                        assert_eq!(stored[at as usize * 2], i as u8);
                    }
                }
            }
            assert_eq!(layout.restore(&stored, &shape, 2), data);
        }
    }
}
