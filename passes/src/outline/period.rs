//! Repeating stretches of a list.

/// A stretch in which every element equals the one `period` places on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First element.
    pub start: usize,
    /// Number of elements.
    pub length: usize,
    /// Distance of equal elements.
    pub period: usize,
}

impl Run {
    fn repeated(&self) -> usize {
        self.length / self.period * self.period
    }
}

/// Every maximal run of at least two periods, each of at least `least` elements: those that cover most first, of equals
/// the one with more repetitions.
pub fn runs(keys: &[u64], least: usize) -> Vec<Run> {
    let mut out = Vec::new();
    for period in least.max(1)..=keys.len() / 2 {
        let mut start = 0;
        for i in 0..=keys.len() - period {
            let equal = i + period < keys.len() && keys[i] == keys[i + period];
            if equal {
                continue;
            }
            let length = i - start + period;
            if length >= 2 * period {
                out.push(Run { start, length, period });
            }
            start = i + 1;
        }
    }
    out.sort_by_key(|r| (std::cmp::Reverse(r.repeated()), r.period, r.start));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_stretch_comes_first_with_its_shortest_period() {
        let keys: Vec<u64> = [9, 9].into_iter().chain([1, 2, 3, 4].repeat(4)).chain([1, 2, 7]).collect();
        let found = runs(&keys, 2);
        assert_eq!(found[0], Run { start: 2, length: 18, period: 4 });
        assert!(found.iter().any(|r| r.period == 8));
        assert!(runs(&[1, 2, 3, 4], 1).is_empty());
        assert_eq!(runs(&[5, 5], 1), [Run { start: 0, length: 2, period: 1 }]);
        assert!(runs(&[], 1).is_empty());
    }
}
