//! The types of personal data and secrets that come with Sluice.

/// A type of personal data or secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An e-mail address.
    Email,
    /// A telephone number.
    Phone,
    /// The number of a payment card.
    Card,
    /// An international bank account number (ISO 13616).
    Iban,
    /// A US social security number.
    Ssn,
    /// A UK National Health Service number.
    Nhs,
    /// A UK National Insurance number.
    Nino,
    /// The number of a passport.
    Passport,
    /// An IP address, version 4 or 6.
    Ip,
    /// A date of birth.
    Birth,
    /// The address of a crypto wallet.
    Wallet,
    /// A key, token, password or private key.
    Secret,
    /// A street address.
    Address,
    /// The name of a person.
    Person,
    /// A type that the configuration adds, by its place there.
    Custom(u8),
}

/// The types, in the order of their settings, with the words that placeholders
/// are made of. Where two findings overlap, [`Kind::rank`] decides.
pub(super) const KINDS: [(Kind, &str, &str); 14] = [
    (Kind::Email, "email", "EMAIL"),
    (Kind::Phone, "phone", "PHONE"),
    (Kind::Card, "card", "CARD"),
    (Kind::Iban, "iban", "IBAN"),
    (Kind::Ssn, "ssn", "SSN"),
    (Kind::Nhs, "nhs", "NHS"),
    (Kind::Nino, "nino", "NINO"),
    (Kind::Passport, "passport", "PASSPORT"),
    (Kind::Ip, "ip", "IP"),
    (Kind::Birth, "birth", "BIRTH"),
    (Kind::Wallet, "wallet", "WALLET"),
    (Kind::Secret, "secret", "SECRET"),
    (Kind::Address, "address", "ADDRESS"),
    (Kind::Person, "person", "PERSON"),
];

impl Kind {
    /// Its place in a set of types.
    pub(super) fn bit(self) -> u64 {
        1 << self.index()
    }

    /// Its place in lists: those that come with Sluice, then those of the configuration.
    pub(super) fn index(self) -> usize {
        match self {
            Self::Custom(at) => KINDS.len() + usize::from(at),
            known => KINDS.iter().position(|(kind, ..)| *kind == known).unwrap_or_default(),
        }
    }

    /// Which of two findings that overlap counts: the lower rank. What the
    /// operator added knows best; a checksum knows better than a shape.
    pub(super) fn rank(self) -> u8 {
        match self {
            Self::Custom(_) => 0,
            Self::Secret => 1,
            Self::Iban | Self::Wallet => 2,
            Self::Email => 3,
            Self::Card => 4,
            Self::Ip | Self::Birth => 5,
            Self::Ssn | Self::Nhs | Self::Nino => 6,
            Self::Passport => 7,
            Self::Phone => 8,
            Self::Address => 9,
            Self::Person => 10,
        }
    }
}
