//! Random trees against a plain model that is written apart, recursively and without a thought for speed.

mod common;

use std::collections::BTreeSet;

use common::{group, stopped};
use proptest::{collection::vec, prelude::*};
use trionics_errgroup::{
    Collapse, ContextRelation, Failure, Node, get_collapsed_eg, is_multi_cancelled,
    maybe_raise_from_masking_exc,
};

/// A tree in the plainest form. Errors are numbers; equal ones are told apart by nobody.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    kind: ModelKind,
    contexts: Vec<(ContextRelation, Model)>,
}

#[derive(Clone, Debug, PartialEq)]
enum ModelKind {
    Error(u8),
    Cancelled,
    Group(u8, Vec<Model>),
}

const MESSAGES: [&str; 4] = ["a", "b", "c", "d"];

/// Trees without contexts.
fn bare_trees() -> impl Strategy<Value = Model> {
    let leaf = prop_oneof![
        4 => (0..6_u8).prop_map(ModelKind::Error),
        2 => Just(ModelKind::Cancelled),
    ];
    let leaf = leaf.prop_map(|kind| Model {
        kind,
        contexts: Vec::new(),
    });
    leaf.prop_recursive(5, 40, 4, |inner| {
        (0..4_u8, vec(inner, 1..5)).prop_map(|(message, children)| Model {
            kind: ModelKind::Group(message, children),
            contexts: Vec::new(),
        })
    })
}

/// Trees with contexts, which are trees with contexts.
fn trees() -> impl Strategy<Value = Model> {
    let leaf = prop_oneof![
        2 => (0..6_u8).prop_map(ModelKind::Error),
        3 => Just(ModelKind::Cancelled),
    ];
    let leaf = leaf.prop_map(|kind| Model {
        kind,
        contexts: Vec::new(),
    });
    leaf.prop_recursive(4, 40, 4, |inner| {
        let relation = prop_oneof![
            3 => Just(ContextRelation::Pending),
            1 => Just(ContextRelation::Handled),
        ];
        let contexts = vec((relation, inner.clone()), 0..3);
        let kind = prop_oneof![
            1 => (0..6_u8).prop_map(ModelKind::Error),
            2 => Just(ModelKind::Cancelled),
            3 => (0..4_u8, vec(inner, 1..4)).prop_map(|(message, children)| ModelKind::Group(message, children)),
        ];
        (kind, contexts).prop_map(|(kind, contexts)| Model { kind, contexts })
    })
}

impl Model {
    fn group(message: u8, children: Vec<Self>) -> Self {
        Self {
            kind: ModelKind::Group(message, children),
            contexts: Vec::new(),
        }
    }

    fn build(&self) -> Failure<u8> {
        let mut failure = match &self.kind {
            ModelKind::Error(number) => Failure::leaf(*number),
            ModelKind::Cancelled => stopped(),
            ModelKind::Group(message, children) => Failure::group(
                MESSAGES[usize::from(*message)],
                children.iter().map(Self::build),
            )
            .unwrap(),
        };
        for (relation, context) in &self.contexts {
            failure = match relation {
                ContextRelation::Handled => failure.with_handled(context.build()),
                _ => failure.with_context(context.build()),
            };
        }
        failure
    }

    fn read(node: &Node<u8>) -> Self {
        let kind = match (node.as_leaf(), node.message()) {
            (Some(number), _) => ModelKind::Error(*number),
            (None, Some(text)) => {
                let message = MESSAGES.iter().position(|known| *known == text).unwrap();
                let children = node.children().iter().map(Self::read).collect();
                ModelKind::Group(u8::try_from(message).unwrap(), children)
            }
            (None, None) => ModelKind::Cancelled,
        };
        let contexts = node
            .contexts()
            .filter_map(|context| Some((context.relation(), Self::read(context.node()?))));
        Self {
            kind,
            contexts: contexts.collect(),
        }
    }

    fn leaves(&self) -> Vec<Option<u8>> {
        match &self.kind {
            ModelKind::Error(number) => vec![Some(*number)],
            ModelKind::Cancelled => vec![None],
            ModelKind::Group(_, children) => children.iter().flat_map(Self::leaves).collect(),
        }
    }

    fn paths(&self, path: &str) -> Vec<String> {
        match &self.kind {
            ModelKind::Group(message, children) => {
                let path = format!("{path}/{}", MESSAGES[usize::from(*message)]);
                children
                    .iter()
                    .flat_map(|child| child.paths(&path))
                    .collect()
            }
            _ => vec![path.to_owned()],
        }
    }

