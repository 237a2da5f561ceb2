//! What the demonstration says.

use std::fmt;

use serde::Serialize;

/// One restore.
#[derive(Clone, Debug, Serialize)]
pub struct RestoreReport {
    /// Where from.
    pub source: String,
    /// The state that came back.
    pub txid: u64,
    /// Its checksum, in hex.
    pub checksum: String,
    /// Rows that were compared; 0 if they differ.
    pub rows: u64,
    /// The first difference, if there is one.
    pub difference: Option<String>,
    /// How long the restore took.
    pub milliseconds: u64,
}

/// The whole of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How long the application wrote, in seconds.
    pub seconds: u64,
    /// Its commits.
    pub commits: u64,
    /// The newest txid, which everything was restored at.
    pub txid: u64,
    /// Its checksum, in hex.
    pub checksum: String,
    /// Probes from "committed" to "on a majority's disks".
    pub probes: usize,
    /// Half of the probes took at most this many milliseconds.
    pub acknowledged_p50_ms: f64,
    /// 99 of 100 probes took at most this many milliseconds.
    pub acknowledged_p99_ms: f64,
    /// The leader that was killed.
    pub killed_node: usize,
    /// From its death to the next acknowledgement; absent if no acknowledgement was late.
    pub failover_ms: Option<u64>,
    /// Size of the database.
    pub database_bytes: u64,
    /// Bytes at all destinations together.
    pub uploaded_bytes: u64,
    /// The restores.
    pub restores: Vec<RestoreReport>,
}

impl Report {
    /// Whether every restore gave the source back.
    pub fn succeeded(&self) -> bool {
        let same = |restore: &RestoreReport| restore.difference.is_none() && restore.txid == self.txid;
        !self.restores.is_empty() && self.restores.iter().all(same)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, commits, txid, checksum, probes, killed_node, .. } = self;
        writeln!(f, "wrote           {commits} commits in {seconds} s; newest txid {txid}, checksum {checksum}")?;
        let (p50, p99) = (self.acknowledged_p50_ms, self.acknowledged_p99_ms);
        writeln!(f, "acknowledged    p50 {p50:.1} ms, p99 {p99:.1} ms after the commit ({probes} probes)")?;
        match self.failover_ms {
            Some(failover) => writeln!(
                f,
                "failover        node {killed_node} led and was killed; acknowledged again after {failover} ms"
            )?,
            None => writeln!(f, "failover        node {killed_node} led and was killed; no acknowledgement was late")?,
        }
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (database, uploaded) = (mebibytes(self.database_bytes), mebibytes(self.uploaded_bytes));
        writeln!(f, "bytes           database {database:.1} MiB, both destinations together {uploaded:.1} MiB")?;
        for RestoreReport { source, rows, difference, milliseconds, .. } in &self.restores {
            match difference {
                None => writeln!(f, "restored        {source} in {milliseconds} ms: {rows} rows, all the same")?,
                Some(difference) => writeln!(f, "DIFFERS         {source}: {difference}")?,
            }
        }
        Ok(())
    }
}
