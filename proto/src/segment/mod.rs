//! Segments: immutable runs of consecutive transactions. The format is specified in `docs/segment-format.md`.
