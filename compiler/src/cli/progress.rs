//! Progress on standard error, for what takes longer than a moment.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// A line that says which stage runs; silent where standard error is no terminal.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
}

impl Progress {
    /// Starts.
    pub fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_style(
            ProgressStyle::with_template("{spinner} {elapsed} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress { bar, started: Instant::now() }
    }

    /// Says what begins.
    pub fn stage(&self, name: &str) {
        self.bar.set_message(name.to_string());
    }

    /// Counts bytes written of a total.
    pub fn bytes(&self, done: u64, total: u64) {
        let human = mlxc::report::human;
        self.bar.set_message(format!("writing weights: {} of {}", human(done), human(total)));
    }

    /// Counts targets scored of a total.
    pub fn count(&self, done: u64, total: u64) {
        self.bar.set_message(format!("{done} of {total} tokens"));
    }

    /// Clears the line; gives the time since the start.
    pub fn finish(self) -> Duration {
        self.bar.finish_and_clear();
        self.started.elapsed()
    }
}
