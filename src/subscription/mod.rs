//! Registered consumers, and subscriptions that push a shard's records to them: Kinesis' enhanced fan-out.
//!
//! The log itself is the buffer: a subscription reads when its consumer asks for the next event, so a slow consumer takes no memory and slows
//! nobody down. A waiting consumer is woken by a put to its shard, by the end of its subscription, or, for everything that only time brings, by
//! the stream's maintenance.

mod event;
mod options;
mod pipes;
mod push;
mod registry;
mod subscribed;
mod ticket;

pub use event::SubscriptionEvent;
pub use options::SubscriptionOptions;
pub use push::PushedSubscription;
pub use registry::ConsumerDescription;
pub use subscribed::{NextEvent, Subscription};
