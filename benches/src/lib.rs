//! The measuring frame: subjects of a case take turns in interleaved rounds within one process.
//!
//! A machine whose speed drifts spoils any comparison of figures that were taken one after the other. Here every subject of a
//! [`Case`] runs once per round, for about the same time, in an order that is shuffled for each round; the ratio between
//! two subjects is taken within each round, and what is reported is the median of these paired ratios. [`groups`] holds
//! what is measured, one file per group; `README.md` beside the manifest says how to add one.
#![deny(unsafe_code)]

pub mod against;
pub mod allocations;
pub mod alone;
pub mod budget;
mod chart;
pub mod figures;
pub mod groups;
pub mod interrupt;
mod json;
pub mod machine;
pub mod measure;
pub mod options;
pub mod report;
pub mod statistics;
pub mod suite;
pub mod support;
pub mod targets;

pub use crate::suite::{Case, Group, OURS};
