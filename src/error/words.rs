//! An error in words: for whom it is told, and how much of it.
use super::{Cause, Error};

impl Error {
    /// The same with other words where they are a provider's.
    #[must_use]
    pub fn reworded(self, say: impl Fn(&str) -> String) -> Self {
        let worded = |cause: Cause| {
            let told = cause.to_string();
            let said = say(&told);
            if said == told { cause } else { said.into() }
        };
        let other = |source: Option<Cause>| source.map(worded);
        match self {
            Self::Refused { status, message, param, code } => {
                Self::Refused { status, message: say(&message), param, code }
            }
            Self::UpstreamBusy { status, retry_after, source } => {
                Self::UpstreamBusy { status, retry_after, source: other(source) }
            }
            Self::UpstreamFailed { status, retry_after, source } => {
                Self::UpstreamFailed { status, retry_after, source: other(source) }
            }
            Self::UpstreamRejected { status, source } => {
                Self::UpstreamRejected { status, source: other(source) }
            }
            Self::Broken(cause) => Self::Broken(worded(cause)),
            error => error,
        }
    }

    /// The error and its causes in one line, for the log.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        // A cause that repeats its own cause in its message would be told twice.
        while let Some(cause) = next {
            let said = cause.to_string();
            if !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            next = cause.source();
        }
        text
    }

    /// The same for a log line: without what a provider or a model said, which may be what it was asked.
    pub fn logged(&self) -> String {
        match self {
            Self::Refused { status, .. } => {
                format!("the model's provider refused the request (status {status})")
            }
            Self::UpstreamBusy { status, .. }
            | Self::UpstreamFailed { status, .. }
            | Self::UpstreamRejected { status, .. } => format!("{self} (status {status})"),
            Self::WrongForm(_) => {
                "the model's answer does not follow the JSON schema of the request".to_owned()
            }
            // Whoever reads JSON quotes what it finds wrong.
            Self::Broken(_) => {
                let chain = self.chain();
                let parts = chain.split('"').enumerate();
                parts.map(|(at, part)| if at % 2 == 0 { part } else { "\"…\"" }).collect()
            }
            _ => self.chain(),
        }
    }

    /// What a log line leaves out, for the audit's record.
    pub fn detail(&self) -> Option<String> {
        let chain = self.chain();
        (chain != self.logged()).then_some(chain)
    }
}
