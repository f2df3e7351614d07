//! An entry made ready to run: launch records with every fixed address filled in, and lists of what changes from
//! step to step.

use super::Loaded;
use super::code::Thunk;
use super::region::{Region, Task};
use crate::LoadOptions;
use crate::poison::freed;
use crate::sizes::{Sizes, product};
use mlxc_package::plan::{Entry, Place};
use mlxc_package::{BUFFER_ALIGNMENT, Size};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Addresses of a session's memory.
pub(crate) struct Memory {
    pub(crate) states: Vec<u64>,
    pub(crate) arena: u64,
    pub(crate) slots: u64,
    pub(crate) slot_bytes: u64,
}

/// An entry of a session.
pub(crate) struct Prepared {
    pub(crate) region: Arc<Region>,
    /// The plan's launches among the region's tasks, which hold those of poisoning as well.
    pub(crate) launches: Vec<u32>,
    /// All launch records, one after another. Workers read them as plain words during a step.
    records: Box<[AtomicU64]>,
    /// Words that hold the address of an input or output.
    ports: Vec<(u32, Port)>,
    /// Sizes that are no constants.
    sizes: Sizes,
    /// Words that hold the value of a size.
    scalars: Vec<(u32, u32)>,
    /// Tasks whose grid is not constant, and what it depends on.
    grids: Vec<(u32, Grid)>,
    /// Symbol values for which scalars and grids were filled in.
    current: Option<Vec<i64>>,
    values: Vec<i64>,
}

/// A grid that depends on symbols.
struct Grid {
    extents: Vec<u32>,
    threads: usize,
}

/// A launch whose buffers are no larger than this in all runs on one thread: it is over before others have
/// noticed it (a core moves some 50 bytes a nanosecond within its caches, a barrier takes 200 ns or more).
const SMALL_BYTES: u64 = 16 << 10;

#[derive(Clone, Copy)]
enum Port {
    Input(u32),
    Output(u32),
}

impl Prepared {
    pub(crate) fn new(loaded: &Loaded, options: &LoadOptions, entry: &Entry, memory: &Memory) -> Self {
        let mut words: Vec<u64> = Vec::new();
        let (mut ports, mut scalars, mut grids, mut sizes) = (Vec::new(), Vec::new(), Vec::new(), Sizes::default());
        // The place of each task's record, until their addresses are known.
        let mut tasks: Vec<(Thunk, usize, i64, usize)> = Vec::new();
        let mut launches = Vec::new();
        let fill = |words: &mut Vec<u64>, tasks: &mut Vec<(Thunk, usize, i64, usize)>, from: u64, to: u64| {
            tasks.push((fill_with_nan, words.len(), 1, 1));
            words.extend([memory.arena + from, to - from]);
        };
        let poison = options.poison;
        if poison && entry.arena.bytes > 0 {
            fill(&mut words, &mut tasks, 0, entry.arena.bytes.next_multiple_of(BUFFER_ALIGNMENT));
        }
        for (i, launch) in entry.launches.iter().enumerate() {
            let at = words.len();
            for b in &launch.buffers {
                let word = words.len() as u32;
                words.push(match entry.buffers[*b as usize].place {
                    Place::Input(i) => {
                        ports.push((word, Port::Input(i)));
                        0
                    }
                    Place::Output(i) => {
                        ports.push((word, Port::Output(i)));
                        0
                    }
                    Place::Weight(i) => loaded.weights[i as usize],
                    Place::State(i) => memory.states[i as usize],
                    Place::Arena { offset } => memory.arena + offset,
                });
            }
            for size in &launch.scalars {
                if size.as_const().is_none() {
                    scalars.push((words.len() as u32, sizes.id(size)));
                }
                words.push(size.as_const().unwrap_or(0) as u64);
            }
            let bytes: u64 = launch.buffers.iter().map(|b| entry.buffers[*b as usize].bytes).sum();
            let threads = if bytes <= SMALL_BYTES { 1 } else { loaded.pool.threads() };
            let fixed: Option<Vec<i64>> = launch.grid.iter().map(Size::as_const).collect();
            if fixed.is_none() {
                let extents = launch.grid.iter().map(|s| sizes.id(s)).collect();
                grids.push((tasks.len() as u32, Grid { extents, threads }));
            }
            launches.push(tasks.len() as u32);
            let count = fixed.map_or(0, |extents| product(extents.into_iter()));
            tasks.push((loaded.thunks[launch.kernel as usize][launch.phase as usize], at, count, threads));
            if poison {
                for (from, to) in freed(entry, i as u32) {
                    fill(&mut words, &mut tasks, from, to);
                }
            }
        }
        let records: Box<[AtomicU64]> = words.into_iter().map(AtomicU64::new).collect();
        let tasks = tasks.into_iter().map(|(thunk, at, count, threads)| {
            let record = records[at..].as_ptr() as u64;
            let mut task = Task { thunk, record, tasks: 0, chunk: 1, chunks: 0 };
            task.divide(count, threads);
            task
        });
        let region = Region::new(tasks.collect(), memory.slots, memory.slot_bytes, options.profile);
        Prepared {
            region: Arc::new(region),
            launches,
            records,
            ports,
            sizes,
            scalars,
            grids,
            current: None,
            values: Vec::new(),
        }
    }

    /// Fills in what a step changes.
    ///
    /// # Safety
    /// No step of the region is running.
    pub(crate) unsafe fn set_up(&mut self, symbols: &[i64], inputs: &[u64], outputs: &[u64]) {
        for (word, port) in &self.ports {
            let address = match *port {
                Port::Input(i) => inputs[i as usize],
                Port::Output(i) => outputs[i as usize],
            };
            self.records[*word as usize].store(address, Ordering::Relaxed);
        }
        let changed = self.current.as_deref() != Some(symbols);
        if changed {
            self.current = Some(symbols.to_vec());
            self.sizes.evaluate(symbols, &mut self.values);
            for (word, size) in &self.scalars {
                self.records[*word as usize].store(self.values[*size as usize] as u64, Ordering::Relaxed);
            }
        }
        let (grids, values) = (&self.grids, &self.values);
        // SAFETY: as the caller promises.
        unsafe {
            self.region.set_up(|tasks| {
                for (task, grid) in grids.iter().filter(|_| changed) {
                    let count = product(grid.extents.iter().map(|e| values[*e as usize]));
                    tasks[*task as usize].divide(count, grid.threads);
                }
            });
        }
    }
}

/// Fills the `record[1]` bytes at `record[0]` with 0xFF.
#[cfg(target_arch = "x86_64")]
unsafe extern "sysv64" fn fill_with_nan(record: *const u64, _: *mut u8, lo: i64, hi: i64) {
    // SAFETY: as for `fill_range`.
    unsafe { fill_range(record, lo, hi) }
}

/// Fills the `record[1]` bytes at `record[0]` with 0xFF.
#[cfg(not(target_arch = "x86_64"))]
unsafe extern "C" fn fill_with_nan(record: *const u64, _: *mut u8, lo: i64, hi: i64) {
    // SAFETY: as for `fill_range`.
    unsafe { fill_range(record, lo, hi) }
}

/// # Safety
/// The record names a range of the arena, and no launch is running.
unsafe fn fill_range(record: *const u64, lo: i64, hi: i64) {
    if lo < hi {
        // SAFETY: as the caller promises.
        unsafe { std::ptr::write_bytes(*record as *mut u8, 0xFF, *record.add(1) as usize) };
    }
}
