//! Captures what a SQLite application commits and ships it to a Seawall cluster.
