//! The workspace's documents, compiled as doctests: `cargo test -p xtask --doc` runs every Rust block of the README and of
//! `docs/*.md`. The build script writes the list, so a new document needs no entry here.

#[cfg(doctest)]
mod documents {
    include!(concat!(env!("OUT_DIR"), "/documents.rs"));
}
