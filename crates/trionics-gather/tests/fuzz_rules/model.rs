//! The rules, as a model that watches every poll and every drop of a program and says what is allowed.
//!
//! The model knows each future of the program as a *probe*, and each of the library's frames by the probe around it and
//! the probe around its body. From what goes in and comes out of the probes it follows the rules by itself; what the
//! library does must agree.

use std::{collections::HashMap, fmt, ops::AddAssign, thread, thread::ThreadId, time::Duration};

/// Something that the model knows of a future that the program polls.
pub(crate) type ProbeId = usize;
/// A frame of the library.
pub(crate) type FrameId = usize;
/// A cancel scope or the scope of a nursery.
pub(crate) type ScopeId = usize;

/// How long a cancelled frame waits for frames that nobody polls.
pub(crate) const PATIENCE: Duration = Duration::from_millis(100);

/// The model's knowledge of a condition; grows from `No` to `Yes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Known {
    No,
    /// The rules leave it open, or another thread is about to do it.
    Maybe,
    Yes,
}

/// What sort of frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Scope,
    Shield,
    Settings,
    Carried,
    Nursery,
    Gather,
    Body,
    Child,
    Context,
    Block,
    Provide,
}

/// A failure as the program sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shape {
    Tag(usize),
    Cancelled,
    Library,
    /// In the model only: `Library` or nothing, the rules leave it open.
    MaybeLibrary,
    Group(Vec<Shape>),
}

/// What a poll returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Pending,
    Value,
    Failed(Shape),
    /// `Err(Cancelled)`, with its reason.
    Stopped(String),
    Panicked(String),
    /// How a block ended, as `provide` tells it.
    BlockEnd(Ended),
}

/// How the body of a frame ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Value,
    Failed,
    Cancelled,
    Panicked,
}

/// What a probe stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Code of the program.
    Plain,
    /// Code of the program that may drop what it polls at any time.
    Foreign,
    /// The library's future for a frame.
    Outside(FrameId),
    /// What the frame polls.
    Inside(FrameId),
    /// A wait for something, to be looked at when everything rests.
    Wait(Wait),
}

/// What a leaf waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Gate(usize),
    Request,
    Until(Duration),
    Child(FrameId),
    /// Nothing: it wakes itself.
    Turn,
    /// For ever.
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProbeState {
    New,
    Waiting,
    Polling,
    Done,
    Panicked,
    Dropping,
    Dropped,
}

#[derive(Debug)]
struct Probe {
    parent: Option<ProbeId>,
    role: Role,
    state: ProbeState,
    /// Nobody polls it any more, and that is the program's doing.
    held_back: bool,
    /// The innermost frame around it when it was last polled.
    around: Option<FrameId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameState {
    New,
    Live,
    /// Unwound without having returned.
    Parked,
    Ended(Ended),
    Dropped,
}

#[derive(Debug)]
struct Frame {
    kind: Kind,
    state: FrameState,
    parent: Option<FrameId>,
    /// The frames that called `provide`, for a block.
    providers: Vec<FrameId>,
    scope: Option<ScopeId>,
    /// Cancelled by its own children, by the rules.
    own: Known,
    outside: Option<ProbeId>,
    inside: Option<ProbeId>,
    last_polled: Duration,
    /// Its body has been polled.
    has_begun: bool,
    /// Since when it waits for live frames inside, being cancelled.
    waits_since: Option<Duration>,
    /// How often it was polled while it waited, since a frame inside was.
    idle_polls: usize,
    /// When a frame inside was last polled, while it waited.
    inside_polled: Duration,
    /// It has had to wait for a live frame, being cancelled.
    has_waited: Known,
    /// What its body returned in this poll.
    turn: Option<Seen>,
    /// It was first polled in this poll.
    first_turn: bool,
    /// Its parent had waited when it was first polled.
    late: Known,
    /// Its body was dropped for a cancellation.
    struck: bool,
    /// It must strike before anything else happens.
    must_strike: bool,
    /// How cancelled it was when its body returned.
    effective_at_turn: Known,
    /// How cancelled it was around it when its body returned or it was polled.
    around_at_turn: Known,
    /// An exit runs in it: no cancellation from outside or its own reaches that code.
    is_exit: bool,
    /// What waits for a block in it, out to the context.
    provides: Vec<FrameId>,
    /// The frame is a `provide` that may have been parked unpolled.
    uncertain: bool,
    // Of nurseries and gathers.
    members: Vec<FrameId>,
    /// Children that it has been given, and may have taken, though whoever gave them has yet to say so.
    offered: Vec<FrameId>,
    /// It gave `Pending`, and what is offered tells whether it waits or has parked.
    waits_or_parked: bool,
    failures: Vec<Shape>,
    panics: Vec<String>,
    /// How certain it is that an outer cancellation stopped a child.
    stopped_from_outside: Known,
    /// A single failure comes out as it is.
    is_with: bool,
    // Of contexts.
    block: Option<FrameId>,
    has_provided: bool,
    /// Of blocks: all values were there before a cancellation could come between.
    must_begin: bool,
}

#[derive(Debug)]
struct Scope {
    cancelled: Known,
    /// One call of `cancel` was told that it was the first.
    has_first: bool,
    /// The first reason, unless two threads raced.
    reason: Option<String>,
}

/// A report of the library, as far as the model counts them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Told {
    DroppedContext,
    DroppedShield,
    Dropped(String),
    NotPolled,
    FailedUnderCancellation(usize),
    FailuresBehindPanic(usize),
    LaterPanic(String),
}

#[derive(Debug)]
enum Event {
    Begin(ProbeId),
    End(ProbeId, Seen),
    DropBegin(ProbeId),
    DropEnd(ProbeId),
    Note(String),
    Told(Told),
}

/// Everything the model knows.
#[derive(Debug)]
pub(crate) struct Model {
    probes: Vec<Probe>,
    frames: Vec<Frame>,
    scopes: Vec<Scope>,
    /// The thread that polls.
    host: ThreadId,
    polling: HashMap<ThreadId, Vec<ProbeId>>,
    dropping: HashMap<ThreadId, Vec<ProbeId>>,
    pub(crate) now: Duration,
    pub(crate) has_clock: bool,
    /// Another thread cancels and starts things.
    pub(crate) has_threads: bool,
    log: Vec<Event>,
    violation: Option<String>,
    told: Vec<Told>,
    must_tell: Vec<Told>,
    /// Reports that the rules allow beside those that they ask for.
    may_tell: Vec<Told>,
    pub(crate) n_polls: usize,
    pub(crate) opened_gates: Vec<bool>,
    /// What the program has come across, to see that the generator reaches it.
    pub(crate) seen: Coverage,
}

/// How often interesting things have happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Coverage {
    pub(crate) strikes: usize,
    pub(crate) caught: usize,
    pub(crate) parked: usize,
    pub(crate) parked_unpolled: usize,
    pub(crate) exits: usize,
    pub(crate) exits_under_cancellation: usize,
    pub(crate) waits: usize,
    pub(crate) abandoned: usize,
    pub(crate) failures: usize,
    pub(crate) panics: usize,
    pub(crate) values_that_won: usize,
    pub(crate) dropped_exits: usize,
}

impl Coverage {
    fn counts(&mut self) -> [&mut usize; 12] {
        [
            &mut self.strikes,
            &mut self.caught,
            &mut self.parked,
            &mut self.parked_unpolled,
            &mut self.exits,
            &mut self.exits_under_cancellation,
            &mut self.waits,
            &mut self.abandoned,
            &mut self.failures,
            &mut self.panics,
            &mut self.values_that_won,
            &mut self.dropped_exits,
        ]
    }

    /// Whether everything has happened at least once.
    pub(crate) fn is_complete(mut self) -> bool {
        self.counts().iter().all(|count| **count > 0)
    }
}

