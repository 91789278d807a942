//! Reads requests of HTTP, for proxies.

use std::io::{self, BufRead, BufReader, Read};
use std::net::TcpStream;

/// Reads the head and the body of a request. Returns none if the client has closed the connection.
pub fn read(client: &TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut from = BufReader::new(client);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let begin = head.len();
        if from.read_line(&mut head)? == 0 {
            return Ok(None);
        }
        let line = head[begin..].to_lowercase();
        if let Some(number) = line.strip_prefix("content-length:") {
            length = number.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(Some((head, body)))
}
