//! Exactly once into Kafka: each batch is a transaction that includes the shard's position.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::client::KafkaClient;
use super::origin::Origin;
use super::producer::Target;
use super::session::{Failure, Owner, Session};
use crate::relay::link::Link;
use crate::{Error, Invocation, Position, Record, Response, Result, SequenceNumber, ShardId, StreamReader};

/// Sends what a relay reads, in transactions.
pub(super) struct Transactions {
    client: KafkaClient,
    target: Target,
    origin: Origin,
    /// The id of a shard ends with the shard's id.
    id: String,
    /// The name of the relay's group.
    group: String,
    shards: Mutex<HashMap<ShardId, Arc<Mutex<Shard>>>>,
}

/// What is known of a shard.
struct Shard {
    session: Option<Session>,
    /// The most records in a transaction. It shrinks to find the records that Kafka refuses.
    records_max: usize,
}

impl Transactions {
    pub(super) fn new(
        client: KafkaClient,
        target: Target,
        origin: Origin,
        id: String,
        group: String,
    ) -> Self {
        Self { client, target, origin, id, group, shards: Mutex::default() }
    }

    /// Sends a batch. Returns when it is done, or when the relay closes.
    pub(super) fn carry(&self, invocation: &Invocation, link: &Link) -> Response {
        let records: Vec<_> = invocation.records().collect();
        let mut given_up = BTreeSet::new();
        let (mut done, mut failures) = (0, 0);
        let shard = self.shard(invocation.shard());
        let mut shard = shard.lock();
        while let Some(first) = records.get(done) {
            let first = first.sequence();
            if link.is_closing() {
                return Response::failed_from(first);
            }
            match self.send(&mut shard, invocation, &records[done..], &mut given_up, link) {
                Ok(sent) => (done, failures) = (done + sent, 0),
                Err(Failure::Closing) => shard.session = None,
                Err(Failure::Refused(reason) | Failure::Failed(reason)) => {
                    shard.session = None;
                    failures += 1;
                    link.note_failure(reason);
                    link.wait_until(link.elapsed() + link.pause(failures, first.get()));
                }
            }
        }
        Response::done()
    }

    /// Sends the first of these records, as many as a transaction may have. Returns how many are done.
    fn send(
        &self,
        shard: &mut Shard,
        invocation: &Invocation,
        records: &[Record<'_>],
        given_up: &mut BTreeSet<SequenceNumber>,
        link: &Link,
    ) -> Result<usize, Failure> {
        let session = match &mut shard.session {
            Some(session) => session,
            empty => empty.insert(self.begin(invocation.shard(), &link.stream).map_err(Failure::Failed)?),
        };
        let known = records.iter().take_while(|record| record.sequence() < session.position).count();
        if known > 0 {
            return Ok(known);
        }
        let records = &records[..records.len().min(shard.records_max)];
        let next =
            records.last().map_or(session.position, |last| SequenceNumber::from(last.sequence().get() + 1));
        let wanted: Vec<_> =
            records.iter().filter(|record| !given_up.contains(&record.sequence())).copied().collect();
        let mut origin = self.origin.begin(invocation.shard());
        let mut refuse = |sequence: SequenceNumber, reason: &str| {
            link.discard(invocation, sequence, reason)?;
            given_up.insert(sequence);
            Ok::<_, String>(())
        };
        link.counts.lock().requests += 1;
        let sent = session
            .send(&wanted, next, &mut origin, link, |index, reason| refuse(wanted[index].sequence(), reason));
        match sent {
            Ok(()) => {
                shard.records_max = shard.records_max.saturating_mul(2);
                let sent = wanted.iter().filter(|record| !given_up.contains(&record.sequence()));
                let bytes = sent.clone().map(|record| record.partition_key().len() + record.data().len());
                let bytes = bytes.sum::<usize>() as u64;
                link.note_success(sent.count() as u64, bytes);
                Ok(records.len())
            }
            Err(Failure::Refused(reason)) => {
                // Kafka refuses a whole request because of a single record: the batch is halved until that record stands alone.
                match *wanted {
                    [ref alone] => refuse(alone.sequence(), &reason).map_err(Failure::Failed)?,
                    _ => shard.records_max = (records.len() / 2).max(1),
                }
                shard.session = None;
                Ok(0)
            }
            Err(failure) => {
                link.counts.lock().retries += wanted.len() as u64;
                Err(failure)
            }
        }
    }

    fn shard(&self, id: ShardId) -> Arc<Mutex<Shard>> {
        let new = || Arc::new(Mutex::new(Shard { session: None, records_max: usize::MAX }));
        Arc::clone(self.shards.lock().entry(id).or_insert_with(new))
    }

    fn begin(&self, shard: ShardId, stream: &StreamReader) -> Result<Session, String> {
        self.end_finished(stream);
        let end = match stream.iterator(shard, Position::Latest) {
            Ok(iterator) => iterator.next_sequence(),
            // It has expired, but records that were read from it must still be sent.
            Err(Error::ShardNotFound(_)) => SequenceNumber::from(u64::MAX),
            Err(error) => return Err(error.to_string()),
        };
        let owner = Owner {
            id: format!("{}-{shard}", self.id),
            stream: format!("a stream of streamlog created at {}", stream.describe().created_at),
            end,
        };
        Session::begin(&self.client, &self.target, owner)
    }

    /// Ends the sessions of shards that the relay has finished. Each of them has threads and connections.
    fn end_finished(&self, stream: &StreamReader) {
        let Ok(group) = stream.group(&self.group).describe() else { return };
        let newest = group.shards.iter().map(|shard| shard.shard).max();
        let is_open = |id: ShardId| {
            // A shard that is newer than all shards of the group is about to begin.
            newest.is_none_or(|newest| id > newest) || group.shards.iter().any(|shard| shard.shard == id)
        };
        self.shards.lock().retain(|&id, _| is_open(id));
    }
}
