//! What a model of Anthropic's can do, read from its name.

/// The version in a model's name, such as (4, 5). `None` for models of others
/// that speak this API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u32, u32);

impl Version {
    /// Reads `claude-sonnet-4-5-20250929`, `claude-3-7-sonnet-latest`, and the
    /// same with a vendor's name before or a region's behind.
    pub(super) fn of(model: &str) -> Option<Self> {
        let name = &model[model.find("claude")?..];
        let mut words = name.split(['-', '.', '@', ':']).skip(1);
        // A long number is a date, not a version.
        let number = |word: &str| word.parse().ok().filter(|number: &u32| *number < 100);
        let major = words.by_ref().find_map(number)?;
        Some(Self(major, words.next().and_then(number).unwrap_or(0)))
    }
}

/// What a model can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is its own ability")]
pub(super) struct Abilities {
    /// It can think.
    pub(super) thinks: bool,
    /// It can decide itself how much to think.
    pub(super) adaptive: bool,
    /// It takes a budget for thinking.
    pub(super) budget: bool,
    /// It can be held to a JSON Schema.
    pub(super) schema: bool,
    /// It takes `temperature`, `top_p` and `top_k`.
    pub(super) sampling: bool,
    /// It goes on with a beginning of its answer.
    pub(super) prefill: bool,
}

impl Abilities {
    /// What `model` can do. Newer models are taken for the like of the newest known.
    pub(super) fn of(model: &str) -> Self {
        match Version::of(model) {
            None => Self {
                thinks: true,
                adaptive: false,
                budget: true,
                schema: false,
                sampling: true,
                prefill: false,
            },
            Some(version) => Self {
                thinks: version >= Version(3, 7),
                adaptive: version >= Version(4, 6),
                budget: version >= Version(3, 7) && version < Version(4, 7),
                schema: version >= Version(4, 5) || version == Version(4, 1),
                sampling: version < Version(4, 7),
                prefill: version < Version(4, 6),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_names() {
        for (name, version) in [
            ("claude-opus-4-20250514", Some(Version(4, 0))),
            ("claude-sonnet-4-5-20250929", Some(Version(4, 5))),
            ("claude-sonnet-4-5", Some(Version(4, 5))),
            ("anthropic/claude-opus-4.7", Some(Version(4, 7))),
            ("claude-3-7-sonnet-latest", Some(Version(3, 7))),
            ("claude-3-haiku-20240307", Some(Version(3, 0))),
            ("claude-sonnet-5", Some(Version(5, 0))),
            ("claude-opus-4-1@20250805", Some(Version(4, 1))),
            ("claude-next", None),
            ("deepseek-chat", None),
        ] {
            assert_eq!(Version::of(name), version, "{name}");
        }
    }

    #[test]
    fn abilities_grow_with_the_version() {
        let able = |name| {
            let Abilities { thinks, adaptive, budget, schema, sampling, prefill } = Abilities::of(name);
            [thinks, adaptive, budget, schema, sampling, prefill].map(u8::from)
        };
        assert_eq!(able("claude-3-5-haiku-latest"), [0, 0, 0, 0, 1, 1]);
        assert_eq!(able("claude-sonnet-4-5"), [1, 0, 1, 1, 1, 1]);
        assert_eq!(able("claude-opus-4-6"), [1, 1, 1, 1, 1, 0]);
        assert_eq!(able("claude-opus-4-8"), [1, 1, 0, 1, 0, 0]);
        assert_eq!(able("kimi-k2"), [1, 0, 1, 0, 1, 0]);
    }
}
