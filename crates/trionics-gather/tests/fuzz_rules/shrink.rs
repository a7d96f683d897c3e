//! Makes a failing program smaller.

use crate::program::{Node, Program};

/// The smallest program found that still fails, by taking parts away while it does.
pub(crate) fn shrink(program: &Program, still_fails: impl Fn(&Program) -> bool) -> Program {
    let mut best = program.clone();
    let mut tries_left = 4_000;
    'smaller: loop {
        for root in smaller(&best.root) {
            if tries_left == 0 {
                return best;
            }
            tries_left -= 1;
            let candidate = Program {
                root,
                ..best.clone()
            };
            if always_ends(&candidate.root, false) && still_fails(&candidate) {
                best = candidate;
                continue 'smaller;
            }
        }
        return best;
    }
}

/// Whether something that the driver can cancel is around whatever waits for ever.
fn always_ends(node: &Node, is_cancellable: bool) -> bool {
    let inner = match node {
        Node::Never => return is_cancellable,
        Node::Spawn(..) if !is_cancellable => return false,
        Node::Scope(..) | Node::Nursery(..) | Node::Start(..) | Node::Spawn(..) => true,
        Node::Shield(_) | Node::Ship(_) => false,
        // What comes before a context's exit may be cancellable; to be on the safe side it must end by itself.
        Node::With(context, block) => {
            return always_ends(context, false) && always_ends(block, is_cancellable);
        }
        Node::Gather(contexts, block) => {
            return always_ends(block, is_cancellable)
                && contexts.iter().all(|context| always_ends(context, false));
        }
        _ => is_cancellable,
    };
    children(node)
        .into_iter()
        .all(|child| always_ends(child, inner))
}

/// Programs that are a little smaller, the much smaller ones first.
fn smaller(node: &Node) -> Vec<Node> {
    let mut found: Vec<Node> = children(node).into_iter().cloned().collect();
    found.extend(without_one(node));
    if children(node).is_empty() && !matches!(node, Node::Ready | Node::Provide) {
        found.push(Node::Ready);
    }
    match node {
        Node::Turns(n_turns) if *n_turns > 1 => found.push(Node::Turns(1)),
        Node::Repeat(n_times, inner) if *n_times > 1 => {
            found.push(Node::Repeat(1, inner.clone()));
        }
        Node::Hold(held, n_polls, then) if *n_polls > 1 => {
            found.push(Node::Hold(held.clone(), 1, then.clone()));
        }
        _ => {}
    }
    for (index, child) in children(node).into_iter().enumerate() {
        for replacement in smaller(child) {
            found.push(with_child(node, index, replacement));
        }
    }
    found
}

fn children(node: &Node) -> Vec<&Node> {
    match node {
        Node::Start(_, inner)
        | Node::Spawn(_, inner)
        | Node::Repeat(_, inner)
        | Node::Catch(inner)
        | Node::Scope(_, inner)
        | Node::Settings(inner)
        | Node::Carry(inner)
        | Node::Ship(inner)
        | Node::Shield(inner) => vec![&**inner],
        Node::Sequence(nodes) | Node::Join(_, nodes) | Node::Select(nodes) => {
            nodes.iter().collect()
        }
        Node::Hold(first, _, second) | Node::With(first, second) => vec![&**first, &**second],
        Node::Nursery(_, last, nodes) | Node::Gather(nodes, last) => {
            nodes.iter().chain([&**last]).collect()
        }
        _ => Vec::new(),
    }
}

fn with_child(node: &Node, index: usize, child: Node) -> Node {
    let mut node = node.clone();
    match &mut node {
        Node::Start(_, inner)
        | Node::Spawn(_, inner)
        | Node::Repeat(_, inner)
        | Node::Catch(inner)
        | Node::Scope(_, inner)
        | Node::Settings(inner)
        | Node::Carry(inner)
        | Node::Ship(inner)
        | Node::Shield(inner) => **inner = child,
        Node::Sequence(nodes) | Node::Join(_, nodes) | Node::Select(nodes) => nodes[index] = child,
        Node::Hold(first, _, second) | Node::With(first, second) => {
            let place = if index == 0 { first } else { second };
            **place = child;
        }
        Node::Nursery(_, last, nodes) | Node::Gather(nodes, last) => {
            let place = nodes.get_mut(index).unwrap_or(last);
            *place = child;
        }
        _ => unreachable!("it has no children"),
    }
    node
}

/// The node with one of its list missing.
fn without_one(node: &Node) -> Vec<Node> {
    let (n_nodes, least) = match node {
        Node::Sequence(nodes) | Node::Join(_, nodes) | Node::Select(nodes) => (nodes.len(), 1),
        Node::Gather(nodes, _) => (nodes.len(), 1),
        Node::Nursery(_, _, nodes) => (nodes.len(), 0),
        _ => (0, 0),
    };
    if n_nodes <= least {
        return Vec::new();
    }
    (0..n_nodes)
        .map(|index| {
            let mut node = node.clone();
            match &mut node {
                Node::Sequence(nodes)
                | Node::Join(_, nodes)
                | Node::Select(nodes)
                | Node::Gather(nodes, _)
                | Node::Nursery(_, _, nodes) => drop(nodes.remove(index)),
                _ => unreachable!("it has a list"),
            }
            node
        })
        .collect()
}
