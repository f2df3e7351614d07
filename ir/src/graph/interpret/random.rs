//! Random bits: threefry2x32 of 20 rounds (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2,
//! 3", 2011), with counters laid out as MLX lays them out.

use super::tensor::{Tensor, count};
use mlxc_package::DType;

/// Rotations of even and odd groups of four rounds.
pub const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
/// What the third key word adds to the others' parity.
pub const PARITY: u32 = 0x1BD1_1BDA;

/// Two words from a key and a counter of two words.
pub fn threefry2x32(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    let ks = [key[0], key[1], key[0] ^ key[1] ^ PARITY];
    let mut v = [counter[0].wrapping_add(ks[0]), counter[1].wrapping_add(ks[1])];
    for group in 0..5u32 {
        for r in ROTATIONS[group as usize % 2] {
            v[0] = v[0].wrapping_add(v[1]);
            v[1] = v[1].rotate_left(r) ^ v[0];
        }
        let at = group as usize;
        v[0] = v[0].wrapping_add(ks[(at + 1) % 3]);
        v[1] = v[1].wrapping_add(ks[(at + 2) % 3]).wrapping_add(group + 1);
    }
    v
}

/// Word `w` of the `words` a key gives: the first half of them are first words of hashes, the rest second words; an odd
/// one in the middle has a hash of its own.
pub fn word(key: [u32; 2], w: u32, words: u32) -> u32 {
    let (half, odd) = (words / 2, words % 2);
    let split = half + odd;
    if w < split {
        let second = if odd == 1 && w == half { 0 } else { w + split };
        threefry2x32(key, [w, second])[0]
    } else {
        threefry2x32(key, [w - split, w])[1]
    }
}

/// Random elements of `width` bytes; the last `rank` axes of the shape are one key's.
pub(super) fn bits(keys: &Tensor, dtype: DType, shape: Vec<usize>, rank: usize, width: usize) -> Tensor {
    let each = count(&shape[shape.len() - rank..]);
    let words = (each * width).div_ceil(4) as u32;
    let mut out = Vec::with_capacity(count(&shape));
    for k in 0..keys.len() / 2 {
        let key = [keys.int(2 * k) as u32, keys.int(2 * k + 1) as u32];
        for e in 0..each {
            let byte = e * width;
            out.push(i64::from(word(key, (byte / 4) as u32, words) >> (8 * (byte % 4))));
        }
    }
    Tensor::ints(dtype, &shape, &out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of Random123 1.09 for threefry2x32 with 20 rounds.
    #[test]
    fn hashes_agree_with_random123() {
        assert_eq!(threefry2x32([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry2x32([u32::MAX, u32::MAX], [u32::MAX, u32::MAX]), [0x1cb9_96fc, 0xbb00_2be7]);
        let (key, counter) = ([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]);
        assert_eq!(threefry2x32(key, counter), [0xc492_3a9c, 0x483d_f7a0]);
    }
}
