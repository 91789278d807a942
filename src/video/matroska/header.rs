//! The elements before the clusters: the header of the document, the information of the segment, its tracks and tags.

use super::element::{NoHead, elements, text, uint};
use super::ids;
use crate::video::error::{AckErrorId, VideoError};

/// The most tracks, as in Kinesis.
const TRACKS_MAX: usize = 3;
/// The most tags of a fragment, as in Kinesis, and their longest names and values in bytes.
pub(crate) const TAGS_MAX: usize = 10;
const TAG_NAME_BYTES_MAX: usize = 128;
const TAG_VALUE_BYTES_MAX: usize = 256;
/// The prefix of the names of tags that the service adds.
const SERVICE_TAGS: &str = "AWS_KINESISVIDEO_";
/// The default scale of a segment: a timecode is a millisecond.
pub(super) const TIMESTAMP_SCALE_DEFAULT: u64 = 1_000_000;

pub(super) fn invalid(reason: impl Into<Box<str>>) -> VideoError {
    VideoError::rejected(AckErrorId::InvalidMkvData, reason)
}

impl From<NoHead> for VideoError {
    fn from(_: NoHead) -> Self {
        invalid("expected an element, and found bytes that cannot begin one, or that end within it")
    }
}

/// Checks the payload of the document's header.
pub(super) fn check_document(payload: &[u8]) -> Result<(), VideoError> {
    for element in elements(payload) {
        let element = element?;
        let value = uint(element.payload);
        let is_known = match element.id {
            ids::DOC_TYPE => matches!(text(element.payload), Some("matroska" | "webm")),
            ids::EBML_MAX_ID_LENGTH => value.is_some_and(|length| length <= 4),
            ids::EBML_MAX_SIZE_LENGTH => value.is_some_and(|length| length <= 8),
            _ => true,
        };
        if !is_known {
            return Err(invalid("the document is neither Matroska nor WebM"));
        }
    }
    Ok(())
}

/// Returns how many nanoseconds a timecode of the segment means. Blanks the total duration, which does not apply to a fragment.
pub(super) fn read_info(payload: &mut [u8]) -> Result<u64, VideoError> {
    let mut scale = TIMESTAMP_SCALE_DEFAULT;
    let (mut to_blank, mut has_duration) = (vec![], false);
    for element in elements(payload) {
        let element = element?;
        match element.id {
            ids::TIMESTAMP_SCALE => {
                let given = uint(element.payload).filter(|&scale| scale > 0);
                scale = given.ok_or_else(|| invalid("the timestamp scale is not a positive number"))?;
            }
            ids::DURATION | ids::CRC_32 => {
                has_duration |= element.id == ids::DURATION;
                to_blank.push(element.at..element.at + element.head_len + element.payload.len());
            }
            _ => {}
        }
    }
    // Once the duration is blank, a checksum is no longer valid.
    if has_duration {
        to_blank.into_iter().for_each(|range| blank(&mut payload[range]));
    }
    Ok(scale)
}

/// Turns an element into an empty one of the same length.
fn blank(element: &mut [u8]) {
    // The size takes as many bytes as necessary to end where the element ends.
    let len = element.len() as u64;
    let size_len = if len <= 128 { 1 } else { 8 };
    let size = len - 1 - size_len;
    element[0] = ids::VOID as u8;
    let size_bytes = (size | 1 << (7 * size_len)).to_be_bytes();
    let size_len = size_len as usize;
    element[1..1 + size_len].copy_from_slice(&size_bytes[8 - size_len..]);
    element[1 + size_len..].fill(0);
}

/// The data of a track that an ingest needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TrackHead {
    pub(super) number: u64,
    pub(super) default_duration_ns: Option<u64>,
    codec_private: Vec<u8>,
}

/// Reads the payload of the tracks.
pub(super) fn read_tracks(payload: &[u8]) -> Result<Vec<TrackHead>, VideoError> {
    let mut tracks: Vec<TrackHead> = vec![];
    for element in elements(payload) {
        let element = element?;
        if element.id != ids::TRACK_ENTRY {
            continue;
        }
        let track = read_track(element.payload)?;
        if tracks.iter().any(|known| known.number == track.number) {
            return Err(invalid(format!("two tracks have the number {}", track.number)));
        }
        if tracks.len() == TRACKS_MAX {
            return Err(VideoError::rejected(
                AckErrorId::MoreThanAllowedTracksFound,
                format!("there are more than {TRACKS_MAX} tracks"),
            ));
        }
        tracks.push(track);
    }
    if tracks.is_empty() { Err(invalid("the segment has no track")) } else { Ok(tracks) }
}

