//! Anthropic's API as we serve it.