impl AddAssign for Coverage {
    fn add_assign(&mut self, mut other: Self) {
        for (count, more) in self.counts().into_iter().zip(other.counts()) {
            *count += *more;
        }
    }
}

impl Model {
    pub(crate) fn new(n_gates: usize, has_clock: bool) -> Self {
        Self {
            probes: Vec::new(),
            frames: Vec::new(),
            scopes: Vec::new(),
            host: thread::current().id(),
            polling: HashMap::new(),
            dropping: HashMap::new(),
            now: Duration::ZERO,
            has_clock,
            has_threads: false,
            log: Vec::new(),
            violation: None,
            told: Vec::new(),
            must_tell: Vec::new(),
            may_tell: Vec::new(),
            n_polls: 0,
            opened_gates: vec![false; n_gates],
            seen: Coverage::default(),
        }
    }

    // What the program is made of.

    pub(crate) fn new_scope(&mut self) -> ScopeId {
        self.scopes.push(Scope {
            cancelled: Known::No,
            has_first: false,
            reason: None,
        });
        self.scopes.len() - 1
    }

    pub(crate) fn new_frame(&mut self, kind: Kind, parent: Option<FrameId>) -> FrameId {
        let id = self.frames.len();
        self.frames.push(Frame {
            kind,
            state: FrameState::New,
            parent,
            providers: Vec::new(),
            scope: None,
            own: Known::No,
            outside: None,
            inside: None,
            last_polled: Duration::ZERO,
            has_begun: false,
            waits_since: None,
            idle_polls: 0,
            inside_polled: Duration::ZERO,
            has_waited: Known::No,
            turn: None,
            first_turn: false,
            late: Known::No,
            struck: false,
            must_strike: false,
            effective_at_turn: Known::No,
            around_at_turn: Known::No,
            is_exit: false,
            provides: Vec::new(),
            uncertain: false,
            members: Vec::new(),
            offered: Vec::new(),
            waits_or_parked: false,
            failures: Vec::new(),
            panics: Vec::new(),
            stopped_from_outside: Known::No,
            is_with: false,
            block: None,
            has_provided: false,
            must_begin: false,
        });
        if matches!(kind, Kind::Body | Kind::Context | Kind::Block)
            && let Some(parent) = parent
        {
            self.frames[parent].members.push(id);
        }
        id
    }

    pub(crate) fn set_scope(&mut self, frame: FrameId, scope: ScopeId) {
        self.frames[frame].scope = Some(scope);
    }

    pub(crate) fn set_with(&mut self, gather: FrameId) {
        self.frames[gather].is_with = true;
    }

    pub(crate) fn set_block(&mut self, context_or_provide: FrameId, block: FrameId) {
        self.frames[context_or_provide].block = Some(block);
    }

    pub(crate) fn new_probe(&mut self, role: Role, parent: Option<ProbeId>) -> ProbeId {
        let id = self.probes.len();
        self.probes.push(Probe {
            parent,
            role,
            state: ProbeState::New,
            held_back: false,
            around: None,
        });
        match role {
            Role::Outside(frame) => self.frames[frame].outside = Some(id),
            Role::Inside(frame) => self.frames[frame].inside = Some(id),
            _ => {}
        }
        id
    }

    pub(crate) fn set_role(&mut self, probe: ProbeId, role: Role) {
        self.probes[probe].role = role;
    }

    /// The frame that is current on this thread.
    pub(crate) fn current(&self) -> Option<FrameId> {
        let stack = self.polling.get(&thread::current().id())?;
        stack
            .iter()
            .rev()
            .find_map(|probe| match self.probes[*probe].role {
                Role::Inside(frame) => Some(frame),
                _ => None,
            })
    }

    /// The program stops polling this future for good.
    pub(crate) fn hold_back(&mut self, probe: ProbeId) {
        self.note(format!("p{probe} is not polled any more"));
        self.probes[probe].held_back = true;
    }

    /// Whether a nursery takes no children any more.
    pub(crate) fn is_closed(&self, nursery: FrameId) -> bool {
        let frame = &self.frames[nursery];
        frame.state != FrameState::Live || self.members_have_ended(nursery)
    }

    /// A nursery is about to be given a child.
    pub(crate) fn offers(&mut self, child: FrameId) {
        let nursery = self.frames[child].parent.expect("a child has a nursery");
        self.frames[nursery].offered.push(child);
    }

    /// A nursery has taken a child, or refused it.
    pub(crate) fn answered(&mut self, child: FrameId, is_taken: bool) {
        self.note(format!("f{child} is taken: {is_taken}"));
        if is_taken {
            self.join_members(child);
            return;
        }
        self.frames[child].state = FrameState::Dropped;
        let nursery = self.frames[child].parent.expect("a child has a nursery");
        let nursery_frame = &mut self.frames[nursery];
        nursery_frame.offered.retain(|other| *other != child);
        let has_parked = std::mem::take(&mut nursery_frame.waits_or_parked);
        if has_parked && nursery_frame.state == FrameState::Live {
            self.check_nursery_outcome(nursery, &Seen::Pending);
        }
    }

    /// A child may be polled before the thread that started it has said that it was taken.
    fn join_members(&mut self, child: FrameId) {
        let nursery = self.frames[child].parent.expect("a child has a nursery");
        let nursery = &mut self.frames[nursery];
        if !nursery.members.contains(&child) {
            nursery.members.push(child);
            nursery.offered.retain(|other| *other != child);
            nursery.waits_or_parked = false;
        }
    }

    /// How a nursery's child ended, if it has.
    pub(crate) fn child_end(&self, child: FrameId) -> Option<Ended> {
        match self.frames[child].state {
            FrameState::New | FrameState::Live => None,
            FrameState::Parked | FrameState::Dropped => Some(Ended::Cancelled),
            FrameState::Ended(ended) => Some(ended),
        }
    }

    /// The handle of a nursery's child has said how the child ended.
    pub(crate) fn handle_said(&mut self, child: FrameId, told: Ended) {
        let ended = self.child_end(child);
        // A child that was stopped and whose drop then panicked has done both.
        let was_stopped = self.frames[child].struck && told == Ended::Cancelled;
        if ended != Some(told) && !was_stopped {
            self.violate(format!(
                "the handle of f{child} says {told:?}, it has {ended:?}"
            ));
        }
    }

    // Cancellation.

    pub(crate) fn cancel_begins(&mut self, scope: ScopeId, reason: &str) {
        self.note(format!("cancel c{scope} {{"));
        let scope = &mut self.scopes[scope];
        if scope.cancelled == Known::No {
            scope.cancelled = Known::Maybe;
            scope.reason = Some(reason.to_owned());
        } else if scope.cancelled == Known::Maybe {
            scope.reason = None;
        }
    }

    pub(crate) fn cancel_ends(&mut self, scope: ScopeId, was_first: bool) {
        self.note(format!("}} cancelled c{scope}, first: {was_first}"));
        if was_first && self.scopes[scope].has_first {
            self.violate(format!(
                "rule 1: c{scope} was cancelled for the first time twice"
            ));
        }
        let scope = &mut self.scopes[scope];
        scope.has_first |= was_first;
        // Whoever was first, everything inside has been told.
        scope.cancelled = Known::Yes;
    }

    fn cancel_own(&mut self, frame: FrameId, known: Known) {
        self.frames[frame].own = self.frames[frame].own.max(known);
        if known == Known::Yes
            && let Some(scope) = self.frames[frame].scope
        {
            let scope = &mut self.scopes[scope];
            if scope.cancelled != Known::Yes {
                scope.cancelled = Known::Yes;
                scope.reason = None;
            }
        }
    }

    fn own(&self, id: FrameId) -> Known {
        let frame = &self.frames[id];
        let scope = frame
            .scope
            .map_or(Known::No, |scope| self.scopes[scope].cancelled);
        let own = frame.own.max(scope);
        if own == Known::No && frame.kind == Kind::Gather && self.loses_its_block(id) {
            return Known::Maybe;
        }
        own.min(self.unless_ended(id))
    }

