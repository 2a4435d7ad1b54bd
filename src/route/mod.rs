//! From a model's name to the targets that can answer, in order.
mod breaker;
mod budget;
mod lent;
mod order;
mod outlier;
mod seam;
mod settings;
mod table;
mod vitals;

pub use breaker::{Breaker, Breakers, Permission, Settings as BreakerSettings};
pub use budget::AttemptBudget;
pub use lent::Naming;
pub use order::Strategy;
pub use outlier::Settings as OutlierSettings;
pub use seam::{NoProof, Seam, Way, last_words};
pub use settings::{
    Hedge as HedgeSettings, Route as RouteSettings, Routing as RoutingSettings, Target as TargetSettings,
    Timeouts,
};
pub use table::{Plan, Row, Table, matches};
pub use vitals::{Vital, Vitals};
