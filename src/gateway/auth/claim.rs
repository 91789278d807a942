//! The signature parameters of a request, from its header or its query.

use std::borrow::Cow;

use super::AuthError;
use crate::gateway::http::Request;

/// The signature parameters of a request. Only their presence is checked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) algorithm: String,
    pub(super) credential: String,
    pub(super) signed_headers: String,
    pub(super) signature: String,
    pub(super) date: String,
    /// For how many seconds a signature in the query is valid.
    pub(super) expires: Option<String>,
    pub(super) token: Option<String>,
    pub(super) is_in_query: bool,
}

/// Checks that a request has the parts of a signature, whatever their contents.
pub(in crate::gateway) fn check_form(request: &Request) -> Result<(), AuthError> {
    Claim::of(request).map(drop)
}

impl Claim {
    pub(super) fn of(request: &Request) -> Result<Self, AuthError> {
        let header = header(request, "authorization").filter(|header| !header.is_empty());
        let query = request.uri.query().unwrap_or_default();
        let is_in_query = query_pairs(query).any(|(name, _)| name == b"X-Amz-Algorithm");
        match header {
            Some(_) if is_in_query => Err(AuthError::invalid(
                "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.",
            )),
            Some(header) if header.trim().starts_with("AWS4-") => Self::in_header(header.trim(), request),
            None if is_in_query => Self::in_query(query),
            _ => Err(AuthError::new("MissingAuthenticationTokenException", "Missing Authentication Token")),
        }
    }

    fn in_header(authorization: &str, request: &Request) -> Result<Self, AuthError> {
        let mut words = authorization.split([',', ' ', '\t']).filter(|word| !word.is_empty());
        let mut claim = Self { algorithm: words.next().unwrap_or_default().to_owned(), ..Self::default() };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let piece = match name {
                "Credential" => &mut claim.credential,
                "SignedHeaders" => &mut claim.signed_headers,
                "Signature" => &mut claim.signature,
                _ => continue,
            };
            value.clone_into(piece);
        }
        let not_empty = |name| header(request, name).filter(|value| !value.is_empty());
        let date = not_empty("x-amz-date").or_else(|| not_empty("date"));
        claim.token = header(request, "x-amz-security-token").map(Cow::into_owned);
        let mut message = String::new();
        for (name, piece) in [
            ("Credential", &claim.credential),
            ("Signature", &claim.signature),
            ("SignedHeaders", &claim.signed_headers),
        ] {
            if piece.is_empty() {
                message += &format!("Authorization header requires '{name}' parameter. ");
            }
        }
        if date.is_none() {
            message +=
                "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ";
        }
        if !message.is_empty() {
            return Err(AuthError::incomplete(format!("{message}Authorization={authorization}")));
        }
        claim.date = date.unwrap_or_default().trim().to_owned();
        Ok(claim)
    }

    fn in_query(query: &str) -> Result<Self, AuthError> {
        let find = |wanted: &str| {
            let value = query_pairs(query).find(|(name, _)| *name == wanted.as_bytes())?.1;
            Some(String::from_utf8_lossy(&value).into_owned())
        };
        let mut message = String::new();
        let mut require = |name: &str| {
            let value = find(name).unwrap_or_default();
            if value.is_empty() {
                message += &format!("AWS query-string parameters must include '{name}'. ");
            }
            value
        };
        let algorithm = require("X-Amz-Algorithm");
        let credential = require("X-Amz-Credential");
        let signature = require("X-Amz-Signature");
        let signed_headers = require("X-Amz-SignedHeaders");
        let date = require("X-Amz-Date");
        if !message.is_empty() {
            return Err(AuthError::incomplete(message + "Re-examine the query-string parameters."));
        }
        let (expires, token) = (find("X-Amz-Expires"), find("X-Amz-Security-Token"));
        Ok(Self { algorithm, credential, signed_headers, signature, date, expires, token, is_in_query: true })
    }
}

/// Returns the first value of a header.
pub(super) fn header<'a>(request: &'a Request, name: &str) -> Option<Cow<'a, str>> {
    request.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()))
}

/// Returns the names and values of a query, decoded. Invalid encodings are kept as they are.
pub(super) fn query_pairs(query: &str) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