    /// `Maybe` for a frame that has ended: what a carried future made in it hears through it, the rules do not say.
    fn unless_ended(&self, frame: FrameId) -> Known {
        match self.frames[frame].state {
            FrameState::New | FrameState::Live => Known::Yes,
            _ => Known::Maybe,
        }
    }

    /// Whether something inside a context has cancelled the place where the block would run. The other contexts may
    /// then be told that there will be no block.
    fn loses_its_block(&self, gather: FrameId) -> bool {
        self.frames[gather]
            .members
            .iter()
            .filter(|member| self.frames[**member].kind == Kind::Block)
            .filter(|block| self.frames[**block].state != FrameState::Ended(Ended::Value))
            .any(|block| {
                let block = &self.frames[*block];
                let is_cancelled = |provider: &FrameId| self.is_cancelled_up_to(*provider, gather);
                block.state == FrameState::Parked || block.providers.iter().any(is_cancelled)
            })
    }

    fn is_cancelled_up_to(&self, id: FrameId, gather: FrameId) -> bool {
        let frame = &self.frames[id];
        id != gather
            && (self.own(id) != Known::No
                || (frame.kind != Kind::Shield
                    && frame
                        .parent
                        .iter()
                        .chain(&frame.providers)
                        .any(|parent| self.is_cancelled_up_to(*parent, gather))))
    }

    /// Whether a frame is effectively cancelled: rule 1, with rule 7's shields.
    fn effective(&self, frame: FrameId) -> Known {
        if self.frames[frame].is_exit {
            return self.shielded(frame);
        }
        let effective = self
            .own(frame)
            .max(self.around(frame))
            .min(self.unless_exit_begins(frame));
        let was_told = effective == Known::No
            && self.frames[frame].kind == Kind::Block
            && self.was_cancelled(frame);
        // A block beside an exit may have been told before the exit began.
        if was_told {
            Known::Maybe
        } else {
            effective.min(self.unless_ended(frame))
        }
    }

    /// `Maybe` if the block that the frame waits for has ended, or may have: then the exit begins, though its code does
    /// not run yet.
    fn unless_exit_begins(&self, frame: FrameId) -> Known {
        let begins = self.frames[frame].provides.iter().any(|provide| {
            let block = self.frames[*provide].block.expect("set when made");
            let gather = self.frames[block].parent.expect("a block has a gather");
            self.frames[*provide].state == FrameState::Live
                && match self.frames[block].state {
                    FrameState::Live => false,
                    FrameState::New => self.was_cancelled(block) || self.own(gather) != Known::No,
                    _ => true,
                }
        });
        if begins { Known::Maybe } else { Known::Yes }
    }

    /// What reaches through a shield: nothing. Whether it still shields what it leaves behind, the rules do not say.
    fn shielded(&self, frame: FrameId) -> Known {
        match self.frames[frame].state {
            FrameState::New | FrameState::Live => Known::No,
            _ => Known::Maybe,
        }
    }

    /// Whether a frame is effectively cancelled from around it.
    fn around(&self, id: FrameId) -> Known {
        let frame = &self.frames[id];
        if frame.is_exit || frame.kind == Kind::Shield {
            return self.shielded(id);
        }
        let from = |parent: FrameId| {
            let is_sibling_of_exit =
                matches!(frame.kind, Kind::Child | Kind::Context) && self.frames[parent].is_exit;
            if is_sibling_of_exit {
                // What the code that follows `provide` started, or what ran beside it.
                let around = self.around_exit(parent).min(Known::Maybe);
                return self.own(parent).max(around);
            }
            self.effective(parent)
        };
        frame
            .parent
            .iter()
            .chain(&frame.providers)
            .map(|parent| from(*parent))
            .max()
            .unwrap_or(Known::No)
            .min(self.unless_exit_begins(id))
    }

    /// What `around` would say were the frame no exit's shield.
    fn around_exit(&self, frame: FrameId) -> Known {
        let mut known = Known::No;
        let mut next = self.frames[frame].parent;
        while let Some(frame) = next {
            known = known.max(self.own(frame));
            if self.frames[frame].kind == Kind::Shield {
                break;
            }
            next = self.frames[frame].parent;
        }
        known
    }

    /// Whether a frame is effectively cancelled, or was before an exit began around it.
    fn was_cancelled(&self, id: FrameId) -> bool {
        let frame = &self.frames[id];
        self.own(id) != Known::No
            || ((frame.kind != Kind::Shield || self.unless_ended(id) != Known::Yes)
                && frame
                    .parent
                    .iter()
                    .chain(&frame.providers)
                    .any(|parent| self.was_cancelled(*parent)))
    }

    /// Whether anything up to the root is cancelled, shields or not.
    fn requested(&self, frame: Option<FrameId>) -> Known {
        let Some(frame) = frame else {
            return Known::No;
        };
        let from_parent = self.requested(self.frames[frame].parent);
        let from_providers = self.frames[frame]
            .providers
            .iter()
            .map(|provider| self.requested(Some(*provider)))
            .max()
            .unwrap_or(Known::No);
        self.own(frame)
            .max(from_parent)
            .max(from_providers)
            .min(self.unless_ended(frame))
    }

    /// The program has asked whether a cancellation is requested.
    pub(crate) fn asked_requested(&mut self, answer: bool) {
        let known = self.requested(self.current());
        let wrong = match known {
            Known::No => answer,
            Known::Maybe => false,
            Known::Yes => !answer,
        };
        if wrong {
            self.violate(format!(
                "`is_cancel_requested` said {answer}, the model {known:?}"
            ));
        }
    }

    // Liveness.

    fn is_inside(&self, inner: FrameId, outer: FrameId) -> bool {
        let frame = &self.frames[inner];
        frame
            .parent
            .iter()
            .chain(&frame.providers)
            .any(|parent| *parent == outer || self.is_inside(*parent, outer))
    }

    /// As `is_inside`, through frames that have not ended: what a carried future still belongs to when the frame that
    /// made it has ended, the rules do not say.
    fn is_surely_inside(&self, inner: FrameId, outer: FrameId) -> bool {
        let frame = &self.frames[inner];
        frame.parent.iter().chain(&frame.providers).any(|parent| {
            let is_there = matches!(
                self.frames[*parent].state,
                FrameState::New | FrameState::Live
            );
            *parent == outer || is_there && self.is_surely_inside(*parent, outer)
        })
    }

    fn live_inside(&self, frame: FrameId) -> Vec<FrameId> {
        (0..self.frames.len())
            .filter(|inner| {
                self.frames[*inner].state == FrameState::Live && self.is_inside(*inner, frame)
            })
            .collect()
    }

    fn members_have_ended(&self, nursery: FrameId) -> bool {
        let frame = &self.frames[nursery];
        !frame.members.is_empty()
            && frame.members.iter().all(|member| {
                let member = &self.frames[*member];
                match member.state {
                    // A block may never have begun.
                    FrameState::New => member.kind == Kind::Block,
                    FrameState::Live => false,
                    _ => true,
                }
            })
    }

    // Polls.

    pub(crate) fn begin(&mut self, id: ProbeId) {
        self.n_polls += 1;
        self.log.push(Event::Begin(id));
        self.check_overdue_strikes();
        let current = self.current();
        self.probes[id].around = current;
        match self.probes[id].state {
            ProbeState::New | ProbeState::Waiting => {}
            state => self.violate(format!("p{id} is polled although it is {state:?}")),
        }
        self.probes[id].state = ProbeState::Polling;
        self.polling
            .entry(thread::current().id())
            .or_default()
            .push(id);
        match self.probes[id].role {
            Role::Outside(frame) => self.begin_outside(frame, current),
            Role::Inside(frame) => self.begin_inside(frame),
            _ => {}
        }
    }

