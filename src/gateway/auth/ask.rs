//! The facts about a request that policies can use.

use std::net::IpAddr;

use super::credentials::Identity;
use super::dates;
use crate::Timestamp;

/// A client chooses the length of its `User-Agent`. Conditions see at most this many bytes of it, so that matching takes bounded time.
const USER_AGENT_BYTES_MAX: usize = 1_024;

/// What a caller asks to do.
#[derive(Debug, Clone, Copy)]
pub(in crate::gateway) struct Ask<'a> {
    /// `kinesis:PutRecord`.
    pub(in crate::gateway) action: &'a str,
    /// The ARN of the stream or consumer, or `*` where an operation has none.
    pub(in crate::gateway) resource: &'a str,
    pub(in crate::gateway) region: &'a str,
    pub(in crate::gateway) now: Timestamp,
    pub(in crate::gateway) source: IpAddr,
    pub(in crate::gateway) is_tls: bool,
    pub(in crate::gateway) user_agent: Option<&'a str>,
    /// The tags that the stream or consumer has.
    pub(in crate::gateway) resource_tags: &'a [(&'a str, &'a str)],
    /// The tags that the request names, without a value if it removes them.
    pub(in crate::gateway) request_tags: &'a [(&'a str, Option<&'a str>)],
}

/// An identity and what it asks, as condition keys show them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) identity: &'a Identity,
    pub(super) ask: &'a Ask<'a>,
}

impl Context<'_> {
    /// Returns the values of a condition key: none if the request does not have it, and never an empty list.
    pub(super) fn values(&self, key: &str) -> Option<Vec<String>> {
        if key.eq_ignore_ascii_case("aws:TagKeys") {
            let keys: Vec<_> = self.ask.request_tags.iter().map(|(key, _)| (*key).to_owned()).collect();
            return Some(keys).filter(|keys| !keys.is_empty());
        }
        self.value(key).map(|value| vec![value])
    }

    /// Returns the value of a condition key that has at most one.
    pub(super) fn value(&self, key: &str) -> Option<String> {
        let Self { identity, ask } = self;
        let lowered = key.to_ascii_lowercase();
        let is_tag = |tag: &str| {
            key.split_once('/').is_some_and(|(_, wanted)| tag.to_lowercase() == wanted.to_lowercase())
        };
        Some(match lowered.as_str() {
            "aws:currenttime" => dates::seconds(ask.now),
            "aws:epochtime" => (ask.now.as_millis() / 1_000).to_string(),
            "aws:principalaccount" | "aws:resourceaccount" => identity.account.clone(),
            "aws:principalarn" => identity.arn.clone(),
            "aws:requestedregion" => ask.region.to_owned(),
            "aws:securetransport" => ask.is_tls.to_string(),
            "aws:sourceip" => ask.source.to_canonical().to_string(),
            "aws:useragent" => start_of(ask.user_agent?, USER_AGENT_BYTES_MAX).to_owned(),
            // AWS gives each user an id. Here, the name serves as the id.
            "aws:userid" | "aws:username" => identity.user.clone(),
            _ if lowered.starts_with("aws:resourcetag/") => {
                ask.resource_tags.iter().find(|(tag, _)| is_tag(tag))?.1.to_owned()
            }
            _ if lowered.starts_with("aws:requesttag/") => {
                let mut values =
                    ask.request_tags.iter().filter(|(tag, _)| is_tag(tag)).filter_map(|(_, value)| *value);
                values.next()?.to_owned()
            }
            _ => return None,
        })
    }
}

/// Returns at most this many bytes, and whole characters.
fn start_of(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::gateway::auth) const ACCOUNT: &str = "123456789012";
    pub(in crate::gateway::auth) const STREAM: &str = "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks";

    pub(in crate::gateway::auth) fn ask() -> Ask<'static> {
        Ask {
            action: "kinesis:PutRecord",
            resource: STREAM,
            region: "eu-west-1",
            now: Timestamp::from_millis(1_767_225_600_500),
            source: [203, 0, 113, 7].into(),
            is_tls: true,
            user_agent: Some("Boto3/1.40 md/Botocore#1.40"),
            resource_tags: &[("Team", "web"), ("Owner", "alice")],
            request_tags: &[("Stage", Some("test")), ("Team", None)],
        }
    }

    #[test]
    fn the_keys_have_the_values_of_the_request() {
        let identity = Identity::new(ACCOUNT, "alice", "AKID", vec![]);
        let ask = ask();
        let context = Context { identity: &identity, ask: &ask };
        for (key, expected) in [
            ("aws:CurrentTime", Some("2026-01-01T00:00:00Z")),
            ("aws:EpochTime", Some("1767225600")),
            ("aws:PrincipalAccount", Some(ACCOUNT)),
            ("aws:ResourceAccount", Some(ACCOUNT)),
            ("AWS:PRINCIPALARN", Some("arn:aws:iam::123456789012:user/alice")),
            ("aws:RequestedRegion", Some("eu-west-1")),
            ("aws:SecureTransport", Some("true")),
            ("aws:SourceIp", Some("203.0.113.7")),
            ("aws:UserAgent", Some("Boto3/1.40 md/Botocore#1.40")),
            ("aws:userid", Some("alice")),
            ("aws:UserName", Some("alice")),
            ("aws:ResourceTag/team", Some("web")),
            ("aws:ResourceTag/Stage", None),
            ("aws:RequestTag/Stage", Some("test")),
            ("aws:RequestTag/Team", None),
            ("aws:TagKeys", None),
            ("aws:MultiFactorAuthPresent", None),
            ("", None),
        ] {
            assert_eq!(context.value(key).as_deref(), expected, "{key}");
        }
        assert_eq!(context.values("aws:tagkeys").unwrap(), ["Stage", "Team"]);
        let bare = Ask { request_tags: &[], user_agent: None, ..ask };
        let context = Context { identity: &identity, ask: &bare };
        assert_eq!((context.values("aws:TagKeys"), context.value("aws:UserAgent")), (None, None));
    }

    #[test]
    fn addresses_of_ipv4_in_ipv6_are_plain_and_long_agents_are_cut() {
        let identity = Identity::new(ACCOUNT, "alice", "AKID", vec![]);
        let agent = "é".repeat(2_000);
        let ask = Ask { source: "::ffff:10.0.0.1".parse().unwrap(), user_agent: Some(&agent), ..ask() };
        let context = Context { identity: &identity, ask: &ask };
        assert_eq!(context.value("aws:SourceIp").unwrap(), "10.0.0.1");
        assert_eq!(context.value("aws:UserAgent").unwrap(), "é".repeat(512));
        assert_eq!(start_of("aé", 2), "a");
    }
}