fn decode(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    while let [first, behind @ ..] = rest {
        rest = behind;
        let escaped = match behind {
            [high, low, ..] if *first == b'%' => digit(high).zip(digit(low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
                rest = &behind[2..];
            }
            None => decoded.push(*first),
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::header::{HeaderMap, HeaderName, HeaderValue};
    use hyper::{Method, Uri};
    use proptest::prelude::*;

    use super::*;

    fn request(uri: &str, headers: &[(&str, &[u8])]) -> Request {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        Request {
            method: Method::POST,
            uri: uri.parse::<Uri>().unwrap(),
            headers: map,
            body: Bytes::new(),
            peer: ([127, 0, 0, 1], 1).into(),
            is_tls: false,
        }
    }

    const HEADER: &str = "AWS4-HMAC-SHA256 Credential=AKID/x, SignedHeaders=host;x-amz-date, Signature=abc";

    #[test]
    fn both_forms_are_read() {
        let claim = |date: &str, token: Option<&str>| Claim {
            algorithm: "AWS4-HMAC-SHA256".to_owned(),
            credential: "AKID/x".to_owned(),
            signed_headers: "host;x-amz-date".to_owned(),
            signature: "abc".to_owned(),
            date: date.to_owned(),
            expires: None,
            token: token.map(str::to_owned),
            is_in_query: false,
        };
        let compact = HEADER.replace(", ", ",");
        for header in [HEADER, &compact, &format!("  {}\t", HEADER.replace(", ", " , "))] {
            let headers = [("authorization", header.as_bytes()), ("x-amz-date", b" D "), ("date", b"no")];
            assert_eq!(Claim::of(&request("/", &headers)), Ok(claim("D", None)));
        }
        let headers = [("authorization", HEADER.as_bytes()), ("date", b"D"), ("x-amz-security-token", b"T")];
        assert_eq!(Claim::of(&request("/", &headers)), Ok(claim("D", Some("T"))));
        let uri = "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKID%2Fx&X-Amz-Date=D&X-Amz-Expires=60\
                   &X-Amz-SignedHeaders=host%3bx-amz-date&X-Amz-Signature=abc&X-Amz-Security-Token=a%2Bb%";
        assert_eq!(
            Claim::of(&request(uri, &[])),
            Ok(Claim { expires: Some("60".to_owned()), is_in_query: true, ..claim("D", Some("a+b%")) })
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let refused = |uri: &str, headers: &[(&str, &[u8])]| {
            let error = check_form(&request(uri, headers)).unwrap_err();
            (error.kind, error.message)
        };
        let missing = ("MissingAuthenticationTokenException", "Missing Authentication Token".to_owned());
        assert_eq!(refused("/", &[]), missing);
        assert_eq!(refused("/?x-amz-algorithm=A", &[]), missing);
        assert_eq!(refused("/", &[("authorization", b"")]), missing);
        assert_eq!(refused("/", &[("authorization", b"Basic YTpi")]), missing);
        assert_eq!(
            refused("/?X-Amz-Algorithm", &[("authorization", b"Basic YTpi")]),
            (
                "InvalidSignatureException",
                "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header."
                    .to_owned()
            )
        );
        assert_eq!(
            refused("/", &[("authorization", b" AWS4-HMAC-SHA256 Signature=,Credential\xe9 ")]),
            (
                "IncompleteSignatureException",
                "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. \
                 Authorization header requires 'SignedHeaders' parameter. Authorization header requires existence of either a \
                 'X-Amz-Date' or a 'Date' header. Authorization=AWS4-HMAC-SHA256 Signature=,Credential\u{fffd}"
                    .to_owned()
            )
        );
        let without = HEADER.replace("Signature=abc", "");
        assert_eq!(
            refused("/", &[("authorization", without.as_bytes()), ("date", b"D")]).1,
            format!("Authorization header requires 'Signature' parameter. Authorization={}", without.trim())
        );
        assert_eq!(
            refused("/?X-Amz-Algorithm=&X-Amz-Date=D", &[]),
            (
                "IncompleteSignatureException",
                "AWS query-string parameters must include 'X-Amz-Algorithm'. \
                 AWS query-string parameters must include 'X-Amz-Credential'. \
                 AWS query-string parameters must include 'X-Amz-Signature'. \
                 AWS query-string parameters must include 'X-Amz-SignedHeaders'. Re-examine the query-string parameters."
                    .to_owned()
            )
        );
    }

    #[test]
    fn escapes_are_decoded_once() {
        for (text, expected) in [
            ("a%20b+c", &b"a b+c"[..]),
            ("%e2%82%AC", "€".as_bytes()),
            ("%2541", b"%41"),
            ("%", b"%"),
            ("%4", b"%4"),
            ("%zz%41", b"%zzA"),
            ("%ff", b"\xff"),
        ] {
            assert_eq!(decode(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(
            bytes in prop::collection::vec(prop_oneof![Just(9u8), 32u8..127, 128u8..=255], 0..60),
            similar in "AWS4-[A-Z0-9]{0,3}( |,|=|Credential|SignedHeaders|Signature|[a-z/]){0,12}",
            query in "(X-Amz-|Algorithm|Date|Signature|Credential|[%&=+a-f0-9]){0,20}",
        ) {
            for header in [&bytes[..], similar.as_bytes()] {
                let headers = [("authorization", header), ("date", header), ("x-amz-security-token", header)];
                let _ = check_form(&request(&format!("/?{query}"), &headers));
            }
            let _ = check_form(&request(&format!("/?{query}"), &[]));
        }
    }
}
