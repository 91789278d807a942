//! The patterns of texts, each matched by hand-written code, so that no text can make matching slow.

/// A pattern, as the service model has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "delivery"), expect(dead_code, reason = "some are those of Firehose"))]
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
    // Those of channels.
    Account,
    BucketArn,
    ErrorPrefix,
    KeyTemplate,
    LogGroup,
    LogStream,
    PartitionSource,
    RoleArn,
    SchemaArn,
    Table,
    TableBucketArn,
    // Those of Firehose.
    AnyBucketArn,
    AnyRoleArn,
    AnyStreamArn,
    ClusterAddress,
    DestinationId,
    Digits,
    DomainArn,
    FileExtension,
    KeyArn,
    KeyOrAliasArn,
    Line,
    LogGroupOrNone,
    NotBlank,
    SecretArn,
    TagKey,
    TagText,
    TimeZone,
    WebAddress,
    Word,
    // Those of video.
    #[cfg(feature = "video")]
    Alphanumeric,
    #[cfg(feature = "video")]
    MediaType,
    #[cfg(feature = "video")]
    VideoArn,
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
            Self::Account => "\\d{12}",
            Self::BucketArn => "arn:aws[-a-z0-9]*:s3:::[a-z0-9._-]{3,63}",
            Self::ErrorPrefix => "[0-9A-Za-z!\\-_'.*()\\/]+",
            Self::KeyTemplate => "[0-9A-Za-z!\\-_'.*()\\/=:{}]+",
            Self::LogGroup => "[\\.\\-_/#A-Za-z0-9]+",
            Self::LogStream => "[^:*]*",
            Self::PartitionSource => "[a-zA-Z0-9\\.\\_]+",
            Self::RoleArn => "arn:aws[-a-z0-9]*:iam::\\d{12}:role/[a-zA-Z_0-9+=,.@\\-_/]+",
            Self::SchemaArn => {
                "arn:aws[-a-z0-9]*:glue:[-a-z0-9]+:\\d{12}:schema/[-a-zA-Z0-9_$#.]+/[-a-zA-Z0-9_$#.]+"
            }
            Self::Table => "[0-9a-z_]+",
            Self::TableBucketArn => "arn:aws[-a-z0-9]*:s3tables:[-a-z0-9]+:\\d{12}:bucket/[a-z0-9_-]{3,63}",
            Self::AnyBucketArn => "arn:.*:s3:::[\\w\\.\\-]{1,255}",
            Self::AnyRoleArn => "arn:.*:iam::\\d{12}:role/[a-zA-Z_0-9+=,.@\\-_/]+",
            Self::AnyStreamArn => "arn:.*:kinesis:[a-zA-Z0-9\\-]+:\\d{12}:stream/[a-zA-Z0-9_.-]+",
            Self::ClusterAddress => "https:.*",
            Self::DestinationId => "[a-zA-Z0-9-]+",
            Self::Digits => "[0-9]+",
            Self::DomainArn => "arn:.*:es:[a-zA-Z0-9\\-]+:\\d{12}:domain/[a-z][-0-9a-z]{2,27}",
            Self::FileExtension => "^$|\\.[0-9a-z!\\-_.*'()]+",
            Self::KeyArn => "arn:.*:kms:[a-zA-Z0-9\\-]+:\\d{12}:key/[a-zA-Z_0-9+=,.@\\-_/]+",
            Self::KeyOrAliasArn => "arn:.*:kms:[a-zA-Z0-9\\-]+:\\d{12}:(key|alias)/[a-zA-Z_0-9+=,.@\\-_/]+",
            Self::Line => ".*",
            Self::LogGroupOrNone => "[\\.\\-_/#A-Za-z0-9]*",
            Self::NotBlank => "^(?!\\s*$).+",
            Self::SecretArn => "arn:.*:secretsmanager:[a-zA-Z0-9\\-]+:\\d{12}:secret:[a-zA-Z0-9\\-/_+=.@!]+",
            Self::TagKey => "^(?!aws:)[\\p{L}\\p{Z}\\p{N}_.:\\/=+\\-@%]*$",
            Self::TagText => "^[\\p{L}\\p{Z}\\p{N}_.:\\/=+\\-@%]*$",
            Self::TimeZone => "^$|[a-zA-Z/_]+",
            Self::WebAddress => "https://.*",
            Self::Word => "^\\S+$",
            #[cfg(feature = "video")]
            Self::Alphanumeric => "[a-zA-Z0-9]+",
            #[cfg(feature = "video")]
            Self::MediaType => "[\\w\\-\\.\\+]+/[\\w\\-\\.\\+]+(,[\\w\\-\\.\\+]+/[\\w\\-\\.\\+]+)*",
            #[cfg(feature = "video")]
            Self::VideoArn => "arn:[a-z\\d-]+:kinesisvideo:[a-z0-9-]+:[0-9]+:[a-z]+/[a-zA-Z0-9_.-]+/[0-9]+",
        }
    }

    pub(super) fn matches(self, text: &str) -> bool {
        match self {
            Self::Name => is_name(text),
            Self::SequenceNumber => is_number(text, 129),
            Self::HashKey => is_number(text, 39),
            Self::StreamArn => is_arn(text, "stream/"),
            Self::ResourceArn => is_resource_arn(text, &["stream/", "channel/", "queue/"]),
            Self::QueueArn => is_arn(text, "queue/"),
            Self::ChannelArn => is_arn(text, "channel/"),
            Self::ConsumerArn => is_consumer_arn(text),
            Self::StreamId => text.split_once('-').is_some_and(|(a, b)| {
                (a.len(), b.len()) == (20, 3)
                    && a.bytes()
                        .chain(b.bytes())
                        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            }),
            Self::Account => is_account(text),
            Self::ErrorPrefix => consists_of(text, b"!-_'.*()/"),
            Self::KeyTemplate => consists_of(text, b"!-_'.*()/=:{}"),
            Self::LogGroup => consists_of(text, b".-_/#"),
            Self::LogStream => !text.contains([':', '*']),
            Self::PartitionSource => consists_of(text, b"._"),
            Self::Table => consists_of_low(text, b"_"),
            Self::BucketArn => is_arn_of(text, "s3", |region, account, bucket| {
                region.is_empty() && account.is_empty() && is_bucket(bucket, b"._-")
            }),
            Self::RoleArn => is_arn_of(text, "iam", |region, account, role| {
                let name = role.strip_prefix("role/");
                region.is_empty()
                    && is_account(account)
                    && name.is_some_and(|name| consists_of(name, b"+=,.@-_/"))
            }),
            Self::SchemaArn => is_arn_of(text, "glue", |region, account, schema| {
                let names = schema.strip_prefix("schema/").and_then(|names| names.split_once('/'));
                consists_of_low(region, b"-")
                    && is_account(account)
                    && names.is_some_and(|(registry, name)| {
                        consists_of(registry, b"-_$#.") && consists_of(name, b"-_$#.")
                    })
            }),
            Self::TableBucketArn => is_arn_of(text, "s3tables", |region, account, bucket| {
                let name = bucket.strip_prefix("bucket/");
                consists_of_low(region, b"-")
                    && is_account(account)
                    && name.is_some_and(|name| is_bucket(name, b"_-"))
            }),
            Self::AnyBucketArn => {
                ends_after(text, ":s3:::", |bucket| bucket.len() <= 255 && consists_of(bucket, b"_.-"))
            }
            Self::AnyRoleArn => ends_after(text, ":iam::", |rest| {
                let parts = rest.split_once(":role/");
                parts.is_some_and(|(account, name)| is_account(account) && consists_of(name, PATH_SIGNS))
            }),
            Self::AnyStreamArn => ends_in_region(text, ":kinesis:", "stream/", is_name),
            Self::KeyArn => ends_in_region(text, ":kms:", "key/", is_path),
            Self::KeyOrAliasArn => {
                ["key/", "alias/"].iter().any(|kind| ends_in_region(text, ":kms:", kind, is_path))
            }
            Self::SecretArn => {
                ends_in_region(text, ":secretsmanager:", "secret:", |name| consists_of(name, b"-/_+=.@!"))
            }
            Self::DomainArn => ends_in_region(text, ":es:", "domain/", |name| {
                (3..=28).contains(&name.len())
                    && name.starts_with(|first: char| first.is_ascii_lowercase())
                    && consists_of_low(name, b"-")
            }),
            // Without TLS, if the operator has allowed such a server.
            Self::ClusterAddress => is_web(text, ":"),
            Self::WebAddress => is_web(text, "://"),
            Self::DestinationId => consists_of(text, b"-"),
            Self::Digits => is_digits(text),
            Self::FileExtension => {
                text.is_empty()
                    || text.strip_prefix('.').is_some_and(|rest| consists_of_low(rest, b"!-_.*'()"))
            }
            Self::TimeZone => {
                text.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'/' | b'_'))
            }
            Self::LogGroupOrNone => text.is_empty() || consists_of(text, b".-_/#"),
            Self::Line => is_line(text),
            Self::NotBlank => is_line(text) && text.contains(|char| !is_space(char)),
            Self::Word => !text.is_empty() && !text.contains(is_space),
            Self::TagKey => !text.starts_with("aws:") && is_tag(text),
            Self::TagText => is_tag(text),
            #[cfg(feature = "video")]
            Self::Alphanumeric => consists_of(text, b""),
            #[cfg(feature = "video")]
            Self::MediaType => text.split(',').all(|kind| {
                kind.split_once('/')
                    .is_some_and(|(kind, of)| consists_of(kind, b"_-.+") && consists_of(of, b"_-.+"))
            }),
            #[cfg(feature = "video")]
            Self::VideoArn => is_video_arn(text),
        }
    }
}

