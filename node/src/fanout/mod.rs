//! Carries what the log holds to the destinations.
