//! What is measured, one file per group.

mod broadcast;
mod cache;
mod compare;
mod errgroup;
mod gather;
mod nursery;

use crate::suite::Group;

/// All groups, in the order of the report.
pub fn all() -> Vec<Group> {
    vec![
        errgroup::group(),
        nursery::group(),
        gather::group(),
        cache::group(),
        broadcast::group(),
        compare::group(),
    ]
}
