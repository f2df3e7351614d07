//! Depth-first search for offsets below a capacity.
//!
//! After Moffitt, "MiniMalloc: A Lightweight Memory Allocator for Hardware-Accelerated Machine Learning", ASPLOS 2023. Of all
//! placements, one with the least sum of offsets has each buffer on the arena's bottom or on a buffer below it; taken from
//! low to high, each is then at its *rest*, the highest top among the placed buffers it meets. So it is enough to place
//! buffers at their rests, in order of offset, where a fixed preference orders equal offsets. A branch is cut where
//!
//! - a section cannot hold what is left of it above its lowest rest, or above the offset that has been reached;
//! - a buffer that is left would end below the offset chosen: it could slide down, and the sum would not be the least;
//! - a buffer met nothing that is left, and so changed nothing: its alternatives fail too.
//!
//! Where the buffers that are left fall apart in time, each part is searched for itself.

use super::sections::Problem;
use std::cmp::Reverse;

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every buffer has an offset.
    Found,
    /// There is no placement.
    Impossible,
    /// The steps were used up.
    Steps,
}

/// Which buffers are preferred at equal offsets: the largest of each quantity in turn.
#[derive(Clone, Copy, Debug)]
pub enum Preference {
    /// Fullest section, then life, then area.
    FullLongLarge,
    /// Fullest section, then area, then life.
    FullLargeLong,
    /// Life, then area, then fullest section.
    LongLargeFull,
}

/// All preferences, the one that solves most first.
pub const PREFERENCES: [Preference; 3] =
    [Preference::FullLongLarge, Preference::FullLargeLong, Preference::LongLargeFull];

/// The state of one search.
pub struct Search<'p> {
    problem: &'p Problem,
    capacity: u64,
    preference: Preference,
    steps: u64,
    limit: u64,
    placed: Vec<bool>,
    offsets: Vec<u64>,
    /// Lowest offset a buffer may still have.
    rest: Vec<u64>,
    /// Bytes of each section that are not placed.
    left: Vec<u64>,
    /// Buffers not placed that live both in this section and in the one before.
    across: Vec<u32>,
    /// Rests before each change, to take it back.
    old_rests: Vec<(usize, u64)>,
    /// Sections changed by the step of this number.
    changed: Vec<u64>,
}

/// A part of the sections, and where in the order of placements the search is.
#[derive(Clone, Copy)]
struct Part<'a> {
    /// Its buffers, the preferred first; some may be placed.
    buffers: &'a [usize],
    /// Its sections: the first, and one past the last.
    span: (usize, usize),
    /// Offset and position of the buffer placed last.
    reached: (u64, usize),
}

impl<'p> Search<'p> {
    /// A search that has placed nothing.
    pub fn new(problem: &'p Problem, capacity: u64) -> Self {
        let (buffers, sections) = (problem.bytes.len(), problem.members.len());
        let mut across = vec![0; sections];
        for (from, to) in &problem.span {
            across[from + 1..*to].iter_mut().for_each(|c| *c += 1);
        }
        Search {
            problem,
            capacity,
            preference: PREFERENCES[0],
            steps: 0,
            limit: 0,
            placed: vec![false; buffers],
            offsets: vec![0; buffers],
            rest: vec![0; buffers],
            left: problem.members.iter().map(|m| m.iter().map(|b| problem.bytes[*b]).sum()).collect(),
            across,
            old_rests: Vec::new(),
            changed: vec![0; sections],
        }
    }

    /// Searches from the start; tries at most `limit` placements of single buffers.
    pub fn run(&mut self, preference: Preference, limit: u64) -> End {
        (self.preference, self.limit) = (preference, self.steps.saturating_add(limit));
        if self.left.iter().any(|l| *l > self.capacity) {
            return End::Impossible;
        }
        let all: Vec<usize> = (0..self.problem.bytes.len()).collect();
        self.part(all, (0, self.problem.members.len()), 0)
    }

    /// Steps of all runs.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The offsets, after a run that found some.
    pub fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    /// Orders a part's buffers by what is left now, and searches it.
    fn part(&mut self, mut buffers: Vec<usize>, span: (usize, usize), reached: u64) -> End {
        buffers.sort_by_cached_key(|b| {
            let (from, to) = self.problem.span[*b];
            let full = self.left[from..to].iter().copied().max().unwrap_or(0);
            let (bytes, long) = (self.problem.bytes[*b], self.problem.length[*b]);
            let large = u128::from(bytes) * u128::from(long);
            let (full, long) = (u128::from(full), u128::from(long));
            let key = match self.preference {
                Preference::FullLongLarge => [full, long, large],
                Preference::FullLargeLong => [full, large, long],
                Preference::LongLargeFull => [long, large, full],
            };
            (Reverse(key), *b)
        });
        self.search(Part { buffers: &buffers, span, reached: (reached, 0) })
    }

