//! Starts the delivery of a delivery stream.

use super::Registry;
use super::definition::{Definition, Source};
use super::settings::{Surroundings, options};
use super::stream::DeliveryStream;
use crate::delivery::Delivery;
use crate::{Position, Stream, StreamReader, Timestamp};

/// The prefix of the names of delivery streams' consumer groups in their sources. The name and the id of the delivery stream follow.
const GROUP: &str = "firehose-";
/// The group in the delivery stream's own stream.
const OWN_GROUP: &str = "firehose";

/// Starts the delivery. The error is for the operator.
pub(super) fn delivery(
    registry: &Registry,
    stream: &DeliveryStream,
    definition: &Definition,
) -> Result<Delivery, String> {
    let of =
        Surroundings { name: &stream.name, arn: &stream.arn, rules: &registry.rules, clock: stream.clock() };
    let options = options(definition, &of).map_err(|fault| fault.message.unwrap_or_default().into_owned())?;
    let (source, group, position) = match &definition.source {
        Source::DirectPut { .. } => {
            (StreamReader::clone(&stream.stream), OWN_GROUP.to_owned(), Position::TrimHorizon)
        }
        Source::Kinesis { since, .. } => {
            let source = source(registry, definition).ok_or("its source cannot be read")?;
            // A time, and not the latest record, which would be another one after a crash.
            let since = Position::AtTimestamp(Timestamp::from_millis(*since));
            (StreamReader::clone(&source), group_name(stream, definition), since)
        }
    };
    // Opened by a reader, which does not keep the stream open.
    let group = source.group(group);
    options.of(group, &source).starting_position(position).start().map_err(|error| error.to_string())
}

fn group_name(stream: &DeliveryStream, definition: &Definition) -> String {
    format!("{GROUP}{}-{}", stream.name, definition.id)
}

/// Returns the stream of Kinesis from which a delivery stream reads.
fn source(registry: &Registry, definition: &Definition) -> Option<Stream> {
    let Source::Kinesis { stream, .. } = &definition.source else { return None };
    Some(registry.catalogue.stream(stream).ok()?.stream.clone())
}

/// Deletes the position of a delivery stream in its source.
pub(super) fn forget(registry: &Registry, stream: &DeliveryStream, definition: &Definition) {
    let Some(source) = source(registry, definition) else { return };
    let group = group_name(stream, definition);
    if !source.groups().is_ok_and(|groups| groups.contains(&group)) {
        return;
    }
    if let Err(error) = source.group(group).delete() {
        tracing::warn!(%error, delivery_stream = stream.name, "a consumer group is left behind");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::gateway::catalogue::{Behaviour, Catalogue, Settings};
    use crate::gateway::firehose::definition::{Encryption, created};
    use crate::gateway::firehose::{Buckets, Rules};
    use crate::gateway::names::Account;
    use crate::{Limits, ManualClock, SECOND, Store, StreamOptions};

    /// A crash may come between the answer to its creation and its first start.
    #[test]
    fn l1_a_delivery_that_starts_late_begins_when_its_delivery_stream_was_created() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let options = StreamOptions::new().clock(Arc::clone(&clock) as _);
        let store = Store::open(directory.path().join("streams"), options.clone()).unwrap();
        let behaviour = Behaviour {
            account: Account { id: "000000000000".to_owned(), region: "us-east-1".to_owned() },
            delay: Duration::ZERO,
            limits: Limits::none(),
            shards_max: 10,
            options,
        };
        let catalogue = Arc::new(Catalogue::new(store, behaviour));
        catalogue.create("clicks", 1, &Settings::default()).unwrap();
        let source = catalogue.stream("clicks").unwrap().stream.clone();
        source.put("a", "before").unwrap();
        clock.advance(SECOND);
        let buckets = Buckets::in_directory(directory.path().join("buckets"));
        let rules = Rules { buckets: Some(buckets), ..Rules::default() };
        let (streams, creating) = Default::default();
        let registry = Registry { catalogue, rules, streams, creating };
        let request = json!({"S3DestinationConfiguration": {"BucketARN": "arn:aws:s3:::archive"}});
        let (kind, destination) = created(&mut request.as_object().unwrap().clone()).unwrap();
        let since = source.now().as_millis();
        let definition = Definition {
            version: 1,
            id: "0".to_owned(),
            source: Source::Kinesis { stream: "clicks".to_owned(), role: String::new(), since },
            kind,
            destination,
            encryption: Encryption::default(),
            updated: None,
            is_deleting: false,
            tags: Default::default(),
        };
        let stream = registry.create("archive", definition.clone()).unwrap();
        source.put("a", "after").unwrap();
        let delivery = delivery(&registry, &stream, &definition).unwrap();
        assert!(delivery.flush(Duration::from_secs(30)));
        assert_eq!(delivery.stats().read_records, 1, "the one that was put after its creation");
        delivery.close().unwrap();
    }
}