    fn begin_outside(&mut self, id: FrameId, current: Option<FrameId>) {
        let is_carried = self.frames[id].kind == Kind::Carried;
        let first = self.frames[id].state == FrameState::New;
        if !is_carried {
            self.frames[id].parent = current;
        }
        let parent = self.frames[id].parent;
        let now = self.now;
        let late = match parent {
            Some(parent) => {
                let mut has_waited = self.frames[parent].has_waited;
                if self.has_threads {
                    // The cancellation may have come between the body's end and the frame's decision.
                    has_waited = has_waited.max(Known::Maybe);
                }
                self.effective(parent).min(has_waited)
            }
            None => Known::No,
        };
        let around = self.around(id);
        let frame = &mut self.frames[id];
        frame.first_turn = first;
        frame.turn = None;
        frame.waits_or_parked = false;
        frame.effective_at_turn = Known::No;
        frame.around_at_turn = around;
        frame.last_polled = now;
        if first {
            frame.state = FrameState::Live;
            frame.late = if matches!(frame.kind, Kind::Shield) {
                Known::No
            } else {
                late
            };
        }
        if self.frames[id].kind == Kind::Provide && first {
            self.begin_provide(id);
        }
        self.polled(id);
    }

    fn begin_provide(&mut self, id: FrameId) {
        let provider = self.frames[id].parent.expect("in a context");
        let block = self.frames[id].block.expect("set when made");
        self.frames[block].providers.push(provider);
        self.frames[id].uncertain = self.frames[id].late != Known::No;
        let context = self.context_of(id);
        self.frames[context].has_provided = true;
        let mut next = Some(provider);
        while let Some(frame) = next {
            self.frames[frame].provides.push(id);
            next = self.frames[frame].parent.filter(|_| frame != context);
        }
        let gather = self.frames[block].parent.expect("a block has a gather");
        let in_time = self.frames[gather].first_turn || !self.was_cancelled(block);
        self.frames[block].must_begin = in_time && self.is_complete(gather);
    }

    fn context_of(&self, provide: FrameId) -> FrameId {
        let block = self.frames[provide].block;
        let mut next = self.frames[provide].parent;
        while let Some(frame) = next {
            if self.frames[frame].kind == Kind::Context && self.frames[frame].block == block {
                return frame;
            }
            next = self.frames[frame].parent;
        }
        panic!("`provide` was called outside its context: the program is wrong");
    }

    fn begin_inside(&mut self, id: FrameId) {
        let now = self.now;
        let frame = &mut self.frames[id];
        frame.last_polled = now;
        frame.has_begun = true;
        frame.turn = None;
        if frame.outside.is_none() {
            if frame.state == FrameState::New {
                frame.state = FrameState::Live;
                if frame.kind == Kind::Child {
                    self.join_members(id);
                }
            } else if frame.state != FrameState::Live {
                let state = frame.state;
                self.violate(format!(
                    "the body of f{id} is polled although f{id} is {state:?}"
                ));
            }
            if self.frames[id].kind == Kind::Block {
                self.block_begins(id);
            }
        } else if frame.struck {
            self.violate(format!("rule 5: f{id} polls its body after it has struck"));
        } else if frame.late == Known::Yes && frame.first_turn {
            self.violate(format!(
                "rule 8: f{id} has started in a cancelled frame that has had to wait"
            ));
        }
        self.polled(id);
    }

    /// The block begins: every context must have provided, and none may have been let go.
    fn block_begins(&mut self, id: FrameId) {
        let gather = self.frames[id].parent.expect("a block has a gather");
        for member in self.frames[gather].members.clone() {
            let context = &self.frames[member];
            if context.kind != Kind::Context {
                continue;
            }
            let (has_provided, is_exit) = (context.has_provided, context.is_exit);
            if !has_provided {
                self.violate(format!(
                    "the block f{id} began before f{member} had provided"
                ));
            }
            if is_exit {
                self.violate(format!(
                    "the block f{id} began after f{member} had begun its exit"
                ));
            }
        }
    }

    /// A frame was polled: frames around it that wait may wait on.
    fn polled(&mut self, id: FrameId) {
        for outer in 0..self.frames.len() {
            if self.frames[outer].waits_since.is_some() && self.is_inside(id, outer) {
                self.frames[outer].idle_polls = 0;
                self.frames[outer].inside_polled = self.now;
            }
        }
    }

    pub(crate) fn end(&mut self, id: ProbeId, seen: Seen) {
        self.log.push(Event::End(id, seen.clone()));
        let popped = self
            .polling
            .get_mut(&thread::current().id())
            .and_then(Vec::pop);
        assert_eq!(popped, Some(id), "polls are nested");
        self.probes[id].state = match seen {
            Seen::Pending => ProbeState::Waiting,
            Seen::Panicked(_) => ProbeState::Panicked,
            _ => ProbeState::Done,
        };
        if let Role::Inside(frame) = self.probes[id].role {
            self.end_inside(frame, &seen);
        } else {
            self.check_overdue_strikes();
        }
        if let Role::Outside(frame) = self.probes[id].role {
            match self.frames[frame].kind {
                Kind::Nursery | Kind::Gather => self.end_nursery(frame, &seen),
                Kind::Provide => self.end_provide(frame, &seen),
                _ => self.end_outside(frame, &seen),
            }
        }
    }

    fn end_inside(&mut self, id: FrameId, seen: &Seen) {
        let effective = self.effective(id);
        let around = self.around(id);
        let frame = &mut self.frames[id];
        frame.turn = Some(seen.clone());
        frame.effective_at_turn = effective;
        frame.around_at_turn = around;
        if *seen == Seen::Pending {
            if effective != Known::No {
                self.cancelled_turn(id, effective);
            }
        } else if effective == Known::Yes && matches!(seen, Seen::Value | Seen::Failed(_)) {
            self.seen.values_that_won += 1;
        }
        if self.frames[id].outside.is_none() {
            self.end_member(id, seen);
        }
    }

    /// A cancelled frame's body is pending.
    fn cancelled_turn(&mut self, id: FrameId, effective: Known) {
        let live = self.live_inside(id);
        if live.is_empty() {
            self.frames[id].must_strike = effective == Known::Yes;
        } else {
            let now = self.now;
            let frame = &mut self.frames[id];
            frame.has_waited = frame.has_waited.max(effective);
            frame.waits_since.get_or_insert(now);
            frame.idle_polls += 1;
            self.seen.waits += 1;
        }
    }

    fn check_overdue_strikes(&mut self) {
        let thread_probes = self.polling.get(&thread::current().id());
        let top = thread_probes.and_then(|stack| stack.last()).copied();
        let overdue = (0..self.frames.len()).find(|frame| self.frames[*frame].must_strike);
        if let Some(frame) = overdue {
            self.frames[frame].must_strike = false;
            self.violate(format!(
                "rule 2: f{frame} is cancelled, its body waits, nothing inside is live, and it does not strike \
                 (polling {top:?})"
            ));
        }
    }

