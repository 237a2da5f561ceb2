//! What must hold of a journal, row by row: the same arithmetic that the applications do in SQL.

/// The accounts are numbered from 1 to this.
pub(super) const ACCOUNTS: usize = 10;

/// What each holds at first.
const FIRST_BALANCE: i64 = 1000;

/// The chain before the first row.
pub(super) const FIRST_CHAIN: i64 = 1;

/// A row of the journal, without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) seq: i64,
    pub(super) amount: i64,
    pub(super) source: i64,
    pub(super) target: i64,
    pub(super) chain: i64,
}

/// The chain of a row that follows one whose chain is `previous`.
pub(super) fn chain_after(previous: i64, row: Row) -> i64 {
    let sum = i128::from(previous) * 48_271
        + i128::from(row.seq) * 69_621
        + i128::from(row.amount) * 16_807
        + i128::from(row.source) * 31
        + i128::from(row.target);
    // The remainder of a 31-bit number fits.
    (sum % 2_147_483_647) as i64
}

/// The rows of a journal in their order, as far as they follow from one another.
pub(super) struct Follow {
    chains: Vec<u64>,
    last: i64,
    balances: [i128; ACCOUNTS],
}

impl Follow {
    /// Before the first row.
    pub(super) fn new() -> Self {
        Self { chains: Vec::new(), last: FIRST_CHAIN, balances: [i128::from(FIRST_BALANCE); ACCOUNTS] }
    }

    /// Takes the next row in; what is wrong with it, if it does not follow.
    pub(super) fn row(&mut self, row: Row) -> Result<(), String> {
        let expected = self.chains.len() as i64 + 1;
        if row.seq != expected {
            return Err(format!("row {} of the journal follows row {}", row.seq, expected - 1));
        }
        if row.amount < 0 {
            return Err(format!("row {} of the journal moves {}", row.seq, row.amount));
        }
        let chain = chain_after(self.last, row);
        if row.chain != chain {
            return Err(format!("row {} of the journal has chain {}, and its rows give {chain}", row.seq, row.chain));
        }
        for (account, amount) in [(row.source, -i128::from(row.amount)), (row.target, i128::from(row.amount))] {
            let balance = usize::try_from(account)
                .ok()
                .and_then(|account| self.balances.get_mut(account.checked_sub(1)?))
                .ok_or_else(|| format!("row {} of the journal names account {account}", row.seq))?;
            *balance += amount;
        }
        self.last = chain;
        // Nothing that went in is negative.
        self.chains.push(chain.unsigned_abs());
        Ok(())
    }

    /// What is wrong with the accounts, given as (id, balance) in the order of their ids.
    pub(super) fn accounts(&self, accounts: &[(i64, i64)]) -> Option<String> {
        let ids: Vec<i64> = accounts.iter().map(|(id, _)| *id).collect();
        if ids != (1..=ACCOUNTS as i64).collect::<Vec<_>>() {
            return Some(format!("the accounts are {ids:?}, not 1 to {ACCOUNTS}"));
        }
        accounts.iter().zip(self.balances).find(|((_, balance), expected)| i128::from(*balance) != *expected).map(
            |((id, balance), expected)| {
                format!("account {id} holds {balance}, and the journal to row {} gives {expected}", self.chains.len())
            },
        )
    }

    /// The chains of rows 1, 2, 3 …
    pub(super) fn into_chains(self) -> Vec<u64> {
        self.chains
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: i64, amount: i64, source: i64, target: i64, previous: i64) -> Row {
        let bare = Row { seq, amount, source, target, chain: 0 };
        Row { chain: chain_after(previous, bare), ..bare }
    }

    #[test]
    fn a_chain_is_what_sql_computes() {
        let sql = "SELECT (?1 * 48271 + ?2 * 69621 + ?3 * 16807 + ?4 * 31 + ?5) % 2147483647";
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        for (previous, seq, amount, source, target) in
            [(1, 1, 5, 1, 2), (2_147_483_646, 1_000_000, 999, 10, 3), (77, 2, 0, 4, 4)]
        {
            let bare = Row { seq, amount, source, target, chain: 0 };
            let expected: i64 =
                connection.query_row(sql, (previous, seq, amount, source, target), |row| row.get(0)).unwrap();
            assert_eq!(chain_after(previous, bare), expected);
        }
    }

    #[test]
    fn a_gap_a_broken_chain_and_an_unknown_account_are_told() {
        let first = row(1, 5, 1, 2, FIRST_CHAIN);
        let mut gap = Follow::new();
        gap.row(first).unwrap();
        assert_eq!(gap.row(row(3, 1, 1, 2, first.chain)).unwrap_err(), "row 3 of the journal follows row 1");
        let broken = Row { amount: 6, ..first };
        assert!(Follow::new().row(broken).unwrap_err().starts_with("row 1 of the journal has chain"));
        for account in [0, 11, i64::MIN] {
            assert!(Follow::new().row(row(1, 5, account, 2, FIRST_CHAIN)).unwrap_err().contains("names account"));
        }
    }

    #[test]
    fn balances_follow_from_the_journal() {
        let mut follow = Follow::new();
        follow.row(row(1, 5, 1, 2, FIRST_CHAIN)).unwrap();
        let mut accounts: Vec<(i64, i64)> = (1..=10).map(|id| (id, 1000)).collect();
        assert_eq!(follow.accounts(&accounts).unwrap(), "account 1 holds 1000, and the journal to row 1 gives 995");
        (accounts[0].1, accounts[1].1) = (995, 1005);
        assert_eq!(follow.accounts(&accounts), None);
        accounts.pop();
        assert!(follow.accounts(&accounts).unwrap().contains("not 1 to 10"));
    }
}
