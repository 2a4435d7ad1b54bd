//! Files that are text, and come in base64 all the same.
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode::Indifferent, GeneralPurpose, GeneralPurposeConfig},
};

/// As providers read it: with padding or without.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(Indifferent));
/// How much of a file is looked at to tell whether it is text, in characters of its base64: whole groups.
const BEGINNING: usize = 1024;
/// What counts the bytes of its own text, which so has to stay as it is.
const COUNTED: [&[u8]; 1] = [b"%PDF-"];

/// What a file says, if it is text in UTF-8.
pub(super) fn text(encoded: &str) -> Option<String> {
    // Most files are none, which their first bytes tell. A character may be cut where they end.
    let beginning = BASE64.decode(encoded.get(..BEGINNING).unwrap_or(encoded)).ok()?;
    let is_text = !beginning.contains(&0)
        && !COUNTED.iter().any(|sign| beginning.starts_with(sign))
        && std::str::from_utf8(&beginning).map_or_else(|error| error.error_len().is_none(), |_| true);
    if !is_text {
        return None;
    }
    let text = String::from_utf8(BASE64.decode(encoded).ok()?).ok()?;
    Some(text).filter(|text| !text.contains('\0'))
}

/// The file that says this.
pub(super) fn file(text: &str) -> String {
    BASE64.encode(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_is_text() {
        let long = "Ä day at the sea. ".repeat(200);
        for said in ["Hi.", "", &long, &format!("x{long}")] {
            let encoded = file(said);
            assert_eq!(text(&encoded).as_deref(), Some(said));
            assert_eq!(text(encoded.trim_end_matches('=')).as_deref(), Some(said));
        }
        for bytes in [&b"\x89PNG\r\n"[..], b"%PDF-1.7 all in ASCII", b"a\0b", &[b'a'; 2000].map(|_| 0xff)] {
            assert_eq!(text(&BASE64.encode(bytes)), None);
        }
        let late = [long.as_bytes(), b"\xff"].concat();
        assert_eq!(text(&BASE64.encode(late)), None);
        assert_eq!(text("no base64!"), None);
    }
}
