//! What must run before what, and what a launch adds to and takes from the bytes that are live.
//!
//! A buffer is live from its first writer to its last use. So the bytes live depend on which launches have run, not on their
//! order.

use super::Launch;
use std::collections::BTreeSet;

/// The launches that have run, a bit each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Set(Box<[u64]>);

impl Set {
    /// Nothing of `n`.
    pub fn empty(n: usize) -> Self {
        Set(vec![0; n.div_ceil(64)].into())
    }

    /// True if a launch is in the set.
    pub fn has(&self, launch: usize) -> bool {
        self.0[launch / 64] >> (launch % 64) & 1 == 1
    }

    /// Adds a launch.
    pub fn add(&mut self, launch: usize) {
        self.0[launch / 64] |= 1 << (launch % 64);
    }

    /// Takes a launch out.
    pub fn remove(&mut self, launch: usize) {
        self.0[launch / 64] &= !(1 << (launch % 64));
    }

    /// How many launches are in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// The launches of the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(i, word)| {
            let rest = std::iter::successors(Some(*word), |w| Some(w & w.wrapping_sub(1)));
            rest.take_while(|w| *w != 0).map(move |w| 64 * i + w.trailing_zeros() as usize)
        })
    }
}

/// Dependencies and uses of all launches.
pub struct Graph<'a> {
    bytes: &'a [u64],
    /// Launches that must come before each launch.
    pub needs: Vec<BTreeSet<usize>>,
    /// Launches that wait for each launch.
    waits: Vec<Vec<usize>>,
    /// Buffers each launch writes and touches, each once, those without bytes left out.
    writes: Vec<Vec<usize>>,
    touches: Vec<Vec<usize>>,
    /// Launches that write and touch each buffer.
    writers: Vec<Vec<usize>>,
    users: Vec<Vec<usize>>,
}

impl<'a> Graph<'a> {
    /// Reads the launches in the order given.
    pub fn new(launches: &[Launch], bytes: &'a [u64]) -> Self {
        let needs = before(launches, bytes.len());
        let mut waits = vec![Vec::new(); launches.len()];
        for (l, n) in needs.iter().enumerate() {
            n.iter().for_each(|b| waits[*b].push(l));
        }
        let once = |buffers: &mut dyn Iterator<Item = &usize>| -> Vec<usize> {
            buffers.copied().filter(|b| bytes[*b] > 0).collect::<BTreeSet<_>>().into_iter().collect()
        };
        let writes: Vec<Vec<usize>> = launches.iter().map(|l| once(&mut l.writes.iter())).collect();
        let touches: Vec<Vec<usize>> = launches.iter().map(|l| once(&mut l.reads.iter().chain(&l.writes))).collect();
        let turned = |of: &[Vec<usize>]| {
            let mut out = vec![Vec::new(); bytes.len()];
            of.iter().enumerate().for_each(|(l, buffers)| buffers.iter().for_each(|b| out[*b].push(l)));
            out
        };
        let (writers, users) = (turned(&writes), turned(&touches));
        Graph { bytes, needs, waits, writes, touches, writers, users }
    }

    /// Number of launches.
    pub fn len(&self) -> usize {
        self.needs.len()
    }

    /// The launches that need nothing.
    pub fn first(&self) -> Set {
        let mut out = Set::empty(self.len());
        (0..self.len()).filter(|l| self.needs[*l].is_empty()).for_each(|l| out.add(l));
        out
    }

    /// Bytes that become live when a launch begins after the launches `done`.
    pub fn made(&self, launch: usize, done: &Set) -> u64 {
        let fresh = |b: &&usize| !self.writers[**b].iter().any(|w| done.has(*w));
        self.writes[launch].iter().filter(fresh).map(|b| self.bytes[*b]).sum()
    }

    /// Bytes that are no longer live when it has ended.
    pub fn freed(&self, launch: usize, done: &Set) -> u64 {
        // What nobody writes is never live.
        let last =
            |b: &&usize| !self.writers[**b].is_empty() && self.users[**b].iter().all(|u| *u == launch || done.has(*u));
        self.touches[launch].iter().filter(last).map(|b| self.bytes[*b]).sum()
    }

    /// Moves a launch from `ready` to `done`, and to `ready` what waited for it alone.
    pub fn run(&self, launch: usize, done: &mut Set, ready: &mut Set) {
        done.add(launch);
        ready.remove(launch);
        for l in &self.waits[launch] {
            if self.needs[*l].iter().all(|n| done.has(*n)) {
                ready.add(*l);
            }
        }
    }

    /// What no order gets below: the bytes that one launch touches.
    pub fn bound(&self) -> u64 {
        let live = |b: &&usize| !self.writers[**b].is_empty();
        // A buffer read before it is written is not live yet.
        let known = |l: usize, b: usize| self.writers[b].iter().any(|w| *w == l || self.needs[l].contains(w));
        let sum =
            |l: usize| self.touches[l].iter().filter(live).filter(|b| known(l, **b)).map(|b| self.bytes[*b]).sum();
        (0..self.len()).map(sum).max().unwrap_or(0)
    }
}

/// Launches that must come before each launch: by data, and by writes to what an earlier one reads or writes.
fn before(launches: &[Launch], buffers: usize) -> Vec<BTreeSet<usize>> {
    let mut writer: Vec<Option<usize>> = vec![None; buffers];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); buffers];
    let mut out = Vec::with_capacity(launches.len());
    for (i, l) in launches.iter().enumerate() {
        let mut needs = BTreeSet::new();
        for b in &l.reads {
            needs.extend(writer[*b].filter(|w| *w != i));
            readers[*b].push(i);
        }
        for b in &l.writes {
            needs.extend(writer[*b].filter(|w| *w != i));
            needs.extend(readers[*b].iter().copied().filter(|r| *r != i));
            writer[*b] = Some(i);
            readers[*b].clear();
        }
        out.push(needs);
    }
    out
}
