//! What the crates add to `cargo xtask ci`: model checks, and examples that check themselves. One entry, and it is part of it.

use std::time::Duration;

/// A model check: a cargo command of its own, with an environment of its own.
pub(crate) struct Model {
    /// The step is called `model-NAME`.
    pub(crate) name: &'static str,
    /// What is explored, in a few words.
    pub(crate) purpose: &'static str,
    /// Variables, such as `RUSTFLAGS`. Models are built in a target folder of their own, so that flags do not throw away the others' work.
    pub(crate) env: &'static [(&'static str, &'static str)],
    /// The arguments for cargo, between spaces.
    pub(crate) args: &'static str,
}

/// Bound each so that it ends within a minute.
pub(crate) const MODELS: &[Model] = &[
    Model {
        name: "broadcast",
        purpose: "loom: interleavings of two and three threads, in a block and in the channel",
        env: &[("RUSTFLAGS", "--cfg trionics_loom")],
        args: "test --package trionics-broadcast --release --lib --test loom",
    },
    Model {
        name: "nursery",
        purpose: "shuttle: wakes, cancellations and starts against polls and ends, on random schedules",
        env: &[("RUSTFLAGS", "--cfg trionics_shuttle")],
        args: "test --package trionics-nursery --release --test shuttle",
    },
    Model {
        name: "cache",
        purpose: "shuttle: opens, leaves, failed set-ups and the end of the service, on random schedules",
        env: &[("RUSTFLAGS", "--cfg trionics_shuttle")],
        args: "test --package trionics-cache --release --test shuttle",
    },
];

/// The tests of a package that has unsafe code, once more under AddressSanitizer, which only a nightly toolchain has.
pub(crate) struct Sanitized {
    /// The step is called `sanitize-NAME`.
    pub(crate) name: &'static str,
    /// The package whose tests are run.
    pub(crate) package: &'static str,
}

/// Every package whose root does not forbid unsafe code.
pub(crate) const SANITIZED: &[Sanitized] = &[
    Sanitized {
        name: "broadcast",
        package: "trionics-broadcast",
    },
    Sanitized {
        name: "nursery",
        package: "trionics-nursery",
    },
];

/// An example that ends by itself, and ends well only if what it shows is true.
pub(crate) struct Example {
    /// The step is called `example-NAME`.
    pub(crate) name: &'static str,
    /// The package it belongs to.
    pub(crate) package: &'static str,
    /// What it proves, in a few words.
    pub(crate) purpose: &'static str,
    /// Arguments for the example itself, between spaces.
    pub(crate) args: &'static str,
    /// When it counts as hung; the build is not included.
    pub(crate) limit: Duration,
}

/// All are built in release mode.
pub(crate) const EXAMPLES: &[Example] = &[
    Example {
        name: "supervisor",
        package: "trionics-nursery",
        purpose: "a supervisor of real processes, shut down by time and by ctrl-c",
        args: "",
        limit: Duration::from_secs(60),
    },
    Example {
        name: "tree",
        package: "trionics-nursery",
        purpose: "a program that prints its task tree while it runs and while it shuts down",
        args: "",
        limit: Duration::from_secs(60),
    },
    Example {
        name: "shared_connection",
        package: "trionics-cache",
        purpose: "TCP connections shared by hundreds of tasks, counted by the server",
        args: "",
        limit: Duration::from_secs(60),
    },
    Example {
        name: "feed",
        package: "trionics",
        purpose: "a feed server on real sockets, cancelled in full flight",
        args: "",
        limit: Duration::from_secs(120),
    },
    Example {
        name: "chat",
        package: "trionics",
        purpose: "a chat server with rooms, cancelled in full flight while its clients talk",
        args: "",
        limit: Duration::from_secs(120),
    },
    Example {
        name: "port_scanner",
        package: "trionics",
        purpose: "a scan of real ports with a limit and time limits, whose listeners count the goodbyes",
        args: "",
        limit: Duration::from_secs(120),
    },
    Example {
        name: "fan_out",
        package: "trionics-broadcast",
        purpose: "one TCP stream for 1 000 tasks, a third of them slow: what each received and lost adds up",
        args: "",
        limit: Duration::from_secs(120),
    },
    Example {
        name: "happy_eyeballs",
        package: "trionics-gather",
        purpose: "real connects raced to several addresses, whose losers say goodbye to a listener that checks it",
        args: "",
        limit: Duration::from_secs(60),
    },
];
