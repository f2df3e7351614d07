//! A parallel region: the launches of one step, run by any number of threads from first to last.
//!
//! Threads claim chunks of the current launch's tasks from one counter. Whoever reports the last chunk of a launch done
//! opens the next one, and runs launches of a single chunk itself before it does. A launch is thus complete
//! when its tasks are, not when threads have arrived: one that sleeps, or never came, holds nobody up.
//!
//! Which thread runs a task is left to chance; what it computes is not, because tasks are independent.

use super::code::Thunk;
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One launch, ready to be run.
#[derive(Clone, Copy)]
pub(crate) struct Task {
    pub(crate) thunk: Thunk,
    /// Address of the launch record.
    pub(crate) record: u64,
    /// Number of tasks, at least 0.
    pub(crate) tasks: i64,
    /// Tasks a chunk, at least 1.
    pub(crate) chunk: i64,
    /// Chunks, below 2²⁰ − threads.
    pub(crate) chunks: u32,
}

/// Most threads of a region; with [`CHUNKS_PER_THREAD`] it keeps chunk numbers within their bits.
pub(crate) const MAX_THREADS: usize = 1 << 10;
/// Chunks a thread gets on average: enough to even out unequal speeds, few enough not to be felt.
const CHUNKS_PER_THREAD: i64 = 4;
/// How long a thread waits for a launch to end before it lets others use its core.
const SPIN: Duration = Duration::from_micros(100);

impl Task {
    /// Cuts the tasks into chunks.
    pub(crate) fn divide(&mut self, tasks: i64, threads: usize) {
        self.tasks = tasks.max(0);
        let pieces = threads as i64 * CHUNKS_PER_THREAD;
        self.chunk = (self.tasks + pieces - 1).div_euclid(pieces).max(1);
        self.chunks = ((self.tasks + self.chunk - 1) / self.chunk) as u32;
        if threads == 1 {
            (self.chunk, self.chunks) = (self.tasks.max(1), u32::from(self.tasks > 0));
        }
    }
}

/// On a cache line of its own, and away from the neighbour that hardware fetches along with it.
#[repr(align(128))]
struct Alone(AtomicU64);

/// `claim` packs the current launch, its number of chunks and the next chunk to claim: 24, 20 and 20 bits.
const BITS: u32 = 20;
const MASK: u64 = (1 << BITS) - 1;
const DONE: u64 = u64::MAX << (2 * BITS);

fn claim(launch: usize, chunks: u32) -> u64 {
    (launch as u64) << (2 * BITS) | u64::from(chunks) << BITS
}

/// The launches of a step and the counters that its threads share.
pub(crate) struct Region {
    claim: Alone,
    done: Alone,
    tasks: UnsafeCell<Vec<Task>>,
    /// Group memory: one slot a thread.
    slots: u64,
    slot_bytes: u64,
    /// Nanoseconds from the step's start to the end of each launch, where asked for.
    ended: Option<Vec<AtomicU64>>,
    started: UnsafeCell<Instant>,
}

// SAFETY: `tasks` and `started` are written only in `Region::set_up`, whose caller guarantees that no chunk can be
// claimed; a thread reads them only after it claimed a chunk, and the claim's acquire load orders that after
// the write.
unsafe impl Sync for Region {}
// SAFETY: thunks and addresses may be used from any thread.
unsafe impl Send for Region {}

impl Region {
    pub(crate) fn new(tasks: Vec<Task>, slots: u64, slot_bytes: u64, profile: bool) -> Self {
        let ended = profile.then(|| tasks.iter().map(|_| AtomicU64::new(0)).collect());
        Region {
            claim: Alone(AtomicU64::new(DONE)),
            done: Alone(AtomicU64::new(0)),
            tasks: UnsafeCell::new(tasks),
            slots,
            slot_bytes,
            ended,
            started: UnsafeCell::new(Instant::now()),
        }
    }

    /// Changes the launches before a step.
    ///
    /// # Safety
    /// No step of this region is running, and no other call of this function.
    pub(crate) unsafe fn set_up(&self, change: impl FnOnce(&mut [Task])) {
        // SAFETY: between steps `claim` is DONE, so no other thread looks at the tasks.
        unsafe {
            change(&mut *self.tasks.get());
            if self.ended.is_some() {
                *self.started.get() = Instant::now();
            }
        }
    }

    /// Runs the whole step on this thread.
    ///
    /// # Safety
    /// As [`Region::open`].
    pub(crate) unsafe fn run_alone(&self) {
        // SAFETY: as the caller promises; nothing was opened, so no other thread takes part.
        unsafe { self.advance(0, 0, u32::MAX) };
    }

