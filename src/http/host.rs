//! Whom a request asks: its `Host` (RFC 9112, section 3.2).
//!
//! Two readers of one request must not take it for one to different hosts, so that what is no host is refused, and
//! not read generously.
use std::net::Ipv6Addr;

use http::{Request, Version, header};

use crate::error::Error;

/// What is wrong with how a request names whom it asks. HTTP/2 has a field of its own for it, and HTTP/1.0 need not say
/// it.
///
/// # Errors
/// None, more than one, or one that is no host, here or in the address that is asked for.
pub(super) fn host<B>(request: &Request<B>) -> Result<(), Error> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let what = match (hosts.next(), hosts.next()) {
        (None, None) if request.version() == Version::HTTP_11 => "the request has no `Host` header",
        // Empty where what is asked for has no host.
        (Some(host), None) if !host.is_empty() && !is_authority(host.as_bytes()) => {
            "the request's `Host` header is no host"
        }
        (_, Some(_)) => "the request has more than one `Host` header",
        _ if request.uri().authority().is_some_and(|named| !is_authority(named.as_str().as_bytes())) => {
            "the request's address names no host"
        }
        _ => return Ok(()),
    };
    Err(Error::BadHead { status: 400, what })
}

/// A byte of a registered name (RFC 3986, section 3.2.2) besides `%`, which two digits have to follow.
const NAME: u8 = 1;
/// A digit of base 16.
const HEX: u8 = 2;

/// What each byte may be.
const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let b = byte as u8;
        let sub = matches!(b, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=');
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') || sub {
            kinds[byte] |= NAME;
        }
        if b.is_ascii_hexdigit() {
            kinds[byte] |= HEX;
        }
        byte += 1;
    }
    kinds
};

fn is(kind: u8, b: u8) -> bool {
    KINDS[usize::from(b)] & kind != 0
}

/// Whether this is a host and, behind `:`, perhaps a port (RFC 9110, section 7.2). The names of users before it are
/// for nobody's `Host` (section 4.2.4).
fn is_authority(text: &[u8]) -> bool {
    let (host, rest) = if let Some(rest) = text.strip_prefix(b"[") {
        let Some(end) = rest.iter().position(|&b| b == b']') else { return false };
        (is_address(&rest[..end]), &rest[end + 1..])
    } else {
        let end = text.iter().position(|&b| b == b':').unwrap_or(text.len());
        (is_name(&text[..end]), &text[end..])
    };
    host && match rest {
        [] => true,
        [b':', port @ ..] => is_port(port),
        _ => false,
    }
}

/// A name or an IPv4 address, which has the form of one. The empty name is nobody's.
fn is_name(name: &[u8]) -> bool {
    let mut rest = name.iter();
    while let Some(&b) = rest.next() {
        let part = match b {
            b'%' => [rest.next(), rest.next()].iter().all(|digit| digit.is_some_and(|&b| is(HEX, b))),
            b => is(NAME, b),
        };
        if !part {
            return false;
        }
    }
    !name.is_empty()
}

/// An address in brackets: IPv6, or of a version to come (RFC 3986, section 3.2.2).
fn is_address(text: &[u8]) -> bool {
    match text {
        [b'v' | b'V', later @ ..] => {
            let Some(dot) = later.iter().position(|&b| b == b'.') else { return false };
            let (version, address) = (&later[..dot], &later[dot + 1..]);
            let part = |&b: &u8| b == b':' || is(NAME, b);
            !version.is_empty()
                && version.iter().all(|&b| is(HEX, b))
                && !address.is_empty()
                && address.iter().all(part)
        }
        text => str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok()),
    }
}

/// A port that there can be; none is the scheme's own.
fn is_port(digits: &[u8]) -> bool {
    let number = digits.iter().try_fold(0_u16, |number, b| {
        let digit = b.is_ascii_digit().then(|| u16::from(b - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    number.is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whom_it_asks_is_said_once_and_in_http_2_elsewhere() {
        for (version, hosts, good) in [
            (Version::HTTP_11, &["a.example:80"][..], true),
            (Version::HTTP_11, &[""], true),
            (Version::HTTP_11, &[], false),
            (Version::HTTP_10, &[], true),
            (Version::HTTP_10, &["a b"], false),
            (Version::HTTP_2, &[], true),
            (Version::HTTP_2, &["a.example"], true),
            (Version::HTTP_2, &["a:b"], false),
            (Version::HTTP_2, &["a", "a"], false),
            (Version::HTTP_11, &["a", "b"], false),
            (Version::HTTP_11, &["a\tb"], false),
            (Version::HTTP_11, &["ann@a"], false),
        ] {
            let request = Request::builder().version(version);
            let request = hosts.iter().fold(request, |request, named| request.header(header::HOST, *named));
            assert_eq!(host(&request.body(()).unwrap()).is_ok(), good, "{version:?} {hosts:?}");
        }
        for (address, good) in [("http://a.example:80/x", true), ("http://ann@a/x", false), ("/x", true)] {
            let request = Request::builder().uri(address).header(header::HOST, "a").body(()).unwrap();
            assert_eq!(host(&request).is_ok(), good, "{address}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_a_port_that_there_can_be() {
        for good in [
            "a",
            "localhost:8000",
            "A-1.example_x~.",
            "127.0.0.1",
            "127.0.0.1:0",
            "a:",
            "a:65535",
            "a:00080",
            "b%C3%BCcher.example",
            "a!$&'()*+,;=",
            "999.1.1.1",
            "[::1]",
            "[::1]:8000",
            "[2001:DB8::1:2]:",
            "[::ffff:127.0.0.1]:1",
            "[v1.a:b]",
            "[vF0.~]:9",
        ] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            ":80",
            "a:65536",
            "a:99999",
            "a:100000000000000000000",
            "a:-1",
            "a:+1",
            "a:8 0",
            "a:80:80",
            "a:b",
            "::1",
            "[::1",
            "::1]",
            "[]",
            "[::1]x",
            "[::1]x:80",
            "[::1]]",
            "[[::1]]",
            "[::1%25eth0]",
            "[::1%eth0]",
            "[1:2:3]",
            "[127.0.0.1]",
            "[a]",
            "[v.a]",
            "[v1.]",
            "[vg.a]",
            "[v1a]",
            "a[::1]",
            "a%",
            "a%4",
            "a%4g",
            "a%zz",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a\"b",
            "<a>",
            "a|b",
            "a^b",
            "a`b",
            "{a}",
            "ann@a",
            "ann:x@a:80",
            "é",
            "a\0",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_a_host_has_the_form_that_the_standard_writes(text in r"[\[\]:%.a1fv@/é-]{1,12}") {
            // Section 3.2.2 of RFC 3986, where it is not about addresses in brackets.
            let form = regex::Regex::new(r"^(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+(?::[0-9]*)?$").unwrap();
            prop_assume!(!text.contains('['));
            let port = text.rsplit_once(':').and_then(|(_, port)| port.parse::<u64>().ok()).unwrap_or_default();
            prop_assert_eq!(is_authority(text.as_bytes()), form.is_match(&text) && port <= 65_535);
        }

        #[test]
        fn every_address_that_there_is_is_a_host(number: u128, port: u16) {
            let host = format!("[{}]:{port}", Ipv6Addr::from(number));
            prop_assert!(is_authority(host.as_bytes()));
            prop_assert!(!is_authority(host.trim_start_matches('[').as_bytes()));
        }
    }
}