fn read_track(payload: &[u8]) -> Result<TrackHead, VideoError> {
    let mut track = TrackHead { number: 0, default_duration_ns: None, codec_private: vec![] };
    for element in elements(payload) {
        let element = element?;
        match element.id {
            ids::TRACK_NUMBER => {
                track.number =
                    uint(element.payload).ok_or_else(|| invalid("a track's number is too long"))?;
            }
            ids::DEFAULT_DURATION => {
                track.default_duration_ns = uint(element.payload).filter(|&duration| duration > 0);
            }
            ids::CODEC_PRIVATE => track.codec_private = element.payload.to_vec(),
            _ => {}
        }
    }
    if track.number == 0 { Err(invalid("a track has no number")) } else { Ok(track) }
}

/// Returns a number that is equal for tracks, given by their payload, whose decoder setup is the same.
pub(super) fn setup_of(payload: &[u8]) -> Result<u32, VideoError> {
    let mut setup = vec![];
    for entry in elements(payload) {
        let entry = entry?;
        if entry.id != ids::TRACK_ENTRY {
            continue;
        }
        for element in elements(entry.payload) {
            let element = element?;
            let counts = matches!(
                element.id,
                ids::TRACK_NUMBER
                    | ids::TRACK_TYPE
                    | ids::CODEC_ID
                    | ids::CODEC_PRIVATE
                    | ids::DEFAULT_DURATION
                    | ids::VIDEO
                    | ids::AUDIO
            );
            // Ids and lengths keep one track's values apart from another's. Names, languages and random ids do not matter.
            if counts {
                setup.extend_from_slice(&element.id.to_be_bytes());
                setup.extend_from_slice(&(element.payload.len() as u64).to_be_bytes());
                setup.extend_from_slice(element.payload);
            }
        }
        setup.push(0);
    }
    Ok(crc32fast::hash(&setup))
}

/// Tags as names and values.
pub(crate) type TagList = Vec<(String, String)>;

/// Adds the tags that are not about a single track. Those that the service adds itself are left out, so that its output can be ingested again.
pub(super) fn read_tags(payload: &[u8], tags: &mut TagList) -> Result<(), VideoError> {
    for element in elements(payload) {
        let element = element?;
        if element.id == ids::TAG && !is_of_track(element.payload)? {
            for element in elements(element.payload) {
                let element = element?;
                if element.id == ids::SIMPLE_TAG {
                    read_tag(element.payload, tags)?;
                }
            }
        }
    }
    Ok(())
}

fn is_of_track(payload: &[u8]) -> Result<bool, VideoError> {
    for element in elements(payload) {
        let element = element?;
        if element.id == ids::TARGETS {
            for element in elements(element.payload) {
                let element = element?;
                if element.id == ids::TARGET_TRACK_UID && uint(element.payload) != Some(0) {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

fn read_tag(payload: &[u8], tags: &mut TagList) -> Result<(), VideoError> {
    let (mut name, mut value) = (None, None);
    for element in elements(payload) {
        let element = element?;
        let text = || text(element.payload).ok_or_else(|| invalid("a tag is not UTF-8"));
        match element.id {
            ids::TAG_NAME => name = Some(text()?),
            ids::TAG_STRING => value = Some(text()?),
            _ => {}
        }
    }
    match (name, value) {
        (Some(name), Some(value)) if !name.starts_with(SERVICE_TAGS) => set_tag(tags, name, value),
        // Without a text, it is binary, or only has nested tags.
        _ => Ok(()),
    }
}

/// Adds a tag, or changes it.
pub(crate) fn set_tag(tags: &mut TagList, name: &str, value: &str) -> Result<(), VideoError> {
    let over = |what: String| Err(VideoError::rejected(AckErrorId::FragmentMetadataLimitReached, what));
    if !(1..=TAG_NAME_BYTES_MAX).contains(&name.len()) {
        return over(format!(
            "the name of a tag has {} bytes, and may have 1 to {TAG_NAME_BYTES_MAX}",
            name.len()
        ));
    }
    if value.len() > TAG_VALUE_BYTES_MAX {
        return over(format!("the tag {name} has {} bytes, and may have {TAG_VALUE_BYTES_MAX}", value.len()));
    }
    if let Some((_, known)) = tags.iter_mut().find(|(known, _)| known == name) {
        value.clone_into(known);
        return Ok(());
    }
    if tags.len() == TAGS_MAX {
        return over(format!("a fragment has more than {TAGS_MAX} tags"));
    }
    tags.push((name.to_owned(), value.to_owned()));
    Ok(())
}
