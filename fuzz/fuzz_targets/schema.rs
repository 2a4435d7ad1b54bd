//! Any JSON is checked as a schema, and any text judged by it, in bounded time. What was refused is never asked for.
#![no_main]
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sluice::guard::schema::{self, Form};

fuzz_target!(|input: (&str, &str)| {
    let Ok(schema) = serde_json::from_str::<Value>(input.0) else { return };
    let began = std::time::Instant::now();
    let form = schema::judge(&schema, input.1);
    if schema::check(&schema).is_err() {
        assert!(matches!(form, Form::Unknown(_)), "{schema}: {form:?}");
    }
    if let Form::Wrapped(json) = form {
        assert_eq!(schema::judge(&schema, &json), Form::Right);
    }
    assert!(began.elapsed().as_secs() < 5, "{schema} took {:?}", began.elapsed());
});
