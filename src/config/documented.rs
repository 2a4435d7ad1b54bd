//! The guide's examples are read as they stand.
use super::load::tests::read_with;

#[test]
fn every_example_of_the_guide_is_good() {
    let guide = include_str!("../../docs/configuration.md");
    let examples: Vec<&str> =
        guide.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 3, "the guide has lost its examples");
    for example in examples {
        if let Err(problems) = read_with(example, &[]) {
            panic!("{problems:#?}\nin\n{example}");
        }
    }
}
