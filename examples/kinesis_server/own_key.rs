//! A generated access key, for servers that are started without an authentication setting.

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};

const FILE: &str = ".credentials.json";
const ID: &str = "AKLOCAL";

/// A key file with one key that may call everything.
pub(crate) struct OwnKey {
    pub(crate) file: PathBuf,
    pub(crate) id: &'static str,
    pub(crate) secret: String,
}

impl OwnKey {
    /// Returns the key in the directory of the streams, and creates one the first time.
    pub(crate) fn in_directory(directory: &Path) -> Result<Self, Box<dyn Error>> {
        fs::create_dir_all(directory)?;
        let file = directory.join(FILE);
        if !file.exists() {
            let mut random = [0; 20];
            getrandom(&mut random[..], GetRandomFlags::empty())?;
            let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
            let actions = r#"["kinesis:*", "streamlog:*"]"#;
            let policy = format!(
                r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Action": {actions}, "Resource": "*"}}]}}"#
            );
            let key = format!(
                r#"{{"access_key_id": "{ID}", "secret_access_key": "{secret}", "user": "local", "policies": [{policy}]}}"#
            );
            let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
            writeln!(new, r#"{{"keys": [{key}]}}"#)?;
        }
        let text = fs::read_to_string(&file)?;
        let secret = text.split(r#""secret_access_key": ""#).nth(1).and_then(|rest| rest.split('"').next());
        let secret = secret.ok_or_else(|| format!("{} holds no key: remove it", file.display()))?.to_owned();
        Ok(Self { file, id: ID, secret })
    }
}