    /// A child, body, context or block of a nursery or gather has been polled.
    fn end_member(&mut self, id: FrameId, seen: &Seen) {
        let nursery = self.frames[id].parent.expect("a member has a nursery");
        let kind = self.frames[id].kind;
        let ended = match seen {
            Seen::Pending => return,
            Seen::Value => Ended::Value,
            Seen::Failed(_) => Ended::Failed,
            Seen::Panicked(_) => Ended::Panicked,
            other => {
                self.violate(format!("f{id} ended with {other:?}"));
                return;
            }
        };
        self.frames[id].state = FrameState::Ended(ended);
        let provided = self.frames[id].has_provided;
        match seen {
            Seen::Failed(shape) => {
                self.frames[nursery].failures.push(shape.clone());
                self.seen.failures += 1;
            }
            Seen::Panicked(message) => {
                if !self.frames[nursery].panics.is_empty() {
                    self.must_tell.push(Told::LaterPanic(message.clone()));
                }
                self.frames[nursery].panics.push(message.clone());
                self.seen.panics += 1;
            }
            Seen::Value if kind == Kind::Context => {
                let block = self.frames[id].block.expect("set when made");
                let is_in_use =
                    matches!(self.frames[block].state, FrameState::New | FrameState::Live);
                let may_have_ended = self.frames[block].state == FrameState::New
                    && (self.was_cancelled(block) || self.own(nursery) != Known::No);
                if provided && is_in_use && may_have_ended {
                    self.frames[nursery].failures.push(Shape::MaybeLibrary);
                } else if !provided || is_in_use {
                    self.frames[nursery].failures.push(Shape::Library);
                }
            }
            _ => {}
        }
        match kind {
            Kind::Body | Kind::Child => {
                if ended != Ended::Value {
                    self.cancel_own(nursery, Known::Yes);
                }
            }
            Kind::Context if !provided => {
                // A set-up that fails stops the other set-ups; those that have provided wait for the block.
                self.cancel_own(nursery, Known::Yes);
            }
            Kind::Context => {
                if ended != Ended::Value {
                    self.cancel_own(nursery, Known::Maybe);
                }
                let block = self.frames[id].block.expect("set when made");
                if matches!(self.frames[block].state, FrameState::New | FrameState::Live) {
                    self.cancel_own(block, Known::Yes);
                }
                // The others may or may not be told that the block has no value to give.
                if self.frames[block].state != FrameState::Ended(Ended::Value) {
                    self.cancel_own(nursery, Known::Maybe);
                }
            }
            Kind::Block => {
                if ended != Ended::Value {
                    self.cancel_own(nursery, Known::Maybe);
                }
            }
            _ => unreachable!("not a member"),
        }
        if kind == Kind::Context {
            self.seen.exits += 1;
        }
    }

    /// Rules 2, 4, 5, 8 and 9, where a scope, a shield or the like returns.
    fn end_outside(&mut self, id: FrameId, seen: &Seen) {
        let frame = &self.frames[id];
        let kind = frame.kind;
        let (turn, struck, was_parked) = (
            frame.turn.clone(),
            frame.struck,
            frame.state == FrameState::Parked,
        );
        if self.frames[id].must_strike {
            self.check_overdue_strikes();
        }
        let poller_around = match kind {
            Kind::Carried => self
                .current()
                .map_or(Known::No, |poller| self.effective(poller)),
            _ => self.around(id),
        };
        match turn {
            Some(body) if body != Seen::Pending => {
                if *seen != body {
                    self.violate(format!(
                        "rule 4: the body of f{id} gave {body:?}, and f{id} gives {seen:?}"
                    ));
                }
            }
            _ if struck => {
                let low = match kind {
                    Kind::Carried => poller_around,
                    _ => self.frames[id].around_at_turn.min(poller_around),
                };
                let may_return = low != Known::Yes && kind != Kind::Settings;
                let may_park = poller_around != Known::No;
                match seen {
                    Seen::Stopped(reason) if may_return => {
                        self.seen.caught += 1;
                        if !was_parked {
                            self.check_reason(id, reason);
                        }
                    }
                    Seen::Pending if may_park => self.seen.parked += 1,
                    // Borrowed work: it has no other way to say so.
                    Seen::Panicked(_) if was_parked && kind == Kind::Settings && low != Known::Yes => {}
                    _ => self.violate(format!(
                        "rule 5: f{id} has struck, around it cancelled: {poller_around:?}, and gives {seen:?}"
                    )),
                }
                self.frames[id].state = FrameState::Parked;
            }
            None if was_parked => {
                let expected = match poller_around {
                    Known::Yes => matches!(seen, Seen::Pending),
                    Known::Maybe => true,
                    Known::No => matches!(seen, Seen::Stopped(_) | Seen::Panicked(_)),
                };
                if !expected {
                    self.violate(format!("rule 5: f{id} was parked and gives {seen:?}"));
                }
            }
            None if self.frames[id].first_turn && self.frames[id].late != Known::No => {
                let is_elsewhere = kind == Kind::Carried && poller_around != Known::Yes;
                let is_stopped = is_elsewhere && matches!(seen, Seen::Stopped(_));
                if *seen != Seen::Pending && !is_stopped {
                    self.violate(format!("rule 8: f{id} starts late and gives {seen:?}"));
                }
                self.seen.parked_unpolled += 1;
                self.frames[id].state = FrameState::Parked;
            }
            None => self.violate(format!(
                "rule 8: f{id} was polled and did not poll its body"
            )),
            Some(_) => {
                if *seen != Seen::Pending {
                    self.violate(format!("the body of f{id} waits, and f{id} gives {seen:?}"));
                }
            }
        }
        self.frame_is_over(id, seen);
    }

    fn check_reason(&mut self, id: FrameId, reason: &str) {
        if let Some(scope) = self.frames[id].scope
            && let Some(expected) = &self.scopes[scope].reason
            && expected != reason
        {
            let message =
                format!("rule 13: f{id} was cancelled for {expected:?}, it says {reason:?}");
            self.violate(message);
        }
    }

    /// The outermost end of a frame: nothing inside may be live.
    fn frame_is_over(&mut self, id: FrameId, seen: &Seen) {
        let ended = match seen {
            Seen::Pending => return,
            Seen::Value | Seen::BlockEnd(_) => Ended::Value,
            Seen::Failed(_) => Ended::Failed,
            Seen::Stopped(_) => Ended::Cancelled,
            Seen::Panicked(_) => Ended::Panicked,
        };
        self.frames[id].state = FrameState::Ended(ended);
        let live: Vec<_> = self
            .live_inside(id)
            .into_iter()
            .filter(|inner| !self.is_elsewhere(*inner, id))
            .collect();
        if !live.is_empty() && ended != Ended::Panicked {
            self.violate(format!(
                "rule 3: f{id} returned {seen:?} while {live:?} inside are live"
            ));
        }
    }

    /// Whether the frame, or one between it and `outer`, is polled by another task.
    fn is_elsewhere(&self, inner: FrameId, outer: FrameId) -> bool {
        let mut next = Some(inner);
        while let Some(frame) = next {
            if frame == outer {
                return false;
            }
            let probe = self.frames[frame].outside;
            let is_task = probe.is_some_and(|probe| self.probes[probe].parent.is_none());
            if self.frames[frame].kind == Kind::Carried && is_task {
                return true;
            }
            next = self.frames[frame].parent;
        }
        false
    }

    /// Whether there is a carried frame between the two.
    fn is_carried(&self, inner: FrameId, outer: FrameId) -> bool {
        let mut next = self.frames[inner].parent;
        while let Some(frame) = next.filter(|frame| *frame != outer) {
            if self.frames[frame].kind == Kind::Carried {
                return true;
            }
            next = self.frames[frame].parent;
        }
        false
    }

    /// What a nursery or a gather may return.
    fn end_nursery(&mut self, id: FrameId, seen: &Seen) {
        let (first_turn, late) = (self.frames[id].first_turn, self.frames[id].late);
        let was_parked = self.frames[id].state == FrameState::Parked;
        let members = self.frames[id].members.clone();
        let began = members.iter().any(|member| self.frames[*member].has_begun);
        if first_turn && late != Known::No && !began && *seen == Seen::Pending {
            self.seen.parked_unpolled += 1;
            self.frames[id].state = FrameState::Parked;
            return;
        }
        if first_turn && late == Known::Yes {
            self.violate(format!(
                "rule 8: f{id} has started in a cancelled frame that has had to wait"
            ));
        }
        if first_turn && !began {
            self.violate(format!("rule 8: f{id} did not poll what is in it"));
        }
        if was_parked {
            if *seen != Seen::Pending && self.around(id) == Known::Yes {
                self.violate(format!("rule 5: f{id} was parked and gives {seen:?}"));
            }
            return;
        }
        if !self.members_have_ended(id) {
            if *seen != Seen::Pending {
                self.violate(format!(
                    "rule 3: f{id} gives {seen:?} and some of {members:?} have not ended"
                ));
                self.frames[id].state = FrameState::Ended(Ended::Value);
            }
            return;
        }
        if *seen == Seen::Pending && !self.frames[id].offered.is_empty() {
            self.frames[id].waits_or_parked = true;
            return;
        }
        self.check_nursery_outcome(id, seen);
        if self.frames[id].kind == Kind::Gather && *seen != Seen::Pending {
            self.seen.exits_under_cancellation += usize::from(self.around(id) == Known::Yes);
        }
        self.frame_is_over(id, seen);
    }