/// The signs in names of roles and keys.
const PATH_SIGNS: &[u8] = b"_+=,.@-/";

fn is_path(text: &str) -> bool {
    consists_of(text, PATH_SIGNS)
}

/// Returns whether `.*` matches a text.
fn is_line(text: &str) -> bool {
    line_length(text) == text.len()
}

/// Returns whether `\s` matches a character.
fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r')
}

fn is_tag(text: &str) -> bool {
    let is_separator = |char: char| char.is_whitespace() && !char.is_control();
    text.chars().all(|char| char.is_alphanumeric() || is_separator(char) || "_.:/=+-@%".contains(char))
}

fn is_web(text: &str, colon: &str) -> bool {
    let scheme = text.strip_prefix("https").or_else(|| text.strip_prefix("http"));
    scheme.is_some_and(|rest| rest.starts_with(colon)) && is_line(text)
}

/// Returns whether a text is `arn:`, anything, a marker, and an end that is right.
fn ends_after(text: &str, marker: &str, is_right: impl Fn(&str) -> bool) -> bool {
    let Some(rest) = text.strip_prefix("arn:") else { return false };
    let line = line_length(rest);
    rest.match_indices(marker).any(|(at, _)| at <= line && is_right(&rest[at + marker.len()..]))
}

/// The same, where the end is a region, an account, the kind of a resource, and its name.
fn ends_in_region(text: &str, marker: &str, kind: &str, is_named: impl Fn(&str) -> bool) -> bool {
    ends_after(text, marker, |rest| {
        let parts: Vec<_> = rest.splitn(3, ':').collect();
        let [region, account, resource] = parts[..] else { return false };
        consists_of(region, b"-") && is_account(account) && resource.strip_prefix(kind).is_some_and(&is_named)
    })
}

