//! From a model's name to the targets that can answer, in order.
mod breaker;
mod budget;
mod seam;
mod settings;
mod table;

pub use breaker::{Breaker, Breakers, Permission, Settings as BreakerSettings};
pub use budget::RetryBudget;
pub use seam::{NoProof, Seam, Way, last_words};
pub use settings::{Route as RouteSettings, Target as TargetSettings, Timeouts};
pub use table::{Plan, Row, Table, matches};
