//! The replicated state, as pure values.
