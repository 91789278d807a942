//! Starts the delivery of a delivery stream.

use super::Registry;
use super::definition::{Definition, Source};
use super::settings::{Surroundings, options};
use super::stream::DeliveryStream;
use crate::delivery::Delivery;
use crate::{Position, Stream, StreamReader, Timestamp};

/// What the names begin with of the consumer groups that delivery streams have in their sources. The rest is the name and the id of the delivery stream.
const GROUP: &str = "firehose-";
/// The group in a stream of the delivery stream's own.
const OWN_GROUP: &str = "firehose";

/// Starts it. The error is for the operator.
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
            // A time, and not the latest record: after a crash that would be another one.
            let since = Position::AtTimestamp(Timestamp::from_millis(*since));
            (StreamReader::clone(&source), group_name(stream, definition), since)
        }
    };
    // That of a reader, which does not keep the stream open.
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

/// Forgets how far a delivery stream has read its source.
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
