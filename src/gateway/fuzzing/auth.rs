//! Signatures and policies from arbitrary bytes.

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};

use crate::Timestamp;
use crate::gateway::auth::{
    Ask, Credentials, Decision, Denial, Policy, authenticate, authorize, check_form, denial_message,
};
use crate::gateway::http::Request;

const ACCOUNT: &str = "123456789012";
const REGION: &str = "eu-west-1";
/// When the seeds are signed: 2026-01-31 23:58:00 UTC.
const SIGNED_AT: Timestamp = Timestamp::from_millis(1_769_903_880_000);
const KEYS: &str = r#"{"keys": [
    {"access_key_id": "AKIDALICE", "secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "user": "alice"},
    {"access_key_id": "AKIDTOKEN", "secret_access_key": "another/secret+with=signs", "session_token": "IQoJb3JpZ2luX2VjE/A+b==", "user": "bob"}
]}"#;

/// Reads a request in the form of HTTP/1.1, except for the version, with bare line feeds, and checks its signature. No fuzzer guesses one, so a
/// request that is taken is that of a seed: its body is signed, and counts.
pub fn signature(bytes: &[u8]) {
    let Some(request) = parse_request(bytes) else { return };
    let credentials = Credentials::parse(KEYS, ACCOUNT).expect("the keys are good");
    let form = check_form(&request);
    let outcome = authenticate(&request, &credentials, SIGNED_AT, REGION, "kinesis");
    match &outcome {
        Ok(identity) => assert!(form.is_ok() && ["alice", "bob"].contains(&&*identity.user)),
        Err(error) => assert!(form.is_ok() || form.as_ref() == Err(error)),
    }
    if outcome.is_ok() {
        let body = [&request.body[..], b"more"].concat().into();
        assert!(
            authenticate(&Request { body, ..request }, &credentials, SIGNED_AT, REGION, "kinesis").is_err()
        );
    }
}

fn parse_request(bytes: &[u8]) -> Option<Request> {
    let head_end = bytes.windows(2).position(|two| two == b"\n\n")?;
    let body = Bytes::copy_from_slice(&bytes[head_end + 2..]);
    let mut lines = bytes[..head_end].split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let space = first.iter().position(|byte| *byte == b' ')?;
    let method = Method::from_bytes(&first[..space]).ok()?;
    let uri = Uri::try_from(&first[space + 1..]).ok()?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        headers.append(HeaderName::from_bytes(&line[..colon]).ok()?, value);
    }
    Some(Request { method, uri, headers, body, peer: ([127, 0, 0, 1], 1).into(), is_tls: false })
}

/// Reads a text as the policy of a stream, as that of a user, and as a file of keys, and decides by them. Whatever else they say, a denial of
/// everything is a denial.
pub fn policy(text: &str, resource: &str, user_agent: &str) {
    let of_stream = Policy::of_resource(text);
    let _ = Credentials::parse(text, ACCOUNT);
    let ask = Ask {
        action: "kinesis:AddTagsToStream",
        resource,
        region: REGION,
        now: SIGNED_AT,
        source: [203, 0, 113, 7].into(),
        is_tls: true,
        user_agent: Some(user_agent),
        resource_tags: &[("Team", "web"), ("Owner", "alice")],
        request_tags: &[("Stage", Some("test")), ("Team", None)],
    };
    let denial = r#"{"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}"#;
    for (policies, is_denied) in [("", false), (text, false), (&*format!("{denial}, {text}"), true)] {
        let keys = format!(
            r#"{{"keys": [{{"access_key_id": "AKID", "secret_access_key": "s", "user": "alice", "policies": [{policies}]}}]}}"#
        );
        let Some(identity) =
            Credentials::parse(&keys, ACCOUNT).ok().and_then(|keys| keys.identity_of("AKID"))
        else {
            continue;
        };
        let decision = authorize(&identity, of_stream.as_ref().ok(), &ask);
        assert!(!is_denied || decision == Decision::Deny(Denial::ByIdentityPolicy));
        if let Decision::Deny(denial) = decision {
            let _ = denial_message(&identity, &ask, denial);
        }
    }
}
