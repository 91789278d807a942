//! moto, which simulates AWS services.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A server that runs until this is dropped.
pub struct Moto {
    pub url: String,
    process: Child,
}

const SERVE: &str = "\
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
server.start()
print('http://%s:%d' % server.get_host_and_port(), flush=True)
sys.stdin.read()
";

impl Moto {
    pub fn start(python: &Path) -> Self {
        let mut command = Command::new(python);
        command.args(["-B", "-c", SERVE]).stdin(Stdio::piped()).stdout(Stdio::piped());
        // It logs each request.
        let mut process = command.stderr(Stdio::null()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { url: url.trim().to_owned(), process }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
