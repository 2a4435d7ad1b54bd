//! Who is counted: the scopes of a call, and what each may ask for.
use std::{
    hash::{BuildHasher, Hash, Hasher, RandomState},
    net::IpAddr,
};

use super::{
    bucket::Bucket,
    settings::{PerScope, Settings},
};
use crate::caller::{Caller, Quota};

/// How many scopes there are.
pub(super) const SCOPES: usize = 6;

/// What a limit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Address,
    User,
    Key,
    Tenant,
    Model,
    Global,
}

impl Scope {
    const ALL: [Self; SCOPES] =
        [Self::Address, Self::User, Self::Key, Self::Tenant, Self::Model, Self::Global];

    /// Its name in errors and metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::User => "user",
            Self::Key => "key",
            Self::Tenant => "tenant",
            Self::Model => "model",
            Self::Global => "global",
        }
    }

    fn of(self, numbers: &PerScope) -> Option<u32> {
        match self {
            Self::Address => numbers.address,
            Self::User => numbers.user,
            Self::Key => numbers.key,
            Self::Tenant => numbers.tenant,
            Self::Model => numbers.model,
            Self::Global => numbers.global,
        }
    }
}

/// What one may ask for; absent is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) requests: Option<Bucket>,
    pub(super) tokens: Option<Bucket>,
    pub(super) in_flight: Option<u32>,
}

impl Terms {
    fn any(&self) -> bool {
        self.requests.is_some() || self.tokens.is_some() || self.in_flight.is_some()
    }
}

impl From<Quota> for Terms {
    fn from(quota: Quota) -> Self {
        let burst = quota.burst.map(u64::from);
        Self {
            requests: quota.requests_per_minute.map(|limit| Bucket::new(limit.into(), burst)),
            tokens: quota.tokens_per_minute.map(|limit| Bucket::new(limit, None)),
            in_flight: quota.in_flight,
        }
    }
}

/// What all may ask for, unless they have limits of their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    quotas: [Quota; SCOPES],
    terms: [Terms; SCOPES],
}

impl Rules {
    pub(super) fn new(settings: &Settings) -> Self {
        let requests = &settings.requests_per_minute;
        let requests =
            [requests.address, requests.user, requests.key, requests.tenant, requests.model, requests.global];
        let quotas = Scope::ALL.map(|scope| Quota {
            requests_per_minute: requests[scope as usize],
            burst: scope.of(&settings.burst),
            tokens_per_minute: scope.of(&settings.tokens_per_minute).map(u64::from),
            in_flight: scope.of(&settings.in_flight),
        });
        Self { quotas, terms: quotas.map(Terms::from) }
    }

    /// Somebody's own limits, and the general ones where they have none.
    fn terms(&self, scope: Scope, own: &Quota) -> Terms {
        if *own == Quota::default() {
            return self.terms[scope as usize];
        }
        let general = &self.quotas[scope as usize];
        // Who has a rate of their own is not held to the burst of the general one.
        let burst = if own.requests_per_minute.is_some() { own.burst } else { own.burst.or(general.burst) };
        Terms::from(Quota {
            requests_per_minute: own.requests_per_minute.or(general.requests_per_minute),
            burst,
            tokens_per_minute: own.tokens_per_minute.or(general.tokens_per_minute),
            in_flight: own.in_flight.or(general.in_flight),
        })
    }

    /// Tells `found` of each scope that limits this call.
    pub(super) fn each<'a>(
        &self,
        caller: &'a Caller,
        model: &'a str,
        mut found: impl FnMut(Scope, Terms, Who<'a>),
    ) {
        let mut tell = |scope: Scope, terms: Terms, who: Who<'a>| {
            if terms.any() {
                found(scope, terms, who);
            }
        };
        let general = |scope: Scope| self.terms[scope as usize];
        if let Some(address) = caller.address {
            tell(Scope::Address, general(Scope::Address), Who::Address(address));
        }
        let (rights, tenant) = (&caller.rights, &caller.rights.tenant);
        if let Some(user) = &caller.user {
            // A user is a name within a tenant: two tenants' `u1` are two people.
            tell(Scope::User, general(Scope::User), Who::User(&tenant.name, user));
        }
        tell(Scope::Key, self.terms(Scope::Key, &rights.quota), Who::Named(&rights.account));
        tell(Scope::Tenant, self.terms(Scope::Tenant, &tenant.quota), Who::Named(&tenant.name));
        tell(Scope::Model, general(Scope::Model), Who::Named(model));
        tell(Scope::Global, general(Scope::Global), Who::All);
    }
}

/// Who is counted within a scope.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who<'a> {
    Named(&'a str),
    User(&'a str, &'a str),
    Address(IpAddr),
    All,
}

/// Where an address belongs: whoever has one IPv6 address of 64 bits' network has them all.
pub(super) fn network(address: IpAddr) -> [u8; 9] {
    let mut bytes = [0; 9];
    match address {
        IpAddr::V4(address) => {
            bytes[0] = 4;
            bytes[1..5].copy_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            bytes[0] = 6;
            bytes[1..].copy_from_slice(&address.octets()[..8]);
        }
    }
    bytes
}

/// What stands for a scope and a name: 128 bits of a hash whose key nobody
/// outside the process knows. Of `n` that are tracked, any two share a counter
/// with a chance of n² / 2¹²⁹: of a hundred thousand, 1 in 10²⁸.
pub(super) type Id = [u64; 2];

/// Makes [`Id`]s.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(RandomState, RandomState);

impl Names {
    pub(super) fn id(&self, scope: Scope, who: Who<'_>) -> Id {
        [&self.0, &self.1].map(|state| {
            let mut hasher = state.build_hasher();
            hasher.write_u8(scope as u8);
            match who {
                Who::Named(name) => name.hash(&mut hasher),
                Who::User(tenant, user) => (tenant, user).hash(&mut hasher),
                Who::Address(address) => hasher.write(&network(address)),
                Who::All => {}
            }
            hasher.finish()
        })
    }
}
