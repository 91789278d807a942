//! Samples the readers of the stream: consumer groups, processors and queues.

use std::collections::HashMap;
use std::time::Duration;

use streamlog::{GroupDescription, Lag, ProcessorStats, QueueDescription};

use crate::watched::Watched;

pub struct GroupSample {
    pub name: String,
    /// `None` if only another process knows.
    pub worker_count: Option<usize>,
    pub lag: Lag,
}

pub struct ProcessorSample {
    pub name: String,
    /// The age of the last record that the function was called with. For a processor of another process, the age of its oldest uncommitted
    /// record.
    pub iterator_age: Duration,
    /// `None` if only another process knows.
    pub work: Option<ProcessorWork>,
}

/// The calls of a processor since the last sample, and its current work.
pub struct ProcessorWork {
    pub invocations_per_second: f64,
    pub errors_per_second: f64,
    /// The average duration of a call, if one has ended.
    pub duration: Option<Duration>,
    /// Since the processor was started.
    pub discarded: u64,
    pub running: usize,
    pub stuck: usize,
}

pub struct QueueSample {
    pub name: String,
    pub visible_count: u64,
    pub in_flight_count: usize,
    pub delayed_count: usize,
    pub dead_letter_count: usize,
    pub oldest_age: Duration,
}

impl From<QueueDescription> for QueueSample {
    fn from(queue: QueueDescription) -> Self {
        Self {
            visible_count: queue.unread.record_count + queue.visible_count as u64,
            in_flight_count: queue.in_flight_count,
            delayed_count: queue.delayed_count,
            dead_letter_count: queue.dead_letter_count,
            oldest_age: queue.oldest_age,
            name: queue.name,
        }
    }
}

/// The readers at one moment.
#[derive(Default)]
pub struct Readers {
    pub groups: Vec<GroupSample>,
    pub processors: Vec<ProcessorSample>,
    pub queues: Vec<QueueSample>,
}

/// The counts of the processors at the last sample, by name.
pub type Before = HashMap<String, ProcessorStats>;

/// Samples the readers. `groups` are the consumer groups, among them those of processors.
pub fn sample(
    watched: &Watched,
    groups: Vec<GroupDescription>,
    before: &mut Before,
    seconds: f64,
) -> streamlog::Result<Readers> {
    let mut readers = Readers::default();
    let stats: Before = watched.processors().iter().map(|one| (one.name().to_owned(), one.stats())).collect();
    for described in
        watched.described(watched.reader().processors()?, |reader, name| reader.describe_processor(name))?
    {
        let work = stats.get(&described.name);
        readers.processors.push(ProcessorSample {
            iterator_age: work.map_or(described.lag().age, |now| now.iterator_age),
            work: work.map(|now| work_since(before.get(&described.name), now, seconds)),
            name: described.name,
        });
    }
    *before = stats;
    // A processor is also a group. List it only once.
    let is_plain = |group: &GroupDescription| readers.processors.iter().all(|one| one.name != group.name);
    let of_group = |group: GroupDescription| GroupSample {
        lag: group.lag(),
        worker_count: watched.is_own().then_some(group.worker_count),
        name: group.name,
    };
    readers.groups = groups.into_iter().filter(is_plain).map(of_group).collect();
    let queues = watched.described(watched.reader().queues()?, |reader, name| reader.describe_queue(name))?;
    readers.queues = queues.into_iter().map(QueueSample::from).collect();
    Ok(readers)
}

fn work_since(before: Option<&ProcessorStats>, now: &ProcessorStats, seconds: f64) -> ProcessorWork {
    let none = ProcessorStats::default();
    let before = before.unwrap_or(&none);
    let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
    let ended = |stats: &ProcessorStats| stats.invocations - stats.running as u64;
    let ended_count = u32::try_from(ended(now).saturating_sub(ended(before))).unwrap_or(u32::MAX);
    ProcessorWork {
        invocations_per_second: rate(now.invocations, before.invocations),
        errors_per_second: rate(now.errors, before.errors),
        duration: now.duration.saturating_sub(before.duration).checked_div(ended_count),
        discarded: now.discarded,
        running: now.running,
        stuck: now.stuck,
    }
}
