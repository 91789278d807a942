//! TLS: agreeing on a version of HTTP, bad handshakes, and certificates that change.

use std::cell::Cell;
use std::fs;
use std::io::{self, ErrorKind};
use std::sync::Mutex;
use std::thread;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use zeroize::Zeroizing;

use super::super::{Certificate, CertificateSource};
use super::certificates::CERTIFICATES;
use super::*;
use crate::gateway::files::CertificateFiles;

/// Returns another certificate each time, three times in a test.
fn certificate() -> Certificate {
    thread_local!(static NEXT: Cell<usize> = const { Cell::new(0) });
    let (chain, key) = CERTIFICATES[NEXT.replace(NEXT.get() + 1)];
    Certificate { chain: chain.as_bytes().to_vec(), key: Zeroizing::new(key.as_bytes().to_vec()) }
}

/// A certificate that a test may replace.
struct Replaceable(Mutex<io::Result<Certificate>>);

impl Replaceable {
    fn new(certificate: Certificate) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Ok(certificate))))
    }

    fn replace(&self, certificate: io::Result<Certificate>) {
        *self.0.lock().unwrap() = certificate;
    }
}

impl CertificateSource for Replaceable {
    fn read(&self) -> io::Result<Certificate> {
        match &*self.0.lock().unwrap() {
            Ok(certificate) => Ok(certificate.clone()),
            Err(failure) => Err(failure.kind().into()),
        }
    }
}

fn tls_settings(source: Arc<dyn CertificateSource>) -> Settings {
    Settings { certificates: Some(source), certificate_interval: SHORT / 10, ..settings() }
}

fn client_config(trusted: &Certificate, names: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&trusted.chain).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

fn name() -> ServerName<'static> {
    "localhost".try_into().unwrap()
}

type TlsClient = StreamOwned<ClientConnection, TcpStream>;

/// Connects and shakes hands.
fn connect(running: &Started, trusted: &Certificate, names: &[&str]) -> io::Result<TlsClient> {
    let connection = ClientConnection::new(client_config(trusted, names), name()).unwrap();
    let mut client = StreamOwned::new(connection, Client::connect(running).0);
    while client.conn.is_handshaking() {
        client.conn.complete_io(&mut client.sock)?;
    }
    Ok(client)
}

