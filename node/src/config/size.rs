//! Sizes in bytes, as configuration files write them.

const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// A whole number with a unit.
pub(super) fn parse(text: &str) -> Option<u64> {
    let (number, unit) = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    number.trim().parse::<u64>().ok()?.checked_mul(*unit)
}

/// As it would be written.
pub(super) fn show(bytes: u64) -> String {
    let exact =
        UNITS.iter().filter(|(name, unit)| name.ends_with("iB") && bytes.is_multiple_of(*unit)).max_by_key(|it| it.1);
    exact.map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_whole_numbers_with_a_unit() {
        let all = [("64MiB", 64 << 20), ("100 GB", 100_000_000_000), ("2TiB", 2 << 40), ("7B", 7), ("1KB", 1000)];
        for (text, bytes) in all {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "64", "-1MiB", "1.5GiB", "64mib", "1 000MB", "99999999999TiB"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!((show(64 << 20), show(3 << 30), show(1000)), ("64MiB".into(), "3GiB".into(), "1000B".into()));
    }
}
