//! Tags of streams, consumers and queues.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::catalogue::{Known, Settings};
use super::super::model::{Profile, is_tag_text};
use super::consumers::by_arn;
use super::{Answered, Call, Fault, Input, Reply, Service, Value, queues};

/// How many tags a stream, a consumer or a queue may have.
const TAGS_MAX: usize = 50;
/// The number in the service's error text in 2018, when it accepted as many as today.
const TAGS_SAID_2018: usize = 10;
const PAGE_MAX: usize = 50;

const INVALID_CHARACTERS: &str = "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - % @.";

/// A resource that has tags.
pub(in crate::gateway) enum Tagged {
    Stream(Arc<Known>),
    Consumer(Arc<Known>, String),
    /// A queue, by its id.
    Queue(Arc<Known>, String),
}

type Tags = BTreeMap<String, String>;

impl Tagged {
    /// Returns the resource that an ARN names.
    pub(in crate::gateway) fn by_arn(service: &Service, arn: &str) -> Answered<Self> {
        if let Some(stream) = service.account().stream_of(arn) {
            return service.catalogue.stream(stream).map(Self::Stream);
        }
        if service.account().consumer_of(arn).is_some() {
            let (known, consumer) = by_arn(service, arn)?;
            return Ok(Self::Consumer(known, consumer.description.name));
        }
        if service.account().queue_of(arn).is_some() {
            let (known, queue) = queues::by_arn(service, arn)?;
            return Ok(Self::Queue(known, queue.id));
        }
        Err(Fault::not_found(format!("Resource {arn} under account {} not found.", service.account().id)))
    }

    pub(super) fn known(&self) -> &Arc<Known> {
        match self {
            Self::Stream(known) | Self::Consumer(known, _) | Self::Queue(known, _) => known,
        }
    }

    pub(in crate::gateway) fn tags(&self) -> Tags {
        match self {
            Self::Stream(known) => known.settings().tags.clone(),
            Self::Consumer(known, consumer) => {
                known.settings().consumers.get(consumer).map(|it| it.tags.clone()).unwrap_or_default()
            }
            Self::Queue(known, id) => {
                known.settings().queues.get(id).map(|it| it.tags.clone()).unwrap_or_default()
            }
        }
    }

    /// Returns its policy.
    pub(in crate::gateway) fn policy(&self) -> Option<String> {
        let settings = self.known().settings();
        match self {
            Self::Stream(_) => settings.policy.clone(),
            Self::Consumer(_, name) => settings.consumers.get(name)?.policy.clone(),
            Self::Queue(_, id) => settings.queues.get(id)?.policy.clone(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Tags) -> Answered<()>) -> Answered<()> {
        self.known().change_now(|changing| {
            let mut tags = self.tags();
            change(&mut tags)?;
            changing.set(|settings: &mut Settings| match self {
                Self::Stream(_) => settings.tags = tags,
                Self::Consumer(_, name) => settings.consumers.entry(name.clone()).or_default().tags = tags,
                // One that is being deleted has none any more.
                Self::Queue(_, id) => drop(settings.queues.get_mut(id).map(|queue| queue.tags = tags)),
            })
        })
    }
}

pub(super) fn add_to_stream(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    add(call, &Tagged::Stream(call.stream(&input)?), &input)
}

pub(super) fn add_to_resource(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    add(call, &Tagged::by_arn(call.service, input.required("ResourceARN"))?, &input)
}

pub(super) fn remove_from_stream(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    remove(&Tagged::Stream(call.stream(&input)?), &input)
}

pub(super) fn remove_from_resource(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    remove(&Tagged::by_arn(call.service, input.required("ResourceARN"))?, &input)
}

/// Refuses texts that are not allowed in tags.
fn check_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Answered<()> {
    // A percent sign passes here, and is refused with another text.
    let is_valid = |text: &str| is_tag_text(&text.replace('%', ""));
    match texts.into_iter().all(is_valid) {
        true => Ok(()),
        false => Err(Fault::invalid(INVALID_CHARACTERS)),
    }
}

fn check_percent(texts: &[&str], refused: &str) -> Answered<()> {
    match texts.iter().any(|text| text.contains('%')) {
        true => Err(Fault::invalid(format!(
            "{refused} because some tags contained illegal characters. The allowed characters are Unicode letters, \
             white-spaces, '_',',','/','=','+','-','@'."
        ))),
        false => Ok(()),
    }
}

/// Returns the tags of a request for a resource that is to be created.
pub(super) fn of_new(call: &Call<'_>, input: &Input<'_>, what: &str) -> Answered<Tags> {
    let mut tags = Tags::new();
    extend(&mut tags, call, input, what)?;
    Ok(tags)
}

/// Adds the tags of a request to those that `what` has, if it may have them all.
fn extend(tags: &mut Tags, call: &Call<'_>, input: &Input<'_>, what: &str) -> Answered<()> {
    let wanted = input.text_map("Tags");
    let texts: Vec<_> = wanted.iter().flat_map(|(key, text)| [*key, *text]).collect();
    check_texts(texts.iter().copied())?;
    let refused = format!("Failed to add tags to {what} under account {}", call.account().id);
    check_percent(&texts, &refused)?;
    tags.extend(wanted.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())));
    if tags.len() <= TAGS_MAX {
        return Ok(());
    }
    let said = match call.service.profile {
        Profile::Today => TAGS_MAX,
        Profile::Year2018 => TAGS_SAID_2018,
    };
    Err(Fault::invalid(format!(
        "{refused} because a given stream cannot have more than {said} tags associated with it."
    )))
}

fn add(call: &Call<'_>, tagged: &Tagged, input: &Input<'_>) -> Answered<Reply> {
    let what = format!("stream {}", tagged.known().name);
    tagged.change(|tags| extend(tags, call, input, &what))?;
    Ok(Reply::Empty)
}

fn remove(tagged: &Tagged, input: &Input<'_>) -> Answered<Reply> {
    let keys = input.texts("TagKeys");
    check_texts(keys.iter().copied())?;
    let known = tagged.known();
    check_percent(
        &keys,
        &format!("Failed to remove tags from stream {} under account {}", known.name, known.account_id()),
    )?;
    tagged.change(|tags| {
        keys.iter().for_each(|key| drop(tags.remove(*key)));
        Ok(())
    })?;
    Ok(Reply::Empty)
}

pub(super) fn list_of_stream(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let tags = Tagged::Stream(call.stream(&input)?).tags();
    let after = input.text("ExclusiveStartTagKey").unwrap_or_default();
    let limit = input.count("Limit").map_or(PAGE_MAX, |limit| limit as usize);
    let mut tags = tags.iter().filter(|(key, _)| key.as_str() > after);
    let page = tags.by_ref().take(limit).map(tag_value).collect();
    call.reply(&Value::map([
        ("Tags", Value::List(page)),
        ("HasMoreTags", Value::Bool(tags.next().is_some())),
    ]))
}

pub(super) fn list_of_resource(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let tags = Tagged::by_arn(call.service, input.required("ResourceARN"))?.tags();
    call.reply(&Value::map([("Tags", Value::List(tags.iter().map(tag_value).collect()))]))
}

fn tag_value<'a>((key, text): (&'a String, &'a String)) -> Value<'a> {
    Value::map([("Key", Value::text(key.as_str())), ("Value", Value::text(text.as_str()))])
}
