//! Whether a license expression leaves a choice that we allow.

/// What may be in the dependency tree, tests and tools included.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Reads `A OR (B AND C WITH exception)`; a slash, as old manifests have it, is an `OR`.
///
/// # Errors
///
/// Where the expression cannot be read.
pub(crate) fn is_allowed(expression: &str) -> Result<bool, String> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let allowed = any(&mut words)?;
    match words.next() {
        None => Ok(allowed),
        Some(word) => Err(format!("`{word}` is not expected in `{expression}`")),
    }
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>) -> Result<bool, String> {
    let mut allowed = all(words)?;
    while words.next_if_eq(&"OR").is_some() {
        allowed |= all(words)?;
    }
    Ok(allowed)
}

fn all(words: &mut Words<'_>) -> Result<bool, String> {
    let mut allowed = one(words)?;
    while words.next_if_eq(&"AND").is_some() {
        allowed &= one(words)?;
    }
    Ok(allowed)
}

fn one(words: &mut Words<'_>) -> Result<bool, String> {
    match words.next() {
        Some("(") => {
            let allowed = any(words)?;
            match words.next() {
                Some(")") => Ok(allowed),
                _ => Err("a parenthesis is not closed".to_owned()),
            }
        }
        Some(name) => {
            // An exception takes a duty away.
            if words.next_if_eq(&"WITH").is_some() {
                words.next();
            }
            Ok(ALLOWED.contains(&name))
        }
        None => Err("there is no license".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_choice_is_enough_and_all_duties_count() {
        for expression in [
            "MIT",
            "Apache-2.0/MIT",
            "GPL-3.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert_eq!(is_allowed(expression), Ok(true), "{expression}");
        }
        for expression in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR GPL-3.0) AND SSPL-1.0",
        ] {
            assert_eq!(is_allowed(expression), Ok(false), "{expression}");
        }
        for expression in ["", "MIT OR", "(MIT", "MIT Apache-2.0"] {
            assert!(is_allowed(expression).is_err(), "{expression}");
        }
    }
}
