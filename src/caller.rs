//! Who asks, and what they may ask for.
use std::{net::IpAddr, sync::Arc};

use jiff::{Timestamp, tz::TimeZone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::chat::Cost;

/// Who asks. Cloning copies nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// What the key may do.
    pub rights: Arc<Rights>,
    /// The person, in the application's words.
    pub user: Option<Arc<str>>,
    /// Where the connection comes from.
    pub address: Option<IpAddr>,
}

/// A key, and what it may do. Made once for each key; calls share it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// What the key is owned and known by. It stays when the key is renamed, and is never used twice.
    pub id: Arc<str>,
    /// What its limits and its budget are counted under: of a key that was made in the place of a revoked
    /// one of its name, that one's.
    pub account: Arc<str>,
    /// Its configured name, for logs and records; `anonymous` where no key is configured.
    pub name: Arc<str>,
    /// The tenant that it belongs to.
    pub tenant: Arc<Tenant>,
    /// What it may do.
    pub roles: Roles,
    /// The routes that it may use; absent means all.
    pub models: Option<Vec<String>>,
    /// The paths that it may use, as templates; absent means all that its roles reach.
    pub endpoints: Option<Vec<String>>,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// The most urgent that its calls may be; absent means any.
    pub max_priority: Option<Priority>,
    /// How much it may ask for, where that is not as configured for all keys.
    pub quota: Quota,
    /// How much money it may spend.
    pub budget: Caps,
}

/// Those who share data, and what they may ask for together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its name.
    pub name: Arc<str>,
    /// How much all its keys together may ask for.
    pub quota: Quota,
    /// How much money all its keys together may spend.
    pub budget: Caps,
    /// Where its days and months begin.
    pub time_zone: TimeZone,
}

impl Default for Tenant {
    fn default() -> Self {
        let (quota, budget) = Default::default();
        Self { name: "".into(), quota, budget, time_zone: TimeZone::UTC }
    }
}

/// The tenant of those who look after all tenants. It has no data of its own.
pub const ALL_TENANTS: &str = "*";

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Ask models.
    App,
    /// Judge answers that wait for a person.
    Reviewer,
    /// Look after the tenant: its keys, its money. It may do all that the others may.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::App, Self::Reviewer, Self::Admin];

    /// Its name, as it is written down.
    pub fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Reviewer => "reviewer",
            Self::Admin => "admin",
        }
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// The roles that are written down, and those that come with them.
    pub fn of(roles: &[Role]) -> Self {
        let all = Role::ALL.into_iter();
        let set = all.filter(|role| roles.contains(role) || roles.contains(&Role::Admin));
        Self(set.fold(0, |set, role| set | 1 << role as u8))
    }

    /// Whether a role is among them.
    pub fn has(self, role: Role) -> bool {
        self.0 & 1 << role as u8 != 0
    }

    /// Without one of them.
    #[must_use]
    pub fn without(self, role: Role) -> Self {
        Self(self.0 & !(1 << role as u8))
    }
}

/// How much one of something may ask for; absent is no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    /// Requests a minute.
    #[garde(range(min = 1))]
    pub requests_per_minute: Option<u32>,
    /// Requests that may come at once; absent: a whole minute's.
    #[garde(range(min = 1))]
    pub burst: Option<u32>,
    /// Tokens a minute, questions and answers together.
    #[garde(range(min = 1))]
    pub tokens_per_minute: Option<u64>,
    /// Calls at the same time, streams to their end included.
    #[garde(range(min = 1))]
    pub in_flight: Option<u32>,
}

/// The most money that may be spent; absent is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Caps {
    /// US dollars a calendar day.
    #[garde(skip)]
    #[serde(with = "dollars")]
    #[schemars(with = "Option<f64>", range(min = 0))]
    pub day_usd: Option<Cost>,
    /// US dollars a calendar month.
    #[garde(skip)]
    #[serde(with = "dollars")]
    #[schemars(with = "Option<f64>", range(min = 0))]
    pub month_usd: Option<Cost>,
}

/// How urgent a call is, where there are more than places for them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// After all others, and the first to be refused.
    Low,
    /// As calls are.
    #[default]
    Normal,
    /// Before all others.
    High,
}

impl Priority {
    /// All of them, lowest first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];
    /// Their names, in the same order.
    pub const NAMES: [&'static str; 3] = ["low", "normal", "high"];

    /// The priority of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|known| *known == name).map(|at| Self::ALL[at])
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl Caller {
    /// Somebody who may ask models, with a key of this name and tenant and no limits of their own.
    pub fn named(key: &str, tenant: &str) -> Self {
        let tenant = Tenant { name: tenant.into(), ..Tenant::default() };
        let rights = Rights {
            id: key.into(),
            account: key.into(),
            name: key.into(),
            tenant: Arc::new(tenant),
            roles: Roles::of(&[Role::App]),
            ..Rights::default()
        };
        Self { rights: Arc::new(rights), user: None, address: None }
    }

    /// The key's name.
    pub fn key(&self) -> &Arc<str> {
        &self.rights.name
    }

    /// The tenant's name.
    pub fn tenant(&self) -> &Arc<str> {
        &self.rights.tenant.name
    }
}

impl Rights {
    /// Whether what belongs to this tenant is for this key. To others it must look as if it were not there.
    pub fn sees(&self, tenant: &str) -> bool {
        *self.tenant.name == *tenant || *self.tenant.name == *ALL_TENANTS
    }

    /// Whether it may use a path, told by its template.
    pub fn reaches(&self, template: &str) -> bool {
        self.endpoints.as_ref().is_none_or(|endpoints| endpoints.iter().any(|endpoint| endpoint == template))
    }
}

/// US dollars as a number, kept in billionths.
mod dollars {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::chat::Cost;

    /// Above this a double no longer holds every billionth.
    const MOST: f64 = 9_000_000.0;

    #[expect(clippy::ref_option, reason = "serde hands the field over as it is")]
    pub(super) fn serialize<S: Serializer>(cost: &Option<Cost>, serializer: S) -> Result<S::Ok, S::Error> {
        cost.map(Cost::usd).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cost>, D::Error> {
        match Option::<f64>::deserialize(deserializer)? {
            None => Ok(None),
            Some(usd) if (0.0..=MOST).contains(&usd) => Ok(Some(Cost((usd * 1e9).round() as u64))),
            Some(_) => Err(D::Error::custom("must be 0 to 9000000 US dollars")),
        }
    }
}
