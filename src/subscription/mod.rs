//! Registered consumers, and subscriptions that push a shard's records to them: Kinesis' enhanced fan-out.
//!
//! The log itself is the buffer: a subscription reads when its consumer asks for the next event, so a slow consumer takes no memory and slows
//! nobody down. What wakes a consumer that waits is a put to its shard, whoever ends its subscription, or, for all that only time brings, the
//! stream's maintenance.

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
