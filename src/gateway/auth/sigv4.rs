//! Version 4 of AWS' signatures, as the server checks them.

use std::sync::Arc;
use std::time::Duration;

use ring::hmac;

use super::AuthError;
use super::canonical;
use super::claim::Claim;
use super::credentials::{Credentials, Identity};
use super::dates;
use crate::gateway::http::Request;
use crate::{MINUTE, Timestamp};

/// How far the clocks of client and server may be apart.
const SKEW_MAX: Duration = Duration::from_secs(5 * 60);

/// The longest validity of a signature in a query: a week.
const EXPIRES_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";

/// Checks a request's signature at a time, for a region and a service, and returns its user.
///
/// The checks are in AWS' order: form, date, signed headers, algorithm, scope, access key, signature, session token.
pub(in crate::gateway) fn authenticate(
    request: &Request,
    credentials: &Credentials,
    now: Timestamp,
    region: &str,
    service: &str,
) -> Result<Arc<Identity>, AuthError> {
    let claim = Claim::of(request)?;
    let signed_at = parse_date(&claim)?;
    check_age(&claim, signed_at, now)?;
    check_signed_headers(&claim, request)?;
    if claim.algorithm != ALGORITHM {
        return Err(AuthError::incomplete(format!(
            "Unsupported AWS 'algorithm': '{}' (only {ALGORITHM} for now). ",
            claim.algorithm
        )));
    }
    let signed_at = dates::basic(signed_at);
    let (access_key_id, date) = check_scope(&claim, &signed_at, region, service)?;
    let unrecognized = || {
        AuthError::new(
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        )
    };
    let key = credentials.get(access_key_id).ok_or_else(unrecognized)?;
    let is_right = canonical::digest_of(request, &claim).zip(parse_signature(&claim.signature)).is_some_and(
        |(digest, signature)| {
            let scope = format!("{date}/{region}/{service}/{TERMINATOR}");
            let to_sign = format!("{ALGORITHM}\n{signed_at}\n{scope}\n{digest}");
            // It compares in constant time.
            hmac::verify(&key.signing_key(date, region, service), to_sign.as_bytes(), &signature).is_ok()
        },
    );
    if !is_right {
        return Err(AuthError::invalid(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key \
             and signing method. Consult the service documentation for details.",
        ));
    }
    if !key.is_token(claim.token.as_deref()) {
        return Err(unrecognized());
    }
    Ok(key.identity.clone())
}

fn parse_date(claim: &Claim) -> Result<Timestamp, AuthError> {
    let date = dates::parse_basic(&claim.date);
    let date = date.or_else(|| dates::parse_http(&claim.date).filter(|_| !claim.is_in_query));
    date.ok_or_else(|| {
        AuthError::incomplete(format!(
            "Date must be in ISO-8601 'basic format'. Got '{}'. See http://en.wikipedia.org/wiki/ISO_8601",
            claim.date
        ))
    })
}

fn check_age(claim: &Claim, signed_at: Timestamp, now: Timestamp) -> Result<(), AuthError> {
    let life = match &claim.expires {
        None => SKEW_MAX,
        Some(expires) => match expires.parse() {
            Ok(seconds @ 1..=EXPIRES_SECONDS_MAX) => Duration::from_secs(seconds),
            _ => {
                return Err(AuthError::incomplete(format!(
                    "X-Amz-Expires must be a number of seconds from 1 to {EXPIRES_SECONDS_MAX}. Got '{expires}'."
                )));
            }
        },
    };
    // Signatures use whole seconds.
    let now = Timestamp::from_millis(now.as_millis() / 1_000 * 1_000);
    let (earliest, latest) = (now - life, now + SKEW_MAX);
    let basic = dates::basic;
    let words = |duration: Duration| match duration.as_secs() {
        seconds if seconds % MINUTE.as_secs() == 0 => format!("{} min.", seconds / MINUTE.as_secs()),
        seconds => format!("{seconds} sec."),
    };
    if signed_at < earliest {
        return Err(AuthError::invalid(format!(
            "Signature expired: {} is now earlier than {} ({} - {})",
            basic(signed_at),
            basic(earliest),
            basic(now),
            words(life)
        )));
    }
    if signed_at > latest {
        return Err(AuthError::invalid(format!(
            "Signature not yet current: {} is still later than {} ({} + {})",
            basic(signed_at),
            basic(latest),
            basic(now),
            words(SKEW_MAX)
        )));
    }
    Ok(())
}

