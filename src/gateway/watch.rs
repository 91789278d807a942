//! Counts of requests, and all metrics in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::http::Counts;
use super::operations::Service;
use crate::MetricValue;

/// The counts of the requests that were answered.
#[derive(Debug, Default)]
pub(super) struct Watch {
    calls: Mutex<BTreeMap<Calls, Counted>>,
    connections: Arc<Counts>,
}

/// Calls that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Calls {
    operation: &'static str,
    status: u16,
    error: &'static str,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counted {
    count: u64,
    time: Duration,
}

impl Watch {
    /// Returns counts to which those of a server's connections belong.
    pub(super) fn new(connections: Arc<Counts>) -> Self {
        Self { connections, ..Self::default() }
    }

    pub(super) fn count(
        &self,
        operation: &'static str,
        status: u16,
        error: Option<&'static str>,
        took: Duration,
    ) {
        let calls = Calls { operation, status, error: error.unwrap_or_default() };
        let mut all = self.calls.lock();
        let counted = all.entry(calls).or_default();
        counted.count += 1;
        counted.time += took;
    }

    /// Returns all metrics. Those of streams have CloudWatch's names; only streams that are open have any.
    pub(super) fn prometheus(&self, service: &Service) -> String {
        let catalogue = &service.catalogue;
        let mut page = Page::default();
        for (calls, counted) in &*self.calls.lock() {
            let Calls { operation, status, error } = calls;
            let labels = format!("operation=\"{operation}\",status=\"{status}\",error=\"{error}\"");
            page.add("gateway_requests_total", "counter", &labels, counted.count as f64);
            page.add("gateway_request_seconds_total", "counter", &labels, counted.time.as_secs_f64());
        }
        let now = self.connections.now();
        for (name, kind, value) in [
            ("gateway_connections_open", "gauge", now.open),
            ("gateway_connections_accepted_total", "counter", now.accepted),
            ("gateway_connections_refused_total", "counter", now.refused),
            ("gateway_http1_requests_open", "gauge", now.http1_requests),
            ("gateway_http2_requests_open", "gauge", now.http2_requests),
            ("gateway_bytes_in_total", "counter", now.bytes_in),
            ("gateway_bytes_out_total", "counter", now.bytes_out),
        ] {
            page.add(name, kind, "", value as f64);
        }
        for name in catalogue.names().unwrap_or_default() {
            if let Some(known) = catalogue.opened(&name) {
                page.add_stream(&name, &known.stream);
            }
        }
        #[cfg(feature = "delivery")]
        service.firehose.all().iter().for_each(|stream| page.add_delivery_stream(stream));
        page.finish()
    }
}

/// Metrics by name, so that those with the same name are grouped.
#[derive(Debug, Default)]
struct Page {
    metrics: BTreeMap<String, (&'static str, String)>,
}

impl Page {
    fn add(&mut self, name: &str, kind: &'static str, labels: &str, value: f64) {
        let (_, lines) = self.metrics.entry(name.to_owned()).or_insert_with(|| (kind, String::new()));
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        // Writing to a string does not fail.
        let _ = writeln!(lines, "{name}{labels} {value}");
    }

    fn add_stream(&mut self, stream: &str, log: &crate::Stream) {
        // A stream that is being closed has no metrics any more.
        let Ok(stats) = log.stats() else { return };
        for metric in stats.metrics() {
            let shard = metric.shard.map(|shard| format!(",shard=\"{}\"", super::names::shard_id(shard)));
            let labels = format!("stream=\"{stream}\"{}", shard.unwrap_or_default());
            // Streams and shards have metrics of the same names. Those of the stream are not to be added up with their parts.
            let prefix = if metric.shard.is_some() { "aws_kinesis_shard" } else { "aws_kinesis" };
            let name = format!("{prefix}_{}", metric.name.replace('.', "_"));
            self.add_value(&name, &labels, metric.value);
        }
    }

    fn add_value(&mut self, name: &str, labels: &str, value: MetricValue<'_>) {
        match value {
            MetricValue::Total(total) => {
                self.add(&format!("{name}_total"), "counter", labels, total as f64);
            }
            MetricValue::Level(Some(level)) => {
                self.add(name, "gauge", labels, level as f64);
            }
            MetricValue::Level(None) => {}
            MetricValue::Times(times) => {
                self.add(&format!("{name}_count"), "counter", labels, times.count() as f64);
                let seconds = times.sum().as_secs_f64();
                self.add(&format!("{name}_sum"), "counter", labels, seconds);
            }
        }
    }

    #[cfg(feature = "delivery")]
    fn add_delivery_stream(&mut self, stream: &super::firehose::DeliveryStream) {
        let labels = format!("delivery_stream=\"{}\"", stream.name);
        let put = [("IncomingRecords", &stream.put_records), ("IncomingBytes", &stream.put_bytes)];
        for (name, count) in put {
            let count = count.load(std::sync::atomic::Ordering::Relaxed) as f64;
            self.add(&format!("aws_firehose_{name}_total"), "counter", &labels, count);
        }
        // `None` while it is starting.
        let Some(stats) = stream.stats() else { return };
        for metric in stats.metrics() {
            let name = format!("aws_firehose_{}", metric.name.replace('.', "_"));
            self.add_value(&name, &labels, metric.value);
        }
    }

    fn finish(self) -> String {
        let mut text = String::new();
        for (name, (kind, lines)) in self.metrics {
            let _ = write!(text, "# TYPE {name} {kind}\n{lines}");
        }
        text
    }
}
