//! What documentation has to say and to show.

use std::{collections::HashSet, fs};

use self::common::{crates, files, workspace};

mod common;

/// The umbrella shows every page of the guide, each under the name by which the others refer to it.
#[test]
fn every_page_of_the_guide_is_shown_in_the_documentation() {
    let umbrella = workspace().join("crates/trionics");
    let module = fs::read_to_string(umbrella.join("src/guide.rs")).expect("there is a guide");
    let links = fs::read_to_string(umbrella.join("src/guide/links.md")).expect("it has links");
    let mut wrong = Vec::new();
    for page in files(&workspace().join("docs"), ".md") {
        let name = page.file_name().expect("a page has a name");
        let linked = umbrella.join("guide").join(name).canonicalize();
        let name = name.to_string_lossy();
        if name == "releasing.md" {
            continue; // for those who work on the project
        }
        if !linked.is_ok_and(|linked| linked == page) {
            wrong.push(format!("{name} is not linked from crates/trionics/guide"));
        }
        if !module.contains(&format!("/{name}\"")) && !module.contains(&format!(" \"{name}\"")) {
            wrong.push(format!("{name} is not in crates/trionics/src/guide.rs"));
        }
        let text = fs::read_to_string(&page).expect("a page is text");
        for line in text.lines().filter(|line| line.contains("]: ")) {
            let label = line.split_once("]: ").map_or("", |(label, _)| label);
            if label.starts_with('[') && !links.contains(&format!("{label}]: ")) {
                wrong.push(format!(
                    "{name}: {label}] is not in crates/trionics/src/guide/links.md"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whatever is awaited says what is lost when it is dropped, and what a cancellation does to it.
#[test]
fn everything_async_says_what_a_cancellation_does() {
    let mut n_found = 0;
    let mut silent = Vec::new();
    for folder in crates() {
        let sources: Vec<_> = files(&folder.join("src"), ".rs")
            .into_iter()
            .map(|path| {
                let text = fs::read_to_string(&path).expect("a source file is text");
                (path, text)
            })
            .collect();
        let futures: HashSet<_> = sources
            .iter()
            .flat_map(|(_, text)| names_of_futures(text))
            .collect();
        for (path, text) in &sources {
            for function in functions(text) {
                if function.is_hidden() || !function.is_async(&futures) {
                    continue;
                }
                n_found += 1;
                if !function.documentation.contains("# Cancel safety") {
                    silent.push(format!("{}: {}", path.display(), function.signature));
                }
            }
        }
    }
    assert!(n_found > 60, "only {n_found} were found");
    assert!(silent.is_empty(), "these do not say it: {silent:#?}");
}

/// The types for which a file implements `Future`.
fn names_of_futures(text: &str) -> impl Iterator<Item = &str> {
    text.split(" Future for ")
        .skip(1)
        .filter_map(|rest| rest.split(|char: char| !char.is_alphanumeric()).next())
}

/// A public function, with the lines of documentation and attributes above it.
struct Function {
    documentation: String,
    signature: String,
}

impl Function {
    fn is_hidden(&self) -> bool {
        // What only the sibling crates use says so.
        let is_internal = self.documentation.contains("For the sibling crates");
        is_internal || self.documentation.contains("#[doc(hidden)]")
    }

    fn is_async(&self, futures: &HashSet<&str>) -> bool {
        let returned = self.signature.split("->").nth(1).unwrap_or_default().trim();
        let name = returned
            .split(['<', ' ', '{', ';'])
            .next()
            .unwrap_or_default();
        self.signature.starts_with("pub async fn")
            || returned.starts_with("impl Future")
            || futures.contains(name)
    }
}

/// The public functions of a file.
fn functions(text: &str) -> Vec<Function> {
    let mut functions = Vec::new();
    let mut documentation = String::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let is_function = ["pub fn ", "pub async fn "]
            .iter()
            .any(|start| line.starts_with(start));
        if is_function {
            let mut signature = line.to_owned();
            while !signature.contains(['{', ';']) {
                let Some(more) = lines.next() else { break };
                signature.push(' ');
                signature.push_str(more);
            }
            let documentation = std::mem::take(&mut documentation);
            functions.push(Function {
                documentation,
                signature,
            });
        } else if line.starts_with("///") || line.starts_with("#[") {
            documentation.push_str(line);
            documentation.push('\n');
        } else {
            documentation.clear();
        }
    }
    functions
}
