//! What the command line asks for.

use std::path::{Path, PathBuf};

use crate::{Case, Group};

/// The arguments of the measuring program.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// Groups, or parts of `group/case`; all cases if there are none.
    pub filters: Vec<String>,
    /// Fewer and shorter rounds.
    pub quick: bool,
    /// Name what there is, and measure nothing.
    pub list: bool,
    /// The name under which the reports are to be kept.
    pub save: Option<String>,
    /// The name of the run to compare with.
    pub against: Option<String>,
    /// Where the reports go.
    pub folder: PathBuf,
}

impl Options {
    /// Reads the arguments.
    ///
    /// # Errors
    ///
    /// If they make no sense; says what is wrong with them.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            filters: Vec::new(),
            quick: false,
            list: false,
            save: None,
            against: None,
            folder: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bench"),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = |what: &str| {
                arguments
                    .next()
                    .filter(|value| !value.starts_with('-'))
                    .ok_or(format!("`{argument}` wants {what}"))
            };
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--list" => options.list = true,
                "--save" => options.save = Some(name(value("a name")?)?),
                "--against" => options.against = Some(name(value("the name of a saved run")?)?),
                "--out" => options.folder = value("a folder")?.into(),
                flag if flag.starts_with('-') => {
                    return Err(format!(
                        "there is no option `{flag}`; there are --quick, --list, --save NAME and --against NAME"
                    ));
                }
                filter => options.filters.push(filter.to_owned()),
            }
        }
        Ok(options)
    }

    /// Where a run of that name is kept.
    pub fn saved(&self, name: &str) -> PathBuf {
        self.saved_folder().join(name)
    }

    /// The names of the runs that are kept.
    pub fn saved_names(&self) -> Vec<String> {
        let entries = self.saved_folder().read_dir().into_iter().flatten();
        let mut names: Vec<_> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.path().join("report.json").is_file())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn saved_folder(&self) -> PathBuf {
        Path::new(&self.folder).join("saved")
    }
}

/// The name of a saved run, which becomes that of a folder.
fn name(text: &str) -> Result<String, String> {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
    if text.starts_with('.') || !text.chars().all(is_plain) {
        return Err(format!(
            "`{text}` cannot be the name of a saved run: letters, digits, `-`, `_` and `.` can"
        ));
    }
    Ok(text.to_owned())
}

/// The cases that some filter picks: the name of a group picks all of it, other text whatever has it in `group/case`.
///
/// # Errors
///
/// If a filter picks nothing; names what there is.
pub fn select<'groups>(
    groups: &'groups [Group],
    filters: &[String],
) -> Result<Vec<(&'groups Group, &'groups Case)>, String> {
    let all: Vec<_> = groups
        .iter()
        .flat_map(|group| group.cases().iter().map(move |case| (group, case)))
        .collect();
    let picks = |filter: &str, group: &Group, case: &Case| {
        if groups.iter().any(|group| group.name() == filter) {
            group.name() == filter
        } else {
            format!("{}/{}", group.name(), case.name())
                .to_lowercase()
                .contains(&filter.to_lowercase())
        }
    };
    for filter in filters {
        if !all.iter().any(|(group, case)| picks(filter, group, case)) {
            let names: Vec<_> = groups.iter().map(Group::name).collect();
            let known: Vec<_> = all
                .iter()
                .map(|(group, case)| format!("  {}/{}", group.name(), case.name()))
                .collect();
            return Err(format!(
                "nothing is called `{filter}`; the groups are {}, the cases\n{}",
                names.join(", "),
                known.join("\n")
            ));
        }
    }
    Ok(all
        .into_iter()
        .filter(|(group, case)| {
            filters.is_empty() || filters.iter().any(|filter| picks(filter, group, case))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        let arguments: Vec<_> = arguments
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect();
        Options::parse(&arguments)
    }

    fn groups() -> [Group; 2] {
        let case = |name: &str| Case::new(name, "item", 1, "").subject("peer", || || ());
        [
            Group::new("nursery")
                .case(case("1 child, cached"))
                .case(case("10 children")),
            Group::new("cache").case(case("Warm hit")),
        ]
    }

    fn names(filters: &[&str]) -> Result<Vec<String>, String> {
        let filters: Vec<_> = filters.iter().map(|filter| (*filter).to_owned()).collect();
        let groups = groups();
        let selected = select(&groups, &filters)?;
        Ok(selected
            .iter()
            .map(|(group, case)| format!("{}/{}", group.name(), case.name()))
            .collect())
    }

    #[test]
    fn all_options_at_once() {
        let options = parse(&[
            "nursery",
            "--quick",
            "--save",
            "mine",
            "--against",
            "v1.0",
            "race",
            "--out",
            "/tmp/x",
            "--list",
        ]);
        let expected = Options {
            filters: vec!["nursery".to_owned(), "race".to_owned()],
            quick: true,
            list: true,
            save: Some("mine".to_owned()),
            against: Some("v1.0".to_owned()),
            folder: "/tmp/x".into(),
        };
        assert_eq!(options, Ok(expected));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (arguments, expected) in [
            (&["--quik"][..], "there is no option `--quik`"),
            (&["--save"], "`--save` wants a name"),
            (
                &["--against", "--quick"],
                "`--against` wants the name of a saved run",
            ),
            (&["--save", "../here"], "`../here` cannot be the name"),
            (&["--save", "."], "`.` cannot be the name"),
        ] {
            let error = parse(arguments).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_group_is_picked_by_its_whole_name_and_a_case_by_a_part() {
        let all = [
            "nursery/1 child, cached",
            "nursery/10 children",
            "cache/Warm hit",
        ];
        assert_eq!(names(&[]).unwrap(), all);
        assert_eq!(names(&["cache"]).unwrap(), all[2..]);
        assert_eq!(names(&["cache", "1 child"]).unwrap(), [all[0], all[2]]);
        assert_eq!(names(&["warm HIT"]).unwrap(), all[2..]);
        assert_eq!(names(&["nursery/10"]).unwrap(), all[1..2]);
    }

    #[test]
    fn a_filter_that_picks_nothing_is_told_what_there_is() {
        let error = names(&["cache", "nothing"]).unwrap_err();
        assert!(error.starts_with("nothing is called `nothing`"), "{error}");
        for known in [
            "nursery, cache",
            "  nursery/10 children",
            "  cache/Warm hit",
        ] {
            assert!(error.contains(known), "{error}");
        }
    }

    #[test]
    fn saved_runs_are_the_folders_with_a_report() {
        let folder = std::env::temp_dir().join(format!("trionics-saved-{}", std::process::id()));
        let options = Options {
            folder: folder.clone(),
            ..parse(&[]).unwrap()
        };
        assert!(options.saved_names().is_empty());
        for name in ["b", "a", "empty"] {
            std::fs::create_dir_all(options.saved(name)).unwrap();
        }
        for name in ["b", "a"] {
            std::fs::write(options.saved(name).join("report.json"), "[]").unwrap();
        }
        assert_eq!(options.saved_names(), ["a", "b"]);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
