//! What an application says.

use std::num::ParseIntError;
use std::str::FromStr;

/// A line of an application's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplicationLine {
    /// It begins (or begins again after an error), and this is the last row of the journal: 0 and chain 1 if there is none.
    Resumed {
        /// The row's number.
        seq: u64,
        /// Its chain.
        chain: u64,
    },
    /// SQLite confirmed the commit of this row.
    Committed {
        /// The row's number.
        seq: u64,
        /// Its chain.
        chain: u64,
    },
}

/// A line that no application should print.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Not three words of which the first is known.
    #[error("the application printed {0:?}, which is neither `resumed SEQ CHAIN` nor `committed SEQ CHAIN`")]
    Unknown(String),
    /// A word that is no number.
    #[error("the application printed {line:?}, in which {word:?} is no number: {cause}")]
    Number {
        /// The line.
        line: String,
        /// The word.
        word: String,
        /// What is wrong with it.
        cause: ParseIntError,
    },
}

impl FromStr for ApplicationLine {
    type Err = LineError;

    fn from_str(line: &str) -> Result<Self, LineError> {
        let number = |word: &str| {
            word.parse().map_err(|cause| LineError::Number { line: line.to_owned(), word: word.to_owned(), cause })
        };
        match *line.split(' ').collect::<Vec<_>>() {
            ["resumed", seq, chain] => Ok(Self::Resumed { seq: number(seq)?, chain: number(chain)? }),
            ["committed", seq, chain] => Ok(Self::Committed { seq: number(seq)?, chain: number(chain)? }),
            _ => Err(LineError::Unknown(line.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_read() {
        assert_eq!("resumed 0 1".parse::<ApplicationLine>().unwrap(), ApplicationLine::Resumed { seq: 0, chain: 1 });
        let committed = "committed 17 2147483646".parse::<ApplicationLine>().unwrap();
        assert_eq!(committed, ApplicationLine::Committed { seq: 17, chain: 2_147_483_646 });
    }

    #[test]
    fn what_is_malformed_is_an_error_that_quotes_the_line() {
        for line in
            ["", "committed", "committed 1", "committed 1 2 3", "commited 1 2", "committed  1 2", "committed -1 2"]
        {
            let error = line.parse::<ApplicationLine>().unwrap_err().to_string();
            assert!(error.contains(&format!("{line:?}")), "{error}");
        }
        let error = "resumed 1 99999999999999999999".parse::<ApplicationLine>().unwrap_err().to_string();
        assert!(error.contains("\"99999999999999999999\" is no number: number too large"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(line in ".*") {
            let _ = line.parse::<ApplicationLine>();
        }
    }
}
