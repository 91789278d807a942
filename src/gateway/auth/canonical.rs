//! The canonical request: the form of a request in which client and server sign it.

use ring::digest;

use super::claim::{Claim, query_pairs};
use crate::gateway::http::Request;

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// Returns the canonical request's digest, in hexadecimal. None if the signature cannot be right: a signed header is missing, their list is
/// not sorted, or the client states a digest that the body does not have.
pub(super) fn digest_of(request: &Request, claim: &Claim) -> Option<String> {
    let mut canonical = Vec::with_capacity(1 << 10);
    canonical.extend_from_slice(request.method.as_str().as_bytes());
    canonical.push(b'\n');
    push_path(&mut canonical, request.uri.path());
    canonical.push(b'\n');
    push_query(&mut canonical, request.uri.query().unwrap_or_default(), claim.is_in_query);
    canonical.push(b'\n');
    let mut last = "";
    for name in claim.signed_headers.split(';') {
        // Clients sort the names, in lower case. So no header can occur twice, and the time is bounded by the length of the headers.
        if name <= last || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        push_header(&mut canonical, request, name)?;
        last = name;
    }
    canonical.push(b'\n');
    canonical.extend_from_slice(claim.signed_headers.as_bytes());
    canonical.push(b'\n');
    canonical.extend_from_slice(payload_digest(request)?.as_bytes());
    Some(hex(digest::digest(&digest::SHA256, &canonical).as_ref()))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |at: u8| char::from(DIGITS[usize::from(at)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Kinesis' clients do not send the digest of the body. Those that do may leave the body unsigned only if TLS protects it from changes.
fn payload_digest(request: &Request) -> Option<String> {
    let stated = request.headers.get("x-amz-content-sha256");
    if request.is_tls && stated.is_some_and(|stated| stated == UNSIGNED) {
        return Some(UNSIGNED.to_owned());
    }
    let digest = hex(digest::digest(&digest::SHA256, &request.body).as_ref());
    stated.is_none_or(|stated| *stated == digest).then_some(digest)
}

/// Appends the path without empty segments, `.` and `..`, encoded once more. Encoded characters stay encoded: `%2E` is not a dot.
fn push_path(to: &mut Vec<u8>, path: &str) {
    let mut segments = vec![];
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    for segment in &segments {
        to.push(b'/');
        push_encoded(to, segment.as_bytes());
    }
    if segments.is_empty() || path.ends_with('/') {
        to.push(b'/');
    }
}

/// Appends the query, sorted and encoded in one way, without the signature.
fn push_query(to: &mut Vec<u8>, query: &str, has_signature: bool) {
    let is_signed = |name: &[u8]| !has_signature || name != b"X-Amz-Signature";
    let encoded = |bytes: &[u8]| {
        let mut encoded = Vec::with_capacity(bytes.len());
        push_encoded(&mut encoded, bytes);
        encoded
    };
    let pairs = query_pairs(query).filter(|(name, _)| is_signed(name));
    let mut pairs: Vec<_> = pairs.map(|(name, value)| (encoded(&name), encoded(&value))).collect();
    pairs.sort();
    for (at, (name, value)) in pairs.iter().enumerate() {
        if at > 0 {
            to.push(b'&');
        }
        to.extend_from_slice(name);
        to.push(b'=');
        to.extend_from_slice(value);
    }
}

/// Appends a header with all its values, in which each run of spaces is one.
fn push_header(to: &mut Vec<u8>, request: &Request, name: &str) -> Option<()> {
    to.extend_from_slice(name.as_bytes());
    to.push(b':');
    let mut values = request.headers.get_all(name).iter().map(|value| value.as_bytes()).peekable();
    if values.peek().is_none() {
        // HTTP/2 has the host in the URI.
        let authority = request.uri.authority().filter(|_| name == "host")?;
        to.extend_from_slice(authority.as_str().as_bytes());
    }
    let mut is_first = true;
    for value in values {
        if !is_first {
            to.push(b',');
        }
        is_first = false;
        let words = value.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        for (at, word) in words.enumerate() {
            if at > 0 {
                to.push(b' ');
            }
            to.extend_from_slice(word);
        }
    }
    to.push(b'\n');
    Some(())
}

fn push_encoded(to: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            to.push(*byte);
        } else {
            to.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::{HeaderMap, Method};

    use super::*;

    #[test]
    fn the_signed_headers_must_be_there_and_sorted() {
        let mut headers = HeaderMap::new();
        headers.insert("a", "1".parse().unwrap());
        headers.insert("b", "2".parse().unwrap());
        let uri = "http://localhost/".parse().unwrap();
        let peer = ([127, 0, 0, 1], 1).into();
        let request =
            Request { method: Method::POST, uri, headers, body: "body".into(), peer, is_tls: false };
        let has_digest = |signed_headers: &str| {
            let claim = Claim { signed_headers: signed_headers.to_owned(), ..Claim::default() };
            digest_of(&request, &claim).is_some()
        };
        for signed in ["a", "a;b", "b;host"] {
            assert!(has_digest(signed), "{signed}");
        }
        for signed in ["", "b;a", "a;a", "a;", ";a", "A", "A;a", "a;c", "a;b;c", "a;x y"] {
            assert!(!has_digest(signed), "{signed}");
        }
    }

    fn pushed(push: impl Fn(&mut Vec<u8>)) -> String {
        let mut bytes = vec![];
        push(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn paths_are_normal_and_encoded_twice() {
        for (path, expected) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/a//b/", "/a/b/"),
            ("/./a/../b", "/b"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
            ("/a%20b", "/a%2520b"),
            ("/caf%C3%A9", "/caf%25C3%25A9"),
            ("/%2E%2e/a", "/%252E%252e/a"),
            ("/a~b-c_d.e", "/a~b-c_d.e"),
            ("/a=b:c@d", "/a%3Db%3Ac%40d"),
        ] {
            assert_eq!(pushed(|to| push_path(to, path)), expected, "{path}");
        }
    }

    #[test]
    fn queries_are_sorted_and_encoded_once() {
        for (query, has_signature, expected) in [
            ("", false, ""),
            ("b=2&a=1", false, "a=1&b=2"),
            ("a=2&a=1&A=3", false, "A=3&a=1&a=2"),
            ("a", false, "a="),
            ("a==&&b", false, "a=%3D&b="),
            ("a=%c3%a9&b=%2f/", false, "a=%C3%A9&b=%2F%2F"),
            ("a=+&b=%20", false, "a=%2B&b=%20"),
            ("a-b=1&a=2", false, "a=2&a-b=1"),
            ("X-Amz-Signature=1&a=1", true, "a=1"),
            ("X-Amz-Signature=1&a=1", false, "X-Amz-Signature=1&a=1"),
        ] {
            assert_eq!(pushed(|to| push_query(to, query, has_signature)), expected, "{query}");
        }
    }
}
