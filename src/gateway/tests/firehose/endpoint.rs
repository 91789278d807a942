//! Delivery streams to servers: HTTP endpoints, Splunk and OpenSearch.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc;

use super::*;

/// What a server was sent: its head in lower case, and its body.
type Sent = (String, Vec<u8>);

/// A server that answers each request as a function says: with a status and a body.
struct Server {
    address: SocketAddr,
    sent: Mutex<mpsc::Receiver<Sent>>,
}

impl Server {
    fn new(answer: impl Fn(&Sent) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, sent) = mpsc::channel();
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (answer, sender) = (Arc::clone(&answer), sender.clone());
                thread::spawn(move || {
                    while let Some(request) = read_request(&socket) {
                        let (status, body) = answer(&request);
                        let _ = sender.send(request);
                        let head = format!(
                            "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                            body.len()
                        );
                        if (&socket).write_all([head, body].concat().as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, sent: Mutex::new(sent) }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn next(&self) -> Sent {
        self.sent.lock().unwrap().recv_timeout(Duration::from_secs(30)).unwrap()
    }
}

fn read_request(mut socket: &TcpStream) -> Option<Sent> {
    let mut bytes = vec![];
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let mut more = [0; 65_536];
        let count = socket.read(&mut more).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&more[..count]);
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = bytes.split_off(head_end);
    let have = body.len();
    body.resize(length, 0);
    socket.read_exact(&mut body[have..]).ok()?;
    Some((head, body))
}

/// Accepts a request according to Firehose's protocol.
fn take((head, body): &Sent) -> (u16, String) {
    let body = if head.contains("content-encoding: gzip") { gunzip(body).into_bytes() } else { body.clone() };
    let body: Json = serde_json::from_slice(&body).unwrap();
    (200, json!({"requestId": body["requestId"], "timestamp": 1}).to_string())
}

fn to_endpoint(name: &str, url: &str, more: Json) -> Json {
    let mut destination = json!({
        "EndpointConfiguration": {"Url": url, "Name": "collector", "AccessKey": "hush"},
        "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0},
        "RequestConfiguration": {"CommonAttributes": [{"AttributeName": "team", "AttributeValue": "web"}]},
        "S3Configuration": {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::failed", "ErrorOutputPrefix": "errors/"},
    });
    for (member, value) in more.as_object().unwrap() {
        destination[member] = value.clone();
    }
    json!({"DeliveryStreamName": name, "HttpEndpointDestinationConfiguration": destination})
}

fn allowing(urls: &[(&str, Option<&str>)]) -> Hoses {
    let endpoint = |(url, key): &(&str, Option<&str>)| Endpoint::new(url, key.map(str::to_owned)).unwrap();
    Hoses::with(|setup| setup.firehose.endpoints = urls.iter().map(endpoint).collect())
}

#[test]
fn an_endpoint_gets_each_record_in_firehoses_protocol() {
    let server = Server::new(take);
    let hoses = allowing(&[(&server.url(), None)]);
    let url = format!("{}/records", server.url());
    let backup = json!({"S3BackupMode": "AllData"});
    hoses.ok("CreateDeliveryStream", to_endpoint("clicks", &url, backup));
    hoses.put("clicks", ["a"]);
    let (head, body) = server.next();
    for line in [
        "post /records http/1.1",
        "x-amz-firehose-access-key: hush",
        "x-amz-firehose-protocol-version: 1.0",
        "x-amz-firehose-source-arn: arn:aws:firehose:us-east-1:000000000000:deliverystream/clicks",
        r#"x-amz-firehose-common-attributes: {"commonattributes":{"team":"web"}}"#,
    ] {
        assert!(head.lines().any(|found| found == line), "{line}: {head}");
    }
    let body: Json = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["records"], json!([{"data": base64("a")}]));
    assert_eq!(body["timestamp"], 1_700_000_000_000u64, "the time is that of the gateway's clock");
    assert_eq!(all_bytes(&hoses.delivered("failed", 1)), b"a", "the backup has all data");
    // The key is never shown again.
    let described = hoses.describe("clicks").to_string();
    assert!(!described.contains("hush") && described.contains(&url), "{described}");
    let destination = hoses.destination("clicks", "HttpEndpointDestinationDescription");
    assert_eq!(destination["S3DestinationDescription"]["BucketARN"], "arn:aws:s3:::failed");
    assert_eq!(destination["RetryOptions"]["DurationInSeconds"], 300);
    // An update that does not name the endpoint leaves it its key.
    hoses.ok("UpdateDestination", json!({
        "DeliveryStreamName": "clicks", "CurrentDeliveryStreamVersionId": "1", "DestinationId": "destinationId-000000000001",
        "HttpEndpointDestinationUpdate": {"RequestConfiguration": {"ContentEncoding": "GZIP"}},
    }));
    hoses.running("clicks", 2);
    hoses.put("clicks", ["b"]);
    let (head, _) = std::iter::repeat_with(|| server.next())
        .find(|(head, _)| head.contains("content-encoding: gzip"))
        .unwrap();
    assert!(head.contains("access-key: hush"), "{head}");
}

#[test]
fn l5_what_an_endpoint_never_takes_is_in_the_bucket() {
    let server = Server::new(|_| (413, String::new()));
    let hoses = allowing(&[(&server.url(), None)]);
    hoses.ok("CreateDeliveryStream", to_endpoint("clicks", &server.url(), json!({})));
    hoses.put("clicks", ["a"]);
    until("it is in the bucket", || !hoses.objects("failed").is_empty());
    let objects = hoses.objects("failed");
    let (name, bytes) = objects.first_key_value().unwrap();
    assert!(name.starts_with("errors/http-endpoint-failed/2023/11/14/22/clicks-1-"), "{name}");
    let failed: Json = serde_json::from_slice(bytes).unwrap();
    assert_eq!(failed["rawData"], base64("a"));
    assert!(!failed.to_string().contains("hush"));
}

#[test]
fn l6_requests_go_only_where_the_operator_allows_it() {
    let inside = Server::new(take);
    let outside = Server::new(take);
    let hoses = allowing(&[(&inside.url(), None)]);
    let port = outside.address.port();
    for url in [
        outside.url(),
        format!("http://localhost:{port}/"),
        format!("{}@127.0.0.1:{port}/", inside.url()),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        inside.url().replace("http:", "https:"),
    ] {
        let text = hoses.refused(
            "CreateDeliveryStream",
            to_endpoint("clicks", &url, json!({})),
            "InvalidArgumentException",
        );
        assert!(text.contains("may not send records"), "{text}");
    }
    hoses.refused(
        "CreateDeliveryStream",
        to_endpoint("clicks", "ftp://127.0.0.1/", json!({})),
        "ValidationException",
    );
    hoses.ok("CreateDeliveryStream", to_endpoint("clicks", &inside.url(), json!({})));
    let update = json!({
        "DeliveryStreamName": "clicks", "CurrentDeliveryStreamVersionId": "1", "DestinationId": "destinationId-000000000001",
        "HttpEndpointDestinationUpdate": {"EndpointConfiguration": {"Url": outside.url()}},
    });
    hoses.refused("UpdateDestination", update, "InvalidArgumentException");
    hoses.put("clicks", ["a"]);
    inside.next();
    assert!(outside.sent.lock().unwrap().try_recv().is_err());
}

#[test]
fn l6_a_redirect_leads_nowhere() {
    let outside = Server::new(take);
    let target = outside.url();
    let inside = Server::new(move |_| (307, format!("{{\"Location\": \"{target}\"}}")));
    let hoses = allowing(&[(&inside.url(), None)]);
    hoses.ok(
        "CreateDeliveryStream",
        to_endpoint("clicks", &inside.url(), json!({"RetryOptions": {"DurationInSeconds": 0}})),
    );
    hoses.put("clicks", ["a"]);
    until("it was given up", || !hoses.objects("failed").is_empty());
    assert!(outside.sent.lock().unwrap().try_recv().is_err());
}

#[test]
fn l4_l5_a_server_that_is_away_costs_only_its_own_delivery_stream() {
    const PART: usize = 2 << 20;
    // Nobody listens there.
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{away}");
    let endpoint = Endpoint::new(&url, None).unwrap();
    let hoses = Hoses::with(|setup| {
        setup.firehose.endpoints = vec![endpoint];
        (setup.firehose.streams_max, setup.firehose.memory_bytes_max) = (2, 2 * PART);
    });
    let patient = json!({"RetryOptions": {"DurationInSeconds": 7_200}, "BufferingHints": {"SizeInMBs": 64, "IntervalInSeconds": 900}});
    hoses.ok("CreateDeliveryStream", to_endpoint("away", &url, patient));
    hoses.create("well", json!({}));
    let record = vec![b'x'; 100_000];
    for _ in 0..10 {
        hoses.put("away", vec![&record; 10]);
        hoses.put("well", vec![&record; 10]);
    }
    hoses.delivered("archive", 100 * record.len());
    let buffered = || {
        let stats = hoses.world.front().service.firehose.get("away").unwrap().stats().unwrap();
        (stats.buffered_bytes as usize, stats.errors)
    };
    until("its part is full, and it was tried", || buffered().0 >= PART && buffered().1 > 0);
    let (bytes, _) = buffered();
    // One batch of up to 1 MiB may come on top.
    assert!(bytes <= PART + (2 << 20), "{bytes} bytes are buffered");
    // It can be deleted nevertheless.
    hoses.ok("DeleteDeliveryStream", json!({"DeliveryStreamName": "away"}));
    until("it is gone", || {
        hoses.call("DescribeDeliveryStream", &json!({"DeliveryStreamName": "away"})).status == 400
    });
}

#[test]
fn splunk_gets_events() {
    let server = Server::new(|_| (200, json!({"text": "Success", "code": 0}).to_string()));
    let hoses = allowing(&[(&server.url(), None)]);
    let request = |url: &str| {
        json!({"DeliveryStreamName": "events", "SplunkDestinationConfiguration": {
            "HECEndpoint": url, "HECEndpointType": "Event", "HECToken": "hush",
            "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0},
            "S3Configuration": {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::failed"}}})
    };
    hoses.refused("CreateDeliveryStream", request("https://splunk.example.com"), "InvalidArgumentException");
    hoses.ok("CreateDeliveryStream", request(&server.url()));
    hoses.put("events", [r#"{"page":"/cart"}"#]);
    let (head, body) = server.next();
    assert!(
        head.starts_with("post /services/collector") && head.contains("authorization: splunk hush"),
        "{head}"
    );
    assert!(String::from_utf8_lossy(&body).contains("/cart"));
    assert!(!hoses.describe("events").to_string().contains("hush"));
}

#[test]
fn opensearch_gets_documents_with_the_authorization_of_the_operator() {
    let server = Server::new(|(_, body)| {
        let count = body.iter().filter(|byte| **byte == b'\n').count() / 2;
        let items: Vec<_> = (0..count).map(|_| json!({"index": {"status": 201}})).collect();
        (200, json!({"errors": false, "items": items}).to_string())
    });
    let hoses = allowing(&[(&server.url(), Some("ApiKey hush"))]);
    let request = |change: Json| {
        let mut destination = json!({
            "RoleARN": ROLE, "ClusterEndpoint": server.url(), "IndexName": "clicks", "IndexRotationPeriod": "NoRotation",
            "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0},
            "S3Configuration": {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::failed"}});
        for (member, value) in change.as_object().unwrap() {
            destination[member] = value.clone();
        }
        json!({"DeliveryStreamName": "search", "AmazonopensearchserviceDestinationConfiguration": destination})
    };
    for (change, expected) in [
        (json!({"IndexRotationPeriod": "OneDay"}), "NoRotation"),
        (json!({"IndexRotationPeriod": null}), "NoRotation"),
        (json!({"TypeName": "click"}), "no types"),
        (json!({"DocumentIdOptions": {"DefaultDocumentIdFormat": "NO_DOCUMENT_ID"}}), "have ids"),
        (json!({"VpcConfiguration": {}}), "no VPC"),
        (json!({"DomainARN": "arn:aws:es:us-east-1:000000000000:domain/clicks"}), "Give the ClusterEndpoint"),
        (json!({"ClusterEndpoint": null}), "Give the ClusterEndpoint"),
        (json!({"ClusterEndpoint": "https://other.example.com"}), "may not send records"),
        (json!({"IndexName": "_all"}), "no index is called"),
    ] {
        let text = hoses.refused("CreateDeliveryStream", request(change), "InvalidArgumentException");
        assert!(text.contains(expected), "{text}");
    }
    hoses.ok("CreateDeliveryStream", request(json!({})));
    hoses.put("search", [r#"{"page":"/cart"}"#]);
    let (head, body) = server.next();
    assert!(head.starts_with("post /clicks/_bulk") && head.contains("authorization: apikey hush"), "{head}");
    assert!(String::from_utf8_lossy(&body).contains(r#"{"page":"/cart"}"#));
}
