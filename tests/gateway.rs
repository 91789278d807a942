//! A gateway beside other users of its streams, and its end.
#![cfg(feature = "gateway")]

use std::time::Duration;

use streamlog::gateway::{Gateway, GatewayError};
use streamlog::{Store, Stream, StreamOptions};

mod common;

#[test]
fn l1_a_gateway_that_is_closed_leaves_no_stream_open() {
    let directory = common::scratch();
    let store = Store::open(directory.path(), StreamOptions::new()).unwrap();
    for number in 0..300 {
        store.create(&format!("stream-{number}"), StreamOptions::new()).unwrap();
    }
    store.close().unwrap();
    // It is closed at once, while it still opens streams, and a moment later.
    for wait in [0, 1, 5, 20] {
        let running = Gateway::new(store.clone()).without_authentication().start("127.0.0.1:0").unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        running.close().unwrap();
        for path in Stream::list(directory.path()).unwrap() {
            Stream::open(path).unwrap().close().unwrap();
        }
    }
}

#[test]
fn a_gateway_that_nobody_said_who_may_use_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = || Gateway::new(Store::open(directory.path(), StreamOptions::new()).unwrap());
    let invalid = |gateway: Gateway, address: &str| match gateway.start(address) {
        Err(GatewayError::InvalidSetting(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(invalid(gateway(), "127.0.0.1:0").starts_with("say who may call"));
    let text = invalid(gateway().without_authentication(), "0.0.0.0:0");
    assert_eq!(text, "0.0.0.0 can be reached by other machines: use 127.0.0.1, or give credentials");
    let keys = directory.path().join("keys.json");
    std::fs::write(&keys, r#"{"keys": [{"access_key_id": "a"}]}"#).unwrap();
    assert!(
        invalid(gateway().credentials(&keys), "127.0.0.1:0")
            .ends_with("keys.json: key 1: secret_access_key is missing")
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = gateway().without_authentication().start(&*address).unwrap_err();
    assert!(error.to_string().starts_with(&format!("listen at {address}: ")), "{error}");
}