    fn search(&mut self, part: Part<'_>) -> End {
        let Some(candidates) = self.candidates(part) else { return End::Found };
        for (offset, position) in candidates {
            if self.steps >= self.limit {
                return End::Steps;
            }
            self.steps += 1;
            let buffer = part.buffers[position];
            let mark = self.old_rests.len();
            let alone = self.put(buffer, offset);
            let end = if self.fits(buffer) {
                self.below(Part { reached: (offset, position), ..part }, buffer)
            } else {
                End::Impossible
            };
            // Taken back even if it was right, since another part may fail; the offset is kept.
            self.take_back(buffer, mark);
            if end != End::Impossible {
                return end;
            }
            if alone {
                break;
            }
        }
        End::Impossible
    }

    /// Buffers that may come next, by offset and position; nothing if all are placed.
    fn candidates(&self, part: Part<'_>) -> Option<Vec<(u64, usize)>> {
        // From the first offset at which a buffer that is left would fit below, and at which a section overflows.
        let mut end = u64::MAX;
        let mut out = Vec::new();
        let mut any = false;
        for (position, b) in part.buffers.iter().enumerate().filter(|(_, b)| !self.placed[**b]) {
            any = true;
            let rest = self.rest[*b];
            end = end.min(rest + self.problem.bytes[*b]);
            if (rest, position) >= part.reached {
                out.push((rest, position));
            }
        }
        let most = self.left[part.span.0..part.span.1].iter().copied().max().unwrap_or(0);
        // A section never holds more than the capacity, or the branch would have been cut.
        end = end.min((self.capacity - most).saturating_add(1));
        out.retain(|(offset, _)| *offset < end);
        out.sort_unstable();
        any.then_some(out)
    }

    /// Places a buffer; true if nothing that is left meets it.
    fn put(&mut self, buffer: usize, offset: u64) -> bool {
        let problem = self.problem;
        let (bytes, (from, to)) = (problem.bytes[buffer], problem.span[buffer]);
        (self.placed[buffer], self.offsets[buffer]) = (true, offset);
        for s in from..to {
            self.left[s] -= bytes;
            self.changed[s] = self.steps;
        }
        self.across[from + 1..to].iter_mut().for_each(|c| *c -= 1);
        let top = offset + bytes;
        let mut alone = true;
        for other in problem.meets[buffer].iter().copied().filter(|b| !self.placed[*b]) {
            alone = false;
            if self.rest[other] < top {
                self.old_rests.push((other, self.rest[other]));
                self.rest[other] = top;
                let (from, to) = problem.span[other];
                self.changed[from..to].fill(self.steps);
            }
        }
        alone
    }

    /// Takes the last placement back: rests as they were when so many changes were noted.
    fn take_back(&mut self, buffer: usize, mark: usize) {
        for (other, rest) in self.old_rests.drain(mark..).rev() {
            self.rest[other] = rest;
        }
        let (bytes, (from, to)) = (self.problem.bytes[buffer], self.problem.span[buffer]);
        self.left[from..to].iter_mut().for_each(|l| *l += bytes);
        self.across[from + 1..to].iter_mut().for_each(|c| *c += 1);
        self.placed[buffer] = false;
    }

    /// True if each section that the last step changed holds what is left of it above its lowest rest.
    fn fits(&self, buffer: usize) -> bool {
        let problem = self.problem;
        let (mut from, mut to) = problem.span[buffer];
        for other in &problem.meets[buffer] {
            from = from.min(problem.span[*other].0);
            to = to.max(problem.span[*other].1);
        }
        (from..to).filter(|s| self.changed[*s] == self.steps && self.left[*s] > 0).all(|s| {
            let rests = problem.members[s].iter().filter(|b| !self.placed[**b]).map(|b| self.rest[*b]);
            rests.min().unwrap_or(0) + self.left[s] <= self.capacity
        })
    }

    /// Searches what is left once a buffer is placed, in parts if it held them together.
    fn below(&mut self, part: Part<'_>, buffer: usize) -> End {
        let (from, to) = self.problem.span[buffer];
        if self.across[from + 1..to].iter().all(|c| *c > 0) {
            return self.search(part);
        }
        let mut start = part.span.0;
        for s in part.span.0 + 1..=part.span.1 {
            if s < part.span.1 && self.across[s] > 0 {
                continue;
            }
            let inside = |b: &usize| {
                let (from, to) = self.problem.span[*b];
                !self.placed[*b] && start <= from && to <= s
            };
            let buffers: Vec<usize> = part.buffers.iter().copied().filter(inside).collect();
            if !buffers.is_empty() {
                let end = self.part(buffers, (start, s), part.reached.0);
                if end != End::Found {
                    return end;
                }
            }
            start = s;
        }
        End::Found
    }
}
