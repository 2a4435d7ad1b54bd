//! Where state is kept that several gateways share, or that outlives one.
//!
//! Redis for what is counted on the way of a request, SQL for what must last:
//! an SQLite file, or Postgres where there are several gateways. A mechanism
//! that keeps something has its own tables and scripts beside it; here is only
//! how to reach the servers, and what happens while they cannot be reached.
mod connect;
pub mod place;
pub mod redis;
pub mod settings;
pub mod sql;

pub use settings::Settings;

/// The stores of a gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stores {
    /// What must last.
    pub sql: sql::Sql,
    /// What gateways count together; absent where no Redis is configured.
    pub redis: Option<redis::Redis>,
}
