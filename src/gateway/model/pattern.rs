//! The patterns of texts, each matched by hand, so that no text can make it slow.

/// A pattern, as the service model has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Pattern {
    Name,
    SequenceNumber,
    HashKey,
    StreamArn,
    ConsumerArn,
    ResourceArn,
    QueueArn,
    ChannelArn,
    StreamId,
}

impl Pattern {
    /// Returns the pattern as errors quote it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Name => "[a-zA-Z0-9_.-]+",
            Self::SequenceNumber => "0|([1-9]\\d{0,128})",
            Self::HashKey => "0|([1-9]\\d{0,38})",
            Self::StreamArn => "arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+",
            Self::ConsumerArn => {
                "^(arn):aws.*:kinesis:.*:\\d{12}:.*stream\\/[a-zA-Z0-9_.-]+\\/consumer\\/[a-zA-Z0-9_.-]+:[0-9]+"
            }
            Self::ResourceArn => "arn:aws.*:kinesis:.*:\\d{12}:.*(stream|channel|queue)/\\S+",
            Self::QueueArn => "arn:aws.*:kinesis:.*:\\d{12}:queue/\\S+",
            Self::ChannelArn => "arn:aws.*:kinesis:.*:\\d{12}:channel/\\S+",
            Self::StreamId => "[a-z0-9]{20}-[a-z0-9]{3}",
        }
    }

    pub(super) fn matches(self, text: &str) -> bool {
        match self {
            Self::Name => is_name(text),
            Self::SequenceNumber => is_number(text, 129),
            Self::HashKey => is_number(text, 39),
            Self::StreamArn => is_arn(text, &["stream"]),
            Self::ResourceArn => is_arn(text, &["stream", "channel", "queue"]),
            Self::QueueArn => is_arn(text, &["queue"]),
            Self::ChannelArn => is_arn(text, &["channel"]),
            Self::ConsumerArn => {
                let parts = is_arn(text, &["stream"]).then(|| text.split_once(":stream/")).flatten();
                let parts = parts.and_then(|(_, path)| path.split_once("/consumer/"));
                parts.is_some_and(|(stream, consumer)| {
                    consumer
                        .rsplit_once(':')
                        .is_some_and(|(name, created)| is_name(stream) && is_name(name) && is_digits(created))
                })
            }
            Self::StreamId => text.split_once('-').is_some_and(|(a, b)| {
                (a.len(), b.len()) == (20, 3)
                    && a.bytes()
                        .chain(b.bytes())
                        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            }),
        }
    }
}

/// Returns whether a text has only characters of names.
pub(in crate::gateway) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A decimal number without leading zeros.
fn is_number(text: &str, digits_max: usize) -> bool {
    text == "0" || (is_digits(text) && text.len() <= digits_max && !text.starts_with('0'))
}

/// An ARN of Kinesis: `arn:aws…:kinesis:REGION:ACCOUNT:KIND/NAME`.
fn is_arn(text: &str, kinds: &[&str]) -> bool {
    let mut parts = text.splitn(6, ':');
    let (Some("arn"), Some(partition), Some("kinesis"), Some(_), Some(account), Some(resource)) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let named = resource.split_once('/').is_some_and(|(kind, name)| {
        kinds.contains(&kind) && !name.is_empty() && !name.contains(char::is_whitespace)
    });
    partition.starts_with("aws") && account.len() == 12 && is_digits(account) && named
}

/// Returns whether a tag's key or text has only characters that Kinesis allows.
pub(in crate::gateway) fn is_tag_text(text: &str) -> bool {
    text.chars().all(|it| it.is_alphanumeric() || it == ' ' || "_./=+-@:".contains(it))
}
