//! Memory that knows what is defined and who touched it.
//!
//! Lanes run in lockstep, which hides races; so each element keeps its last writer and the readers since, and an
//! access that conflicts with them in one barrier interval is an error whatever the order.

use crate::Diagnostic;
use smallvec::SmallVec;

/// Who touches an element, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Toucher {
    /// Number of the launch.
    pub(super) launch: u32,
    pub(super) group: u64,
    pub(super) lane: u32,
    pub(super) subgroup: u32,
    /// Barriers passed that order this memory for the group.
    pub(super) interval: u32,
    /// Barriers passed that order it for the subgroup.
    pub(super) subgroup_interval: u32,
}

enum Conflict {
    No,
    Lanes,
    Groups,
}

impl Toucher {
    fn conflicts(&self, other: &Toucher) -> Conflict {
        if self.launch != other.launch {
            return Conflict::No;
        }
        if self.group != other.group {
            return Conflict::Groups;
        }
        let ordered = self.lane == other.lane
            || self.interval != other.interval
            || (self.subgroup == other.subgroup && self.subgroup_interval != other.subgroup_interval);
        if ordered { Conflict::No } else { Conflict::Lanes }
    }
}

#[derive(Clone, Default)]
struct Track {
    writer: Option<Toucher>,
    /// Of the last atomic; atomics do not conflict with each other.
    atomic: Option<Toucher>,
    readers: SmallVec<[Toucher; 1]>,
}

/// A buffer or group array.
pub(super) struct Array {
    pub(super) name: String,
    pub(super) shape: SmallVec<[i64; 4]>,
    pub(super) data: Vec<u64>,
    /// `None` where everything is defined.
    defined: Option<Vec<bool>>,
    /// `None` where nothing is stored.
    tracks: Option<Vec<Track>>,
}

impl Array {
    pub(super) fn new(name: &str, shape: SmallVec<[i64; 4]>, data: Vec<u64>, undefined: bool, stored: bool) -> Self {
        let n = data.len();
        Array {
            name: name.into(),
            shape,
            data,
            defined: undefined.then(|| vec![false; n]),
            tracks: stored.then(|| vec![Track::default(); n]),
        }
    }

    /// Position of an element.
    pub(super) fn offset(&self, at: &[i64]) -> Result<usize, Diagnostic> {
        let mut offset = 0i64;
        for (axis, (i, n)) in at.iter().zip(&self.shape).enumerate() {
            if i < &0 || i >= n {
                let message = format!("`{}`, axis {axis}: index out of bounds", self.name);
                return Err(Diagnostic::new(554, message).expected(format!("0 <= index < {n}")).found(i.to_string()));
            }
            offset = offset * n + i;
        }
        Ok(offset as usize)
    }

    pub(super) fn load(&mut self, offset: usize, who: &Toucher) -> Result<u64, Diagnostic> {
        if self.defined.as_ref().is_some_and(|d| !d[offset]) {
            return Err(Diagnostic::new(551, format!("`{}`: an element is loaded before it is stored", self.name))
                .found(self.coordinates(offset)));
        }
        if let Some(tracks) = &self.tracks {
            let track = &tracks[offset];
            let mut stores = track.writer.iter().chain(&track.atomic);
            if let Some(conflict) = stores.find_map(|w| self.name_conflict(w, who, offset, "stored and loaded")) {
                return Err(conflict);
            }
            let track = &mut self.tracks.as_mut().expect("checked above")[offset];
            if track.readers.last() != Some(who) {
                // Readers of another launch or interval can no longer conflict, and two other groups stand for all.
                let mut others = 0;
                track.readers.retain(|r| {
                    others += u32::from(r.group != who.group);
                    r.launch == who.launch
                        && if r.group == who.group { r.interval == who.interval } else { others <= 2 }
                });
                if !track.readers.contains(who) {
                    track.readers.push(*who);
                }
            }
        }
        Ok(self.data[offset])
    }

    pub(super) fn store(&mut self, offset: usize, bits: u64, who: &Toucher) -> Result<(), Diagnostic> {
        if let Some(tracks) = &self.tracks {
            let track = &tracks[offset];
            let conflict = track
                .writer
                .iter()
                .chain(&track.atomic)
                .find_map(|w| self.name_conflict(w, who, offset, "stored twice"))
                .or_else(|| track.readers.iter().find_map(|r| self.name_conflict(r, who, offset, "loaded and stored")));
            if let Some(conflict) = conflict {
                return Err(conflict);
            }
            let track = &mut self.tracks.as_mut().expect("checked above")[offset];
            track.writer = Some(*who);
            track.readers.clear();
        }
        self.put(offset, bits);
        Ok(())
    }

    /// An atomic update, which may meet other atomics but no plain access.
    pub(super) fn update(
        &mut self,
        offset: usize,
        with: impl FnOnce(u64) -> u64,
        who: &Toucher,
    ) -> Result<(), Diagnostic> {
        if self.defined.as_ref().is_some_and(|d| !d[offset]) {
            return Err(Diagnostic::new(551, format!("`{}`: an atomic on an undefined element", self.name))
                .found(self.coordinates(offset)));
        }
        if let Some(tracks) = &self.tracks {
            let track = &tracks[offset];
            let mut plain = track.writer.iter().chain(&track.readers);
            if let Some(conflict) =
                plain.find_map(|w| self.name_conflict(w, who, offset, "updated and touched plainly"))
            {
                return Err(conflict);
            }
            let mut all = *who;
            if let Some(before) = track.atomic.filter(|b| (b.launch, b.interval) == (who.launch, who.interval)) {
                // Nobody in particular, so that a plain access by any one of them conflicts with the others.
                if before.group != who.group {
                    all.group = u64::MAX;
                }
                if before.lane != who.lane {
                    (all.lane, all.subgroup) = (u32::MAX, u32::MAX);
                }
            }
            self.tracks.as_mut().expect("checked above")[offset].atomic = Some(all);
        }
        let bits = with(self.data[offset]);
        self.put(offset, bits);
        Ok(())
    }

    fn put(&mut self, offset: usize, bits: u64) {
        self.data[offset] = bits;
        if let Some(defined) = &mut self.defined {
            defined[offset] = true;
        }
    }

    /// The first element never stored.
    pub(super) fn uncovered(&self) -> Option<String> {
        let at = self.defined.as_ref()?.iter().position(|d| !d)?;
        Some(self.coordinates(at))
    }

    fn name_conflict(&self, before: &Toucher, now: &Toucher, offset: usize, what: &str) -> Option<Diagnostic> {
        let (id, who) = match before.conflicts(now) {
            Conflict::No => return None,
            Conflict::Lanes => (552, format!("lanes {} and {} in one barrier interval", before.lane, now.lane)),
            Conflict::Groups => (553, format!("groups {} and {} in one phase", before.group, now.group)),
        };
        Some(
            Diagnostic::new(id, format!("`{}`: an element is {what} by {who}", self.name))
                .found(self.coordinates(offset)),
        )
    }

    fn coordinates(&self, mut offset: usize) -> String {
        let mut at: Vec<String> = Vec::new();
        for n in self.shape.iter().rev() {
            let n = (*n).max(1) as usize;
            at.push((offset % n).to_string());
            offset /= n;
        }
        at.reverse();
        format!("{}[{}]", self.name, at.join(", "))
    }
}
