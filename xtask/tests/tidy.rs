//! What no compiler checks: every module says what it is, every crate comes with its papers.

use std::fs;

use self::common::{crates, files, workspace};

mod common;

#[test]
fn every_module_starts_with_a_sentence() {
    let all = files(&workspace(), ".rs");
    assert!(all.len() > 20, "only {} files were found", all.len());
    let silent: Vec<_> = all
        .iter()
        .filter(|path| {
            let text = fs::read_to_string(path).expect("a source file is text");
            !["//! ", "#![doc"]
                .iter()
                .any(|start| text.starts_with(start))
                || text.contains("(under construction)")
        })
        .filter(|path| !path.ends_with("xtask/tests/tidy.rs"))
        .collect();
    assert!(
        silent.is_empty(),
        "these say nothing in their first line: {silent:#?}"
    );
}

#[test]
fn every_crate_comes_with_its_papers() {
    let mut missing = Vec::new();
    for folder in crates() {
        for paper in ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"] {
            if !folder.join(paper).is_file() {
                missing.push(folder.join(paper));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn all_crates_have_the_same_licenses() {
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let ours =
            fs::read_to_string(workspace().join(name)).expect("the workspace has its licenses");
        for folder in crates() {
            let theirs = fs::read_to_string(folder.join(name)).unwrap_or_default();
            assert!(
                ours == theirs,
                "{} differs from the workspace's {name}",
                folder.join(name).display()
            );
        }
    }
}

/// The crates with unsafe code, and the one module that has it, with those inside it; `cargo xtask ci` runs their tests
/// under a sanitizer.
const UNSAFE_MODULES: &[(&str, &str)] = &[
    ("trionics-broadcast", "block.rs"),
    ("trionics-nursery", "nursery/child.rs"),
];

#[test]
fn unsafe_code_is_forbidden_or_in_its_one_module() {
    for folder in crates() {
        let root = folder.join("src/lib.rs");
        let text = fs::read_to_string(&root).expect("a crate has a root");
        let module = UNSAFE_MODULES
            .iter()
            .find(|(name, _)| folder.ends_with(name))
            .map(|(_, module)| folder.join("src").join(module));
        let Some(module) = module else {
            assert!(
                text.contains("#![forbid(unsafe_code)]"),
                "{}",
                root.display()
            );
            continue;
        };
        assert!(text.contains("#![deny(unsafe_code)]"), "{}", root.display());
        let mut n_allowed = 0;
        for path in files(&folder.join("src"), ".rs") {
            let text = fs::read_to_string(&path).expect("a source can be read");
            let words: String = text.split_whitespace().collect();
            n_allowed += words.matches("allow(unsafe_code").count();
            assert!(
                path == module
                    || path.starts_with(module.with_extension(""))
                    || !text.contains("unsafe {"),
                "{}",
                path.display()
            );
        }
        assert_eq!(n_allowed, 1, "{}", root.display());
    }
}

#[test]
fn the_changelog_names_every_crate() {
    let index = fs::read_to_string(workspace().join("CHANGELOG.md")).expect("there is a changelog");
    for folder in crates() {
        let name = folder
            .file_name()
            .expect("a folder has a name")
            .to_string_lossy()
            .into_owned();
        assert!(
            index.contains(&format!("(crates/{name}/CHANGELOG.md)")),
            "{name} is not in CHANGELOG.md"
        );
    }
}

/// What a crate includes from outside its folder would be missing from its package.
#[test]
fn crates_include_only_what_is_theirs() {
    let mut outside = Vec::new();
    for package in crates() {
        for source in files(&package, ".rs") {
            let text = fs::read_to_string(&source).expect("a source file is text");
            let included = ["include_str!(\"", "include_bytes!(\""]
                .into_iter()
                .flat_map(|call| text.split(call).skip(1));
            for included in included.filter_map(|rest| rest.split('"').next()) {
                // The file itself may be a link to elsewhere: a package holds what it leads to.
                let path = source
                    .parent()
                    .expect("a file is in a folder")
                    .join(included);
                let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
                if !path.is_file() || !folder.is_some_and(|folder| folder.starts_with(&package)) {
                    outside.push(format!("{}: {included}", source.display()));
                }
            }
        }
    }
    assert!(outside.is_empty(), "{outside:#?}");
}

/// Links between the documents lead somewhere.
#[test]
fn links_in_documents_lead_to_files() {
    let mut dead = Vec::new();
    for document in files(&workspace(), ".md") {
        let text = fs::read_to_string(&document).expect("a document is text");
        let folder = document.parent().expect("a file is in a folder");
        let inline = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        let defined = text
            .lines()
            .filter_map(|line| Some(line.strip_prefix('[')?.split_once("]: ")?.1));
        for target in inline.chain(defined) {
            let path = target.split('#').next().unwrap_or_default();
            let is_file = !path.is_empty()
                && !path.contains(':')
                && !path.contains(' ')
                && path.contains(['/', '.']);
            if is_file && !folder.join(path).exists() {
                dead.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}
