//! What Dockerfile and docker-compose.yml rely on: no engine is needed to see
//! that they have fallen behind the program.
use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::support::{Setup, Upstream, Wire};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn compose() -> Value {
    serde_saphyr::from_str(&read("docker-compose.yml")).unwrap()
}

/// The value of `${NAME:-value}` where nobody has set NAME.
fn unset(value: &str) -> &str {
    value.split_once(":-").map_or(value, |(_, rest)| rest.trim_end_matches('}'))
}

fn sluice(arguments: &[String], environment: &[(String, String)]) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(crate::support::gateway::binary());
    command.args(arguments).current_dir(folder.path()).env_clear();
    let Output { status, stderr, .. } =
        command.envs(environment.iter().map(|(name, value)| (name, value))).output().unwrap();
    (status.success(), String::from_utf8_lossy(&stderr).into_owned())
}

/// The settings that the image makes.
fn image_environment() -> Vec<(String, String)> {
    let file = read("Dockerfile");
    let words = file.split_whitespace().filter(|word| word.starts_with("SLUICE__"));
    words.filter_map(|word| word.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

#[tokio::test]
async fn the_images_health_check_asks_the_gateway_and_nothing_else() {
    let file = read("Dockerfile");
    let check = file.split("HEALTHCHECK").nth(1).unwrap();
    let words: Vec<String> =
        serde_json::from_str(&check[check.find('[').unwrap()..=check.find(']').unwrap()]).unwrap();
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let here = gateway.address.to_string();
    let words: Vec<String> = words[1..]
        .iter()
        .map(|word| if word == "127.0.0.1:8000" { here.clone() } else { word.clone() })
        .collect();
    assert!(words.contains(&here), "the check asks where nobody listens: {words:?}");
    // A file that was broken while the gateway runs on must not make the container unhealthy.
    let broken = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(broken.path(), "serevr: [").unwrap();
    let environment = [("SLUICE_CONFIG".to_owned(), broken.path().display().to_string())];
    assert_eq!(sluice(&words, &environment), (true, String::new()));
    drop(gateway);
    let (ready, said) = sluice(&words, &environment);
    assert!(!ready && said.contains("is not ready"), "{said}");
}

#[test]
fn the_image_serves_nobody_until_it_is_told_whom() {
    let mut environment = image_environment();
    let (good, said) = sluice(&["check".into()], &environment);
    assert!(!good && said.contains("no key is configured"), "{said}");
    environment.push(("SLUICE__AUTH__OPEN".into(), "true".into()));
    let (good, said) = sluice(&["check".into()], &environment);
    assert!(good && said.contains("warning: `auth.open`"), "{said}");
}

#[test]
fn compose_starts_with_no_settings_of_yours_and_is_closed_to_other_machines() {
    let compose = compose();
    let settings = compose["services"]["gateway"]["environment"].as_object().unwrap();
    let mut environment = image_environment();
    environment.extend(settings.iter().map(|(k, v)| (k.clone(), unset(v.as_str().unwrap()).to_owned())));
    let (good, said) = sluice(&["check".into()], &environment);
    assert!(good, "{said}");
    for (name, service) in compose["services"].as_object().unwrap() {
        for port in service["ports"].as_array().into_iter().flatten() {
            let port = port.as_str().unwrap();
            assert!(port.starts_with("127.0.0.1:"), "{name} is open to the network: {port}");
        }
    }
}

#[test]
fn compose_waits_longer_than_the_gateway_drains() {
    let seconds = |text: &str| text.trim_end_matches('s').parse::<u32>().unwrap();
    let config: Value = serde_saphyr::from_str(&read("config/sluice.yaml")).unwrap();
    let drain = seconds(config["server"]["drain"].as_str().unwrap());
    let grace = seconds(compose()["services"]["gateway"]["stop_grace_period"].as_str().unwrap());
    assert!(grace > drain, "after {grace} s the engine kills what drains for {drain} s");
}

#[test]
fn the_image_is_built_from_what_the_manifest_names() {
    let (file, manifest) = (read("Dockerfile"), read("Cargo.toml"));
    for bench in manifest.split("[[bench]]\nname = \"").skip(1).filter_map(|rest| rest.split('"').next()) {
        let count = file.matches(&format!("benches/{bench}.rs")).count();
        assert_eq!(count, 2, "Cargo builds nothing without benches/{bench}.rs");
    }
    let cargo = read(".cargo/config.toml");
    let wrapper = cargo.split("rustc-wrapper = \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let folder = wrapper.rsplit_once('/').unwrap().0;
    for path in [wrapper, &format!("{folder}/sluice.profdata"), &format!("{folder}/functions.ld")] {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{path}");
        assert!(file.contains(path), "the image is built without {path}");
        assert!(read(".dockerignore").contains(&format!("!{path}\n")), "{path} is not sent to the engine");
    }
    let image = file.lines().find_map(|line| line.strip_prefix("ARG RUST_IMAGE=")).unwrap();
    let arguments = &compose()["services"]["gateway"]["build"]["args"];
    assert_eq!(unset(arguments["RUST_IMAGE"].as_str().unwrap()), image);
}
