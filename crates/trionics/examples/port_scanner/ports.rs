//! Lists of ports, as they are given on the command line.

use std::collections::BTreeSet;

use trionics::Failure;

/// Reads a list like `22,80,8000-8010`; each port comes once, in order.
pub(crate) fn parse_ports(list: &str) -> Result<Vec<u16>, Failure> {
    let mut ports = BTreeSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_port(first)?, parse_port(last)?);
        if first > last {
            return Err(Failure::text(format!("the range `{part}` is upside down")));
        }
        ports.extend(first..=last);
    }
    Ok(ports.into_iter().collect())
}

fn parse_port(text: &str) -> Result<u16, Failure> {
    match text.trim().parse() {
        Ok(port @ 1..) => Ok(port),
        _ => Err(Failure::text(format!(
            "`{text}` is not a port: a number from 1 to 65535"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_ports;

    #[test]
    fn lists_and_ranges_are_read() {
        assert_eq!(parse_ports("80").unwrap(), [80]);
        assert_eq!(
            parse_ports("8001, 22,7999-8001").unwrap(),
            [22, 7999, 8000, 8001]
        );
        assert_eq!(parse_ports("1-65535").unwrap().len(), 65535);
    }

    #[test]
    fn what_is_no_port_is_named() {
        for (list, named) in [
            ("", "``"),
            ("0", "`0`"),
            ("80,", "``"),
            ("http", "`http`"),
            ("1-65536", "`65536`"),
            ("9-7", "`9-7`"),
            ("1-2-3", "`2-3`"),
        ] {
            let message = parse_ports(list).unwrap_err().to_string();
            assert!(message.contains(named), "{list:?}: {message}");
        }
    }
}
