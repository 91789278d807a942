//! `video play-url`: requests an HLS session from a gateway.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::{Value, json};
use streamlog::Timestamp;

use super::PlayUrlArgs;
use crate::failure::{Failure, Outcome};
use crate::output::print_text;

/// The longest wait for a connection, and for each part of a response.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Larger than any response.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Prints the URL of a new session.
pub(super) fn play_url(args: &PlayUrlArgs) -> Outcome {
    let Some(address) = args.gateway.trim_end_matches('/').strip_prefix("http://") else {
        return Err(Failure::Told(format!("{}: a gateway is given as http://HOST:PORT", args.gateway)));
    };
    let told = |reason: String| Failure::Told(format!("the gateway at {address}: {reason}"));
    let (is_ok, answer) = ask(address, &request(args)).map_err(|error| told(error.to_string()))?;
    if !is_ok {
        let message = answer["Message"].as_str().or(answer["message"].as_str());
        return Err(told(message.unwrap_or("it refuses, and does not say why").to_owned()));
    }
    match answer["HLSStreamingSessionURL"].as_str() {
        Some(url) => print_text(&format!("{url}\n")),
        None => Err(told("it does not answer with a URL".to_owned())),
    }
}

fn request(args: &PlayUrlArgs) -> Value {
    let seconds = |time: Timestamp| time.as_millis() as f64 / 1e3;
    let mut body = json!({ "StreamName": args.stream, "Expires": args.expires.as_secs() });
    body["PlaybackMode"] = match (args.from, args.to) {
        (None, _) => "LIVE",
        (Some(_), None) => "LIVE_REPLAY",
        (Some(_), Some(_)) => "ON_DEMAND",
    }
    .into();
    if let Some(from) = args.from {
        let mut range = json!({ "StartTimestamp": seconds(from) });
        if let Some(to) = args.to {
            range["EndTimestamp"] = seconds(to).into();
        }
        body["HLSFragmentSelector"] =
            json!({ "FragmentSelectorType": "SERVER_TIMESTAMP", "TimestampRange": range });
    }
    body
}

/// Sends a request in the form of a signed one, which a gateway without authentication accepts. Returns whether it succeeded, and the
/// response.
fn ask(address: &str, body: &Value) -> io::Result<(bool, Value)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "there is no such host");
    let mut connected = None;
    // The last colon precedes the port, unless it is part of an IPv6 address.
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let place = if has_port { address.to_owned() } else { format!("{address}:80") };
    for address in place.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(connection) => {
                connected = Some(connection);
                break;
            }
            Err(error) => last = error,
        }
    }
    let mut connection = connected.ok_or(last)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    let body = body.to_string();
    // 2026-11-30T12:00:00.000000Z without what is between the digits, and without decimals.
    let now = Timestamp::from(std::time::SystemTime::now()).to_string();
    let digits: String = now.chars().filter(char::is_ascii_digit).take(14).collect();
    let (day, time) = digits.split_at(8);
    let signature = "0".repeat(64);
    let request = format!(
        "POST /getHLSStreamingSessionURL HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         X-Amz-Date: {day}T{time}Z\r\nAuthorization: AWS4-HMAC-SHA256 \
         Credential=streamlog/{day}/us-east-1/kinesisvideo/aws4_request, SignedHeaders=host;x-amz-date, \
         Signature={signature}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes())?;
    let mut answer = vec![];
    connection.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::other("it does not answer as a gateway does"))
}

fn parse(answer: &[u8]) -> Option<(bool, Value)> {
    let (head, body) = std::str::from_utf8(answer).ok()?.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?;
    Some((status == "200", serde_json::from_str(body).ok()?))
}
