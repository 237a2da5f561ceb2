//! Images: a node's materialised copy of each database, with its page vector.
