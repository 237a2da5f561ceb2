//! Gives a database back.
