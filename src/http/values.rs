//! How many values a request's body has: what is long is texts and pictures.
use crate::error::Error;

/// A body that is shorter, in bytes, is read whatever it has; in one that is longer there may be so many values. Each
/// takes up to 260 bytes of memory, where it may be written in two.
const SHORT: usize = 512 << 10;
pub(super) const MOST_VALUES: usize = 250_000;

/// Whether a body has no more values than anybody needs: what is long is texts and pictures.
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    bytes.len() <= SHORT || values(bytes) <= MOST_VALUES
}

/// How many values a body has, about: in JSON, each but the first comes after one of these signs.
pub(super) fn values(bytes: &[u8]) -> usize {
    let (mut at, mut values) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b',' | b'[' | b'{' => values += 1,
            b'"' => at = after_string(bytes, at),
            _ => {}
        }
    }
    values
}

/// Where a string ends that has its first byte at `at`.
fn after_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(rest) = bytes.get(at..) {
        match memchr::memchr2(b'"', b'\\', rest) {
            Some(found) if rest[found] == b'"' => return at + found + 1,
            Some(escape) => at += escape + 2,
            None => break,
        }
    }
    bytes.len()
}

/// What is said of a body that has more.
pub(super) fn too_many() -> Error {
    Error::invalid("body", format!("must not have more than {MOST_VALUES} values"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use crate::http::read::{self, tests::complaint};

    #[test]
    fn a_long_body_has_texts_not_values() {
        let of = |inside: &str| format!(r#"{{"count":1,"x":[{inside}1]}}"#);
        let quoted = of(&format!(r#""{}","#, r#"[\",{"#.repeat(300_000)));
        assert!(read::body::<Map<String, Value>>(quoted.as_bytes()).is_ok());
        assert!(read::body::<Map<String, Value>>(of(&"[0],".repeat(50_000)).as_bytes()).is_ok());
        for many in ["0,", "[0],", r#"{"":0},"#, r#""\\","#] {
            let told = complaint(read::body::<Map<String, Value>>(
                of(&many.repeat(600_000 / many.len() + 131_000)).as_bytes(),
            ));
            assert_eq!(told, "body: must not have more than 250000 values", "{many}");
        }
    }
}
