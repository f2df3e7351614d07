//! Puts many pieces into as few buffers as the device's limit allows.

use super::device::padded;

/// Where a piece lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The buffer's number.
    pub(super) buffer: usize,
    /// Bytes from its start, a multiple of 256.
    pub(super) offset: u64,
}

/// The buffers' sizes and the place of each piece, in order. Pieces are `(bytes, alone)`: one that is alone has a buffer
/// of its own. A piece past the limit has one too, which the device then refuses.
pub(super) fn place(pieces: impl Iterator<Item = (u64, bool)>, limit: u64) -> (Vec<u64>, Vec<Piece>) {
    let mut sizes: Vec<u64> = Vec::new();
    let mut current: Option<usize> = None;
    let mut places = Vec::new();
    for (bytes, alone) in pieces {
        let bytes = padded(bytes);
        match current.filter(|b| !alone && sizes[*b].saturating_add(bytes) <= limit) {
            Some(buffer) => {
                places.push(Piece { buffer, offset: sizes[buffer] });
                sizes[buffer] += bytes;
            }
            None => {
                places.push(Piece { buffer: sizes.len(), offset: 0 });
                if !alone {
                    current = Some(sizes.len());
                }
                sizes.push(bytes);
            }
        }
    }
    (sizes, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_fill_buffers_up_to_the_limit() {
        let pieces = [(0, false), (300, false), (1, true), (256, false), (257, false), (5000, false)];
        let (sizes, places) = place(pieces.into_iter(), 1024);
        assert_eq!(sizes, [1024, 256, 512, 5120]);
        let found: Vec<(usize, u64)> = places.iter().map(|p| (p.buffer, p.offset)).collect();
        assert_eq!(found, [(0, 0), (0, 256), (1, 0), (0, 768), (2, 0), (3, 0)]);
        assert_eq!(place(std::iter::empty(), 1024), (vec![], vec![]));
    }
}
