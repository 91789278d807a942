//! A stream's encrypted records read by Python's `cryptography`, from the description in FORMAT.md alone: P14, P17.
//!
//! The test runs a Python that has the library: the one that `STREAMLOG_PYTHON` names, or else the one that `.ci/run` installs in
//! `target/python`. Without any, it prints a note and passes; if `STREAMLOG_PYTHON` is set, it fails.

use std::process::Command;

use serde_json::Value;
use streamlog::{KeyFile, PutRecord};

use crate::common;

/// Reads the stream of one shard in the first argument with the keys in the second, and prints each record as a line of JSON.
const SCRIPT: &str = r##"
import glob, json, struct, sys
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

stream, keys = sys.argv[1:]
lines = [line.split() for line in open(keys) if not line.startswith("#")]
wrapping = {name: bytes.fromhex(digits) for name, digits in lines}
encryption = json.load(open(stream + "/manifest.json"))["stream"]["encryption"]
stream_id = bytes.fromhex(encryption["stream_id"])

def unwrap(key):
    wrapped = bytes.fromhex(key["wrapped"])
    return AESGCM(wrapping[key["key_id"]]).decrypt(wrapped[:12], wrapped[12:], stream_id)

data_keys = [unwrap(key) for key in encryption["data_keys"]]
for path in sorted(glob.glob(stream + "/shards/000000000000/*.seg")):
    file = open(path, "rb").read()
    shard, base = struct.unpack_from("<IQ", file, 12)
    salt, at = file[32:48], 4096
    while at + 40 <= len(file):
        length, _, sequence, time, count, compression, encrypted, flags = struct.unpack_from("<IIQQIBBH", file, at)
        # Where frames end: zeros, or the trailer, whose first word is no length of a frame.
        if length < 40 or length % 8 or at + length > len(file) or (compression, flags) != (0, 0) or encrypted > 1:
            break
        frame, records, number = file[at:at + length], file[at + 32:at + length], None
        if encrypted:
            (number,), nonce = struct.unpack_from("<I", frame, 32), frame[36:48]
            info = b"streamlog segment 1" + stream_id + struct.pack(">IQ", shard, base)
            key = HKDF(SHA256(), 32, salt, info).derive(data_keys[number])
            records = AESGCM(key).decrypt(nonce, frame[48:], frame[8:48])
        place = 0
        for more in range(count):
            key_bytes, record_flags, data_bytes = struct.unpack_from("<HHI", records, place)
            assert record_flags == 0
            key, data = (records[place + 8:][:key_bytes], records[place + 8 + key_bytes:][:data_bytes])
            print(json.dumps([sequence + more, number, key.decode(), data.decode()]))
            place += 8 + key_bytes + data_bytes
        assert len(records) - place < 8
        at += length
"##;

#[test]
fn p14_p17_another_library_reads_the_records_from_the_description_of_the_format() {
    let Some(python) = common::python::with("cryptography") else { return };
    let (scratch, clock) = (common::scratch(), common::clock());
    let (path, key_path) = (scratch.path().join("stream"), scratch.path().join("keys"));
    let stream = common::small(&clock).open(&path).unwrap();
    let mut expected: Vec<(Option<u32>, String)> = vec![];
    let mut put = |stream: &streamlog::Stream, key: Option<u32>, count: usize| {
        for size in [1, 1, 7, count] {
            let data: Vec<_> = (0..size).map(|at| format!("{} of {size}", expected.len() + at)).collect();
            let records: Vec<_> = data.iter().map(|data| PutRecord::new("user-17", data)).collect();
            assert!(stream.put_batch(&records).unwrap().iter().all(Result::is_ok));
            expected.extend(data.into_iter().map(|data| (key, data)));
        }
    };
    put(&stream, None, 20);
    stream.close().unwrap();
    let stream = common::small(&clock).encryption(KeyFile::create(&key_path).unwrap()).open(&path).unwrap();
    put(&stream, Some(0), 2_000);
    stream.rotate_key().unwrap();
    put(&stream, Some(1), 2_000);
    stream.close().unwrap();
    let keys = KeyFile::add_key(&key_path).unwrap();
    let stream = common::small(&clock).encryption(keys).open(&path).unwrap();
    stream.rotate_key().unwrap();
    put(&stream, Some(2), 500);
    stream.close().unwrap();
    assert!(common::segment_files(&path, 0).len() > 2);

    let output = Command::new(python).args(["-c", SCRIPT]).args([&path, &key_path]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Value> = output
        .stdout
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(lines.len(), expected.len());
    for (number, (line, (key, data))) in lines.iter().zip(&expected).enumerate() {
        assert_eq!(*line, serde_json::json!([number, key, "user-17", data]));
    }
}
