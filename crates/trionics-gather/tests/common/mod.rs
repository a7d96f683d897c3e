//! Contexts that note what they see, and what the tests of several crates share.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub use testkit::*;
use trionics_gather::{AsyncContext, Slot, acm};

/// A context that provides its name, notes what it sees, and exits once `exit` is open.
pub fn resource(
    name: Word,
    notes: &Notes,
    exit: &Gate,
) -> impl AsyncContext<Value = Word, Error = Word> + use<> {
    let (notes, exit) = (notes.clone(), exit.wait());
    acm(async move |slot: Slot<Word>| {
        notes.add(format!("{name} enters"));
        let end = slot.provide(name).await;
        notes.add(format!("{name} sees {end:?}"));
        exit.await;
        notes.add(format!("{name} has exited"));
        Ok(())
    })
}

/// Like [`resource`], with an exit that awaits once but waits for nobody.
pub fn quick(name: Word, notes: &Notes) -> impl AsyncContext<Value = Word, Error = Word> + use<> {
    let notes = notes.clone();
    acm(async move |slot: Slot<Word>| {
        notes.add(format!("{name} enters"));
        let end = slot.provide(name).await;
        notes.add(format!("{name} sees {end:?}"));
        pause().await;
        notes.add(format!("{name} has exited"));
        Ok(())
    })
}
