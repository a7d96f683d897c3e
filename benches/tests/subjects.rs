//! Each subject of each case does its work: what `cargo xtask bench` would find out late is found out by the tests.

use trionics_benches::groups;

#[test]
fn every_subject_runs() {
    for group in groups::all() {
        assert!(
            !group.cases().is_empty(),
            "the group {} has no cases",
            group.name()
        );
        for case in group.cases() {
            assert!(
                !case.subjects().is_empty(),
                "{}/{} has no subjects",
                group.name(),
                case.name()
            );
            for subject in case.subjects() {
                // If it panics, the test's output ends with who it was.
                eprintln!("{}/{}: {}", group.name(), case.name(), subject.name());
                if let Some(mut turn) = subject.set_up() {
                    turn(1);
                }
                let figures = subject.figures();
                assert!(
                    subject.has_times() || !figures.is_empty(),
                    "there is nothing to say of it"
                );
            }
        }
    }
}

#[test]
fn group_names_are_unique() {
    let mut names: Vec<_> = groups::all()
        .iter()
        .map(|group| group.name().to_owned())
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "{names:?}");
}
