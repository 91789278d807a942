//! The order in which a request is judged, and its errors.

use super::*;

fn request(world: &World, change: impl FnOnce(&mut Request)) -> (u16, String, HeaderMap) {
    let mut request = world.signed("ListStreams", "{}");
    change(&mut request);
    let answer = world.answer(&request);
    let Body::Whole(body) = answer.body else { panic!("events") };
    (answer.status.as_u16(), String::from_utf8_lossy(&body).into_owned(), answer.headers)
}

fn remove<'a>(names: &'a [&str]) -> impl FnOnce(&mut Request) + 'a {
    move |request| names.iter().for_each(|name| drop(request.headers.remove(*name)))
}

const NO_OPERATION: &str = "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be authorized</Message>\n\
                            </AccessDeniedException>\n";

#[test]
fn a_request_is_judged_as_kinesis_does_step_by_step() {
    let world = World::new();
    let (status, body, _) = request(&world, |request| request.method = Method::GET);
    assert_eq!((status, &*body), (403, NO_OPERATION));
    // An empty body, in JSON if the request said so.
    let (status, body, _) = request(&world, |request| request.body = Bytes::new());
    assert_eq!((status, &*body), (400, r#"{"__type":"SerializationException"}"#));
    let (status, body, headers) = request(&world, |request| {
        request.body = Bytes::new();
        remove(&["x-amz-target", "content-type"])(request);
    });
    assert_eq!((status, &*body), (400, "\u{fffd}f__typex\u{19}UnknownOperationException"));
    assert_eq!(headers["content-type"], "application/x-amz-cbor-1.1");
    // A content type that nobody knows.
    let (status, body, _) = request(&world, |request| {
        request.headers.insert("content-type", "text/plain".parse().unwrap());
    });
    assert_eq!((status, &*body), (404, "<UnknownOperationException/>\n"));
    let (status, body, _) = request(&world, remove(&["content-type", "x-amz-target"]));
    assert_eq!((status, &*body), (403, NO_OPERATION));
    // A body that is not a structure.
    let (status, body, _) = request(&world, |request| request.body = Bytes::from_static(b"hello"));
    assert_eq!((status, &*body), (400, r#"{"__type":"SerializationException"}"#));
    let json = |request: &mut Request| {
        request.headers.insert("content-type", "application/json".parse().unwrap());
    };
    let (status, body, _) = request(&world, |request| {
        json(request);
        request.body = Bytes::from_static(b"hello");
    });
    let expected =
        r#"{"Output":{"__type":"com.amazon.coral.service#SerializationException"},"Version":"1.0"}"#;
    assert_eq!((status, &*body), (400, expected));
    let (status, body, _) = request(&world, json);
    let expected =
        r#"{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}"#;
    assert_eq!((status, &*body), (404, expected));
    // An operation that nobody knows comes before the signature.
    let (status, body, _) = request(&world, |request| {
        request.headers.insert("x-amz-target", "Kinesis_20131202.Dance".parse().unwrap());
        remove(&["authorization"])(request);
    });
    assert_eq!((status, &*body), (400, r#"{"__type":"UnknownOperationException"}"#));
    let (status, body, _) = request(&world, remove(&["authorization"]));
    let expected =
        r#"{"__type":"MissingAuthenticationTokenException","message":"Missing Authentication Token"}"#;
    assert_eq!((status, &*body), (400, expected));
    // Types come before bounds.
    let got = world.call("CreateStream", json!({"StreamName": "", "ShardCount": []}));
    assert_eq!(got.error(), ("SerializationException", "Start of list found where not expected"));
    let got = world.call("CreateStream", json!({"StreamName": ""}));
    assert_eq!(got.error().0, "ValidationException");
    assert_eq!(world.call("ListStreams", json!({})).status, 200);
}

#[test]
fn answers_have_the_headers_of_kinesis() {
    let world = World::new();
    let (_, _, headers) = request(&world, |_| {});
    assert_eq!(headers["content-type"], "application/x-amz-json-1.1");
    let id = headers["x-amzn-requestid"].to_str().unwrap();
    assert_eq!((id.len(), id.as_bytes()[14]), (36, b'1'), "a UUID of version 1: {id}");
    assert_eq!(headers["x-amz-id-2"].len(), 96);
    assert!(!headers.contains_key("access-control-allow-origin"));
    let (_, _, other) = request(&world, |_| {});
    assert_ne!(other["x-amzn-requestid"], headers["x-amzn-requestid"]);
}

#[test]
fn browsers_may_call() {
    let world = World::new();
    let from_page = |request: &mut Request| {
        request.headers.insert("origin", "http://example.com".parse().unwrap());
    };
    let (status, body, headers) = request(&world, |request| {
        from_page(request);
        request.method = Method::OPTIONS;
        request.headers.insert("access-control-request-headers", "x-amz-target".parse().unwrap());
        request.headers.insert("access-control-request-method", "POST".parse().unwrap());
    });
    assert_eq!((status, &*body), (200, ""));
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert_eq!(headers["access-control-allow-headers"], "x-amz-target");
    assert_eq!(headers["access-control-allow-methods"], "POST");
    assert_eq!(headers["access-control-max-age"], "172800");
    assert!(!headers.contains_key("x-amz-id-2"));
    let (status, _, headers) = request(&world, from_page);
    assert_eq!((status, &headers["access-control-allow-origin"]), (200, &"*".parse().unwrap()));
    assert!(headers["access-control-expose-headers"].to_str().unwrap().starts_with("x-amzn-RequestId"));
}

#[test]
fn whoever_watches_needs_no_key() {
    let world = World::new();
    world.create("clicks", 1);
    world.put("clicks", "a", "hello");
    let page = |path: &'static str| {
        let (status, body, _) = request(&world, |request| {
            request.method = Method::GET;
            request.uri = path.parse().unwrap();
        });
        (status, body)
    };
    assert_eq!(page("/health"), (200, "ok\n".to_owned()));
    let (status, metrics) = page("/metrics");
    assert_eq!(status, 200);
    for line in [
        "gateway_requests_total{operation=\"PutRecord\",status=\"200\",error=\"\"} 1",
        "aws_kinesis_IncomingRecords_total{stream=\"clicks\"} 1",
        "aws_kinesis_shard_IncomingRecords_total{stream=\"clicks\",shard=\"shardId-000000000000\"} 1",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line} in {metrics}");
    }
}

const KEYS: &str = r#"{"keys": [
    {"access_key_id": "AKALL", "secret_access_key": "s", "user": "all",
     "policies": [{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "kinesis:*", "Resource": "*"}}]}]}"#;

#[test]
fn without_a_right_signature_nothing_happens() {
    let world = World::with(Setup { credentials: Some(KEYS.to_owned()), ..Setup::default() });
    let kind = world.call("CreateStream", json!({"StreamName": "clicks", "ShardCount": 1}));
    assert_eq!(kind.error().0, "InvalidSignatureException");
    assert_eq!(world.front().service.catalogue.names().unwrap(), [""; 0]);
}
