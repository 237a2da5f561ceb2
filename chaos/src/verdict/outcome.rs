//! What a checker says of a history.

use std::fmt;

use serde::Serialize;

/// Violations of one property that are shown; the rest are counted. `--json` has them all.
const SHOWN: usize = 5;

/// What has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Property {
    /// Nothing promised is lost.
    NothingLost,
    /// Nothing that is given back is wrong.
    NeverWrong,
    /// One writer an epoch.
    OneWriter,
    /// The application's own database keeps what was committed in it.
    LeftAlone,
    /// After the faults everything gets well, in time.
    Recovery,
    /// No process takes more and more.
    Resources,
    /// No process ends or complains by itself.
    Processes,
    /// The run did what a success is made of.
    Vacuous,
}

impl Property {
    fn words(self) -> &'static str {
        match self {
            Self::NothingLost => "something promised was lost",
            Self::NeverWrong => "something wrong was given back",
            Self::OneWriter => "two writers",
            Self::LeftAlone => "the application's database was not left alone",
            Self::Recovery => "not everything got well",
            Self::Resources => "a process takes too much",
            Self::Processes => "a process failed",
            Self::Vacuous => "the run proves too little",
        }
    }
}

/// Something that must not have happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// What does not hold.
    pub property: Property,
    /// What happened, in words.
    pub what: String,
    /// When it showed, in milliseconds since the run began.
    pub at_ms: u64,
    /// The lines of the history that show it, counted from 1.
    pub evidence: Vec<u64>,
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// How long the run took, in milliseconds.
    pub duration_ms: u64,
    /// Transactions that applications reported.
    pub commits: u64,
    /// Syncs that were started.
    pub syncs: u64,
    /// Promises that they gave.
    pub promises: u64,
    /// Syncs that gave none.
    pub refusals: u64,
    /// Restores that gave a file.
    pub restores: u64,
    /// Of those, files that were compared with the source and equal it in every page.
    pub equal_to_source: u64,
    /// Restores that gave nothing.
    pub failed_restores: u64,
    /// Faults.
    pub faults: u64,
    /// Times that a source may have lost its end.
    pub fall_backs: u64,
    /// Lives of processes that were watched.
    pub lives: u64,
    /// Of those, lives that were long enough to ask whether they grow.
    pub lives_asked_for_growth: u64,
    /// What took longest to get well.
    pub longest_recovery: Option<Recovery>,
    /// The longest that a database had no promise while it was asked for some, in milliseconds.
    pub longest_without_promise_ms: u64,
}

/// How long something took to get well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// What.
    pub what: String,
    /// Milliseconds after the healing.
    pub after_ms: u64,
}

/// What a checker says of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether all that has to hold does, and was put to the test.
    pub passed: bool,
    /// What does not, in the order of properties and then of time.
    pub violations: Vec<Violation>,
    /// What was seen.
    pub counts: Counts,
}

impl Verdict {
    pub(super) fn new(mut violations: Vec<Violation>, counts: Counts) -> Self {
        violations.sort_by_key(|violation| (violation.property, violation.at_ms));
        Self { passed: violations.is_empty(), violations, counts }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.violations.len() {
            0 => writeln!(out, "PASSED")?,
            1 => writeln!(out, "FAILED: 1 violation")?,
            many => writeln!(out, "FAILED: {many} violations")?,
        }
        for violations in self.violations.chunk_by(|one, other| one.property == other.property) {
            writeln!(out, "  {}:", violations[0].property.words())?;
            for violation in violations.iter().take(SHOWN) {
                writeln!(out, "    {violation}")?;
            }
            if violations.len() > SHOWN {
                writeln!(out, "    and {} more", violations.len() - SHOWN)?;
            }
        }
        write!(out, "{}", self.counts)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", Seconds(self.at_ms), self.what)?;
        match &self.evidence[..] {
            [] => Ok(()),
            [line] => write!(out, " (line {line})"),
            lines => write!(out, " (lines {})", lines.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "seen: {} commits, {} promises ({} syncs gave none), {} restores ({} equal to the source, {} gave nothing), {} faults in {}",
            self.commits,
            self.promises,
            self.refusals,
            self.restores,
            self.equal_to_source,
            self.failed_restores,
            self.faults,
            Seconds(self.duration_ms),
        )?;
        match &self.longest_recovery {
            Some(Recovery { what, after_ms }) => write!(out, "longest recovery: {} ({what})", Seconds(*after_ms))?,
            None => write!(out, "longest recovery: none seen")?,
        }
        writeln!(out, "; longest time without a promise: {}", Seconds(self.longest_without_promise_ms))?;
        writeln!(
            out,
            "{} lives of processes watched, {} of them long enough to ask whether they grow",
            self.lives, self.lives_asked_for_growth
        )
    }
}

/// Milliseconds as people read them.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (minutes, ms) = (self.0 / 60_000, self.0 % 60_000);
        match minutes {
            0 => write!(out, "{}.{:03} s", ms / 1000, ms % 1000),
            _ => write!(out, "{minutes} min {}.{:03} s", ms / 1000, ms % 1000),
        }
    }
}