/// The host must be signed, so that a request is valid for one server only, and so must the header that names the operation, if present.
fn check_signed_headers(claim: &Claim, request: &Request) -> Result<(), AuthError> {
    let is_signed =
        |name: &str| claim.signed_headers.split(';').any(|signed| signed.eq_ignore_ascii_case(name));
    if !is_signed("host") {
        return Err(AuthError::invalid(
            "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
        ));
    }
    if request.headers.contains_key("x-amz-target") && !is_signed("x-amz-target") {
        return Err(AuthError::invalid("'X-Amz-Target' must be a 'SignedHeader' in the AWS Authorization."));
    }
    Ok(())
}

/// Checks the scope of the signature, and returns the access key's id and the date.
fn check_scope<'a>(
    claim: &'a Claim,
    signed_at: &str,
    region: &str,
    service: &str,
) -> Result<(&'a str, &'a str), AuthError> {
    let parts: Vec<_> = claim.credential.trim_end_matches('/').splitn(6, '/').collect();
    let [id, date, scope_region, scope_service, terminator] = parts[..] else {
        return Err(AuthError::incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{}'",
            claim.credential
        )));
    };
    let mut message = String::new();
    if scope_region != region {
        message += &format!("Credential should be scoped to a valid region, not '{scope_region}'. ");
    }
    if scope_service != service {
        message += &format!("Credential should be scoped to correct service: '{service}'. ");
    }
    if terminator != TERMINATOR {
        message += &format!(
            "Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{terminator}'. "
        );
    }
    let day = &signed_at[..8];
    if date != day {
        message += &format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
             '{date}' != '{day}', from '{signed_at}'. "
        );
    }
    if message.is_empty() { Ok((id, date)) } else { Err(AuthError::invalid(message)) }
}

