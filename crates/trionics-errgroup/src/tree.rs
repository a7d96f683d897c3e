//! The tree, drawn for a terminal.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt::{self, Write as _};
use core::mem;

use crate::any_error::sources;
use crate::list::{Item, list};
use crate::node::{Attached, Target};
use crate::text::{Face, Line, Page};
use crate::{AnyError, ContextRelation, FailureMark, Node};

/// How deep a tree is drawn if nobody says otherwise.
const MAX_DEPTH: usize = 24;
/// How many children of a group are drawn if nobody says otherwise.
const MAX_CHILDREN: usize = 32;

/// A drawing of a failure with all that is known about it: messages, notes, contexts, sources and names.
///
/// Whoever prints it decides how: there is no global state, and nothing looks at the environment.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::Failure;
///
/// let inner = Failure::group("inner", [Failure::new(std::fmt::Error).with_note("twice")])?;
/// let outer = Failure::group("outer", [inner.with_origin("feed"), Failure::new(std::fmt::Error)])?;
/// let expected = "
/// outer (2 sub-errors)
/// ├─ inner (1 sub-error) [feed]
/// │  ╰─ an error occurred when formatting an argument
/// │       note: twice
/// ╰─ an error occurred when formatting an argument";
/// assert_eq!(outer.tree().to_string(), expected.trim_start());
/// # Ok::<(), trionics_errgroup::EmptyGroup>(())
/// ```
#[must_use = "a tree is drawn when it is formatted"]
pub struct Tree<'a, E> {
    root: &'a Node<E>,
    show: Show<E>,
    source: AskSource<E>,
    max_depth: usize,
    max_children: usize,
    columns: Option<usize>,
    is_colored: bool,
    is_ascii: bool,
}

/// How an error writes itself.
type Show<E> = fn(&E, &mut fmt::Formatter<'_>) -> fmt::Result;
/// How an error is asked for its source.
type AskSource<E> = for<'e> fn(&'e E) -> Option<&'e (dyn Error + 'static)>;

/// The errors that can be asked for their source: everything that implements [`Error`], and [`AnyError`].
pub trait LeafError: fmt::Display + sealed::Sealed {
    /// The error's source.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{AnyError, LeafError};
    ///
    /// assert!(AnyError::new(std::fmt::Error).leaf_source().is_none());
    /// ```
    fn leaf_source(&self) -> Option<&(dyn Error + 'static)>;
}

mod sealed {
    pub trait Sealed {}
    impl<E: core::error::Error> Sealed for E {}
    impl Sealed for crate::AnyError {}
}

impl<E: Error> LeafError for E {
    fn leaf_source(&self) -> Option<&(dyn Error + 'static)> {
        self.source()
    }
}

impl LeafError for AnyError {
    fn leaf_source(&self) -> Option<&(dyn Error + 'static)> {
        self.as_error().source()
    }
}

impl<E> Node<E> {
    /// A drawing of the tree, with the sources of each error.
    ///
    /// # Examples
    ///
    /// See [`Tree`].
    pub fn tree(&self) -> Tree<'_, E>
    where
        E: LeafError,
    {
        let mut tree = self.tree_with(|error, formatter| write!(formatter, "{error}"));
        tree.source = E::leaf_source;
        tree
    }