    /// The part for which the condition holds if `wanted`, else the rest.
    fn select(&self, condition: &dyn Fn(&Self) -> bool, wanted: bool) -> Option<Self> {
        if condition(self) {
            return wanted.then(|| self.clone());
        }
        match &self.kind {
            ModelKind::Group(message, children) => {
                let chosen: Vec<_> = children
                    .iter()
                    .filter_map(|child| child.select(condition, wanted))
                    .collect();
                (!chosen.is_empty()).then(|| Self::group(*message, chosen))
            }
            _ => (!wanted).then(|| self.clone()),
        }
    }

    fn collapse(&self) -> Self {
        let ModelKind::Group(message, children) = &self.kind else {
            return self.clone();
        };
        let mut children: Vec<_> = children.iter().map(Self::collapse).collect();
        if children.len() == 1 {
            let mut only = children.remove(0);
            only.contexts.extend(self.contexts.iter().cloned());
            only
        } else {
            Self {
                kind: ModelKind::Group(*message, children),
                contexts: self.contexts.clone(),
            }
        }
    }

    fn has_group_of_one(&self) -> bool {
        match &self.kind {
            ModelKind::Group(_, children) => {
                children.len() == 1 || children.iter().any(Self::has_group_of_one)
            }
            _ => false,
        }
    }

    fn has_error(&self) -> bool {
        self.leaves().iter().any(Option::is_some)
    }

    fn unmask(&self) -> Self {
        let kind = match &self.kind {
            ModelKind::Group(message, children) => {
                ModelKind::Group(*message, children.iter().map(Self::unmask).collect())
            }
            other => other.clone(),
        };
        let contexts: Vec<_> = self
            .contexts
            .iter()
            .map(|(relation, context)| match relation {
                ContextRelation::Pending => (*relation, context.unmask()),
                _ => (*relation, context.clone()),
            })
            .collect();
        let unmasked = Self { kind, contexts };
        let masked = unmasked.contexts.iter().position(|(relation, context)| {
            *relation == ContextRelation::Pending && context.has_error()
        });
        let Some(position) = masked.filter(|_| !unmasked.has_error()) else {
            return unmasked;
        };
        let mut raised = unmasked.contexts[position].1.clone();
        let (further, other): (Vec<_>, Vec<_>) = unmasked.contexts[position + 1..]
            .iter()
            .cloned()
            .partition(|(relation, _)| *relation == ContextRelation::Pending);
        let mut masker = Self {
            kind: unmasked.kind,
            contexts: unmasked.contexts[..position].to_vec(),
        };
        masker.contexts.extend(other);
        raised.contexts.extend(further);
        raised.contexts.push((ContextRelation::MaskedBy, masker));
        raised
    }
}

