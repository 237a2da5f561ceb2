//! The log file: what an acknowledgement rests on.