    /// A drawing of the tree in which each error is written by the function.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// struct Code(u8);
    ///
    /// let group = Failure::group("feed", [Failure::leaf(Code(7))])?;
    /// let tree = group.tree_with(|code, formatter| write!(formatter, "code {}", code.0));
    /// assert_eq!(tree.to_string(), "feed (1 sub-error)\n╰─ code 7");
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn tree_with(&self, show: fn(&E, &mut fmt::Formatter<'_>) -> fmt::Result) -> Tree<'_, E> {
        Tree {
            root: self,
            show,
            source: |_| None,
            max_depth: MAX_DEPTH,
            max_children: MAX_CHILDREN,
            columns: None,
            is_colored: false,
            is_ascii: false,
        }
    }
}

impl<E> Tree<'_, E> {
    /// How many levels below the outermost are drawn, 24 unless set; the tree says how many it leaves out.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let group = Failure::group("feed", [Failure::new(std::fmt::Error)])?;
    /// let shallow = group.tree().max_depth(0).to_string();
    /// assert_eq!(shallow, "feed (1 sub-error)\n╰─ … 1 leaf in 1 more level left out");
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn max_depth(mut self, n_levels: usize) -> Self {
        self.max_depth = n_levels;
        self
    }

    /// How many children of each group are drawn, 32 unless set; the tree says how many it leaves out.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let group = Failure::group("feed", [Failure::new(std::fmt::Error), Failure::new(std::fmt::Error)])?;
    /// assert!(group.tree().max_children(1).to_string().ends_with("╰─ … 1 more child with 1 leaf left out"));
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn max_children(mut self, n_children: usize) -> Self {
        self.max_children = n_children;
        self
    }

    /// How wide the terminal is: longer lines are broken between words. Unless set, none is broken.
    ///
    /// However narrow the terminal and however deep the tree, a line has room for 20 columns of text.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let failure = Failure::new(std::fmt::Error);
    /// assert_eq!(failure.tree().columns(30).to_string(), "an error occurred when\n  formatting an argument");
    /// ```
    pub fn columns(mut self, n_columns: usize) -> Self {
        self.columns = Some(n_columns);
        self
    }

    /// Colors the tree with the escape sequences of ANSI terminals.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert!(Failure::new(std::fmt::Error).tree().colored().to_string().starts_with("\u{1b}[31m"));
    /// ```
    pub fn colored(mut self) -> Self {
        self.is_colored = true;
        self
    }

    /// Draws the branches without box characters.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let group = Failure::group("feed", [Failure::new(std::fmt::Error)])?;
    /// assert!(group.tree().ascii().to_string().contains("`- an error"));
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn ascii(mut self) -> Self {
        self.is_ascii = true;
        self
    }
}

impl<E> Clone for Tree<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Tree<'_, E> {}

impl<E> fmt::Debug for Tree<'_, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl<E> fmt::Display for Tree<'_, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut painter = Painter {
            tree: self,
            numbers: number_nodes(self.root),
            page: Page::new(formatter, self.columns, self.is_colored),
            prefix: String::new(),
        };
        painter.draw()
    }
}

/// How many direct children a group has.
pub(crate) struct SubErrors<'a, E>(pub(crate) &'a [Node<E>]);

impl<E> fmt::Display for SubErrors<'_, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "({})",
            Count(self.0.len(), "sub-error", "sub-errors")
        )
    }
}

/// A number of things, in words that agree with it.
struct Count(usize, &'static str, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, singular, plural) = *self;
        write!(
            formatter,
            "{number} {}",
            if number == 1 { singular } else { plural }
        )
    }
}

/// Numbers the nodes that others refer to, in the order in which they are drawn.
fn number_nodes<E>(root: &Node<E>) -> BTreeMap<usize, usize> {
    let entries = list(root);
    let wanted: BTreeSet<usize> = entries
        .iter()
        .filter_map(|entry| match entry.item {
            Item::Reference(mark) => Some(mark.address()),
            Item::Node(_) => None,
        })
        .collect();
    let mut numbers = BTreeMap::new();
    if wanted.is_empty() {
        return numbers;
    }
    let mut n_numbered = 0;
    for entry in &entries {
        if let Item::Node(node) = entry.item
            && (node.marks().iter()).any(|mark| wanted.contains(&mark.address()))
        {
            n_numbered += 1;
            for mark in node.marks() {
                numbers.entry(mark.address()).or_insert(n_numbered);
            }
        }
    }
    numbers
}

struct Painter<'p, 'f, 'a, E> {
    tree: &'p Tree<'a, E>,
    /// The numbers of the nodes that others refer to, by the address of the mark.
    numbers: BTreeMap<usize, usize>,
    page: Page<'p, 'f>,
    /// What stands before every line of the node that is being drawn, and before its branches.
    prefix: String,
}

/// What hangs on a node, as far as it is not drawn yet.
struct Branches<'a, E> {
    contexts: &'a [Attached<E>],
    children: &'a [Node<E>],
    /// How many more children the limit allows.
    n_allowed: usize,
    /// How long the prefix of the node around is.
    outer_prefix: usize,
}