/// Parses 64 hexadecimal digits.
fn parse_signature(text: &str) -> Option<[u8; 32]> {
    let digits = <&[u8; 64]>::try_from(text.as_bytes()).ok()?;
    let mut signature = [0; 32];
    for (byte, digits) in signature.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        *byte = digit(digits[0])? << 4 | digit(digits[1])?;
    }
    Some(signature)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::header::{HeaderMap, HeaderName, HeaderValue};
    use hyper::{Method, Uri};
    use proptest::prelude::*;

    use super::super::claim::header;
    use super::super::vectors::{KEYS, VECTORS, Vector};
    use super::*;

    const REGION: &str = "eu-west-1";
    const SERVICE: &str = "kinesis";
    const MISMATCH: (&str, &str) = (
        "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and \
         signing method. Consult the service documentation for details.",
    );
    const UNRECOGNIZED: (&str, &str) =
        ("UnrecognizedClientException", "The security token included in the request is invalid.");

    fn credentials() -> Credentials {
        Credentials::parse(KEYS, "123456789012").unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn now() -> Timestamp {
        at("2026-01-31T23:58:30.7Z")
    }

    fn request(vector: &Vector) -> Request {
        let mut headers = HeaderMap::new();
        for (name, value) in vector.headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        Request {
            method: Method::from_bytes(vector.method.as_bytes()).unwrap(),
            uri: vector.uri.parse::<Uri>().unwrap(),
            headers,
            body: Bytes::from_static(vector.body.as_bytes()),
            peer: ([127, 0, 0, 1], 1).into(),
            is_tls: vector.is_tls,
        }
    }

    fn vector(name: &str) -> Request {
        request(VECTORS.iter().find(|vector| vector.name == name).unwrap())
    }

    fn set(request: &mut Request, name: &'static str, value: &str) {
        request.headers.insert(name, HeaderValue::from_str(value).unwrap());
    }

    /// Replaces a part of a request's `Authorization`.
    fn replace(request: &mut Request, from: &str, to: &str) {
        let authorization = header(request, "authorization").unwrap().into_owned();
        assert!(authorization.contains(from), "{authorization}");
        set(request, "authorization", &authorization.replacen(from, to, 1));
    }

    #[track_caller]
    fn refused(request: &Request, (kind, message): (&str, &str)) {
        refused_at(request, now(), (kind, message));
    }

    #[track_caller]
    fn refused_at(request: &Request, now: Timestamp, (kind, message): (&str, &str)) {
        let error = authenticate(request, &credentials(), now, REGION, SERVICE).unwrap_err();
        assert_eq!((error.kind, &*error.message), (kind, message));
    }

    #[test]
    fn what_botocore_signs_is_taken() {
        let credentials = credentials();
        for vector in VECTORS {
            let identity = authenticate(&request(vector), &credentials, now(), REGION, SERVICE)
                .unwrap_or_else(|error| panic!("{}: {error:?}", vector.name));
            let has_token = vector.name.contains("token");
            assert_eq!(identity.user, if has_token { "bob" } else { "alice" }, "{}", vector.name);
        }
    }

    /// A signed request is refused after any change.
    #[test]
    fn each_signed_byte_counts() {
        let credentials = credentials();
        for vector in VECTORS {
            let is_refused =
                |request: &Request| authenticate(request, &credentials, now(), REGION, SERVICE).is_err();
            let signed: Vec<_> =
                Claim::of(&request(vector)).unwrap().signed_headers.split(';').map(str::to_owned).collect();
            for name in signed.iter().filter(|name| vector.headers.iter().any(|(header, _)| header == name)) {
                let mut changed = request(vector);
                let values: Vec<_> = changed.headers.get_all(name).iter().cloned().collect();
                for at in 0..values.len() {
                    let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                    changed.headers.remove(&name);
                    for (number, value) in values.iter().enumerate() {
                        let value = if number == at {
                            [value.as_bytes(), b"x"].concat()
                        } else {
                            value.as_bytes().to_vec()
                        };
                        changed.headers.append(&name, HeaderValue::from_bytes(&value).unwrap());
                    }
                    assert!(is_refused(&changed), "{}: {name}", vector.name);
                }
            }
            let mut changed = request(vector);
            changed.method = Method::PUT;
            assert!(is_refused(&changed), "{}: method", vector.name);
            let is_unsigned = vector.name.contains("unsigned body");
            for at in 0..vector.body.len() {
                let mut body = vector.body.as_bytes().to_vec();
                body[at] ^= 1;
                let changed = Request { body: body.into(), ..request(vector) };
                assert_eq!(is_refused(&changed), !is_unsigned, "{}: body", vector.name);
            }
            let longer = Request { body: [vector.body.as_bytes(), b" "].concat().into(), ..request(vector) };
            assert_eq!(is_refused(&longer), !is_unsigned, "{}: body", vector.name);
            // Each letter and digit of the path and the query; other characters may have several equivalent forms.
            let start = if vector.uri.starts_with("http") {
                vector.uri.find("/?").unwrap_or(vector.uri.len())
            } else {
                0
            };
            for (at, byte) in vector.uri.bytes().enumerate().skip(start) {
                let is_escape =
                    vector.uri[..at].ends_with('%') || at > 0 && vector.uri[..at - 1].ends_with('%');
                let is_dropped = vector.uri[at + 1..].starts_with("/..");
                if byte.is_ascii_alphanumeric() && !is_escape && !is_dropped {
                    let other = if byte == b'q' { "j" } else { "q" };
                    let uri = format!("{}{other}{}", &vector.uri[..at], &vector.uri[at + 1..]);
                    let changed = Request { uri: uri.parse().unwrap(), ..request(vector) };
                    assert!(is_refused(&changed), "{}: {uri}", vector.name);
                }
            }
            let added = format!("{}{}more=1", vector.uri, if vector.uri.contains('?') { '&' } else { '?' });
            let changed = Request { uri: added.parse().unwrap(), ..request(vector) };
            assert!(is_refused(&changed), "{}: {added}", vector.name);
        }
    }

    #[test]
    fn what_means_the_same_has_the_same_signature() {
        let credentials = credentials();
        let mut same = vector("spaces in values");
        set(&mut same, "x-note", "a b \"c d\"");
        authenticate(&same, &credentials, now(), REGION, SERVICE).unwrap();
        let mut same = vector("query");
        same.uri = "//./?flag=&x=a%20b&a=0&a=1&b=2&caf%c3%a9=%E2%82%AC&empty".parse().unwrap();
        authenticate(&same, &credentials, now(), REGION, SERVICE).unwrap();
        let mut same = vector("header form");
        replace(&mut same, "aws4_request,", "aws4_request//,");
        authenticate(&same, &credentials, now(), REGION, SERVICE).unwrap();
        let mut same = vector("header form");
        set(&mut same, "x-amz-security-token", "");
        authenticate(&same, &credentials, now(), REGION, SERVICE).unwrap();
    }

    #[test]
    fn a_changed_request_is_told_that_the_signature_does_not_match() {
        let mut changed = vector("header form");
        changed.body = Bytes::from_static(b"{}");
        refused(&changed, MISMATCH);
        let mut changed = vector("header form");
        set(&mut changed, "x-amz-target", "Kinesis_20131202.DeleteStream");
        refused(&changed, MISMATCH);
        let mut changed = vector("header form");
        set(&mut changed, "host", "127.0.0.1:4568");
        refused(&changed, MISMATCH);
        // A signature is not valid at another time of the day either.
        let mut changed = vector("header form");
        set(&mut changed, "x-amz-date", "20260131T235801Z");
        refused(&changed, MISMATCH);
        let mut changed = vector("header form");
        changed.headers.remove("content-type");
        refused(&changed, MISMATCH);
        for (from, to) in [
            ("=13d8", "=03d8"),
            ("=13d8", "=13D8"),
            ("=13d8", "="),
            ("=13d8", "=13d8 "),
            ("=13d8", "=é3d8"),
            ("AKIDALICE", "AKIDTOKEN"),
            ("content-type;host;", "host;content-type;"),
            ("content-type;host;", "content-type;content-type;host;"),
            ("content-type;host;", "Content-Type;host;"),
            ("content-type;host;", ";content-type;host;"),
            ("content-type;host;", "host;"),
            ("x-amz-target,", "x-amz-target;x-none,"),
        ] {
            let mut changed = vector("header form");
            let authorization = header(&changed, "authorization").unwrap().replacen(from, to, 1);
            changed
                .headers
                .insert("authorization", HeaderValue::from_bytes(authorization.as_bytes()).unwrap());
            refused(&changed, MISMATCH);
        }
        // No host at all.
        let mut changed = vector("host in the URI");
        changed.uri = "/".parse().unwrap();
        refused(&changed, MISMATCH);
        let mut changed = vector("query form");
        changed.uri =
            changed.uri.to_string().replace("X-Amz-Expires=60", "X-Amz-Expires=6000").parse().unwrap();
        refused(&changed, MISMATCH);
        changed.uri = changed.uri.to_string().replace("X-Amz-Expires=6000", "").parse().unwrap();
        refused(&changed, MISMATCH);
    }

    #[test]
    fn a_stated_digest_must_be_that_of_the_body() {
        let name = "digest of the body in a header";
        let mut changed = vector(name);
        changed.body = Bytes::from_static(b"{}");
        refused(&changed, MISMATCH);
        // Without the header the digest is the same, but a signed header is missing.
        let mut changed = vector(name);
        changed.headers.remove("x-amz-content-sha256");
        refused(&changed, MISMATCH);
        let mut plain = vector("unsigned body over TLS");
        plain.is_tls = false;
        refused(&plain, MISMATCH);
        let mut changed = vector("header form");
        set(&mut changed, "x-amz-content-sha256", "UNSIGNED-PAYLOAD");
        changed.is_tls = true;
        refused(&changed, MISMATCH);
        set(&mut changed, "x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
        refused(&changed, MISMATCH);
    }

    #[test]
    fn keys_and_tokens_that_are_not_known_are_refused() {
        let mut unknown = vector("header form");
        replace(&mut unknown, "AKIDALICE", "AKIDMALLORY");
        refused(&unknown, UNRECOGNIZED);
        // The token is not among the signed headers of these, so the signature matches.
        let mut spare = vector("header form");
        set(&mut spare, "x-amz-security-token", "IQoJb3JpZ2luX2VjE/A+b==");
        refused(&spare, UNRECOGNIZED);
        let keys = KEYS.replace("IQoJb3JpZ2luX2VjE/A+b==", "another");
        let renewed = Credentials::parse(&keys, "123456789012").unwrap();
        for name in ["session token", "query form with a session token", "client: PutRecord with a token"] {
            let error = authenticate(&vector(name), &renewed, now(), REGION, SERVICE).unwrap_err();
            assert_eq!((error.kind, &*error.message), UNRECOGNIZED, "{name}");
        }
        let keys = KEYS.replace("\"AKIDALICE\",", "\"AKIDALICE\", \"session_token\": \"t\",");
        let guarded = Credentials::parse(&keys, "123456789012").unwrap();
        let error = authenticate(&vector("header form"), &guarded, now(), REGION, SERVICE).unwrap_err();
        assert_eq!((error.kind, &*error.message), UNRECOGNIZED);
        let keys = KEYS.replace("wJalr", "xJalr");
        let other = Credentials::parse(&keys, "123456789012").unwrap();
        let error = authenticate(&vector("header form"), &other, now(), REGION, SERVICE).unwrap_err();
        assert_eq!((error.kind, &*error.message), MISMATCH);
    }

    #[test]
    fn the_clocks_may_be_five_minutes_apart() {
        let credentials = credentials();
        let header = vector("header form");
        for time in ["2026-01-31T23:53:00Z", "2026-02-01T00:03:00Z", "2026-02-01T00:03:00.999Z"] {
            authenticate(&header, &credentials, at(time), REGION, SERVICE).unwrap();
        }
        refused_at(
            &header,
            at("2026-02-01T00:03:01Z"),
            (
                "InvalidSignatureException",
                "Signature expired: 20260131T235800Z is now earlier than 20260131T235801Z (20260201T000301Z - 5 min.)",
            ),
        );
        refused_at(
            &header,
            at("2026-01-31T23:52:59.999Z"),
            (
                "InvalidSignatureException",
                "Signature not yet current: 20260131T235800Z is still later than 20260131T235759Z (20260131T235259Z + 5 min.)",
            ),
        );
        let query = vector("query form");
        authenticate(&query, &credentials, at("2026-01-31T23:59:00Z"), REGION, SERVICE).unwrap();
        refused_at(
            &query,
            at("2026-01-31T23:59:01Z"),
            (
                "InvalidSignatureException",
                "Signature expired: 20260131T235800Z is now earlier than 20260131T235801Z (20260131T235901Z - 1 min.)",
            ),
        );
        let week = vector("query form of a GET");
        authenticate(&week, &credentials, at("2026-02-07T23:58:00Z"), REGION, SERVICE).unwrap();
        let error =
            authenticate(&week, &credentials, at("2026-02-07T23:58:01Z"), REGION, SERVICE).unwrap_err();
        assert!(error.message.starts_with("Signature expired"), "{error:?}");
        let error =
            authenticate(&week, &credentials, at("2026-01-31T23:52:59Z"), REGION, SERVICE).unwrap_err();
        assert!(error.message.starts_with("Signature not yet current"), "{error:?}");
    }

    #[test]
    fn pieces_that_are_not_well_formed_are_named() {
        let mut wrong = vector("header form");
        set(&mut wrong, "x-amz-date", "201");
        refused(
            &wrong,
            (
                "IncompleteSignatureException",
                "Date must be in ISO-8601 'basic format'. Got '201'. See http://en.wikipedia.org/wiki/ISO_8601",
            ),
        );
        let mut wrong = vector("header form");
        replace(&mut wrong, "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1");
        refused(
            &wrong,
            (
                "IncompleteSignatureException",
                "Unsupported AWS 'algorithm': 'AWS4-HMAC-SHA1' (only AWS4-HMAC-SHA256 for now). ",
            ),
        );
        for (credential, shown) in [("a/b/c/d", "a/b/c/d"), ("a/b/c/d/e/f", "a/b/c/d/e/f"), ("/", "/")] {
            let mut wrong = vector("header form");
            replace(&mut wrong, "AKIDALICE/20260131/eu-west-1/kinesis/aws4_request", credential);
            let message = format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{shown}'"
            );
            refused(&wrong, ("IncompleteSignatureException", &message));
        }
        for expires in ["0", "604801", "-1", "1m", ""] {
            let uri = vector("query form").uri.to_string();
            let uri = uri.replace("X-Amz-Expires=60", &format!("X-Amz-Expires={expires}")).parse().unwrap();
            let wrong = Request { uri, ..vector("query form") };
            let message =
                format!("X-Amz-Expires must be a number of seconds from 1 to 604800. Got '{expires}'.");
            refused(&wrong, ("IncompleteSignatureException", &message));
        }
        let uri = vector("query form").uri.to_string().replace("Date=20260131T235800Z", "Date=Sat");
        let wrong = Request { uri: uri.parse().unwrap(), ..vector("query form") };
        let error = authenticate(&wrong, &credentials(), now(), REGION, SERVICE).unwrap_err();
        assert!(error.message.contains("Got 'Sat'"), "{error:?}");
    }

    #[test]
    fn the_scope_must_be_that_of_the_gateway() {
        let scoped = |from: &str, to: &str| {
            let mut request = vector("header form");
            replace(&mut request, from, to);
            request
        };
        let region = "Credential should be scoped to a valid region, not 'us-east-1'. ";
        refused(&scoped("eu-west-1", "us-east-1"), ("InvalidSignatureException", region));
        let service = "Credential should be scoped to correct service: 'kinesis'. ";
        refused(&scoped("/kinesis/", "/firehose/"), ("InvalidSignatureException", service));
        let terminator =
            "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'. ";
        refused(&scoped("aws4_request", "aws5_request"), ("InvalidSignatureException", terminator));
        let date = "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
                    '20260130' != '20260131', from '20260131T235800Z'. ";
        refused(&scoped("/20260131/", "/20260130/"), ("InvalidSignatureException", date));
        let all = scoped("20260131/eu-west-1/kinesis/aws4_request", "20260130/us-east-1/s3/aws5_request");
        refused(&all, ("InvalidSignatureException", &[region, service, terminator, date].concat()));
        let error =
            authenticate(&vector("header form"), &credentials(), now(), "us-east-1", SERVICE).unwrap_err();
        assert_eq!(error.message, "Credential should be scoped to a valid region, not 'eu-west-1'. ");
    }

    #[test]
    fn the_host_and_the_operation_must_be_signed() {
        let mut changed = vector("header form");
        replace(&mut changed, "content-type;host;", "content-type;");
        let host = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.";
        refused(&changed, ("InvalidSignatureException", host));
        let mut changed = vector("GET");
        set(&mut changed, "x-amz-target", "Kinesis_20131202.DeleteStream");
        let target = "'X-Amz-Target' must be a 'SignedHeader' in the AWS Authorization.";
        refused(&changed, ("InvalidSignatureException", target));
    }

    #[test]
    fn a_request_without_a_signature_is_refused_as_its_form_says() {
        let mut bare = vector("header form");
        bare.headers.remove("authorization");
        refused(&bare, ("MissingAuthenticationTokenException", "Missing Authentication Token"));
        let mut both = vector("query form");
        set(&mut both, "authorization", "AWS4-HMAC-SHA256");
        let error = authenticate(&both, &credentials(), now(), REGION, SERVICE).unwrap_err();
        assert!(error.message.starts_with("Found both"), "{error:?}");
    }

    proptest! {
        /// A request that differs from a good one is refused or has the same canonical form, and never makes anything panic.
        #[test]
        fn no_request_makes_the_check_panic(
            number in 0..VECTORS.len(),
            authorization in "AWS4-HMAC-SHA256 (Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request|SignedHeaders=host(;[a-z-]{0,9}){0,3}|Signature=[0-9a-fé]{0,64}|[,= ]){0,8}",
            query in "([a-zA-Z%&=+/0-9]|X-Amz-Signature|X-Amz-Algorithm){0,30}",
            path in "[a-zA-Z%./0-9]{0,20}",
            millis in any::<u64>(),
        ) {
            let mut changed = request(&VECTORS[number]);
            let credentials = credentials();
            changed.headers.insert("authorization", HeaderValue::from_bytes(authorization.as_bytes()).unwrap());
            prop_assert!(authenticate(&changed, &credentials, now(), REGION, SERVICE).is_err());
            changed.uri = format!("/{path}?{query}").parse().unwrap();
            prop_assert!(authenticate(&changed, &credentials, now(), REGION, SERVICE).is_err());
            let _ = authenticate(&request(&VECTORS[number]), &credentials, Timestamp::from_millis(millis), REGION, SERVICE);
        }
    }
}