    /// Opens the first launch to every thread that calls [`Region::work`].
    ///
    /// # Safety
    /// No step of this region is running, and every record holds what its thunk was compiled for until
    /// [`Region::work`] of thread 0 returns.
    pub(crate) unsafe fn open(&self) {
        // SAFETY: as the caller promises.
        unsafe { self.advance(0, 0, 1) };
    }

    /// Takes part in the step as thread `thread` until it is done. Returns at once if none is running.
    ///
    /// # Safety
    /// No two threads of one number run at once, and slots exist for all of them.
    pub(crate) unsafe fn work(&self, thread: usize) {
        let slot = (self.slots + thread as u64 * self.slot_bytes) as *mut u8;
        let mut finished = 0u64;
        let mut waiting = Patience::new(SPIN);
        loop {
            let mut seen = self.claim.0.load(Ordering::Acquire);
            if seen & MASK < seen >> BITS & MASK {
                seen = self.claim.0.fetch_add(1, Ordering::AcqRel);
                if seen & MASK < seen >> BITS & MASK {
                    let launch = (seen >> (2 * BITS)) as usize;
                    // SAFETY: the claim was for a chunk of this launch, so the step is running and this thread owns
                    // the chunk; other chunks touch nothing that this one stores to.
                    unsafe {
                        let task = &(&*self.tasks.get())[launch];
                        let lo = (seen & MASK) as i64 * task.chunk;
                        let hi = (lo + task.chunk).min(task.tasks);
                        (task.thunk)(task.record as *const u64, slot, lo, hi);
                    }
                    finished += 1;
                    continue;
                }
            }
            if finished > 0 {
                // An unreported chunk keeps its launch current, so `seen` is of the launch that was worked on.
                let all = seen >> BITS & MASK;
                if self.done.0.fetch_add(finished, Ordering::AcqRel) + finished == all {
                    let launch = (seen >> (2 * BITS)) as usize;
                    self.stamp(launch);
                    // SAFETY: this thread ended the launch, so it alone may open the next.
                    unsafe { self.advance(launch + 1, thread, 1) };
                }
                finished = 0;
                waiting = Patience::new(SPIN);
                continue;
            }
            if seen >= DONE {
                return;
            }
            waiting.wait();
        }
    }

    /// Runs launches from `launch` on while they have at most `alone` chunks, then opens the next or ends the step.
    ///
    /// # Safety
    /// The step is running, all launches before `launch` are complete, and only one thread is here.
    unsafe fn advance(&self, mut launch: usize, thread: usize, alone: u32) {
        let slot = (self.slots + thread as u64 * self.slot_bytes) as *mut u8;
        // SAFETY: no thread changes the tasks while the step runs.
        let tasks = unsafe { &*self.tasks.get() };
        while let Some(task) = tasks.get(launch).filter(|t| t.chunks <= alone) {
            if task.tasks > 0 {
                // SAFETY: no other launch is running, and the slot is this thread's.
                unsafe { (task.thunk)(task.record as *const u64, slot, 0, task.tasks) };
            }
            self.stamp(launch);
            launch += 1;
        }
        self.done.0.store(0, Ordering::Relaxed);
        let next = tasks.get(launch).map_or(DONE, |t| claim(launch, t.chunks));
        self.claim.0.store(next, Ordering::Release);
    }

    fn stamp(&self, launch: usize) {
        if let Some(ended) = &self.ended {
            // SAFETY: written before the step began.
            let started = unsafe { *self.started.get() };
            ended[launch].store(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
    }

    /// Nanoseconds each launch of the last step took; empty where not asked for.
    pub(crate) fn times(&self) -> Vec<u64> {
        let mut last = 0;
        let ended = self.ended.iter().flatten().map(|t| t.load(Ordering::Relaxed));
        ended.map(|t| t.saturating_sub(std::mem::replace(&mut last, t))).collect()
    }
}

/// Spins for a while, then yields the core on every call.
pub(crate) struct Patience {
    spin: Duration,
    since: Option<Instant>,
    turns: u32,
}

impl Patience {
    pub(crate) fn new(spin: Duration) -> Self {
        Patience { spin, since: None, turns: 0 }
    }

    /// Waits a little; false once the time to spin is over.
    pub(crate) fn spin(&mut self) -> bool {
        std::hint::spin_loop();
        self.turns += 1;
        // Reading the clock costs as much as some turns.
        if self.turns < 32 {
            return true;
        }
        self.turns = 0;
        self.since.get_or_insert_with(Instant::now).elapsed() < self.spin
    }

    pub(crate) fn wait(&mut self) {
        if !self.spin() {
            self.turns = 31; // yield on every call from here on
            std::thread::yield_now();
        }
    }
}