/// One branch.
enum Branch<'a, E> {
    Context(&'a Attached<E>),
    Child(&'a Node<E>),
    /// The children that the limit leaves out.
    LeftOut(&'a [Node<E>]),
}

impl<'a, E> Iterator for Branches<'a, E> {
    type Item = Branch<'a, E>;

    fn next(&mut self) -> Option<Branch<'a, E>> {
        if let Some((context, others)) = self.contexts.split_first() {
            self.contexts = others;
            return Some(Branch::Context(context));
        }
        if self.n_allowed == 0 && !self.children.is_empty() {
            return Some(Branch::LeftOut(mem::take(&mut self.children)));
        }
        let (child, others) = self.children.split_first()?;
        self.children = others;
        self.n_allowed -= 1;
        Some(Branch::Child(child))
    }
}

impl<'a, E> Painter<'_, '_, 'a, E> {
    fn draw(&mut self) -> fmt::Result {
        let mut enclosing: Vec<Branches<'a, E>> = Vec::new();
        enclosing.extend(self.node(self.tree.root, "", ["", ""], 0)?);
        while let Some(branches) = enclosing.last_mut() {
            let Some(branch) = branches.next() else {
                self.prefix.truncate(branches.outer_prefix);
                enclosing.pop();
                continue;
            };
            let is_last = branches.contexts.is_empty() && branches.children.is_empty();
            let [elbow, rail] = self.strokes(matches!(branch, Branch::Context(_)), is_last);
            let (node, label) = match branch {
                Branch::Child(node) => (node, ""),
                Branch::Context(context) => {
                    let label = match context.relation {
                        ContextRelation::Pending => "while handling: ",
                        ContextRelation::Handled => "after dealing with: ",
                        ContextRelation::MaskedBy => "masked by: ",
                    };
                    match &context.target {
                        Target::Owned(node) => (node, label),
                        Target::Elsewhere(mark) => {
                            let mut line = Line::new();
                            line.push(Face::Label, label);
                            match self.numbers.get(&mark.address()) {
                                Some(number) => line.push(Face::Label, format_args!("#{number}")),
                                None => {
                                    line.push(Face::Faint, "a failure that is not in this tree")
                                }
                            }
                            self.page
                                .write(&line, [&self.prefix, elbow], [&self.prefix, rail])?;
                            continue;
                        }
                    }
                }
                Branch::LeftOut(children) => {
                    let n_leaves = children.iter().map(|child| child.leaves().count()).sum();
                    let mut line = Line::new();
                    let more = Count(children.len(), "more child", "more children");
                    let leaves = Count(n_leaves, "leaf", "leaves");
                    line.push(
                        Face::Faint,
                        format_args!("{} {more} with {leaves} left out", self.dots()),
                    );
                    self.page
                        .write(&line, [&self.prefix, elbow], [&self.prefix, rail])?;
                    continue;
                }
            };
            let depth = enclosing.len();
            enclosing.extend(self.node(node, label, [elbow, rail], depth)?);
        }
        Ok(())
    }

    /// Draws a node, and says what hangs on it, unless that is too deep.
    fn node(
        &mut self,
        node: &'a Node<E>,
        label: &str,
        [elbow, rail]: [&str; 2],
        depth: usize,
    ) -> Result<Option<Branches<'a, E>>, fmt::Error> {
        let outer_prefix = self.prefix.len();
        self.prefix.push_str(rail);
        let branches = Branches {
            contexts: node.attached(),
            children: node.children(),
            n_allowed: self.tree.max_children,
            outer_prefix,
        };
        let has_branches = !branches.contexts.is_empty() || !branches.children.is_empty();
        let rest = match (has_branches, self.tree.is_ascii) {
            (false, _) => [&*self.prefix, "  "],
            (true, false) => [&*self.prefix, "│  "],
            (true, true) => [&*self.prefix, "|  "],
        };
        self.page.write(
            &self.head(node, label),
            [&self.prefix[..outer_prefix], elbow],
            rest,
        )?;

        let mut detail = |face, label: &str, text: &dyn fmt::Display| {
            let mut line = Line::new();
            line.push(Face::Label, label);
            line.push(face, text);
            self.page.write(&line, rest, rest)
        };
        let first_source = node.as_leaf().and_then(|error| (self.tree.source)(error));
        for source in sources(first_source) {
            detail(Face::Plain, "caused by: ", &source)?;
        }
        if let Some(cause) = node.cause() {
            detail(Face::Plain, "caused by: ", &cause)?;
            for source in sources(cause.source()) {
                detail(Face::Plain, "caused by: ", &source)?;
            }
        }
        for note in node.notes() {
            detail(Face::Plain, "note: ", &note)?;
        }
        if node.n_collapsed() > 0 {
            let groups = Count(node.n_collapsed(), "group", "groups");
            detail(
                Face::Faint,
                "note: ",
                &format_args!("collapsed out of {groups} of one"),
            )?;
        }

        if has_branches && depth < self.tree.max_depth {
            return Ok(Some(branches));
        }
        if has_branches {
            let [elbow, rail] = self.strokes(false, true);
            let line = self.too_deep(node);
            self.page
                .write(&line, [&self.prefix, elbow], [&self.prefix, rail])?;
        }
        self.prefix.truncate(outer_prefix);
        Ok(None)
    }

    /// The line that a node begins with.
    fn head(&self, node: &Node<E>, label: &str) -> Line {
        let mut line = Line::new();
        line.push(Face::Label, label);
        let mut addresses = node.marks().iter().map(FailureMark::address);
        if let Some(number) = addresses.find_map(|address| self.numbers.get(&address)) {
            line.push(Face::Label, format_args!("#{number} "));
        }
        let mut later_lines = String::new();
        if let Some(error) = node.as_leaf() {
            let mut text = String::new();
            // An error whose `Display` fails must not keep the others from being printed.
            let _ = write!(text, "{}", Shown(error, self.tree.show));
            if let Some(end) = text.find('\n') {
                later_lines = text.split_off(end);
            }
            line.push(Face::Error, text);
        } else if let Some(cancelled) = node.as_cancelled() {
            line.push(Face::Cancelled, cancelled);
            let location = cancelled.location();
            line.push(Face::Faint, format_args!(" (asked for at {location})"));
        } else if let Some(failure) = node.as_library() {
            line.push(Face::Error, failure);
        } else if let Some(message) = node.message() {
            line.push(Face::Message, message);
            let blank = if message.is_empty() { "" } else { " " };
            let count = SubErrors(node.children());
            line.push(Face::Faint, format_args!("{blank}{count}"));
        }
        if let Some(origin) = node.origin() {
            line.push(Face::Faint, format_args!(" [{origin}]"));
        }
        line.push(Face::Error, later_lines);
        line
    }

    /// What is said in the place of branches that are too deep.
    fn too_deep(&self, node: &Node<E>) -> Line {
        let mut line = Line::new();
        let mut leaves = node.leaves();
        let (mut n_leaves, mut n_levels) = (0, 0);
        while leaves.next().is_some() {
            n_leaves += 1;
            n_levels = n_levels.max(leaves.path().len());
        }
        let dots = self.dots();
        if node.is_group() {
            let leaves = Count(n_leaves, "leaf", "leaves");
            let levels = Count(n_levels, "more level", "more levels");
            line.push(
                Face::Faint,
                format_args!("{dots} {leaves} in {levels} left out"),
            );
        } else {
            let contexts = Count(node.contexts().len(), "context", "contexts");
            line.push(Face::Faint, format_args!("{dots} {contexts} left out"));
        }
        line
    }

    fn dots(&self) -> &'static str {
        if self.tree.is_ascii { "..." } else { "…" }
    }

    /// What stands before the first line of a branch, and before all that follows.
    fn strokes(&self, is_context: bool, is_last: bool) -> [&'static str; 2] {
        match (self.tree.is_ascii, is_last, is_context) {
            (false, false, false) => ["├─ ", "│  "],
            (false, false, true) => ["├╌ ", "│  "],
            (false, true, false) => ["╰─ ", "   "],
            (false, true, true) => ["╰╌ ", "   "],
            (true, false, false) => ["|- ", "|  "],
            (true, false, true) => ["|~ ", "|  "],
            (true, true, false) => ["`- ", "   "],
            (true, true, true) => ["`~ ", "   "],
        }
    }
}

/// An error as it is to be written.
struct Shown<'a, E>(&'a E, Show<E>);

impl<E> fmt::Display for Shown<'_, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.1)(self.0, formatter)
    }
}