fn call(client: &mut TlsClient) -> String {
    client.write_all(post("/", "hello").as_bytes()).unwrap();
    let mut answer = String::new();
    while !answer.ends_with("hello") {
        let mut bytes = [0; 1_000];
        let read = client.read(&mut bytes).unwrap();
        assert_ne!(read, 0, "{answer}");
        answer.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    answer
}

#[test]
fn http_1_works_over_tls_with_and_without_an_agreement() {
    let trusted = certificate();
    let running = start(tls_settings(Replaceable::new(trusted.clone())));
    for names in [&["http/1.1"][..], &[], &["http/1.1", "unknown"]] {
        let mut client = connect(&running, &trusted, names).unwrap();
        assert_eq!(client.conn.alpn_protocol(), names.first().map(|name| name.as_bytes()));
        for _ in 0..2 {
            let answer = call(&mut client);
            assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("127.0.0.1 true"), "{answer}");
        }
    }
    assert!(connect(&running, &trusted, &["unknown"]).is_err(), "they agree on nothing");
    assert!(connect(&running, &certificate(), &[]).is_err(), "the client trusts another certificate");
    assert!(running.close(LONG));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_works_over_tls_with_and_without_an_agreement() {
    let trusted = certificate();
    let running = start(tls_settings(Replaceable::new(trusted.clone())));
    for names in [&["h2", "http/1.1"][..], &[]] {
        let socket = tokio::net::TcpStream::connect(running.local_address()).await.unwrap();
        let connector = TlsConnector::from(client_config(&trusted, names));
        let socket = connector.connect(name(), socket).await.unwrap();
        assert_eq!(socket.get_ref().1.alpn_protocol(), names.first().map(|name| name.as_bytes()));
        let (mut sender, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        let request = hyper::Request::post("https://localhost/pieces/3/4/1").body(()).unwrap();
        let answer = sender.send_request(request, true).unwrap().0.await.unwrap();
        assert_eq!(answer.headers()["x-seen"], "POST https://localhost/pieces/3/4/1 127.0.0.1 true");
        let mut body = answer.into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "0000");
    }
}

#[test]
fn clients_that_do_not_finish_the_handshake_are_cut() {
    let trusted = certificate();
    let times = Settings { handshake_time: 3 * SHORT, ..tls_settings(Replaceable::new(trusted.clone())) };
    let running = start(times);
    let mut hello = vec![];
    let mut connection = ClientConnection::new(client_config(&trusted, &[]), name()).unwrap();
    connection.write_tls(&mut hello).unwrap();
    for sent in [0, 3, hello.len() / 2, hello.len()] {
        let start = Instant::now();
        let mut client = Client::connect(&running);
        client.send(&hello[..sent]);
        client.read_all();
        assert!(start.elapsed() >= 2 * SHORT, "cut after {:?}", start.elapsed());
    }
    let start = Instant::now();
    let mut client = Client::connect(&running);
    // Far fewer bytes than the hello has.
    let is_cut = hello.iter().any(|byte| {
        thread::sleep(SHORT / 20);
        client.0.write_all(&[*byte]).is_err()
    });
    assert!(is_cut && start.elapsed() < LONG);
    eventually("all connections are closed", || running.counts().now().open == 0);
    call(&mut connect(&running, &trusted, &[]).unwrap());
}

#[test]
fn a_client_that_shakes_hands_and_then_sends_nothing_is_cut() {
    let trusted = certificate();
    let times = Settings { header_time: 3 * SHORT, ..tls_settings(Replaceable::new(trusted.clone())) };
    let running = start(times);
    let mut client = connect(&running, &trusted, &[]).unwrap();
    let _ = client.read_to_end(&mut vec![]);
    eventually("the connection is closed", || running.counts().now().open == 0);
}

#[test]
fn plain_clients_on_a_port_with_tls_and_the_reverse_get_an_end() {
    let trusted = certificate();
    let with_tls = start(tls_settings(Replaceable::new(trusted.clone())));
    for text in [&*post("/", "hello"), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"] {
        let mut client = Client::connect(&with_tls);
        client.send(text);
        assert!(!client.read_all().contains("200"));
    }
    let plain = start(settings());
    assert!(connect(&plain, &trusted, &["h2"]).is_err());
    for running in [with_tls, plain] {
        eventually("all connections are closed", || running.counts().now().open == 0);
    }
}

#[test]
fn an_answer_that_nobody_takes_is_cut_under_tls_too() {
    let trusted = certificate();
    let times = Settings { stall_time: SHORT, ..tls_settings(Replaceable::new(trusted.clone())) };
    let running = start(times);
    let mut client = connect(&running, &trusted, &[]).unwrap();
    client.write_all(post("/large/50000000", "").as_bytes()).unwrap();
    eventually("the request arrives", || running.counts().now().http1_requests == 1);
    eventually("the connection is closed", || running.counts().now().open == 0);
}

#[test]
fn a_new_certificate_is_used_and_a_broken_one_is_not() {
    let (old, new) = (certificate(), certificate());
    let source = Replaceable::new(old.clone());
    let running = start(tls_settings(source.clone()));
    let mut early = connect(&running, &old, &[]).unwrap();
    let broken = [
        Err(ErrorKind::NotFound.into()),
        Ok(Certificate { chain: b"nothing".to_vec(), key: old.key.clone() }),
        Ok(Certificate { chain: new.chain.clone(), key: old.key.clone() }),
        Ok(Certificate { chain: new.chain.clone(), key: Zeroizing::new(vec![]) }),
    ];
    for broken in broken {
        source.replace(broken);
        thread::sleep(SHORT / 2);
        call(&mut connect(&running, &old, &[]).expect("the old certificate stays in use"));
    }
    source.replace(Ok(new.clone()));
    eventually("the new certificate is used", || connect(&running, &new, &[]).is_ok());
    assert!(connect(&running, &old, &[]).is_err());
    call(&mut early);
}

#[test]
fn certificates_are_read_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
    let write = |certificate: &Certificate| {
        fs::write(&key, &*certificate.key).unwrap();
        fs::write(&chain, &certificate.chain).unwrap();
    };
    let source = || Arc::new(CertificateFiles { chain: chain.clone(), key: key.clone() });
    let start_failure = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Server::start(listener, Arc::new(Tester::default()), tls_settings(source())).unwrap_err().to_string()
    };
    assert!(start_failure().contains("chain.pem"), "{}", start_failure());
    let (old, new) = (certificate(), certificate());
    write(&Certificate { chain: b"no PEM".to_vec(), key: old.key.clone() });
    assert!(start_failure().contains("certificate chain for TLS"), "{}", start_failure());
    write(&Certificate { chain: old.chain.clone(), key: new.key.clone() });
    assert!(start_failure().contains("certificate for TLS"), "{}", start_failure());
    write(&old);
    let running = start(tls_settings(source()));
    call(&mut connect(&running, &old, &[]).unwrap());
    write(&new);
    eventually("the new certificate is used", || connect(&running, &new, &[]).is_ok());
}
