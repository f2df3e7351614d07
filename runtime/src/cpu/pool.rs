//! The process's worker threads. They spin for a while after a step, so that the next one finds them awake, and
//! then sleep.
//!
//! Nothing waits for a worker: a step's caller works too and could do all of it, see [`super::region`]. So steps of
//! several sessions need no queue; a worker follows the last call it got.

use super::region::{MAX_THREADS, Patience, Region};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

/// How long a worker spins for the next step: longer than sampling a token takes, too short to warm a room.
const SPIN: Duration = Duration::from_micros(200);

#[repr(align(128))]
#[derive(Default)]
struct Mailbox {
    /// Grows with every call.
    calls: AtomicU32,
    asleep: AtomicBool,
    step: Mutex<Option<Arc<Region>>>,
}

struct Worker {
    mailbox: Arc<Mailbox>,
    thread: Thread,
}

fn workers() -> &'static Mutex<Vec<Worker>> {
    static WORKERS: OnceLock<Mutex<Vec<Worker>>> = OnceLock::new();
    WORKERS.get_or_init(Mutex::default)
}

/// Worker threads a session calls on; its own thread is not among them.
#[derive(Clone)]
pub(crate) struct Pool {
    workers: Arc<[(Arc<Mailbox>, Thread)]>,
}

impl Pool {
    /// The process's first `threads - 1` workers, started where they were not yet. Where the system gives no more
    /// threads, there are fewer.
    pub(crate) fn of(threads: usize) -> Self {
        let mut all = workers().lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = threads.clamp(1, MAX_THREADS) - 1;
        while all.len() < wanted {
            let mailbox = Arc::new(Mailbox::default());
            let (mine, number) = (mailbox.clone(), all.len() + 1);
            let name = format!("mlxc-worker-{number}");
            match std::thread::Builder::new().name(name).spawn(move || attend(&mine, number)) {
                Ok(handle) => all.push(Worker { mailbox, thread: handle.thread().clone() }),
                Err(_) => break,
            }
        }
        let workers = all.iter().take(wanted).map(|w| (w.mailbox.clone(), w.thread.clone())).collect();
        Pool { workers }
    }

    /// Threads that take part, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs a step to its end.
    ///
    /// # Safety
    /// No step of this region is running, every record holds what its thunk was compiled for until this returns,
    /// and the region has a slot for each of [`Pool::threads`].
    pub(crate) unsafe fn run(&self, region: &Arc<Region>) {
        // SAFETY: as the caller promises; thread 0 is the caller, and workers have their own numbers.
        unsafe {
            if self.workers.is_empty() {
                region.run_alone();
                return;
            }
            region.open();
            for (mailbox, thread) in self.workers.iter() {
                *mailbox.step.lock().unwrap_or_else(PoisonError::into_inner) = Some(region.clone());
                mailbox.calls.fetch_add(1, Ordering::SeqCst);
                if mailbox.asleep.load(Ordering::SeqCst) {
                    thread.unpark();
                }
            }
            region.work(0);
        }
    }
}

/// A worker's life.
fn attend(mailbox: &Mailbox, number: usize) {
    let mut seen = 0;
    loop {
        let mut waiting = Patience::new(SPIN);
        while mailbox.calls.load(Ordering::Acquire) == seen {
            if waiting.spin() {
                continue;
            }
            // The caller counts a call up before it looks whether we sleep, so one of the two sees the other.
            mailbox.asleep.store(true, Ordering::SeqCst);
            while mailbox.calls.load(Ordering::SeqCst) == seen {
                std::thread::park();
            }
            mailbox.asleep.store(false, Ordering::SeqCst);
        }
        seen = mailbox.calls.load(Ordering::Acquire);
        let step = mailbox.step.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(region) = step {
            // SAFETY: this thread alone has this number.
            unsafe { region.work(number) };
        }
    }
}
