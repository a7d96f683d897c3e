//! All subjects under criterion, for its statistics and its comparison with an earlier run. Ratios between subjects are
//! better taken from `cargo xtask bench`, where they take turns.

use criterion::{BenchmarkId, Criterion, Throughput};
use trionics_benches::groups;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for group in groups::all() {
        for case in group.cases() {
            let mut benchmarks =
                criterion.benchmark_group(format!("{}/{}", group.name(), case.name()));
            benchmarks.throughput(Throughput::Elements(case.units()));
            for subject in case.subjects() {
                if !subject.has_times() {
                    continue;
                }
                benchmarks.bench_function(BenchmarkId::from_parameter(subject.name()), |bencher| {
                    if let Some(turn) = subject.set_up() {
                        bencher.iter_custom(turn);
                    }
                });
            }
            benchmarks.finish();
        }
    }
    criterion.final_summary();
}
