//! What is known of the SQLite versions that applications use.

/// Defects of the SQLite version that wrote the database last (`major * 1000000 + minor * 1000 + patch`, bytes 96 to 99 of
/// its first page) that an operator should know by name.
pub fn known_defects(version: u32) -> Vec<String> {
    let (major, minor, patch) = (version / 1_000_000, version / 1000 % 1000, version % 1000);
    if major != 3 || minor < 7 {
        return Vec::new();
    }
    let mut defects = Vec::new();
    let fixed = match minor {
        51 => patch >= 3,
        50 => patch >= 7,
        44 => patch >= 6,
        _ => minor > 51,
    };
    if !fixed {
        defects.push(format!(
            "the application's SQLite {major}.{minor}.{patch} has the WAL-reset bug: its own checkpoints can lose \
             transactions when several processes write; upgrade it to 3.51.3 or later"
        ));
    }
    if minor <= 40 {
        defects.push(format!(
            "the application's SQLite {major}.{minor}.{patch} has the savepoint bug: ROLLBACK TO after a cache spill can \
             leave committed frames that do not survive a crash; upgrade it"
        ));
    }
    defects
}

#[cfg(test)]
mod tests {
    use super::known_defects;

    #[test]
    fn names_the_defects_of_old_versions_and_none_of_mended_ones() {
        for (version, expected) in [
            (3_006_023, 0),
            (3_007_000, 2),
            (3_040_001, 2),
            (3_044_005, 1),
            (3_044_006, 0),
            (3_045_000, 1),
            (3_050_006, 1),
            (3_050_007, 0),
            (3_051_002, 1),
            (3_051_003, 0),
            (3_054_001, 0),
            (0, 0),
        ] {
            assert_eq!(known_defects(version).len(), expected, "{version}");
        }
    }
}
