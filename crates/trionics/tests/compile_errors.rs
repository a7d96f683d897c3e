//! What the compiler says to the usual mistakes, and that `docs/compile-errors.md` shows it as it is.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

/// The messages are those of one compiler version, with all features. To write them anew:
/// `TRYBUILD=overwrite cargo test -p trionics --all-features --test compile_errors`.
#[test]
fn mistakes_are_answered_as_expected() {
    let wanted = env!("CARGO_PKG_RUST_VERSION");
    let compiler = Command::new(option_env!("RUSTC").unwrap_or("rustc"))
        .arg("--version")
        .output()
        .expect("there is a compiler");
    let compiler = String::from_utf8_lossy(&compiler.stdout).into_owned();
    if !compiler.starts_with(&format!("rustc {wanted}.")) {
        eprintln!("the messages are those of Rust {wanted}, this is {compiler}");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}

/// Every message of the page is one of a mistake, line by line, and no mistake is left out.
#[test]
fn the_guide_shows_the_messages_as_they_are() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(package.join("../../docs/compile-errors.md")).unwrap();
    let mut messages: BTreeMap<String, (String, bool)> =
        fs::read_dir(package.join("tests/compile_fail"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|it| it == "stderr"))
            .map(|path| {
                let message = fs::read_to_string(&path).unwrap();
                (path.display().to_string(), (message, false))
            })
            .collect();
    assert!(messages.len() > 10, "{messages:?}");
    let quotes = page.split("```text\n").skip(1);
    for quote in quotes.map(|rest| rest.split("```").next().unwrap()) {
        let mut n_sources = 0;
        for (message, is_shown) in messages.values_mut() {
            let mut lines = message.lines();
            if quote.lines().all(|line| lines.any(|it| it == line)) {
                n_sources += 1;
                *is_shown = true;
            }
        }
        assert_eq!(n_sources, 1, "messages that read so:\n{quote}");
    }
    for (path, (_, is_shown)) in messages {
        assert!(is_shown, "{path} is not in docs/compile-errors.md");
    }
}
