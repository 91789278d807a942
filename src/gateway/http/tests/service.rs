//! A service that does what the path of a request says.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use hyper::{HeaderMap, Method, StatusCode, Uri};
use tokio::sync::mpsc;

use super::super::{Answer, Answering, Body, Piece, Pieces, Request, Service};

#[derive(Default)]
pub(super) struct Tester {
    /// Requests to `/slow/…` wait until this lock is free.
    pub(super) gate: Arc<Mutex<()>>,
    /// Senders of pieces that have noticed that their client is gone, and answers that were to come later to such a client.
    pub(super) gone: Arc<AtomicUsize>,
    /// Running calls of `answer`, and the most there ever were.
    pub(super) at_work: AtomicUsize,
    pub(super) at_work_max: AtomicUsize,
}

impl Service for Tester {
    fn is_quick(&self, request: &Request) -> bool {
        !request.uri.path().starts_with("/slow")
    }

    fn answer(self: Arc<Self>, request: Request) -> Answering {
        let at_work = self.at_work.fetch_add(1, SeqCst) + 1;
        self.at_work_max.fetch_max(at_work, SeqCst);
        let body = self.body(&request);
        self.at_work.fetch_sub(1, SeqCst);
        let mut headers = HeaderMap::new();
        let seen = format!("{} {} {:?} {}", request.method, request.uri, request.peer.ip(), request.is_tls);
        headers.insert("x-seen", seen.parse().unwrap());
        let answer = Answer { status: StatusCode::OK, headers, body };
        let words: Vec<_> = request.uri.path().split('/').skip(1).collect();
        match *words {
            ["slow", "later", millis] => {
                let pause = Duration::from_millis(millis.parse().unwrap());
                let gone = CountDropped(self.gone.clone());
                Answering::Later(Box::pin(async move {
                    tokio::time::sleep(pause).await;
                    std::mem::forget(gone);
                    answer
                }))
            }
            ["slow", "later-panic"] => {
                Answering::Later(Box::pin(async { panic!("a panic on purpose, later") }))
            }
            _ => Answering::Now(answer),
        }
    }

    fn takes_pieces(&self, method: &Method, uri: &Uri) -> bool {
        *method == Method::POST && uri.path().starts_with("/echo/")
    }

    fn answer_pieces(self: Arc<Self>, request: Request, pieces: Pieces) -> Answering {
        assert!(request.body.is_empty());
        let body = match request.uri.path().rsplit('/').next() {
            Some("refused") => Body::Whole("refused".into()),
            count => echo(pieces, count.unwrap().parse().unwrap()),
        };
        Answering::Now(Answer { status: StatusCode::OK, headers: HeaderMap::new(), body })
    }
}

/// Sends back each piece of a body as it comes, up to a count, and at the end whether the body has ended well.
fn echo(mut pieces: Pieces, count: usize) -> Body {
    let (sender, answer) = mpsc::channel(1);
    thread::spawn(move || {
        for _ in 0..count {
            let piece = match pieces.blocking_recv() {
                Some(Piece::Data(piece)) => piece,
                Some(Piece::Silence) => "<silence>".into(),
                Some(Piece::End) => "<end>".into(),
                None => "<broken>".into(),
            };
            let is_last = piece.starts_with(b"<end") || piece.starts_with(b"<broken");
            if sender.blocking_send(piece).is_err() || is_last {
                return;
            }
        }
    });
    Body::Pieces(answer)
}

/// Counts that it was dropped.
struct CountDropped(Arc<AtomicUsize>);

impl Drop for CountDropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Tester {
    fn body(&self, request: &Request) -> Body {
        let path = request.uri.path();
        let words: Vec<_> = path.split('/').skip(1).collect();
        match *words {
            ["panic"] => panic!("a panic on purpose"),
            ["slow", "panic"] => panic!("a panic on purpose, on another thread"),
            ["slow", "wait", millis] => {
                thread::sleep(Duration::from_millis(millis.parse().unwrap()));
                Body::Whole(request.body.clone())
            }
            ["slow", "gate"] => {
                drop(self.gate.lock());
                Body::Whole(request.body.clone())
            }
            ["large", bytes] => Body::Whole(vec![b'x'; bytes.parse().unwrap()].into()),
            // An empty piece between two others.
            ["empty", "piece"] => {
                let (sender, pieces) = mpsc::channel(3);
                for piece in ["one", "", "two"] {
                    sender.try_send(piece.into()).unwrap();
                }
                Body::Pieces(pieces)
            }
            // Pieces from another thread, one every `millis` milliseconds.
            ["pieces", count, bytes, millis] => {
                let (count, bytes) = (count.parse::<usize>().unwrap(), bytes.parse().unwrap());
                let pause = Duration::from_millis(millis.parse().unwrap());
                let (sender, pieces) = mpsc::channel(1);
                let gone = self.gone.clone();
                thread::spawn(move || {
                    for number in 0..count {
                        let piece = Bytes::from(format!("{number:0>bytes$}"));
                        if sender.blocking_send(piece).is_err() {
                            gone.fetch_add(1, SeqCst);
                            return;
                        }
                        if !pause.is_zero() {
                            thread::sleep(pause);
                        }
                    }
                });
                Body::Pieces(pieces)
            }
            _ => Body::Whole(request.body.clone()),
        }
    }
}
