//! What a key made at run time may do, and that nobody gives away more than they have.
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::settings::default_roles;
use crate::{
    caller::{Caps, Priority, Quota, Rights, Role},
    error::{Error, Result},
};

/// What a key may do, as it is stored.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// What it may do; `admin` may do all.
    #[serde(default = "default_roles")]
    pub roles: Vec<Role>,
    /// The routes that it may use; absent: all.
    #[serde(default)]
    pub models: Option<Vec<String>>,
    /// The paths that it may use, as templates; absent: all that its roles reach.
    #[serde(default)]
    pub endpoints: Option<Vec<String>>,
    /// The most urgent that its calls may be; absent: any.
    #[serde(default)]
    pub max_priority: Option<Priority>,
    /// How much it may ask for.
    #[serde(default)]
    pub limits: Quota,
    /// How much money it may spend.
    #[serde(default)]
    pub budget: Caps,
    /// When it ends.
    #[serde(default)]
    pub expires: Option<Timestamp>,
}

impl Default for Grant {
    fn default() -> Self {
        let (limits, budget) = Default::default();
        let (models, endpoints, max_priority, expires) = Default::default();
        Self { roles: default_roles(), models, endpoints, max_priority, limits, budget, expires }
    }
}

impl Grant {
    /// Whether whoever has `own` may give this away. An admin's roles include
    /// all others, so roles need no look; everything else is within their own.
    ///
    /// # Errors
    /// [`Error::Forbidden`] that names what goes too far.
    pub fn within(&self, own: &Rights) -> Result<()> {
        let beyond = |part| format!("`{part}` goes beyond what the key that you use has itself");
        self.beyond(own).map_or(Ok(()), |part| Err(Error::Forbidden(beyond(part))))
    }

    /// Whether whoever has `own` may change or revoke a key that has this: nobody touches what may do
    /// more than they may.
    ///
    /// # Errors
    /// [`Error::Forbidden`] that names what it has more.
    pub fn below(&self, own: &Rights) -> Result<()> {
        let more = |part| format!("this key has more than the one that you use: its `{part}`");
        self.beyond(own).map_or(Ok(()), |part| Err(Error::Forbidden(more(part))))
    }

    /// The first part of it that goes beyond `own`.
    fn beyond(&self, own: &Rights) -> Option<&'static str> {
        let parts = [
            ("models", subset(self.models.as_deref(), own.models.as_deref())),
            ("endpoints", subset(self.endpoints.as_deref(), own.endpoints.as_deref())),
            ("max_priority", most(self.max_priority, own.max_priority)),
            (
                "limits.requests_per_minute",
                most(self.limits.requests_per_minute, own.quota.requests_per_minute),
            ),
            ("limits.burst", most(self.limits.burst, own.quota.burst)),
            ("limits.tokens_per_minute", most(self.limits.tokens_per_minute, own.quota.tokens_per_minute)),
            ("limits.in_flight", most(self.limits.in_flight, own.quota.in_flight)),
            ("budget.day_usd", most(self.budget.day_usd, own.budget.day_usd)),
            ("budget.month_usd", most(self.budget.month_usd, own.budget.month_usd)),
            ("expires", most(self.expires, own.expires)),
        ];
        parts.into_iter().find(|(_, within)| !within).map(|(part, _)| part)
    }
}

/// Whether no more is asked for than there is; absent is without end.
fn most<T: PartialOrd>(asked: Option<T>, own: Option<T>) -> bool {
    match (asked, own) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(asked), Some(own)) => asked <= own,
    }
}

/// Whether nothing is asked for that is not there; absent is all.
fn subset(asked: Option<&[String]>, own: Option<&[String]>) -> bool {
    match (asked, own) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(asked), Some(own)) => asked.iter().all(|one| own.contains(one)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Cost;
    use proptest::prelude::*;

    fn rights(grant: &Grant) -> Rights {
        Rights {
            models: grant.models.clone(),
            endpoints: grant.endpoints.clone(),
            expires: grant.expires,
            max_priority: grant.max_priority,
            quota: grant.limits,
            budget: grant.budget,
            ..Rights::default()
        }
    }

    fn names() -> impl Strategy<Value = Option<Vec<String>>> {
        prop::option::of(prop::collection::vec("[a-c]", 0..3))
    }

    prop_compose! {
        fn grants()(
            models in names(),
            endpoints in names(),
            limits in prop::option::of(1_u32..4),
            more in prop::option::of(1_u32..4),
            money in prop::option::of(0_u64..4),
            ends in prop::option::of(0_i64..4),
            urgent in prop::option::of(prop::sample::select(&Priority::ALL[..])),
        ) -> Grant {
            Grant {
                models,
                endpoints,
                max_priority: urgent,
                limits: Quota { requests_per_minute: limits, in_flight: more, burst: more, ..Quota::default() },
                budget: Caps { day_usd: money.map(Cost), month_usd: None },
                expires: ends.map(|end| Timestamp::from_second(end).unwrap()),
                ..Grant::default()
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_handed_on_never_grows(first in grants(), second in grants(), third in grants()) {
            prop_assert!(first.within(&rights(&first)).is_ok(), "nobody has less than themselves");
            if second.within(&rights(&first)).is_ok() && third.within(&rights(&second)).is_ok() {
                prop_assert!(third.within(&rights(&first)).is_ok());
            }
            // Without an end, all is within.
            prop_assert!(first.within(&Rights::default()).is_ok());
        }

        #[test]
        fn what_has_no_end_is_not_given_by_what_has_one(own in grants()) {
            let all = Grant::default().within(&rights(&own)).is_ok();
            prop_assert_eq!(all, rights(&own) == Rights::default());
        }
    }
}
