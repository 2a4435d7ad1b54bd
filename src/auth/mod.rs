//! Who is calling: keys, found by their hash.
//!
//! A key is 256 random bits, so a fast hash keeps it: nobody can guess it. It
//! is hashed, looked up by all of its hash, and the last comparison takes the
//! same time whatever is compared.
pub mod book;
mod grant;
pub mod make;
mod pepper;
pub mod settings;

use std::sync::Arc;

use arc_swap::ArcSwap;
use foldhash::HashMap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub use book::{Book, Stored};
pub use grant::Grant;
pub use pepper::Pepper;
pub use settings::{Auth, Hash, Key, Tenants};

use crate::caller::{ALL_TENANTS, Caller, Rights, Role, Roles, Tenant};

/// The keys. Without any, everyone is `anonymous`: the server then listens on
/// loopback only.
#[derive(Debug)]
pub struct Keyring {
    plain: Rows,
    peppered: Rows,
    stored: ArcSwap<StoredRows>,
    tenants: Tenants,
    pepper: Option<Arc<Pepper>>,
    anonymous: Caller,
    /// Whether a key may be shown in the URL.
    pub query_key: bool,
}

type Rows = HashMap<[u8; 32], Arc<Rights>>;

/// The keys that were made at run time, as of a change.
#[derive(Debug, Default)]
struct StoredRows {
    version: i64,
    rows: HashMap<[u8; 32], (Arc<Stored>, Arc<Rights>)>,
}

impl Keyring {
    /// Takes the rows over. Their hashes and dates were checked with the configuration.
    pub fn new(keys: &[Key], tenants: &Tenants, pepper: Option<Arc<Pepper>>, query_key: bool) -> Self {
        let mut known = Known::new(tenants);
        let (mut plain, mut peppered) = (Rows::default(), Rows::default());
        for key in keys {
            let rights = known.rights(key);
            match key.digest() {
                Some(Hash::Plain(digest)) => plain.insert(digest, rights),
                Some(Hash::Peppered(digest)) => peppered.insert(digest, rights),
                None => None,
            };
        }
        let anonymous = Rights {
            id: "anonymous".into(),
            account: "anonymous".into(),
            name: "anonymous".into(),
            tenant: known.tenant("default"),
            roles: Roles::of(&[Role::App]),
            ..Rights::default()
        };
        let anonymous = Caller { rights: Arc::new(anonymous), ..Caller::default() };
        let tenants = tenants.clone();
        Self { plain, peppered, stored: ArcSwap::default(), tenants, pepper, anonymous, query_key }
    }

    /// Takes up what has changed in the book of stored keys.
    pub fn follow(&self, page: &book::Page) {
        let before = self.stored.load();
        if page.version <= before.version {
            return;
        }
        let mut known = Known::new(&self.tenants);
        let rows = page.keys.iter().map(|(hash, stored)| {
            // Who has not changed keeps what they have.
            let same = before.rows.get(hash).filter(|(old, _)| Arc::ptr_eq(old, stored));
            let rights = same.map_or_else(|| known.stored(stored), |(_, rights)| rights.clone());
            (*hash, (stored.clone(), rights))
        });
        self.stored.store(Arc::new(StoredRows { version: page.version, rows: rows.collect() }));
    }

    /// Who shows this key; `None` where it opens nothing.
    pub fn caller(&self, key: Option<&str>) -> Option<Caller> {
        if self.is_empty() {
            return Some(self.anonymous.clone());
        }
        let key = key?.as_bytes();
        // A hash is the dearest step here: none is made for rows that are not there.
        let plain = (!self.plain.is_empty()).then(|| look_up(&self.plain, &Sha256::digest(key).into()));
        let rights = plain.flatten().cloned().or_else(|| {
            let hash = self.pepper.as_ref()?.hash(key);
            let stored = self.stored.load();
            let of_stored = || look_up(&stored.rows, &hash).map(|(_, rights)| rights);
            look_up(&self.peppered, &hash).or_else(of_stored).cloned()
        })?;
        if rights.expires.is_some_and(|end| end <= jiff::Timestamp::now()) {
            return None;
        }
        Some(Caller { rights, user: None, address: None })
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.plain.len() + self.peppered.len() + self.stored.load().rows.len()
    }

    /// Whether there is none, and never was: the last one that is revoked does not open the gateway.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.peppered.is_empty() && self.stored.load().version == 0
    }
}

/// The lookup compares digests, which tell nothing of the key; the last step is even.
fn look_up<'a, T>(rows: &'a HashMap<[u8; 32], T>, digest: &[u8; 32]) -> Option<&'a T> {
    let (known, found) = rows.get_key_value(digest)?;
    bool::from(known.ct_eq(digest)).then_some(found)
}

