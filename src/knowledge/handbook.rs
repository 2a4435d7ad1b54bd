//! The product's own handbook, carried in the program, so that it can be asked about itself.
use super::chunk::Document;

macro_rules! handbook {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../config/knowledge/", $name)))),*]
    };
}

/// The handbook's files and their texts.
pub const FILES: &[(&str, &str)] = handbook![
    "authentication-and-keys.md",
    "cache.md",
    "configuration.md",
    "endpoints.md",
    "getting-started.md",
    "knowledge-and-prompts.md",
    "limits.md",
    "models-and-routing.md",
    "operations.md",
    "reliability.md",
    "safety.md",
    "streaming.md",
    "troubleshooting.md",
];

/// The handbook, as documents.
pub fn documents() -> Vec<Document> {
    FILES.iter().map(|(name, text)| Document { name: (*name).into(), text: (*text).into() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_carried_handbook_is_the_folder() {
        let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/knowledge"));
        assert_eq!(super::super::load::folder(folder).unwrap().unwrap(), documents());
    }
}
