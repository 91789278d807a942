//! Names of resources: ARNs, and the ids of shards.

use super::model::is_name;
use crate::ShardId;
#[cfg(feature = "video")]
use crate::Timestamp;

/// The account and the region of the gateway.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) id: String,
    pub(super) region: String,
}

/// A parsed consumer ARN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConsumerName<'a> {
    pub(super) stream: &'a str,
    pub(super) consumer: &'a str,
    /// When it was registered, in seconds.
    pub(super) created: u64,
}

impl Account {
    fn arn(&self, kind: &str, name: &str) -> String {
        format!("arn:aws:kinesis:{}:{}:{kind}/{name}", self.region, self.id)
    }

    pub(super) fn stream_arn(&self, stream: &str) -> String {
        self.arn("stream", stream)
    }

    /// Returns the ARN of a consumer. A consumer that is registered again gets a new one.
    pub(super) fn consumer_arn(&self, stream: &str, consumer: &str, created: u64) -> String {
        format!("{}/consumer/{consumer}:{created}", self.stream_arn(stream))
    }

    /// Returns the ARN of a queue. Its id is generated when the queue is created, so a recreated queue has another ARN.
    pub(super) fn queue_arn(&self, stream: &str, id: &str) -> String {
        self.arn("queue", &format!("{stream}.{id}"))
    }

    /// Returns the stream and the id of the queue that an ARN of this account and region names.
    pub(super) fn queue_of<'a>(&self, arn: &'a str) -> Option<(&'a str, &'a str)> {
        self.resource_of(arn)?.strip_prefix("queue/")?.rsplit_once('.')
    }

    /// Returns the stream that an ARN of this account and region names. Only one ARN names it, as policies compare their text.
    pub(super) fn stream_of<'a>(&self, arn: &'a str) -> Option<&'a str> {
        let name = self.resource_of(arn)?.strip_prefix("stream/")?;
        (!name.contains('/')).then_some(name)
    }

    /// Returns the consumer that an ARN of this account and region names.
    pub(super) fn consumer_of<'a>(&self, arn: &'a str) -> Option<ConsumerName<'a>> {
        let (stream, consumer) = self.resource_of(arn)?.strip_prefix("stream/")?.split_once("/consumer/")?;
        let (consumer, created) = consumer.rsplit_once(':')?;
        let number: u64 = created.parse().ok()?;
        let is_canonical = number.to_string() == created;
        is_canonical.then_some(ConsumerName { stream, consumer, created: number })
    }

    /// Returns the ARN of a delivery stream.
    #[cfg(feature = "delivery")]
    pub(super) fn delivery_stream_arn(&self, name: &str) -> String {
        format!("{}{name}", self.delivery_streams())
    }

    /// Returns the delivery stream that an ARN of this account and region names.
    #[cfg(feature = "delivery")]
    pub(super) fn delivery_stream_of<'a>(&self, arn: &'a str) -> Option<&'a str> {
        arn.strip_prefix(&*self.delivery_streams())
    }

    #[cfg(feature = "delivery")]
    fn delivery_streams(&self) -> String {
        format!("arn:aws:firehose:{}:{}:deliverystream/", self.region, self.id)
    }

    /// Returns the ARN of a video stream. A recreated one has another ARN.
    #[cfg(feature = "video")]
    pub(super) fn video_stream_arn(&self, name: &str, created: Timestamp) -> String {
        format!("{}{name}/{}", self.video_streams(), created.as_millis())
    }

    /// Returns the name in an ARN of a video stream of this account and region.
    #[cfg(feature = "video")]
    pub(super) fn video_stream_of<'a>(&self, arn: &'a str) -> Option<&'a str> {
        arn.strip_prefix(&*self.video_streams())?.split_once('/').map(|(name, _)| name)
    }

    #[cfg(feature = "video")]
    fn video_streams(&self) -> String {
        format!("arn:aws:kinesisvideo:{}:{}:stream/", self.region, self.id)
    }

    fn resource_of<'a>(&self, arn: &'a str) -> Option<&'a str> {
        let mut parts = arn.splitn(6, ':');
        let is_ours = parts.next() == Some("arn")
            && parts.next() == Some("aws")
            && parts.next() == Some("kinesis")
            && parts.next() == Some(&self.region)
            && parts.next() == Some(&self.id);
        parts.next().filter(|_| is_ours)
    }
}