    fn check_nursery_outcome(&mut self, id: FrameId, seen: &Seen) {
        let high = self.around(id);
        let low = self.frames[id].around_at_turn.min(high);
        let nursery = &self.frames[id];
        let is_gather = nursery.kind == Kind::Gather;
        let panics = nursery.panics.clone();
        let is_with = nursery.is_with;
        let open = nursery.failures.contains(&Shape::MaybeLibrary);
        let failures = resolve(&nursery.failures, is_with, seen);
        let body_value = nursery.members.iter().any(|member| {
            let member = &self.frames[*member];
            matches!(member.kind, Kind::Body | Kind::Block)
                && member.state == FrameState::Ended(Ended::Value)
        });
        if let Some(first) = panics.first() {
            let n_failures = nursery.failures.len();
            if open {
                for n_failures in failures.len().max(1)..=n_failures {
                    self.may_tell.push(Told::FailuresBehindPanic(n_failures));
                }
            } else if n_failures > 0 {
                self.must_tell.push(Told::FailuresBehindPanic(n_failures));
            }
            if *seen != Seen::Panicked(first.clone()) {
                self.violate(format!(
                    "rule 12: f{id} must resume {first:?} and gives {seen:?}"
                ));
            }
            return;
        }
        if !failures.is_empty() {
            match (low, high) {
                (Known::Yes, _) => self
                    .must_tell
                    .push(Told::FailedUnderCancellation(failures.len())),
                (_, Known::No) => {}
                _ => self
                    .may_tell
                    .push(Told::FailedUnderCancellation(failures.len())),
            }
            let expected = failed(failures, is_with);
            if *seen != expected {
                self.violate(format!(
                    "rule 6: f{id} must give {expected:?} and gives {seen:?}"
                ));
            }
            return;
        }
        let may_park = high != Known::No;
        let must_park = low == Known::Yes;
        let expected = if body_value {
            // In an exit the code after it must run.
            let stopped = match (low, high) {
                (_, Known::No) => Known::No,
                (Known::Yes, Known::Yes) => nursery.stopped_from_outside,
                _ => nursery.stopped_from_outside.min(Known::Maybe),
            };
            match stopped {
                Known::No => *seen == Seen::Value,
                Known::Maybe => *seen == Seen::Value || *seen == Seen::Pending,
                Known::Yes => *seen == Seen::Pending,
            }
        } else {
            let without_value = match seen {
                Seen::Failed(Shape::Group(leaves)) if !is_gather => {
                    leaves[..] == [Shape::Cancelled]
                }
                Seen::Failed(shape) => is_gather && shape.has_no_tags(),
                _ => false,
            };
            (may_park && *seen == Seen::Pending) || (!must_park && without_value)
        };
        if !expected {
            self.violate(format!(
                "rule 5: f{id} has ended, its body gave a value: {body_value}, around it is cancelled: {high:?}, \
                 stopped from outside: {:?}, and it gives {seen:?}",
                self.frames[id].stopped_from_outside
            ));
        }
        if *seen == Seen::Pending {
            self.frames[id].state = FrameState::Parked;
            self.seen.parked += 1;
        }
    }

    /// `provide` may return when the block has ended or will never begin.
    fn end_provide(&mut self, id: FrameId, seen: &Seen) {
        let block = self.frames[id].block.expect("set when made");
        let gather = self.frames[block].parent.expect("a block has a gather");
        let state = self.frames[block].state;
        match (seen, state) {
            (Seen::Pending, FrameState::New) => {}
            (Seen::Pending, FrameState::Live) => {}
            (Seen::Pending, _) => {
                if !self.frames[id].uncertain {
                    self.violate(format!(
                        "the block f{block} has ended, and its `provide` f{id} waits"
                    ));
                }
            }
            (Seen::BlockEnd(Ended::Cancelled), FrameState::New) => {
                let provider = self.frames[id].parent.expect("in a context");
                // It may have been cancelled before an exit made shields of the frames around it.
                let may_not_begin = self.was_cancelled(block)
                    || self.was_cancelled(provider)
                    || self.own(gather) != Known::No;
                if self.frames[block].must_begin && self.is_complete(gather) {
                    self.violate(format!(
                        "rule 8: all values of f{block} are there, and it does not begin"
                    ));
                } else if !may_not_begin {
                    self.violate(format!(
                        "`provide` f{id} returned before its block f{block} began, and nothing is cancelled"
                    ));
                }
                self.frames[block].state = FrameState::Parked;
            }
            (Seen::BlockEnd(Ended::Cancelled), FrameState::Parked | FrameState::Dropped) => {}
            (Seen::BlockEnd(told), FrameState::Ended(ended)) if *told == ended => {}
            _ => self.violate(format!(
                "rule 7: `provide` f{id} gives {seen:?} and its block f{block} is {state:?}"
            )),
        }
        if *seen == Seen::Pending {
            return;
        }
        self.frames[id].state = FrameState::Ended(Ended::Value);
        let context = self.context_of(id);
        let mut next = self.frames[id].parent;
        while let Some(frame) = next {
            self.frames[frame].is_exit = true;
            if frame == context {
                break;
            }
            next = self.frames[frame].parent;
        }
    }

    /// Whether the contexts have all provided and wait, so that the block can begin.
    fn is_complete(&self, gather: FrameId) -> bool {
        let members = &self.frames[gather].members;
        let contexts = || {
            members
                .iter()
                .filter(|member| self.frames[**member].kind == Kind::Context)
        };
        let waits = |context: &FrameId| {
            let context = &self.frames[*context];
            context.state == FrameState::Live
                && context.has_provided
                && !context.is_exit
                && context.provides.iter().any(|provide| {
                    let provide = &self.frames[*provide];
                    provide.block == context.block
                        && provide.state == FrameState::Live
                        && !provide.uncertain
                })
        };
        contexts().all(waits)
    }

    // Drops.

    pub(crate) fn drop_begins(&mut self, id: ProbeId) {
        let state = self.probes[id].state;
        if matches!(state, ProbeState::Done | ProbeState::Dropped) {
            return;
        }
        self.log.push(Event::DropBegin(id));
        self.probes[id].state = ProbeState::Dropping;
        let is_own_doing = match self.probes[id].parent {
            None => false,
            Some(parent) => self.probes[parent].state == ProbeState::Polling,
        };
        let is_foreign = self.probes[id]
            .parent
            .is_some_and(|parent| self.probes[parent].role == Role::Foreign);
        let strikes = is_own_doing && !is_foreign && !thread::panicking();
        match self.probes[id].role {
            Role::Inside(frame) if strikes && state == ProbeState::Waiting => self.strike(frame),
            Role::Inside(frame) | Role::Outside(frame) => self.drop_frame(frame, state),
            _ => {}
        }
        self.dropping
            .entry(thread::current().id())
            .or_default()
            .push(id);
    }

    /// A future is gone; `panic` is the message if its drop has panicked.
    pub(crate) fn drop_ends(&mut self, id: ProbeId, panic: Option<String>) {
        if self.probes[id].state != ProbeState::Dropping {
            return;
        }
        self.log.push(Event::DropEnd(id));
        self.probes[id].state = ProbeState::Dropped;
        let popped = self
            .dropping
            .get_mut(&thread::current().id())
            .and_then(Vec::pop);
        assert_eq!(popped, Some(id), "drops are nested");
        if let Some(message) = panic
            && let Role::Inside(frame) = self.probes[id].role
        {
            self.body_drop_panicked(frame, message);
        }
    }

