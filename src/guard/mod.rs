//! Rules that a text must keep: personal data and secrets, and the mechanism
//! by which rules judge what comes in pieces. Pure: text in, findings out.
pub mod hold;
pub mod pii;