/// The prefix of the names of files and streams that the gateway keeps beside the streams.
pub(super) const OWN_FILES: &str = ".gateway-";

/// Returns whether a stream can have this name. Names are those of directories, too.
pub(super) fn is_stream_name(name: &str) -> bool {
    name.len() <= 128 && is_name(name) && !matches!(name, "." | "..") && !name.starts_with(OWN_FILES)
}

/// Reads a shard's id as Kinesis does: only the number after the first `-` counts, or the whole text if there is none.
pub(super) fn parse_shard_id(text: &str) -> Option<ShardId> {
    let number = text.split('-').nth(1).filter(|number| !number.is_empty()).unwrap_or(text);
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u32 = if is_number { number.parse().ok()? } else { return None };
    (number <= i32::MAX as u32).then(|| ShardId::new(number))
}

/// Returns a shard's id as Kinesis writes it.
pub(super) fn shard_id(shard: ShardId) -> String {
    format!("shardId-{:012}", shard.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_ids_are_read_as_kinesis_does() {
        for text in ["0", "foo-0", "shardId-0", "shardId-000000000000", "-0"] {
            assert_eq!(parse_shard_id(text), Some(ShardId::new(0)), "{text}");
        }
        assert_eq!(parse_shard_id("shardId-2147483647"), Some(ShardId::new(2_147_483_647)));
        for text in
            ["", "0-", "shardId", "shardId-x", "shardId-2147483648", "shardId-99999999999999999999", "x-1a"]
        {
            assert_eq!(parse_shard_id(text), None, "{text}");
        }
        assert_eq!(shard_id(ShardId::new(17)), "shardId-000000000017");
    }

    #[test]
    fn arns_of_other_accounts_and_regions_are_not_ours() {
        let account = Account { id: "000000000000".to_owned(), region: "us-east-1".to_owned() };
        let arn = account.stream_arn("clicks");
        assert_eq!(arn, "arn:aws:kinesis:us-east-1:000000000000:stream/clicks");
        assert_eq!(account.stream_of(&arn), Some("clicks"));
        assert_eq!(account.stream_of(&arn.replace("us-east-1", "eu-west-1")), None);
        // Another spelling must not bypass a policy that denies `arn:aws:…`.
        assert_eq!(account.stream_of(&arn.replace("arn:aws:", "arn:aws-cn:")), None);
        assert_eq!(account.stream_of(&arn.replace("000000000000", "000000000001")), None);
        let consumer = account.consumer_arn("clicks", "fraud", 17);
        let expected = ConsumerName { stream: "clicks", consumer: "fraud", created: 17 };
        assert_eq!(account.consumer_of(&consumer), Some(expected));
        assert_eq!(account.consumer_of(&consumer.replace(":17", ":017")), None);
        assert_eq!(account.consumer_of(&consumer.replace(":17", ":+17")), None);
        assert_eq!(account.stream_of(&consumer), None);
        let queue = account.queue_arn("clicks.eu", "0123456789abcdef");
        assert_eq!(queue, "arn:aws:kinesis:us-east-1:000000000000:queue/clicks.eu.0123456789abcdef");
        assert_eq!(account.queue_of(&queue), Some(("clicks.eu", "0123456789abcdef")));
        assert_eq!(account.queue_of(&queue.replace("000000000000", "000000000001")), None);
        assert_eq!(account.queue_of(&arn), None);
        assert_eq!(account.queue_of(&arn.replace("stream/", "queue/")), None);
        assert_eq!(account.consumer_of(&arn), None);
    }
}