/// Returns whether a text has only characters of names.
pub(in crate::gateway) fn is_name(text: &str) -> bool {
    consists_of(text, b"_.-")
}

/// Returns whether a text has letters, digits and these signs only, and at least one of them.
fn consists_of(text: &str, signs: &[u8]) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || signs.contains(&byte))
}

/// The same with lowercase letters.
fn consists_of_low(text: &str, signs: &[u8]) -> bool {
    consists_of(text, signs) && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_bucket(text: &str, signs: &[u8]) -> bool {
    (3..=63).contains(&text.len()) && consists_of_low(text, signs)
}

/// `arn:PARTITION:kinesisvideo:REGION:ACCOUNT:KIND/NAME/NUMBER`.
#[cfg(feature = "video")]
fn is_video_arn(text: &str) -> bool {
    let parts: Vec<_> = text.splitn(6, ':').collect();
    let ["arn", partition, "kinesisvideo", region, account, resource] = parts[..] else { return false };
    let resource: Vec<_> = resource.split('/').collect();
    let [kind, name, created] = resource[..] else { return false };
    let is_word = |text| consists_of_low(text, b"-");
    is_word(partition)
        && is_word(region)
        && is_digits(account)
        && !kind.is_empty()
        && kind.bytes().all(|byte| byte.is_ascii_lowercase())
        && is_name(name)
        && is_digits(created)
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && is_digits(text)
}

/// An ARN of a service, whose region, account and resource are right.
fn is_arn_of(text: &str, service: &str, is_right: impl Fn(&str, &str, &str) -> bool) -> bool {
    let parts: Vec<_> = text.splitn(6, ':').collect();
    let ["arn", partition, of, region, account, resource] = parts[..] else { return false };
    let partition = partition.strip_prefix("aws");
    partition.is_some_and(|rest| rest.is_empty() || consists_of_low(rest, b"-"))
        && of == service
        && is_right(region, account, resource)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A decimal number without leading zeros.
fn is_number(text: &str, digits_max: usize) -> bool {
    text == "0" || (is_digits(text) && text.len() <= digits_max && !text.starts_with('0'))
}

/// Returns the places after `arn:aws.*:kinesis:.*:\d{12}:` in a text, in linear time.
fn account_ends(text: &str) -> impl Iterator<Item = usize> {
    const SERVICE: &str = ":kinesis:";
    let from = text.strip_prefix("arn:aws").and_then(|rest| rest.find(SERVICE));
    let from = from.map_or(text.len(), |at| "arn:aws".len() + at + SERVICE.len());
    let accounts = text.as_bytes()[from..].windows(14).enumerate().filter(|(_, window)| {
        (window[0], window[13]) == (b':', b':') && window[1..13].iter().all(u8::is_ascii_digit)
    });
    accounts.map(move |(at, _)| from + at + 14)
}

/// Returns the length of a text's first line: `.` does not match its end.
fn line_length(text: &str) -> usize {
    text.find(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).unwrap_or(text.len())
}

/// Returns where the trailing run of `\S` characters begins.
fn last_word(text: &str) -> usize {
    text.rfind([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']).map_or(0, |at| at + 1)
}

/// An ARN of Kinesis, whose resource is `KIND/NAME`.
fn is_arn(text: &str, kind: &str) -> bool {
    let (line, word) = (line_length(text), last_word(text));
    account_ends(text).any(|end| {
        let name = end + kind.len();
        text[end..].starts_with(kind) && end <= line && (word..text.len()).contains(&name)
    })
}

/// An ARN of Kinesis, whose resource ends with `KIND/NAME` of one of these kinds.
fn is_resource_arn(text: &str, kinds: &[&str]) -> bool {
    let (line, word) = (line_length(text), last_word(text));
    let Some(end) = account_ends(text).next() else { return false };
    kinds.iter().any(|kind| {
        let mut places = text[end..].match_indices(kind).map(|(at, _)| end + at);
        places.any(|at| at <= line && (word..text.len()).contains(&(at + kind.len())))
    })
}

/// `….*stream/NAME/consumer/NAME:NUMBER`.
fn is_consumer_arn(text: &str) -> bool {
    let Some((stream, consumer)) = text.rsplit_once("/consumer/") else { return false };
    let named = consumer.split_once(':').is_some_and(|(name, created)| is_name(name) && is_digits(created));
    let Some((kind, name)) = stream.rsplit_once('/') else { return false };
    let head = kind.strip_suffix("stream");
    named
        && is_name(name)
        && head.is_some_and(|head| account_ends(head).next().is_some() && line_length(head) == head.len())
}

/// Returns whether a tag's key or text has only characters that Kinesis allows.
pub(in crate::gateway) fn is_tag_text(text: &str) -> bool {
    text.chars().all(|it| it.is_alphanumeric() || it == ' ' || "_./=+-@:".contains(it))
}
