//! The JSON Schema of the configuration, for editors.
use schemars::generate::SchemaSettings;

use super::Config;

/// The JSON Schema of the configuration.
pub fn schema() -> String {
    // Written out in place: half of the sections' types are called `Settings`.
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<Config>();
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_schema_is_the_schema() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/sluice.schema.json");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, schema()).unwrap();
        }
        let published = std::fs::read_to_string(path).unwrap_or_default();
        assert!(published == schema(), "run this test with UPDATE=1 to publish the schema anew");
    }
}
