//! Loading the configuration.