/// A condition that can be asked of both: which numbers, and which messages, match.
fn condition() -> impl Strategy<Value = (BTreeSet<u8>, BTreeSet<u8>)> {
    let set =
        |most: u8, n_most: usize| vec(0..most, 0..n_most).prop_map(|all| all.into_iter().collect());
    (set(6, 5), set(4, 2))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    /// E-003, E-007, E-008: what is built is what is read, leaf by leaf and path by path.
    #[test]
    fn leaves_are_kept_exactly(model in trees()) {
        let failure = model.build();
        prop_assert_eq!(&Model::read(&failure), &model);
        let leaves: Vec<_> = failure.leaves().map(|leaf| leaf.as_leaf().copied()).collect();
        prop_assert_eq!(&leaves, &model.leaves());
        let mut walk = failure.leaves();
        let mut paths = Vec::new();
        while walk.next().is_some() {
            paths.push(walk.path().map(|group| format!("/{}", group.message().unwrap())).collect::<String>());
        }
        prop_assert_eq!(paths, model.paths(""));
        prop_assert_eq!(&failure, &model.build());
        let taken: Vec<_> = failure.into_leaves().map(|leaf| leaf.as_leaf().copied()).collect();
        prop_assert_eq!(taken, leaves);
    }

    /// E-011, E-013, E-014, E-015: the halves are those of the model, and hold the same leaves together.
    #[test]
    fn splits_are_those_of_the_model(model in bare_trees(), (numbers, messages) in condition()) {
        let holds = |model: &Model| match &model.kind {
            ModelKind::Error(number) => numbers.contains(number),
            ModelKind::Cancelled => numbers.contains(&0),
            ModelKind::Group(message, _) => messages.contains(message),
        };
        let asks = |node: &Node<u8>| match (node.as_leaf(), node.message()) {
            (Some(number), _) => numbers.contains(number),
            (None, Some(text)) => messages.iter().any(|message| MESSAGES[usize::from(*message)] == text),
            (None, None) => numbers.contains(&0),
        };
        let (matching, rest) = model.build().split(asks);
        let matching = matching.map(|half| Model::read(&half));
        let rest = rest.map(|half| Model::read(&half));
        prop_assert_eq!(&matching, &model.select(&holds, true));
        prop_assert_eq!(&rest, &model.select(&holds, false));
        let selected = model.build().subgroup(asks).map(|half| Model::read(&half));
        prop_assert_eq!(&selected, &matching);

        let mut together: Vec<_> = matching.iter().chain(&rest).flat_map(Model::leaves).collect();
        let mut all = model.leaves();
        together.sort_unstable();
        all.sort_unstable();
        prop_assert_eq!(together, all);
    }

    /// With contexts, a split copies and loses none: each owned context is in one half, in the same order.
    #[test]
    fn splits_keep_contexts(model in trees(), (numbers, _) in condition()) {
        fn owned(node: &Node<u8>, found: &mut Vec<Model>) {
            for context in node.contexts() {
                found.extend(context.node().map(Model::read));
            }
            node.children().iter().for_each(|child| owned(child, found));
        }
        let (matching, rest) = model.build().split(|node| node.as_leaf().is_some_and(|number| numbers.contains(number)));
        let (mut before, mut after) = (Vec::new(), Vec::new());
        owned(&model.build(), &mut before);
        for half in matching.iter().chain(&rest) {
            owned(half, &mut after);
        }
        let sorted = |models: Vec<Model>| {
            let mut texts: Vec<_> = models.iter().map(|model| format!("{model:?}")).collect();
            texts.sort_unstable();
            texts
        };
        prop_assert_eq!(sorted(after), sorted(before));
    }

    /// E-027 to E-030: collapsing is that of the model, and says whether there was anything to do.
    #[test]
    fn collapsing_is_that_of_the_model(model in trees()) {
        let collapsed = Collapse::new().unmarked().apply(model.build());
        prop_assert_eq!(Model::read(&collapsed), model.collapse());
        prop_assert_eq!(get_collapsed_eg(model.build()).is_ok(), model.has_group_of_one());
        prop_assert!(get_collapsed_eg(collapsed).is_err());
    }

    /// E-038, E-039: the questions about cancellation, and the parts.
    #[test]
    fn cancellation_is_that_of_the_model(model in bare_trees()) {
        let leaves = model.leaves();
        let is_group = matches!(model.kind, ModelKind::Group(..));
        let failure = model.build();
        prop_assert_eq!(failure.is_all_cancelled(), leaves.iter().all(Option::is_none));
        prop_assert_eq!(is_multi_cancelled(&failure), is_group && leaves.iter().all(Option::is_none));
        prop_assert_eq!(failure.has_cancelled(), leaves.iter().any(Option::is_none));
        let left: Vec<_> = failure.absorb_cancelled().iter().flat_map(|left| left.errors().copied().collect::<Vec<_>>()).collect();
        prop_assert_eq!(left, leaves.into_iter().flatten().collect::<Vec<_>>());
    }

    /// E-041 to E-053: what comes out is that of the model, the report says as much, and nothing is lost.
    #[test]
    fn unmasking_is_that_of_the_model(model in trees()) {
        let expected = model.unmask();
        let failure = model.build();
        let n_in_place = |node: &Node<u8>| {
            let mut count = 0;
            let mut pending = vec![node];
            while let Some(node) = pending.pop() {
                count += usize::from(node.masked_by().is_some());
                // What came out as a whole is one pair, whatever came out inside before.
                if node.masked_by().is_none() {
                    pending.extend(node.children());
                }
            }
            count
        };
        let n_reported = failure.masked().len();
        let raised = maybe_raise_from_masking_exc(failure);
        prop_assert_eq!(Model::read(&raised), expected);
        prop_assert_eq!(n_reported, n_in_place(&raised));
        let again = maybe_raise_from_masking_exc(raised);
        prop_assert_eq!(Model::read(&again), model.unmask());
    }

    /// A copy is equal, and independent.
    #[test]
    fn copies_are_equal(model in trees()) {
        let mut failure = model.build();
        let copy = failure.clone();
        prop_assert_eq!(&copy, &failure);
        prop_assert_eq!(Model::read(&copy), model);
        failure.errors_mut().for_each(|error| *error += 100);
        prop_assert_eq!(copy != failure, copy.errors().next().is_some());
    }

    /// `map` and `flatten` keep the leaves.
    #[test]
    fn reshaping_keeps_the_leaves(model in trees()) {
        let mapped = model.build().map(|number| u64::from(number) + 1);
        let numbers: Vec<_> = mapped.leaves().map(|leaf| leaf.as_leaf().map(|number| (*number - 1) as u8)).collect();
        prop_assert_eq!(&numbers, &model.leaves());
        prop_assert_eq!(mapped.map(|number| (number - 1) as u8), model.build());
        let flat = group("d", [model.build()]).flatten();
        prop_assert!(flat.children().iter().all(Node::is_leaf));
        let flat: Vec<_> = flat.leaves().map(|leaf| leaf.as_leaf().copied()).collect();
        prop_assert_eq!(flat, model.leaves());
    }
}