    /// Rule 12: a panic while a body is dropped counts as the body's.
    fn body_drop_panicked(&mut self, id: FrameId, message: String) {
        self.note(format!("the drop of the body of f{id} panicked: {message}"));
        self.seen.panics += 1;
        let was_panic = self.frames[id].state == FrameState::Ended(Ended::Panicked)
            || matches!(self.frames[id].turn, Some(Seen::Panicked(_)));
        if self.frames[id].outside.is_some() {
            if was_panic {
                self.must_tell.push(Told::LaterPanic(message));
            } else if self.frames[id].struck {
                self.frames[id].turn = Some(Seen::Panicked(message));
            }
            return;
        }
        let nursery = self.frames[id].parent.expect("a member has a nursery");
        if self.frames[nursery].state != FrameState::Live {
            return;
        }
        if !self.frames[nursery].panics.is_empty() {
            self.must_tell.push(Told::LaterPanic(message.clone()));
        }
        self.frames[nursery].panics.push(message);
        self.frames[id].state = FrameState::Ended(Ended::Panicked);
        let known = match self.frames[id].kind {
            Kind::Body | Kind::Child => Known::Yes,
            _ => Known::Maybe,
        };
        self.cancel_own(nursery, known);
    }

    /// A frame drops its body by itself: rules 2, 3, 7 and 9.
    fn strike(&mut self, id: FrameId) {
        let effective = self.effective(id);
        if effective == Known::No {
            self.violate(format!(
                "f{id} drops its body, and it is not effectively cancelled (rules 1, 5, 7)"
            ));
        }
        let live = self.live_inside(id);
        let certain: Vec<_> = live
            .iter()
            .copied()
            .filter(|inner| {
                let frame = &self.frames[*inner];
                !frame.uncertain && !frame.waits_or_parked && self.is_surely_inside(*inner, id)
            })
            .collect();
        if !certain.is_empty() {
            self.check_patience(id, &certain);
        }
        for inner in live {
            if self.is_elsewhere(inner, id) {
                self.may_tell.push(Told::NotPolled);
                continue;
            }
            if self.is_carried(inner, id) {
                // The carried frame around it is given up; whoever holds that frame may poll it on.
                continue;
            }
            if !certain.is_empty() {
                self.seen.abandoned += 1;
                if self.frames[inner].kind == Kind::Gather {
                    // So may the place where its block runs.
                    self.may_tell.push(Told::NotPolled);
                }
                let has_block = self.frames[inner].block.is_none_or(|block| {
                    matches!(
                        self.frames[block].state,
                        FrameState::Live | FrameState::Dropped
                    )
                });
                let is_told = !self.frames[inner].waits_or_parked
                    && match self.frames[inner].kind {
                        // A `provide` whose block has ended, or will never begin, has nothing left to wait for.
                        Kind::Provide => has_block,
                        // They have a place in the tree only while a frame is in them.
                        Kind::Body | Kind::Block | Kind::Child => false,
                        // Likewise, until it owes an exit.
                        Kind::Context => self.frames[inner].has_provided,
                        _ => true,
                    };
                if is_told {
                    self.must_tell.push(Told::NotPolled);
                } else {
                    self.may_tell.push(Told::NotPolled);
                }
            }
            self.frames[inner].state = FrameState::Dropped;
        }
        self.seen.strikes += 1;
        let own = match self.frames[id].parent {
            Some(parent) if self.frames[id].outside.is_none() => self.own(parent),
            _ => self.own(id),
        };
        let frame = &mut self.frames[id];
        frame.must_strike = false;
        frame.struck = true;
        if frame.outside.is_some() {
            return;
        }
        frame.state = FrameState::Parked;
        let is_child = matches!(frame.kind, Kind::Child | Kind::Context);
        let loses_exit = frame.kind == Kind::Context && frame.has_provided;
        let nursery = frame.parent.expect("a member has a nursery");
        if loses_exit {
            // Its `provide` was dropped from outside.
            self.must_tell.push(Told::DroppedContext);
        }
        if is_child {
            let outside = self.around(nursery);
            // Whether the value is kept if the child was stopped before the cancellation came from outside, the
            // rules do not say.
            let known = if own == Known::No && outside == Known::Yes {
                Known::Yes
            } else {
                Known::Maybe
            };
            let frame = &mut self.frames[nursery];
            frame.stopped_from_outside = frame.stopped_from_outside.max(known);
        }
    }

    /// Rule 9: a frame may strike over live ones that nobody has polled for a whole patience.
    fn check_patience(&mut self, id: FrameId, live: &[FrameId]) {
        let last_polled = live
            .iter()
            .map(|inner| self.frames[*inner].last_polled)
            .max()
            .unwrap_or_default();
        let waits_since = self.frames[id].waits_since.unwrap_or(self.now);
        let waited = self.now.saturating_sub(last_polled.max(waits_since));
        let is_patient = if self.has_clock {
            waited >= PATIENCE
        } else {
            self.frames[id].idle_polls >= 2
        };
        if !is_patient {
            let kinds: Vec<_> = live
                .iter()
                .map(|inner| (*inner, self.frames[*inner].kind))
                .collect();
            let idle_polls = self.frames[id].idle_polls;
            self.violate(format!(
                "rule 3: f{id} strikes although {kinds:?} inside are live; nothing was polled for {waited:?}, \
                 {idle_polls} polls"
            ));
        }
    }

