//! Turns rustdoc's description of a crate into the list of its public items, a line each: `api-listing DESCRIPTION LIST…`.
#![forbid(unsafe_code)]

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<String> = env::args().skip(1).collect();
    for pair in paths.chunks(2) {
        let [description, list] = pair else {
            return Err("after each description comes the path of its list".into());
        };
        // What every type has says nothing about this one.
        let api = public_api::Builder::from_rustdoc_json(description)
            .omit_blanket_impls(true)
            .omit_auto_trait_impls(true)
            .build()?;
        let lines: String = api.items().map(|item| format!("{item}\n")).collect();
        if let Some(folder) = Path::new(list).parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(list, lines)?;
    }
    Ok(())
}
