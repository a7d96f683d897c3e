//! The guide: why, how, and what exactly.
//!

// The pages are those of the repository's `docs`, which `../guide` links to; `cargo package` follows the links.
// There they refer to each other as files, here as modules: of two definitions of a link, the first one counts.
#![doc = include_str!("guide/links.md")]
#![doc = include_str!("../guide/README.md")]

/// Defines the pages as modules.
macro_rules! pages {
    ($($name:ident: $file:literal,)*) => {$(
        #[doc = include_str!("guide/links.md")]
        #[doc = include_str!(concat!("../guide/", $file))]
        pub mod $name {}
    )*};
}

pages! {
    why: "why.md",
    tutorial: "tutorial.md",
    tutorial_server: "tutorial-server.md",
    recipes: "recipes.md",
    recipes_stopping: "recipes-stopping.md",
    recipes_tasks: "recipes-tasks.md",
    recipes_sharing: "recipes-sharing.md",
    recipes_servers: "recipes-servers.md",
    recipes_tests: "recipes-tests.md",
    coming_from: "coming-from.md",
    cancellation: "cancellation.md",
    cancellation_edges: "cancellation-edges.md",
    mistakes: "mistakes.md",
    questions: "questions.md",
    architecture: "architecture.md",
    benchmarks: "benchmarks.md",
}
