//! The operations of the service: what each takes, which resource it is about, and what it does.

mod absent;
mod activity;
mod consumers;
mod describe;
mod encryption;
#[cfg(feature = "delivery")]
mod firehose;
#[cfg(feature = "delivery")]
mod firehose_records;
mod history;
mod lifecycle;
mod list;
mod monitoring;
mod policies;
mod queue_records;
mod queues;
mod read;
mod records;
mod reshard;
#[cfg(feature = "sql")]
mod sql;
mod subscribe;
mod table;
mod tags;
#[cfg(feature = "video")]
mod video;
#[cfg(feature = "video")]
mod video_archive;
#[cfg(feature = "video")]
mod video_media;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::catalogue::{Catalogue, Janitor, Known, Recorder};
use super::fault::{Answered, Fault};
use super::model::{Input, Member, Profile};
use super::names::{Account, parse_shard_id};
use super::token::Sealer;
use super::wire::{Format, Value};
use crate::{Clock, ShardId, Timestamp};

pub(super) use table::find;
#[cfg(feature = "video")]
pub(super) use table::find_video;
pub(super) use tags::Tagged;

/// A service: Kinesis, or another one of this server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Family {
    /// The prefix of the operation in requests.
    target: &'static str,
    /// The prefix of the operation in policies.
    action: &'static str,
    /// For which service requests are signed.
    pub(super) signed_for: &'static str,
}

/// An operation.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) family: &'static Family,
    pub(super) name: &'static str,
    pub(super) members: &'static [Member],
    pub(super) subject: Subject,
    /// Whether it takes a few milliseconds at most and does not wait, if the stream is open.
    pub(super) is_quick: bool,
    pub(super) run: fn(&Call<'_>, Input<'_>) -> Answered<Reply>,
}

/// The resource that an operation is about, on which policies decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// All streams.
    Account,
    /// The stream that `StreamName` or `StreamARN` names.
    Stream,
    /// That stream, or all streams if neither is there.
    StreamOrAccount,
    /// The stream of a shard iterator.
    Iterator,
    /// The consumer that `ConsumerARN` names, or its stream and its name.
    Consumer,
    /// The stream of a queue that is to be created.
    QueueStream,
    /// The delivery stream that `DeliveryStreamName` names.
    #[cfg(feature = "delivery")]
    DeliveryStream,
    /// The video stream that `StreamName` or `StreamARN` names.
    #[cfg(feature = "video")]
    VideoStream,
    /// The video stream that is to be created.
    #[cfg(feature = "video")]
    NewVideoStream,
    /// The resource that this member names.
    Arn(&'static str),
}

/// The answer of an operation.
pub(super) enum Reply {
    /// Nothing at all, not even `{}`.
    Empty,
    Body(Vec<u8>),
    Events(mpsc::Receiver<Bytes>),
    /// Lines of JSON, as they come.
    #[cfg(feature = "sql")]
    Lines(mpsc::Receiver<Bytes>),
    /// A body that comes later.
    Later(Later),
    /// A body of this content type.
    #[cfg(feature = "video")]
    Bytes(&'static str, Vec<u8>),
    /// The same in pieces.
    #[cfg(feature = "video")]
    Pieces(&'static str, mpsc::Receiver<Bytes>),
}

/// A future that a call waits for without a thread.
pub(super) type Later = Pin<Box<dyn Future<Output = Answered<Vec<u8>>> + Send>>;

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Body(_) => "Body",
            Self::Events(_) => "Events",
            #[cfg(feature = "sql")]
            Self::Lines(_) => "Lines",
            Self::Later(_) => "Later",
            #[cfg(feature = "video")]
            Self::Bytes(..) => "Bytes",
            #[cfg(feature = "video")]
            Self::Pieces(..) => "Pieces",
        })
    }
}

/// The shared state of all operations.
pub(super) struct Service {
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) janitor: Janitor,
    #[cfg(feature = "delivery")]
    pub(super) firehose: super::firehose::Firehose,
    #[cfg(feature = "video")]
    pub(super) video: super::video::Video,
    #[cfg(feature = "sql")]
    pub(super) sql: super::sql::Sql,
    /// `None` if tests decide when the streams are sampled.
    pub(super) recorder: Option<Recorder>,
    pub(super) sealer: Arc<Sealer>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) profile: Profile,
    /// How long a subscription lives.
    pub(super) subscription_life: std::time::Duration,
    /// Becomes true when the gateway ends. All waits for records then end.
    pub(super) ending: watch::Sender<bool>,
}

