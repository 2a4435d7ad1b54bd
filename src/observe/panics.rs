//! What is told of a panic: where, and what the code itself says; never a value that was put into its words.
//!
//! `slice[a..b]`, `unwrap` and their like put what they were given into the message, and that may be what
//! somebody said.
use std::{any::Any, panic::PanicHookInfo};

/// Has panics of all threads told in the log, and nowhere else. Once a process.
pub fn watch() {
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        tracing::error!(
            at,
            thread = thread.name().unwrap_or("unnamed"),
            "panicked: {}",
            told(panic.payload())
        );
    }));
}

/// The words of the code; those that were put together while it ran are left out.
pub fn told(payload: &(dyn Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or("a message that may hold what was said")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_into_a_message_is_not_told() {
        let text = String::from("é: a secret");
        let cut = std::panic::catch_unwind(|| text[..1].len()).unwrap_err();
        assert!(cut.downcast_ref::<String>().is_some_and(|told| told.contains("secret")));
        assert!(!told(&*cut).contains("secret"));
        let plain = std::panic::catch_unwind(|| panic!("a bug of ours")).unwrap_err();
        assert_eq!(told(&*plain), "a bug of ours");
    }
}
