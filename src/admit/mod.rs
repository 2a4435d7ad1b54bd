//! Who may go on, who waits, and who is turned away.
//!
//! A [`Gate`] has a number of places and a queue: higher priorities first,
//! fair between tenants, nobody longer than is of use. There is one gate for
//! all calls, one for each model and one for each provider that has a bound
//! (bulkheads): what is slow fills its own places and its own queue.
mod adaptive;
mod gate;
mod gates;
mod pace;
mod queue;
mod settings;

pub use gate::{Gate, Guest, Place, Reason, Refusal, View};
pub use gates::{Gates, Plan, ProviderGate, Standing};
pub use settings::Settings;
