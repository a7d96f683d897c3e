//! What a subscriber of the crate `tracing` hears.

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use trionics_nursery::{
    CancelScope, Nursery, NurseryOptions, Settings, checkpoint, internal, move_on_after, shield,
    sleep, testing,
};

mod common;
use common::{Invited, Word, never, poll_once};

const SECOND: Duration = Duration::from_secs(1);

/// Writes down spans and events, and which span each of them is in.
#[derive(Clone, Default)]
struct Journal {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    next_id: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    entered: Vec<u64>,
    names: Vec<(u64, String)>,
}

impl State {
    fn name(&self, id: Option<u64>) -> String {
        let known = self.names.iter().find(|(known, _)| Some(*known) == id);
        known.map_or_else(|| "nothing".to_owned(), |(_, name)| name.clone())
    }
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // As the tokio-console and an ordinary log have it.
        metadata.target().starts_with("runtime") || metadata.target() == "trionics_nursery"
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields(String::new());
        attributes.record(&mut fields);
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed) + 1;
        let mut state = self.shared.state.lock().unwrap();
        let parent = state.name(state.entered.last().copied());
        let name = attributes.metadata().name().to_owned();
        state.lines.push(format!("in {parent}: {name}{}", fields.0));
        state.names.push((id, name));
        Id::from_u64(id)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        let mut state = self.shared.state.lock().unwrap();
        let id = event.parent().map(Id::into_u64).or_else(|| {
            let last = state.entered.last().copied();
            last.filter(|_| event.is_contextual())
        });
        let parent = state.name(id);
        let level = event.metadata().level();
        state
            .lines
            .push(format!("in {parent}: {level}{}", fields.0));
    }

    fn enter(&self, span: &Id) {
        self.shared
            .state
            .lock()
            .unwrap()
            .entered
            .push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        let popped = self.shared.state.lock().unwrap().entered.pop();
        assert_eq!(popped, Some(span.into_u64()), "spans are left in order");
    }
}

/// What is heard while `future` runs; every span that was entered has been left.
fn heard(future: impl Future<Output = ()>) -> Vec<String> {
    let journal = Journal::default();
    tracing::subscriber::with_default(journal.clone(), || testing::run(future));
    let state = journal.shared.state.lock().unwrap();
    assert!(state.entered.is_empty());
    state.lines.clone()
}

#[track_caller]
fn assert_heard(lines: &[String], parts: &[&str]) {
    assert!(
        lines
            .iter()
            .any(|line| parts.iter().all(|part| line.contains(part))),
        "{parts:?} was not heard: {lines:#?}"
    );
}

#[test]
fn scopes_nurseries_and_children_are_spans_inside_each_other() {
    let lines = heard(async {
        let server = NurseryOptions::new().name("server");
        // Also where no task tree is kept: a child needs no frame inside.
        let outcome =
            Settings::new()
                .track_tasks(false)
                .run(server.open(async |n: Nursery<'_, Word>| {
                    n.named("reader").start_soon(async {
                        checkpoint().await;
                        CancelScope::named("section")
                            .run(checkpoint())
                            .await
                            .unwrap();
                        Ok(())
                    });
                    Ok(())
                }));
        outcome.await.unwrap();
    });
    assert_heard(
        &lines,
        &["in nothing: nursery", "name=\"server\"", "tests/tracing.rs"],
    );
    // The shape by which the tokio-console knows a task.
    assert_heard(
        &lines,
        &[
            "in nursery: runtime.spawn",
            "kind=\"child\"",
            "task.name=\"reader\"",
            "loc.file=\"crates/trionics-nursery/tests/tracing.rs\"",
            "loc.line=",
            "loc.col=",
        ],
    );
    assert_heard(&lines, &["in runtime.spawn: scope", "name=\"section\""]);
    assert_eq!(lines.len(), 3, "{lines:#?}");
}

#[test]
fn cancellations_are_events_with_their_reasons() {
    let lines = heard(async {
        let scope = CancelScope::named("program");
        let outcome = scope.run(async {
            move_on_after(SECOND, never()).await;
            scope.cancel("ctrl-c");
            scope.cancel("once more");
            never().await;
        });
        outcome.await.unwrap_err();
    });
    assert_heard(
        &lines,
        &["in scope: DEBUG", "cancelled", "the deadline passed"],
    );
    assert_heard(
        &lines,
        &[
            "in scope: DEBUG",
            "`program`",
            "reason=ctrl-c",
            "tests/tracing.rs",
        ],
    );
    assert!(!lines.iter().any(|line| line.contains("once more")));
}

#[test]
fn exits_and_what_is_abandoned_are_events() {
    let lines = heard(async {
        let location = std::panic::Location::caller();
        let block = internal::Block::new(location, 1);
        let context = {
            let block = block.clone();
            async move {
                internal::Guest::new(Invited::here(&block)).await;
                sleep(SECOND).await;
            }
        };
        let used = block.run(|| async { Ok::<(), ()>(()) });
        let ((), used) = futures::join!(trionics_nursery::branch(context), used);
        used.unwrap().unwrap();
        let quiet = Settings::new().on_report(|_| ());
        quiet
            .run(async {
                let mut shielded = Box::pin(shield(never()));
                assert!(poll_once(&mut shielded).await.is_none());
            })
            .await;
    });
    assert_heard(&lines, &["DEBUG", "exit", "branch"]);
    assert_heard(&lines, &["WARN", "abandoned", "shield"]);
}
