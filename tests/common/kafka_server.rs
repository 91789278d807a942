//! A broker of Kafka in a process of its own.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A broker for one test, or one that runs already.
#[derive(Debug)]
pub enum Server {
    /// The broker of noida-db, which is installed from PyPI. It is killed when this is dropped.
    Own { address: SocketAddr, child: Child, _directory: TempDir },
    /// The broker that `STREAMLOG_KAFKA` names.
    Named(String),
}

impl Server {
    /// Returns the broker that `STREAMLOG_KAFKA` names, or else starts one, if it is installed.
    pub fn start() -> Option<Self> {
        if let Ok(named) = std::env::var("STREAMLOG_KAFKA") {
            return Some(Self::Named(named));
        }
        let python = super::python::with("noida_db")?;
        let found =
            Command::new(python).args(["-c", "import noida_db; print(noida_db.__path__[0])"]).output();
        let package = PathBuf::from(String::from_utf8(found.unwrap().stdout).unwrap().trim_end());
        let program = package.join("noida-db");
        // A package of Python has no programs: it makes this file executable when it is used for the first time.
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let directory = super::scratch();
        let address = SocketAddr::from(([127, 0, 0, 1], super::free_port()));
        let mut command = Command::new(program);
        command.args(["start", "--only", "kafka", "--kafka-port", &address.port().to_string(), "--data-dir"]);
        command.arg(directory.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self::Own { address, child: command.spawn().unwrap(), _directory: directory };
        super::waiting::until("the broker listens", || TcpStream::connect(address).is_ok());
        Some(server)
    }

    pub fn address(&self) -> String {
        match self {
            Self::Own { address, .. } => address.to_string(),
            Self::Named(name) => name.clone(),
        }
    }

    /// Kafka takes a last commit of a worker whose partitions are about to be given to another one. noida-db 0.2 refuses it, so that the other worker
    /// repeats what was done since the last commit at an interval.
    pub fn takes_commits_while_a_group_changes(&self) -> bool {
        matches!(self, Self::Named(_))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Self::Own { child, .. } = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
