//! Where the tracked parts of the program are to be found.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use crate::node::Node;

/// The tracked frames whose parent is not tracked, in the order in which they were begun.
///
/// The lock is taken last, and nothing of the user's runs under it.
static ROOTS: Mutex<Roots> = Mutex::new(Roots {
    n_begun: 0,
    by_address: BTreeMap::new(),
});

struct Roots {
    n_begun: u64,
    by_address: BTreeMap<usize, (u64, Weak<Node>)>,
}

pub(crate) fn add(node: &Arc<Node>) {
    let mut roots = ROOTS.lock().unwrap_or_else(PoisonError::into_inner);
    roots.n_begun += 1;
    let number = roots.n_begun;
    roots
        .by_address
        .insert(node.address(), (number, Arc::downgrade(node)));
}

pub(crate) fn remove(address: usize) {
    let mut roots = ROOTS.lock().unwrap_or_else(PoisonError::into_inner);
    roots.by_address.remove(&address);
}

pub(super) fn all() -> Vec<Arc<Node>> {
    let mut known: Vec<_> = {
        let roots = ROOTS.lock().unwrap_or_else(PoisonError::into_inner);
        let roots = roots.by_address.values();
        roots
            .filter_map(|(number, node)| Some((*number, node.upgrade()?)))
            .collect()
    };
    known.sort_by_key(|(number, _)| *number);
    known
        .into_iter()
        .map(|(_, node)| node)
        // One that has moved into another tracked frame is found there.
        .filter(|node| node.parent().is_none_or(|parent| !parent.is_tracked()))
        .collect()
}
