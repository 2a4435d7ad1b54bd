//! The documents that answers rest on.
