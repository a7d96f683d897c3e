//! What the server counts while it runs, for the progress line; the proof of a rehearsal does without.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers that go up, and some of them down again.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) clients: Count,
    pub(crate) upstreams: Count,
    pub(crate) cache_hits: Count,
    pub(crate) ticks_in: Count,
    pub(crate) ticks_out: Count,
    pub(crate) told_lost: Count,
}

/// A number that several tasks count.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Counts one more for as long as the returned guard lives.
    pub(crate) fn hold(&self) -> CountGuard<'_> {
        self.add(1);
        CountGuard(self)
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Takes one off the count when it is dropped.
#[derive(Debug)]
pub(crate) struct CountGuard<'a>(&'a Count);

impl Drop for CountGuard<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>3} clients, {} upstreams; ticks: {:>6} in, {:>8} out, {:>6} told lost; {} cache hits",
            self.clients.get(),
            self.upstreams.get(),
            self.ticks_in.get(),
            self.ticks_out.get(),
            self.told_lost.get(),
            self.cache_hits.get(),
        )
    }
}
