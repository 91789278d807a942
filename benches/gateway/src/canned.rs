//! A server that reads each request and answers with a constant: the limit of the HTTP library and the client.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::LazyLock;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use crate::Outcome;

const SEQUENCE: &str = "49680675334603712629418284246543603729823093178379534338";

static PUT: LazyLock<Bytes> = LazyLock::new(|| placed().into());
static PUT_BATCH: LazyLock<Bytes> = LazyLock::new(|| {
    let records = vec![placed(); 500].join(",");
    format!(r#"{{"FailedRecordCount":0,"Records":[{records}]}}"#).into()
});
static READ: LazyLock<Bytes> = LazyLock::new(|| {
    let data = "QUJD".repeat(341) + "QQ==";
    let record = format!(
        r#"{{"SequenceNumber":"{SEQUENCE}","ApproximateArrivalTimestamp":1795954634.869,"Data":"{data}","PartitionKey":"17"}}"#
    );
    let (records, next) = (vec![record; 5_000].join(","), "A".repeat(200));
    format!(r#"{{"Records":[{records}],"MillisBehindLatest":0,"NextShardIterator":"{next}"}}"#).into()
});
static ITERATOR: LazyLock<Bytes> =
    LazyLock::new(|| format!(r#"{{"ShardIterator":"{}"}}"#, "A".repeat(200)).into());

fn placed() -> String {
    format!(r#"{{"ShardId":"shardId-000000000000","SequenceNumber":"{SEQUENCE}"}}"#)
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let target = request.headers().get("x-amz-target").map(|it| it.as_bytes().to_vec()).unwrap_or_default();
    // An aborted request is also answered: nobody reads the response.
    let _ = request.into_body().collect().await;
    let body = match target.rsplit(|byte| *byte == b'.').next() {
        Some(b"PutRecord") => PUT.clone(),
        Some(b"PutRecords") => PUT_BATCH.clone(),
        Some(b"GetRecords") => READ.clone(),
        Some(b"GetShardIterator") => ITERATOR.clone(),
        _ => Bytes::new(),
    };
    let response = Response::builder().header("content-type", "application/x-amz-json-1.1");
    Ok(response.body(Full::new(body)).expect("the headers are fine"))
}

/// Serves on threads that run until the process ends. Returns the address.
pub fn start(port: u16) -> Outcome<SocketAddr> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("the listener is fine");
            while let Ok((socket, _)) = listener.accept().await {
                let _ = socket.set_nodelay(true);
                let serving =
                    http1::Builder::new().serve_connection(TokioIo::new(socket), service_fn(answer));
                tokio::spawn(serving);
            }
        });
    });
    Ok(address)
}

pub fn serve_for_ever(port: u16) -> Outcome {
    println!("constants at http://{}", start(port)?);
    loop {
        std::thread::park();
    }
}
