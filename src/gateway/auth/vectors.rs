//! Requests as botocore 1.44.8 signs them, for the tests of signatures.

/// A request that is signed at 2026-01-31 23:58:00 UTC for `eu-west-1`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vector {
    pub(super) name: &'static str,
    pub(super) method: &'static str,
    pub(super) uri: &'static str,
    pub(super) headers: &'static [(&'static str, &'static str)],
    pub(super) body: &'static str,
    pub(super) is_tls: bool,
}

/// The access keys that signed them.
pub(super) const KEYS: &str = r#"{"keys": [
    {"access_key_id": "AKIDALICE", "secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "user": "alice"},
    {"access_key_id": "AKIDTOKEN", "secret_access_key": "another/secret+with=signs", "session_token": "IQoJb3JpZ2luX2VjE/A+b==", "user": "bob"}
]}"#;

const POST: Vector = Vector { name: "", method: "POST", uri: "/", headers: &[], body: "", is_tls: false };

pub(super) const VECTORS: &[Vector] = &[
    Vector {
        name: "header form",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-date", "20260131T235800Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=13d8015ff716665005920f221162de2a4902b0f4cc51bce129ff8e2152cc4e7c",
            ),
        ],
        body: "{\"StreamName\":\"clicks\",\"Data\":\"aGVsbG8=\",\"PartitionKey\":\"k\"}",
        ..POST
    },
    Vector {
        name: "session token",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-date", "20260131T235800Z"),
            ("x-amz-security-token", "IQoJb3JpZ2luX2VjE/A+b=="),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDTOKEN/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature=028f4a85c1e50d6722c96b81879cc9bbe07c1f008886dab89ddb80d6adeb6df6",
            ),
        ],
        body: "{\"StreamName\":\"clicks\",\"Data\":\"aGVsbG8=\",\"PartitionKey\":\"k\"}",
        ..POST
    },
    Vector {
        name: "Date instead of X-Amz-Date",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
            ("date", "Sat, 31 Jan 2026 23:58:00 -0000"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;date;host;x-amz-target, Signature=c19446a84469b0a13417c921b31b315c234adee263d8dcb0c5d648649a2581b2",
            ),
        ],
        body: "{\"StreamName\":\"clicks\",\"Data\":\"aGVsbG8=\",\"PartitionKey\":\"k\"}",
        ..POST
    },
    Vector {
        name: "empty body",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-date", "20260131T235800Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=7ee918b24f41b5aa6195b98f07440f8e68d616369061ef39d537a5ada565e1ae",
            ),
        ],
        ..POST
    },
    Vector {
        name: "GET",
        method: "GET",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-date", "20260131T235800Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=host;x-amz-date, Signature=c3c2603bb9f5f5bd4cf5a7a3f991f0728e412fbf7366558b17107fdc1d41b987",
            ),
        ],
        ..POST
    },
    Vector {
        name: "spaces in values",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-note", "  a   b  \"c   d\"  "),
            ("x-amz-empty", ""),
            ("x-amz-date", "20260131T235800Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-empty;x-amz-target;x-note, Signature=8ba7e7dd9d975951b015a30e330c52cd57737772c4806a773b17f371c8bc3e25",
            ),
        ],
        body: "{\"StreamName\":\"clicks\",\"Data\":\"aGVsbG8=\",\"PartitionKey\":\"k\"}",
        ..POST
    },
    Vector {
        name: "values that appear twice",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-note", "b"),
            ("x-other", "o"),
            ("x-note", " a  c "),
            ("x-amz-date", "20260131T235800Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target;x-note;x-other, Signature=6cbddb433947004dcad15bd83e73c6fad8f5c3d66f7234c4c5bfdca0fd01f9e5",
            ),
        ],
        body: "{\"StreamName\":\"clicks\",\"Data\":\"aGVsbG8=\",\"PartitionKey\":\"k\"}",
        ..POST
    },
    Vector {
        name: "other alphabets in a value",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-note", "café €"),
            ("x-amz-date", "20260131T235800Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target;x-note, Signature=a502382aa7343da99ce3985abea37712175fc4af3fe34704bcdc6aa5db210e0e",
            ),
        ],
        body: "{\"StreamName\":\"clicks\",\"Data\":\"aGVsbG8=\",\"PartitionKey\":\"k\"}",
        ..POST
    },
    Vector {
        name: "other alphabets in the path",
        uri: "/caf%C3%A9/a%20b/%E2%82%AC",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-date", "20260131T235800Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=7dd53dc529c49154ed890da4625a339cd917e00dc5e5a57e527842fd8989f776",
            ),
        ],
        body: "{\"StreamName\":\"clicks\",\"Data\":\"aGVsbG8=\",\"PartitionKey\":\"k\"}",
        ..POST
    },
    Vector {
        name: "dots and empty segments in the path",
        uri: "//a/./b/../c//d%2Fe/",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-date", "20260131T235800Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=ea51f4eb1f1234b7f5bfab0f92f64abb0680a4aa7fd2e1449d5cef3806b3a3be",
            ),
        ],
        body: "{\"StreamName\":\"clicks\",\"Data\":\"aGVsbG8=\",\"PartitionKey\":\"k\"}",
        ..POST
    },
    Vector {
        name: "query",
        uri: "/?b=2&a=1&a=0&caf%C3%A9=%E2%82%AC&x=a%20b&empty=&flag",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-date", "20260131T235800Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=39d1f9b9b79a058e963fe29182835e909dee6a915627823ad42eb0ccee772492",
            ),
        ],
        body: "{\"StreamName\":\"clicks\",\"Data\":\"aGVsbG8=\",\"PartitionKey\":\"k\"}",
        ..POST
    },
    Vector {
        name: "other alphabets in the body",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-date", "20260131T235800Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=a157cee7e4c2a0bbfd161b7338e1ba22e51404ed81bde19efd68ebb9598f0079",
            ),
        ],
        body: "{\"StreamName\":\"clicks\",\"PartitionKey\":\"café €\"}",
        ..POST
    },
    Vector {
        name: "default port",
        headers: &[
            ("host", "kinesis.eu-west-1.amazonaws.com"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-date", "20260131T235800Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=16a2b7f4d8b9f0933fda679567ab3b6d4920acf48650bcd80dd9327999d25422",
            ),
        ],
        body: "{\"StreamName\":\"clicks\",\"Data\":\"aGVsbG8=\",\"PartitionKey\":\"k\"}",
        ..POST
    },
    Vector {
        name: "host in the URI",
        uri: "http://127.0.0.1:4567/",
        headers: &[
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-date", "20260131T235800Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=13d8015ff716665005920f221162de2a4902b0f4cc51bce129ff8e2152cc4e7c",
            ),
        ],
        body: "{\"StreamName\":\"clicks\",\"Data\":\"aGVsbG8=\",\"PartitionKey\":\"k\"}",
        ..POST
    },
    Vector {
        name: "digest of the body in a header",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-content-sha256", "f5d748747280715878b7411d3f8d0d182a0e3fe1ccb78e586593a518401b7d52"),
            ("x-amz-date", "20260131T235800Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-target, Signature=a7280649da26ab3a1370c989e600b7b736f2fb8de59dfd5b246f33f6630d6bf8",
            ),
        ],
        body: "{\"StreamName\":\"clicks\",\"Data\":\"aGVsbG8=\",\"PartitionKey\":\"k\"}",
        ..POST
    },
    Vector {
        name: "unsigned body over TLS",
        headers: &[
            ("host", "localhost:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-date", "20260131T235800Z"),
            ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-target, Signature=91ac635db38c3a2d9ccd7810e07f78e4f37526f468c14a23b9f6db65930ded0e",
            ),
        ],
        body: "{\"StreamName\":\"clicks\",\"Data\":\"aGVsbG8=\",\"PartitionKey\":\"k\"}",
        is_tls: true,
        ..POST
    },
    Vector {
        name: "names in other case",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-date", "20260131T235800Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=13d8015ff716665005920f221162de2a4902b0f4cc51bce129ff8e2152cc4e7c",
            ),
        ],
        body: "{\"StreamName\":\"clicks\",\"Data\":\"aGVsbG8=\",\"PartitionKey\":\"k\"}",
        ..POST
    },
    Vector {
        name: "headers beside the signed ones",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-date", "20260131T235800Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=13d8015ff716665005920f221162de2a4902b0f4cc51bce129ff8e2152cc4e7c",
            ),
            ("user-agent", "Boto3/1.40"),
            ("x-amzn-trace-id", "Root=1"),
            ("expect", "100-continue"),
        ],
        body: "{\"StreamName\":\"clicks\",\"Data\":\"aGVsbG8=\",\"PartitionKey\":\"k\"}",
        ..POST
    },
    Vector {
        name: "long body",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-date", "20260131T235800Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=e9c11544aad0ca5af5962e4b4042d0a99bf1addacc75704ab54e603dca751530",
            ),
        ],
        body: "{\"Data\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}",
        ..POST
    },
    Vector {
        name: "query form",
        uri: "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDALICE%2F20260131%2Feu-west-1%2Fkinesis%2Faws4_request&X-Amz-Date=20260131T235800Z&X-Amz-Expires=60&X-Amz-SignedHeaders=content-type%3Bhost%3Bx-amz-target&X-Amz-Signature=39bc8a8b0d111a33e0a0ee5c0f1c98df454f6be126bf860c5aad687e0a9d02d9",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
        ],
        body: "{\"StreamName\":\"clicks\",\"Data\":\"aGVsbG8=\",\"PartitionKey\":\"k\"}",
        ..POST
    },
    Vector {
        name: "query form with a session token",
        uri: "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDTOKEN%2F20260131%2Feu-west-1%2Fkinesis%2Faws4_request&X-Amz-Date=20260131T235800Z&X-Amz-Expires=60&X-Amz-SignedHeaders=content-type%3Bhost%3Bx-amz-target&X-Amz-Security-Token=IQoJb3JpZ2luX2VjE%2FA%2Bb%3D%3D&X-Amz-Signature=c276f584f3f1f29f3c2555c8a8e08cfbc9848ae3dfe07ed0cce635a72973db35",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
        ],
        body: "{\"StreamName\":\"clicks\",\"Data\":\"aGVsbG8=\",\"PartitionKey\":\"k\"}",
        ..POST
    },
    Vector {
        name: "query form of a GET",
        method: "GET",
        uri: "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDALICE%2F20260131%2Feu-west-1%2Fkinesis%2Faws4_request&X-Amz-Date=20260131T235800Z&X-Amz-Expires=604800&X-Amz-SignedHeaders=host&X-Amz-Signature=8ced9bee3072bf7a1e489c82288dde9a7aee55ac587d24c22d36b469a9eecb16",
        headers: &[("host", "127.0.0.1:4567")],
        ..POST
    },
    Vector {
        name: "query form with a query and a path",
        uri: "/caf%C3%A9?z=%E2%82%AC&A=1&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDALICE%2F20260131%2Feu-west-1%2Fkinesis%2Faws4_request&X-Amz-Date=20260131T235800Z&X-Amz-Expires=60&X-Amz-SignedHeaders=content-type%3Bhost%3Bx-amz-target&X-Amz-Signature=932061edd96843eceafef85cfcd4b5eb0b02830123b01571729f3e648eed1c98",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
        ],
        ..POST
    },
    Vector {
        name: "query form, host in the URI",
        uri: "https://localhost:4567/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDALICE%2F20260131%2Feu-west-1%2Fkinesis%2Faws4_request&X-Amz-Date=20260131T235800Z&X-Amz-Expires=60&X-Amz-SignedHeaders=content-type%3Bhost%3Bx-amz-target&X-Amz-Signature=87839de15dcef426a62a2d1f12a1948ca19fd256369caf3c3baffd24fb3161f5",
        headers: &[
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
        ],
        body: "{\"StreamName\":\"clicks\",\"Data\":\"aGVsbG8=\",\"PartitionKey\":\"k\"}",
        is_tls: true,
        ..POST
    },
    Vector {
        name: "client: ListStreams",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.ListStreams"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-date", "20260131T235800Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDALICE/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=354bb269752e7d6bb3c2ccff95bf6e9472fea26d4668c1d247bfc56b4f4d40b4",
            ),
            ("amz-sdk-invocation-id", "40eef7b0-87c6-4d2b-b8d4-6998d38c7ba1"),
            ("amz-sdk-request", "attempt=1; max=1"),
            ("content-length", "2"),
            ("user-agent", "Boto3"),
        ],
        body: "{}",
        ..POST
    },
    Vector {
        name: "client: PutRecord with a token",
        headers: &[
            ("host", "127.0.0.1:4567"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-date", "20260131T235800Z"),
            ("x-amz-security-token", "IQoJb3JpZ2luX2VjE/A+b=="),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDTOKEN/20260131/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature=fd5b9268a0461bcb0dc28eaf4e31ecd89634f33d412852f76c5e71f560153d3a",
            ),
            ("amz-sdk-invocation-id", "567fcd98-f4cf-45cf-bb8d-7633df72ec2a"),
            ("amz-sdk-request", "attempt=1; max=1"),
            ("content-length", "73"),
            ("user-agent", "Boto3"),
        ],
        body: "{\"StreamName\": \"clicks\", \"Data\": \"aGVsbG8=\", \"PartitionKey\": \"k\\u00e4se\"}",
        ..POST
    },
];
