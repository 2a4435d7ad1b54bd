//! What masks records: the same search as for questions, and a tag for every name of a person.
use std::borrow::Cow;

use crate::{
    audit,
    guard::pii::{Masker, Pii, Tags},
};

/// What masks records.
pub(super) struct Masks {
    pii: Pii,
    /// What tells users apart whose names are masked.
    names: Tags,
}

impl Masks {
    pub(super) fn new(pii: Pii, names: Tags) -> Self {
        Self { pii, names }
    }
}

impl audit::Masking for Masks {
    fn masker(&self) -> Box<dyn audit::Mask + '_> {
        Box::new(Mask { masker: self.pii.masker(), names: &self.names })
    }
}

/// What masks one record.
struct Mask<'m> {
    masker: Masker<'m>,
    names: &'m Tags,
}

impl audit::Mask for Mask<'_> {
    fn mask<'t>(&mut self, text: &'t str) -> Cow<'t, str> {
        self.masker.mask(text)
    }

    fn name<'t>(&mut self, tenant: &str, name: &'t str) -> Cow<'t, str> {
        self.masker.name(name, tenant, self.names)
    }
}
