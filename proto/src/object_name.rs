//! Names of objects at a destination: `<database>/@<lineage>/<level>/<first>-<last>-<checksum after>.seg`.

use std::fmt;
use std::str::FromStr;

use crate::checksum::Checksum;
use crate::position::{Lineage, Txid};

/// How an object came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Every transaction, as it was logged.
    Log,
    /// Merged: the last version of each page.
    One,
    /// Merged further.
    Two,
    /// Every page as of one txid.
    Snapshot,
}

impl Level {
    /// Its name in paths.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "0",
            Self::One => "1",
            Self::Two => "2",
            Self::Snapshot => "snapshot",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = InvalidObjectName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "0" => Ok(Self::Log),
            "1" => Ok(Self::One),
            "2" => Ok(Self::Two),
            "snapshot" => Ok(Self::Snapshot),
            _ => Err(InvalidObjectName),
        }
    }
}

/// The name of an object below its database: what it holds, so that it is immutable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectName {
    /// The history it belongs to.
    pub lineage: Lineage,
    /// How it came to be.
    pub level: Level,
    /// The first transaction inside; 1 for a snapshot.
    pub first: Txid,
    /// The last transaction inside.
    pub last: Txid,
    /// The database's checksum after the last.
    pub checksum_after: Checksum,
}

/// A path that names no object of this layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an object name: expected @LINEAGE/LEVEL/FIRST-LAST-CHECKSUM.seg")]
pub struct InvalidObjectName;

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lineage, level, first, last, checksum_after } = self;
        write!(f, "@{lineage}/{level}/{:016x}-{:016x}-{checksum_after}.seg", first.0, last.0)
    }
}

impl FromStr for ObjectName {
    type Err = InvalidObjectName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (lineage, rest) = text.strip_prefix('@')?.split_once('/')?;
            let (level, file) = rest.split_once('/')?;
            let mut numbers = file.strip_suffix(".seg")?.split('-');
            let mut hex = || {
                let digits = numbers.next().filter(|digits| digits.len() == 16)?;
                u64::from_str_radix(digits, 16).ok()
            };
            let (first, last, checksum) = (hex()?, hex()?, hex()?);
            let name = Self {
                lineage: Lineage(lineage.parse().ok()?),
                level: level.parse().ok()?,
                first: Txid(first),
                last: Txid(last),
                checksum_after: Checksum(checksum),
            };
            // Only the one spelling this module writes is a name: no plus signs, capitals or leading zeros.
            (name.to_string() == text && 1 <= first && first <= last && name.lineage.0 >= 1).then_some(name)
        };
        parse().ok_or(InvalidObjectName)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_read_back(lineage in 1..u64::MAX, first in 1..u64::MAX, more in 0..1000_u64, checksum: u64, level in 0..4) {
            let level = [Level::Log, Level::One, Level::Two, Level::Snapshot][level as usize];
            let last = Txid(first.saturating_add(more));
            let name = ObjectName { lineage: Lineage(lineage), level, first: Txid(first), last, checksum_after: Checksum(checksum) };
            prop_assert_eq!(name.to_string().parse(), Ok(name));
        }

        #[test]
        fn any_text_parses_or_is_refused(text in ".{0,80}") {
            if let Ok(name) = text.parse::<ObjectName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }

    #[test]
    fn refuses_other_spellings() {
        let good = "@1/0/0000000000000001-000000000000000a-00000000000000ff.seg";
        assert!(good.parse::<ObjectName>().is_ok());
        for (from, to) in [("@1", "@01"), ("@1", "1"), ("/0/", "/3/"), ("0a-", "0A-"), (".seg", ".tmp"), ("01-", "0b-")]
        {
            let bad = good.replacen(from, to, 1);
            assert_eq!(bad.parse::<ObjectName>(), Err(InvalidObjectName), "{bad}");
        }
    }
}
