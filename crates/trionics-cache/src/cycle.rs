//! Who waits for whom: set-ups and exits that wait for each other in a circle are found at once.
//!
//! An edge says that code which runs for one key's resource, in its set-up or its exit, waits for another
//! key. What runs for a resource is known from the scope tree, so it is found through nurseries,
//! combinators, executor children and carried futures alike. There is one graph for the process: caches
//! may need each other. Only waits *inside* a set-up or exit touch it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{Arc, PoisonError},
};

use trionics_errgroup::{Failure, LibraryFailure};
use trionics_nursery::internal::Tag;

use crate::sync::ProcessMutex;

/// A resource that waits, and for which others, how many times each.
struct Waits {
    tag: Arc<dyn Tag>,
    targets: BTreeMap<u64, usize>,
}

static GRAPH: ProcessMutex<BTreeMap<u64, Waits>> = ProcessMutex::new(BTreeMap::new());

/// A wait that is part of the graph until it is dropped.
pub(crate) struct Edge {
    from: u64,
    to: u64,
    is_cut: bool,
}

/// The resources of a circle, each of which waits for the next, and the last for the first.
pub(crate) struct Cycle(Vec<Arc<dyn Tag>>);

impl Cycle {
    /// The failure, with the names of the keys; their `Debug` is the program's code.
    pub(crate) fn into_failure<E>(self) -> Failure<E> {
        let path = self.0.iter().map(|tag| Cow::Owned(tag.name())).collect();
        Failure::library(LibraryFailure::Cycle { path })
    }
}

impl Edge {
    /// Notes that code of `from` waits for the resource `to`, unless that one waits for `from`.
    pub(crate) fn try_new(from: &Arc<dyn Tag>, to: u64) -> Result<Self, Cycle> {
        let mut graph = GRAPH.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = find_way(&graph, to, from.id()) {
            let mut path = vec![Arc::clone(from)];
            let known = way.iter().filter_map(|id| graph.get(id));
            path.extend(known.map(|waits| Arc::clone(&waits.tag)));
            return Err(Cycle(path));
        }
        let waits = graph.entry(from.id()).or_insert_with(|| Waits {
            tag: Arc::clone(from),
            targets: BTreeMap::new(),
        });
        *waits.targets.entry(to).or_default() += 1;
        Ok(Self {
            from: from.id(),
            to,
            is_cut: false,
        })
    }
}

/// The resources from `start` to the one that waits for `goal`; none if `start` is the goal itself.
fn find_way(graph: &BTreeMap<u64, Waits>, start: u64, goal: u64) -> Option<Vec<u64>> {
    if start == goal {
        return Some(Vec::new());
    }
    let mut seen = BTreeSet::from([start]);
    // Each way is kept as its last step and the index of the one before.
    let mut steps: Vec<(u64, Option<usize>)> = vec![(start, None)];
    let mut next = 0;
    while let Some(&(id, _)) = steps.get(next) {
        for &target in graph.get(&id).into_iter().flat_map(|it| it.targets.keys()) {
            if target == goal {
                let mut way = Vec::new();
                let mut step = Some(next);
                while let Some(index) = step {
                    way.push(steps[index].0);
                    step = steps[index].1;
                }
                way.reverse();
                return Some(way);
            }
            if seen.insert(target) {
                steps.push((target, Some(next)));
            }
        }
        next += 1;
    }
    None
}

impl Edge {
    /// Takes the wait out of the graph. What comes back holds a key, whose drop is the program's code.
    pub(crate) fn cut(mut self) -> Option<Arc<dyn Tag>> {
        self.take_out()
    }

    fn take_out(&mut self) -> Option<Arc<dyn Tag>> {
        if mem::replace(&mut self.is_cut, true) {
            return None;
        }
        let mut graph = GRAPH.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = graph.get_mut(&self.from)?;
        if let Some(count) = waits.targets.get_mut(&self.to) {
            *count -= 1;
            if *count == 0 {
                waits.targets.remove(&self.to);
            }
        }
        if waits.targets.is_empty() {
            graph.remove(&self.from).map(|waits| waits.tag)
        } else {
            None
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        drop(self.take_out());
    }
}
