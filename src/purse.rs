//! The money that is set aside for a call, as the stages see it.
//!
//! The `budget` stage makes a purse where a budget applies; the `attempt`
//! stage takes a share of it for each try, before the try is made, and
//! settles it with what the try has cost. Whoever makes a further attempt,
//! for whatever reason, has nothing to do: without a share there is none.
use std::{fmt::Debug, sync::Arc};

use futures_util::future::BoxFuture;

use crate::{
    call::Target,
    chat::{Cost, Request},
    error::Result,
};

/// The money that is set aside for a call.
pub trait Purse: Debug + Send + Sync {
    /// Sets aside what one more attempt may cost at most, where what is left of the others does
    /// not suffice. Fails where that is not to be had.
    fn cover(self: Arc<Self>, chat: &Request, target: &Target) -> BoxFuture<'static, Result<Arc<dyn Share>>>;
}

/// The part of it that one attempt may cost. Dropped unsettled it is charged in full: nobody
/// knows what the provider bills.
pub trait Share: Debug + Send + Sync {
    /// The most tokens that were set aside for the answer.
    fn output_tokens(&self) -> u64;
    /// The attempt has cost this. Only the first word counts.
    fn settle(&self, cost: Cost);
}