/// The tenants, each made once.
struct Known<'a> {
    written: &'a Tenants,
    made: HashMap<String, Arc<Tenant>>,
}

impl<'a> Known<'a> {
    fn new(written: &'a Tenants) -> Self {
        Self { written, made: HashMap::default() }
    }

    fn tenant(&mut self, name: &str) -> Arc<Tenant> {
        if let Some(tenant) = self.made.get(name) {
            return tenant.clone();
        }
        let mut tenant = Tenant { name: name.into(), ..Tenant::default() };
        if let Some(written) = self.written.get(name) {
            (tenant.quota, tenant.budget) = (written.limits, written.budget);
            // Checked with the configuration.
            tenant.time_zone = written.zone().unwrap_or(tenant.time_zone);
        }
        let tenant = Arc::new(tenant);
        self.made.insert(name.to_owned(), tenant.clone());
        tenant
    }

    fn rights(&mut self, key: &Key) -> Arc<Rights> {
        let roles = Roles::of(&key.roles);
        Arc::new(Rights {
            id: key.name.as_str().into(),
            account: key.name.as_str().into(),
            name: key.name.as_str().into(),
            tenant: self.tenant(&key.tenant),
            // Who looks after all tenants is none of them, and so cannot ask a model.
            roles: if key.tenant == ALL_TENANTS { roles.without(Role::App) } else { roles },
            models: key.models.clone(),
            endpoints: key.endpoints.clone(),
            expires: key.expiry(),
            max_priority: key.max_priority,
            quota: key.limits,
            budget: key.budget,
        })
    }

    fn stored(&mut self, key: &Stored) -> Arc<Rights> {
        let grant = &key.grant;
        Arc::new(Rights {
            id: key.id.clone(),
            account: key.account.clone(),
            name: key.name.as_str().into(),
            tenant: self.tenant(&key.tenant),
            roles: Roles::of(&grant.roles),
            models: grant.models.clone(),
            endpoints: grant.endpoints.clone(),
            expires: grant.expires,
            max_priority: grant.max_priority,
            quota: grant.limits,
            budget: grant.budget,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, more: &str) -> Key {
        let hex = Pepper::hex(&Sha256::digest(name.as_bytes()).into());
        serde_saphyr::from_str(&format!("{{name: {name}, hash: 'sha256:{hex}'{more}}}")).unwrap()
    }

    #[test]
    fn a_row_says_what_its_key_may_do() {
        let keys = [
            key("plain", ""),
            key(
                "rich",
                ", tenant: t, roles: [reviewer], endpoints: [/query], limits: {burst: 3}, budget: {day_usd: 1.5}",
            ),
            key("root", ", tenant: '*', roles: [admin]"),
        ];
        let tenants = serde_saphyr::from_str("t: {time_zone: Asia/Tokyo, limits: {in_flight: 9}}").unwrap();
        let ring = Keyring::new(&keys, &tenants, None, false);
        let of = |key: &str| ring.caller(Some(key)).unwrap().rights;
        let plain = of("plain");
        assert!(
            plain.roles.has(Role::App) && !plain.roles.has(Role::Reviewer) && !plain.roles.has(Role::Admin)
        );
        assert!(plain.reaches("/query") && plain.sees("default") && !plain.sees("t"));
        let rich = of("rich");
        assert!(!rich.roles.has(Role::App) && rich.roles.has(Role::Reviewer));
        assert!(rich.reaches("/query") && !rich.reaches("/stream"));
        assert_eq!(
            (rich.quota.burst, rich.budget.day_usd),
            (Some(3), Some(crate::chat::Cost(1_500_000_000)))
        );
        assert_eq!(rich.tenant.quota.in_flight, Some(9));
        assert_eq!(rich.tenant.time_zone.iana_name(), Some("Asia/Tokyo"));
        let root = of("root");
        assert!(root.roles.has(Role::Admin) && !root.roles.has(Role::App) && root.sees("t"));
        assert!(ring.caller(Some("other")).is_none() && ring.caller(None).is_none());
    }

    #[test]
    fn a_peppered_row_opens_for_its_key_only_with_its_pepper() {
        let pepper = Arc::new(Pepper::new("0123456789abcdef0123456789abcdef").unwrap());
        let mut row = key("k", "");
        row.hash = format!("hmac:{}", Pepper::hex(&pepper.hash(b"sk-1")));
        let opens = |pepper: Option<Arc<Pepper>>, shown: &str| {
            Keyring::new(&[row.clone()], &Tenants::new(), pepper, false).caller(Some(shown)).is_some()
        };
        assert!(opens(Some(pepper.clone()), "sk-1") && !opens(Some(pepper), "sk-2") && !opens(None, "sk-1"));
        assert!(!opens(Some(Arc::new(Pepper::new(&"x".repeat(32)).unwrap())), "sk-1"));
    }
}