    /// A frame is dropped with what is around it: rule 11.
    fn drop_frame(&mut self, id: FrameId, probe: ProbeState) {
        let frame = &mut self.frames[id];
        frame.must_strike = false;
        if frame.state != FrameState::Live {
            if frame.state == FrameState::New {
                frame.state = FrameState::Dropped;
            }
            return;
        }
        if probe == ProbeState::Panicked && frame.outside.is_some() {
            return;
        }
        frame.state = FrameState::Dropped;
        match frame.kind {
            Kind::Context if frame.has_provided => {
                self.must_tell.push(Told::DroppedContext);
                self.seen.dropped_exits += 1;
            }
            Kind::Shield => self.must_tell.push(Told::DroppedShield),
            Kind::Provide => {
                let block = frame.block.expect("set when made");
                let provider = frame.parent;
                let providers = &mut self.frames[block].providers;
                if let Some(place) = providers.iter().position(|other| Some(*other) == provider) {
                    providers.swap_remove(place);
                }
                if matches!(self.frames[block].state, FrameState::New | FrameState::Live) {
                    let gather = self.frames[block].parent.expect("a block has a gather");
                    self.cancel_own(block, Known::Yes);
                    self.cancel_own(gather, Known::Maybe);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn told(&mut self, told: Told) {
        self.log.push(Event::Told(told.clone()));
        self.told.push(told);
    }

    // Rest.

    /// Nothing is woken: whatever could go on must have gone on.
    pub(crate) fn check_rest(&mut self) {
        self.check_overdue_strikes();
        for id in 0..self.frames.len() {
            self.check_frame_at_rest(id);
        }
        for id in 0..self.probes.len() {
            self.check_wait_at_rest(id);
        }
    }

    fn is_held_back(&self, probe: Option<ProbeId>) -> bool {
        let mut next = probe;
        while let Some(probe) = next {
            if self.probes[probe].held_back {
                return true;
            }
            next = self.probes[probe].parent;
        }
        false
    }

    fn frame_is_held_back(&self, frame: FrameId) -> bool {
        self.is_held_back(self.frames[frame].outside.or(self.frames[frame].inside))
    }

    fn check_frame_at_rest(&mut self, id: FrameId) {
        let frame = &self.frames[id];
        let (kind, state, late) = (frame.kind, frame.state, frame.late);
        if self.frame_is_held_back(id) {
            return;
        }
        if state == FrameState::New && kind == Kind::Child {
            let nursery = frame.parent.expect("a member has a nursery");
            if self.frames[nursery].state == FrameState::Live && !self.frame_is_held_back(nursery) {
                self.violate(format!("the child f{id} is not polled"));
            }
            return;
        }
        if state != FrameState::Live {
            return;
        }
        match kind {
            Kind::Nursery | Kind::Gather => {
                if self.members_have_ended(id) && late == Known::No {
                    self.violate(format!(
                        "everything in f{id} has ended, and it does not return"
                    ));
                }
            }
            Kind::Provide => {
                let block = frame.block.expect("set when made");
                let block_has_ended =
                    !matches!(self.frames[block].state, FrameState::New | FrameState::Live);
                if block_has_ended && late == Known::No {
                    self.violate(format!(
                        "the block f{block} has ended, and `provide` f{id} rests"
                    ));
                }
            }
            _ => {
                if self.effective(id) != Known::Yes {
                    return;
                }
                let live = self.live_inside(id);
                if live.is_empty() {
                    self.violate(format!(
                        "rule 1: f{id} is cancelled, nothing inside is live, and it rests"
                    ));
                } else if self.has_clock && live.iter().all(|inner| self.frame_is_held_back(*inner))
                {
                    let last = live
                        .iter()
                        .map(|inner| self.frames[*inner].last_polled)
                        .max()
                        .unwrap_or_default();
                    let since = last
                        .max(self.frames[id].inside_polled)
                        .max(self.frames[id].waits_since.unwrap_or(self.now));
                    if self.now.saturating_sub(since) > PATIENCE * 3 {
                        self.violate(format!(
                            "rule 9: f{id} waits for {live:?}, which nobody polls, for more than three patiences"
                        ));
                    }
                }
            }
        }
        if kind == Kind::Gather {
            self.check_block_at_rest(id);
        }
    }

    fn check_block_at_rest(&mut self, gather: FrameId) {
        let members = &self.frames[gather].members;
        let all_provide = members.iter().all(|member| {
            let member = &self.frames[*member];
            match member.kind {
                Kind::Context => {
                    member.state == FrameState::Live && member.has_provided && !member.is_exit
                }
                _ => member.state == FrameState::New,
            }
        });
        let block = members
            .iter()
            .copied()
            .find(|member| self.frames[*member].kind == Kind::Block);
        let uncertain = self
            .frames
            .iter()
            .any(|frame| frame.kind == Kind::Provide && frame.block == block && frame.uncertain);
        let held_back = members
            .iter()
            .any(|member| self.frame_is_held_back(*member));
        if all_provide && !uncertain && !held_back && !members.is_empty() {
            self.violate(format!(
                "all contexts of f{gather} have provided, and the block does not begin"
            ));
        }
    }

    fn check_wait_at_rest(&mut self, id: ProbeId) {
        let probe = &self.probes[id];
        let Role::Wait(wait) = probe.role else {
            return;
        };
        if probe.state != ProbeState::Waiting || self.is_held_back(Some(id)) {
            return;
        }
        let is_over = match wait {
            Wait::Gate(gate) => self.opened_gates[gate],
            Wait::Request => self.requested(probe.around) == Known::Yes,
            Wait::Until(time) => time <= self.now,
            Wait::Child(child) => self.child_end(child).is_some(),
            Wait::Turn => true,
            Wait::Never => false,
        };
        if is_over {
            self.violate(format!(
                "p{id} waits for {wait:?}, which has come, and is not polled"
            ));
        }
    }

    /// Everything is over: what had to be reported was, and nothing else.
    pub(crate) fn check_end(&mut self) {
        for id in 0..self.frames.len() {
            if self.frames[id].state == FrameState::Live {
                let kind = self.frames[id].kind;
                self.violate(format!("at the end f{id}, {kind:?}, is live"));
            }
        }
        let mut told = self.told.clone();
        let mut missing = Vec::new();
        for must in &self.must_tell {
            match told.iter().position(|told| told == must) {
                Some(place) => {
                    told.swap_remove(place);
                }
                None => missing.push(must.clone()),
            }
        }
        for may in &self.may_tell {
            if let Some(place) = told.iter().position(|told| told == may) {
                told.swap_remove(place);
            }
        }
        if !missing.is_empty() {
            self.violate(format!("not reported: {missing:?}"));
        }
        if !told.is_empty() {
            self.violate(format!("reported without a reason: {told:?}"));
        }
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        self.log
            .push(Event::Note(if thread::current().id() == self.host {
                note
            } else {
                format!("| elsewhere: {note}")
            }));
    }

    pub(crate) fn violate(&mut self, message: impl Into<String>) {
        let message = message.into();
        self.log.push(Event::Note(format!("!!! {message}")));
        self.violation.get_or_insert(message);
    }

    pub(crate) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    fn describe(&self, probe: ProbeId) -> String {
        match self.probes[probe].role {
            Role::Outside(frame) => {
                format!("p{probe} outside f{frame} {:?}", self.frames[frame].kind)
            }
            Role::Inside(frame) => {
                format!("p{probe} inside f{frame} {:?}", self.frames[frame].kind)
            }
            Role::Wait(wait) => format!("p{probe} {wait:?}"),
            _ => format!("p{probe}"),
        }
    }

    /// The frames, with their parents.
    fn write_frames(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, frame) in self.frames.iter().enumerate() {
            writeln!(
                f,
                "f{id}: {:?} {:?} in {:?} {:?}, scope {:?}, effective {:?}",
                frame.kind,
                frame.state,
                frame.parent,
                frame.providers,
                frame.scope,
                self.effective(id)
            )?;
        }
        Ok(())
    }
}

/// How a nursery or a gather returns its failures.
fn failed(mut failures: Vec<Shape>, is_with: bool) -> Seen {
    if is_with
        && failures.len() == 1
        && let Some(failure) = failures.pop()
    {
        return Seen::Failed(failure);
    }
    Seen::Failed(Shape::Group(failures))
}

/// The failures, with those that may or may not be there as `seen` has them.
fn resolve(failures: &[Shape], is_with: bool, seen: &Seen) -> Vec<Shape> {
    let all: Vec<_> = failures
        .iter()
        .map(|failure| match failure {
            Shape::MaybeLibrary => Shape::Library,
            other => other.clone(),
        })
        .collect();
    if failed(all.clone(), is_with) == *seen {
        return all;
    }
    failures
        .iter()
        .filter(|failure| **failure != Shape::MaybeLibrary)
        .cloned()
        .collect()
}

impl Shape {
    /// Whether no failure of the program's own is in it.
    fn has_no_tags(&self) -> bool {
        match self {
            Self::Tag(_) => false,
            Self::Cancelled | Self::Library | Self::MaybeLibrary => true,
            Self::Group(shapes) => shapes.iter().all(Self::has_no_tags),
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut depth = 0_usize;
        for event in &self.log {
            match event {
                Event::Begin(probe) => {
                    writeln!(f, "{:depth$}{} {{", "", self.describe(*probe))?;
                    depth += 1;
                }
                Event::End(probe, seen) => {
                    depth = depth.saturating_sub(1);
                    writeln!(f, "{:depth$}}} p{probe}: {seen:?}", "")?;
                }
                Event::DropBegin(probe) => {
                    writeln!(f, "{:depth$}drop {} {{", "", self.describe(*probe))?;
                    depth += 1;
                }
                Event::DropEnd(probe) => {
                    depth = depth.saturating_sub(1);
                    writeln!(f, "{:depth$}}} dropped p{probe}", "")?;
                }
                Event::Note(note) => writeln!(f, "{:depth$}{note}", "")?,
                Event::Told(told) => writeln!(f, "{:depth$}report: {told:?}", "")?,
            }
        }
        self.write_frames(f)
    }
}
