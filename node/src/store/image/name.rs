//! Names of image directories: `<database>/@<lineage>`, with `/` of a database's name written as `+`, so that each
//! database is one directory whatever its name holds.

use std::path::{Path, PathBuf};

use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::Lineage;

/// The directory of a database below `root`.
pub(super) fn database_directory(root: &Path, database: &DatabaseName) -> PathBuf {
    root.join(database.as_str().replace('/', "+"))
}

/// The directory of a lineage below `root`.
pub(super) fn image_directory(root: &Path, database: &DatabaseName, lineage: Lineage) -> PathBuf {
    database_directory(root, database).join(format!("@{lineage}"))
}

/// The database whose directory bears `name`, if it is one.
pub(super) fn parse_database(name: &str) -> Option<DatabaseName> {
    if name.contains('/') { None } else { name.replace('+', "/").parse().ok() }
}

/// The lineage whose directory bears `name`, if it is one.
pub(super) fn parse_lineage(name: &str) -> Option<Lineage> {
    let lineage = Lineage(name.strip_prefix('@')?.parse().ok()?);
    (format!("@{lineage}") == name).then_some(lineage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_database_has_one_directory_that_reads_back() {
        let root = Path::new("/r");
        for name in ["app", "tenants/acme", "a/b/c", "..a/b..", "a.b-c_d"] {
            let database: DatabaseName = name.parse().unwrap();
            let directory = database_directory(root, &database);
            assert_eq!(directory.parent(), Some(root));
            assert_eq!(parse_database(directory.file_name().unwrap().to_str().unwrap()), Some(database));
        }
        for name in ["", "a++b", "+a", "a b", ".", "a/b", "@1"] {
            assert_eq!(parse_database(name), None, "{name:?}");
        }
    }

    #[test]
    fn only_the_spelling_written_is_a_lineage() {
        assert_eq!(parse_lineage("@12"), Some(Lineage(12)));
        for name in ["12", "@", "@01", "@+1", "@1.old", "@-1"] {
            assert_eq!(parse_lineage(name), None, "{name:?}");
        }
    }
}
