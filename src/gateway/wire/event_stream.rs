//! The frames of an event stream, `application/vnd.amazon.eventstream`, which carries the events pushed to a subscriber.

use super::Format;

pub(in crate::gateway) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// The type of a header whose value is a text.
const TEXT: u8 = 7;

/// Returns the frame of an event. The first one of a stream is `initial-response` with an empty structure.
pub(in crate::gateway) fn event(format: Format, event_type: &str, payload: &[u8]) -> Vec<u8> {
    let headers =
        [(":event-type", event_type), (":content-type", format.content_type()), (":message-type", "event")];
    frame(&headers, payload)
}

/// Returns the frame of an error, after which the stream ends.
pub(in crate::gateway) fn exception(format: Format, kind: &str, payload: &[u8]) -> Vec<u8> {
    let headers =
        [(":exception-type", kind), (":content-type", format.content_type()), (":message-type", "exception")];
    frame(&headers, payload)
}

fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let header_bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let total = 4 + 4 + 4 + header_bytes + payload.len() + 4;
    let mut frame = Vec::with_capacity(total);
    frame.extend_from_slice(&(total as u32).to_be_bytes());
    frame.extend_from_slice(&(header_bytes as u32).to_be_bytes());
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    for (name, value) in headers {
        frame.push(name.len() as u8);
        frame.extend_from_slice(name.as_bytes());
        frame.push(TEXT);
        frame.extend_from_slice(&(value.len() as u16).to_be_bytes());
        frame.extend_from_slice(value.as_bytes());
    }
    frame.extend_from_slice(payload);
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initial_response_has_the_bytes_that_clients_accept() {
        let expected = "0000007200000060ab820d9e0b3a6576656e742d74797065070010696e697469616c2d726573706f6e73650d3a636f6e74\
                        656e742d747970650700" .to_owned()
            + "1a6170706c69636174696f6e2f782d616d7a2d6a736f6e2d312e310d3a6d6573736167652d747970650700056576656e747b7dacae6b7d";
        let frame = event(Format::Json, "initial-response", b"{}");
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }
}
