//! The vendors' JSON, shared by `provider/` (we as client) and `http/` (we as server).
