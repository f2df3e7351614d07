//! The random numbers of sampling.

/// xoshiro256++ 1.0 (Blackman and Vigna, <https://prng.di.unimi.it>), its state filled from the seed by splitmix64. The
/// stream for a seed is part of this crate's interface and does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The stream of a seed.
    pub fn new(mut seed: u64) -> Self {
        let mut splitmix = || {
            seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (seed ^ seed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ z >> 31
        };
        Random { state: [splitmix(), splitmix(), splitmix(), splitmix()] }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.state;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// The next number in 0..1, a multiple of 2⁻⁵³.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        // From the authors' C code with the state 1, 2, 3, 4.
        let mut r = Random { state: [1, 2, 3, 4] };
        let first: Vec<u64> = (0..4).map(|_| r.bits()).collect();
        assert_eq!(first, [41943041, 58720359, 3588806011781223, 3591011842654386]);
        // splitmix64 from 0, as in its author's code.
        assert_eq!(Random::new(0).state[0], 0xE220_A839_7B1D_CDAF);
    }
}
