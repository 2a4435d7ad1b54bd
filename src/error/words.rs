//! An error in words: for whom it is told, and how much of it.
use super::{Cause, Error};

/// The codes of OpenAI and Azure for a model that is not there.
const LACKING: [&str; 2] = ["model_not_found", "DeploymentNotFound"];
/// What is told where a provider says nothing of a 404: also that its address is wrong.
pub(crate) const NO_MODEL: &str = "the provider does not have this model";

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
                // Half a name names nothing.
                let whole = |name: &String| say(name) == *name;
                let (param, code) = (param.filter(whole), code.filter(whole));
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
            Self::UpstreamLacks { source } => Self::UpstreamLacks { source: other(source) },
            Self::Broken(cause) => Self::Broken(worded(cause)),
            error => error,
        }
    }

    /// Of a target that is configured by name: what its provider says of the model is not for the caller, who named a
    /// route. A file of the caller's that is not there is.
    #[must_use]
    pub fn of_configured(self, model: &str) -> Self {
        match self {
            Self::Refused { status: 404, ref message, ref code, .. }
                if code.as_ref().is_some_and(|code| LACKING.contains(&&**code))
                    || *message == NO_MODEL
                    // Of a path that is not there.
                    || message.eq_ignore_ascii_case("not found")
                    || message.contains(model) =>
            {
                Self::UpstreamLacks { source: Some(message.clone().into()) }
            }
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
            Self::UpstreamLacks { .. } => self.to_string(),
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