/// A call of an operation.
pub(super) struct Call<'a> {
    pub(super) service: &'a Service,
    pub(super) format: Format,
    /// The other end of the connection.
    #[cfg(feature = "sql")]
    pub(super) peer: std::net::SocketAddr,
    /// Returns whether the caller may do this to this resource.
    pub(super) may: &'a dyn Fn(&Operation, &str) -> bool,
    /// Returns whether the caller may do this to some resource.
    pub(super) may_somewhere: &'a dyn Fn(&Operation) -> bool,
    #[cfg(feature = "video")]
    pub(super) asked: &'a super::front::Asked<'a>,
}

impl Operation {
    /// Returns its name in policies, such as `kinesis:PutRecord`.
    pub(super) fn action(&self) -> String {
        format!("{}:{}", self.family.action, self.name)
    }
}

impl Call<'_> {
    fn reply(&self, value: &Value<'_>) -> Answered<Reply> {
        Ok(Reply::Body(self.format.encode(value)))
    }

    fn now(&self) -> Timestamp {
        self.service.clock.now()
    }

    fn account(&self) -> &Account {
        self.service.account()
    }

    /// Returns the ARN of the resource of a request, or `*`. The resource may not exist.
    pub(super) fn subject(&self, subject: Subject, input: &Input<'_>) -> Answered<String> {
        let account = self.account();
        match subject {
            Subject::Account => Ok("*".to_owned()),
            Subject::StreamOrAccount if !input.has("StreamName") && !input.has("StreamARN") => {
                Ok("*".to_owned())
            }
            // Only `ListShards` may leave the stream out; its token holds it.
            Subject::Stream if input.has("NextToken") && !input.has("StreamARN") => {
                list::stream_of(self, input).map(|stream| account.stream_arn(&stream))
            }
            Subject::Stream | Subject::StreamOrAccount => {
                self.service.stream_name(input).map(|stream| account.stream_arn(stream))
            }
            Subject::Iterator => read::stream_of(self, input).map(|stream| account.stream_arn(&stream)),
            Subject::Consumer => match input.text("ConsumerARN") {
                Some(arn) => Ok(arn.to_owned()),
                None => {
                    let (known, consumer) = consumers::find(self, input)?;
                    Ok(known.consumer_arn(&consumer))
                }
            },
            Subject::QueueStream => match input.first_text("StreamConfigurationList", "StreamARN") {
                Some(arn) => Ok(arn.to_owned()),
                None => Err(Fault::internal()),
            },
            #[cfg(feature = "delivery")]
            Subject::DeliveryStream => Ok(account.delivery_stream_arn(input.required("DeliveryStreamName"))),
            #[cfg(feature = "video")]
            Subject::VideoStream => video::find(self, input).map(|known| known.arn.clone()),
            #[cfg(feature = "video")]
            Subject::NewVideoStream => {
                Ok(account.video_stream_arn(input.required("StreamName"), Timestamp::from_millis(0)))
            }
            Subject::Arn(member) => Ok(input.required(member).to_owned()),
        }
    }

    /// Returns the id of a shard of a stream. The shard may not exist.
    fn shard_id(&self, text: &str, stream: &str) -> Answered<ShardId> {
        parse_shard_id(text).ok_or_else(|| self.no_shard(text, stream))
    }

    fn no_shard(&self, shard: &str, stream: &str) -> Fault {
        let account = &self.account().id;
        Fault::not_found(format!("Could not find shard {shard} in stream {stream} under account {account}."))
    }

    /// Returns the stream that a request names, in any state.
    fn stream(&self, input: &Input<'_>) -> Answered<Arc<Known>> {
        self.service.catalogue.stream(self.service.stream_name(input)?)
    }
}

impl Service {
    pub(super) fn account(&self) -> &Account {
        &self.catalogue.behaviour().account
    }

    /// Returns the name of the stream that a request names by its name, its ARN, or both.
    pub(super) fn stream_name<'a>(&self, input: &'a Input<'_>) -> Answered<&'a str> {
        let account = &self.catalogue.behaviour().account;
        let name = input.text("StreamName");
        let Some(arn) = input.text("StreamARN") else {
            return name.ok_or_else(|| Fault::invalid("Either StreamName or StreamARN must be provided."));
        };
        let Some(of_arn) = account.stream_of(arn) else {
            return Err(Fault::not_found(format!("Stream {arn} under account {} not found.", account.id)));
        };
        match name {
            Some(name) if name != of_arn => {
                Err(Fault::invalid(format!("StreamName {name} and StreamARN {arn} name different streams.")))
            }
            _ => Ok(of_arn),
        }
    }
}
