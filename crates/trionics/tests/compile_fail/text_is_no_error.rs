//! A text where an error is asked for.

use trionics::Failure;

fn parse(text: &str) -> Result<u32, Failure> {
    let digit = text.chars().next().ok_or("nothing to read")?;
    Ok(digit.to_digit(10).unwrap_or_default())
}

fn main() {
    drop(parse(""));
}
