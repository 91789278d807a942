//! Reports the counts of streams, processors and deliveries to the `metrics` facade, and so to the exporter that the program has installed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ::metrics::{
    Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

#[cfg(feature = "delivery")]
use crate::delivery::Delivery;
use crate::{Metric, MetricValue, Processor, ShardId, StreamStats};

/// The values already reported of each count: a total, the counts of a histogram's buckets, or nothing for a level.
type Handed = HashMap<(&'static str, Option<ShardId>), Vec<u64>>;

/// Returns a reporter of a stream's counts to the `metrics` facade, for
/// [`StreamOptions::report_stats`](crate::StreamOptions::report_stats).
///
/// It reports the counts of [`StreamStats::metrics`] under the same names: totals as counters, levels as gauges, times as histograms in
/// milliseconds. Each has the label `stream`, which is the path that the stream was opened at. The counts of a shard also have the label
/// `shard`, like CloudWatch's dimensions. A level without a value, such as the iterator age of a shard without readers, is reported as NaN,
/// which Prometheus shows as a gap.
///
/// One reporter may serve any number of streams.
///
/// ```
/// # use streamlog::StreamOptions;
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path();
/// let stream = StreamOptions::new().report_stats(streamlog::metrics::reporter()).open(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn reporter() -> impl Fn(&Path, &StreamStats) + Send + Sync + 'static {
    let handed: Mutex<HashMap<PathBuf, Handed>> = Mutex::default();
    move |path, stats| {
        let mut handed = handed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = handed.remove(path).unwrap_or_default();
        let mut now = Handed::new();
        for metric in stats.metrics() {
            let key = (metric.name, metric.shard);
            now.insert(key, hand_over(labels(path, metric.shard), &metric, before.get(&key)));
        }
        // The levels of an expired shard are reset, because they would stay forever.
        for ((name, shard), _) in
            before.iter().filter(|(key, value)| value.is_empty() && !now.contains_key(key))
        {
            gauge!(*name, labels(path, *shard)).set(f64::NAN);
        }
        handed.insert(path.to_owned(), now);
    }
}

/// Returns a reporter of a processor's counts to the `metrics` facade. Call it periodically, for example every ten seconds.
///
/// It reports the counts of [`ProcessorStats::metrics`](crate::ProcessorStats::metrics) under the same names: totals as counters, levels as
/// gauges. Each has the labels `stream`, as with [`reporter`], and `processor`. One reporter may serve any number of processors.
///
/// ```
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let processor = stream.processor("audit").start(|_| ())?;
/// let report = streamlog::metrics::processor_reporter();
/// report(&processor); // again and again, on a timer
/// processor.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn processor_reporter() -> impl Fn(&Processor) + Send + Sync + 'static {
    let handed = HandedByName::default();
    move |processor| {
        let of = ("processor", processor.name());
        report_named(&handed, processor.place(), of, processor.stats().metrics());
    }
}

/// Returns a reporter of a delivery's counts to the `metrics` facade. Call it periodically, for example every ten seconds.
///
/// It reports the counts of [`DeliveryStats::metrics`](crate::delivery::DeliveryStats::metrics) as [`processor_reporter`] does those of a
/// processor, with the labels `stream` and `delivery`.
///
/// ```
/// # use streamlog::Stream;
/// # use streamlog::delivery::Directory;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path().join("clicks"))?;
/// let delivery = stream.delivery("archive").to(Directory::new(directory.path().join("archive"))).start()?;
/// let report = streamlog::metrics::delivery_reporter();
/// report(&delivery); // again and again, on a timer
/// delivery.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "delivery")]
pub fn delivery_reporter() -> impl Fn(&Delivery) + Send + Sync + 'static {
    let handed = HandedByName::default();
    move |delivery| {
        let of = ("delivery", delivery.name());
        report_named(&handed, delivery.stream().describe().path, of, delivery.stats().metrics());
    }
}

/// What was handed over, for each stream and name.
type HandedByName = Mutex<HashMap<(PathBuf, String), Handed>>;

/// Reports the counts of something on a stream that has a name.
fn report_named<'m>(
    handed: &HandedByName,
    path: PathBuf,
    (kind, name): (&'static str, &str),
    metrics: impl Iterator<Item = Metric<'m>>,
) {
    let name = name.to_owned();
    let mut handed = handed.lock().unwrap_or_else(PoisonError::into_inner);
    let before = handed.entry((path.clone(), name.clone())).or_default();
    for metric in metrics {
        let key = (metric.name, metric.shard);
        let mut labels = labels(&path, metric.shard);
        labels.push(Label::new(kind, name.clone()));
        let remembered = hand_over(labels, &metric, before.get(&key));
        before.insert(key, remembered);
    }
}

fn labels(path: &Path, shard: Option<ShardId>) -> Vec<Label> {
    let stream = Label::new("stream", path.display().to_string());
    let shard = shard.map(|shard| Label::new("shard", shard.to_string()));
    std::iter::once(stream).chain(shard).collect()
}

/// Returns how much a total has grown. A stream that was opened again begins at zero.
fn growth(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

/// Reports one count. Returns what to remember of it.
fn hand_over(labels: Vec<Label>, metric: &Metric<'_>, before: Option<&Vec<u64>>) -> Vec<u64> {
    let name = metric.name;
    if before.is_none() {
        describe(metric);
    }
    let before = |at: usize| before.and_then(|before| before.get(at)).copied().unwrap_or_default();
    match metric.value {
        MetricValue::Total(total) => {
            counter!(name, labels).increment(growth(before(0), total));
            vec![total]
        }
        MetricValue::Level(level) => {
            gauge!(name, labels).set(level.map_or(f64::NAN, |level| level as f64));
            vec![]
        }
        MetricValue::Times(latency) => {
            let times = histogram!(name, labels);
            let mut counts = vec![];
            for (at, (time, count)) in latency.buckets().enumerate() {
                let more = growth(before(at), count);
                if more > 0 {
                    times.record_many(time.as_secs_f64() * 1_000.0, more as usize);
                }
                counts.push(count);
            }
            counts
        }
    }
}

fn describe(metric: &Metric<'_>) {
    let unit = match metric.unit {
        "Bytes" => Unit::Bytes,
        "Milliseconds" => Unit::Milliseconds,
        _ => Unit::Count,
    };
    let text = format!("{} of a streamlog stream, in {}", metric.name, metric.unit);
    match metric.value {
        MetricValue::Total(_) => describe_counter!(metric.name, unit, text),
        MetricValue::Level(_) => describe_gauge!(metric.name, unit, text),
        MetricValue::Times(_) => describe_histogram!(metric.name, unit, text),
    }
}
