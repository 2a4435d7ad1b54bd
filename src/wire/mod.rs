//! The vendors' JSON, shared by `provider/` (we as client) and `http/` (we as server).
pub mod anthropic;
pub mod openai;

use serde::Deserialize;

/// Reads JSON. That it is UTF-8 is looked at once for the whole, many bytes at
/// a time, and not again for every string in it.
///
/// # Errors
/// It is not JSON, or not of this form.
pub fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> serde_json::Result<T> {
    match str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        // It says where.
        Err(_) => serde_json::from_slice(bytes),
    }
}

/// The thinking budget, in tokens, that stands for an effort in words. `None` switches thinking off.
pub fn budget_of(effort: &str) -> Option<u32> {
    match effort {
        "none" => None,
        "minimal" => Some(1024),
        "low" => Some(4096),
        "high" => Some(16_384),
        "xhigh" | "max" => Some(32_768),
        _ => Some(8192),
    }
}

/// The effort in words that stands for a thinking budget in tokens.
pub fn effort_of(budget: u32) -> &'static str {
    match budget {
        0..=4096 => "low",
        4097..=12_288 => "medium",
        _ => "high",
    }
}

/// The MIME type and the base64 bytes of a `data:` URL; `None` for anything else.
pub fn data_url(url: &str) -> Option<(&str, &str)> {
    let (kind, bytes) = url.strip_prefix("data:")?.split_once(',')?;
    let kind = kind.strip_suffix(";base64")?;
    Some((kind.split(';').next().unwrap_or(kind), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn efforts_survive_the_way_through_a_budget() {
        for effort in ["low", "medium", "high"] {
            assert_eq!(budget_of(effort).map(effort_of), Some(effort));
        }
        assert_eq!(budget_of("none"), None);
    }

    #[test]
    fn data_urls_are_taken_apart() {
        assert_eq!(data_url("data:image/png;base64,AAAA"), Some(("image/png", "AAAA")));
        assert_eq!(data_url("data:text/plain;charset=utf-8;base64,AAAA"), Some(("text/plain", "AAAA")));
        assert_eq!(data_url("data:text/plain,hello"), None);
        assert_eq!(data_url("https://example.com/a.png"), None);
    }
}
