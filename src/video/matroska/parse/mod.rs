//! Parses a whole fragment of Matroska into its tracks, frames and tags.

mod block;
mod element;
mod tracks;

use block::Blocks;
use element::{Element, Elements};
use tracks::TrackEntry;

use super::ids;
use crate::video::VideoError;
use crate::video::media::Media;

/// Far more than the three tracks that Kinesis takes.
const TRACKS_MAX: usize = 64;

fn invalid(offset: usize, what: &str) -> VideoError {
    VideoError::InvalidMedia(format!("{what}, at byte {offset}").into())
}

/// Parses a whole Matroska file.
pub(crate) fn media(fragment: &[u8]) -> Result<Media<'_>, VideoError> {
    let mut file = Elements::new(fragment);
    let header = file.next().ok_or_else(|| invalid(0, "no EBML header"))??;
    if header.id != ids::EBML {
        return Err(invalid(0, "no EBML header"));
    }
    let mut reading = Reading::default();
    let mut has_segment = false;
    for element in file {
        let element = element?;
        if element.id == ids::SEGMENT {
            has_segment = true;
            reading.segment(&element)?;
        }
    }
    if !has_segment {
        return Err(invalid(fragment.len(), "no Segment"));
    }
    reading.finish()
}

/// The parsed parts of a file.
#[derive(Default)]
struct Reading<'a> {
    tracks: Vec<TrackEntry>,
    blocks: Blocks<'a>,
    timecode_ns: Option<i64>,
    tags: Vec<(String, String)>,
}

impl<'a> Reading<'a> {
    fn segment(&mut self, segment: &Element<'a>) -> Result<(), VideoError> {
        let mut scale = super::header::TIMESTAMP_SCALE_DEFAULT;
        for element in segment.children() {
            let element = element?;
            match element.id {
                ids::INFO => {
                    if let Some(found) = element.child(ids::TIMESTAMP_SCALE)? {
                        scale = found.unsigned()?;
                    }
                    if scale == 0 {
                        return Err(invalid(element.at, "TimestampScale is 0"));
                    }
                }
                ids::TRACKS => self.tracks(&element)?,
                ids::CLUSTER => self.cluster(&element, scale)?,
                ids::TAGS => self.tags(&element)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The first description of a track counts: a producer that restarts within a file repeats it.
    fn tracks(&mut self, tracks: &Element<'a>) -> Result<(), VideoError> {
        for entry in tracks.children() {
            let entry = entry?;
            if entry.id != ids::TRACK_ENTRY {
                continue;
            }
            let read = TrackEntry::read(&entry)?;
            if self.tracks.iter().any(|known| known.track.number == read.track.number) {
                continue;
            }
            if self.tracks.len() == TRACKS_MAX {
                return Err(invalid(entry.at, "more than 64 tracks"));
            }
            self.tracks.push(read);
        }
        Ok(())
    }

    fn cluster(&mut self, cluster: &Element<'a>, scale: u64) -> Result<(), VideoError> {
        let timestamp = match cluster.child(ids::TIMESTAMP)? {
            Some(timestamp) => timestamp.unsigned()?,
            None => return Err(invalid(cluster.at, "no Timestamp in a Cluster")),
        };
        let timecode_ns = i64::try_from(u128::from(timestamp) * u128::from(scale))
            .map_err(|_| invalid(cluster.at, "Timestamp out of range"))?;
        self.timecode_ns.get_or_insert(timecode_ns);
        for element in cluster.children() {
            let element = element?;
            match element.id {
                ids::SIMPLE_BLOCK => self.blocks.simple(&element, timecode_ns, scale, &self.tracks)?,
                ids::BLOCK_GROUP => self.blocks.group(&element, timecode_ns, scale, &self.tracks)?,
                ids::ENCRYPTED_BLOCK => {
                    return Err(VideoError::UnsupportedMedia("an encrypted block".into()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn tags(&mut self, tags: &Element<'a>) -> Result<(), VideoError> {
        for tag in tags.children_with(ids::TAG) {
            for simple in tag?.children_with(ids::SIMPLE_TAG) {
                let simple = simple?;
                let name = simple.child(ids::TAG_NAME)?.map(|name| name.text());
                let value = simple.child(ids::TAG_STRING)?.map(|value| value.text());
                self.tags.extend(name.map(|name| (name, value.unwrap_or_default())));
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Media<'a>, VideoError> {
        let timecode_ns = self.timecode_ns.ok_or_else(|| invalid(0, "no Cluster"))?;
        let frames = self.blocks.finish();
        let tracks = self.tracks.into_iter().map(|entry| entry.track).collect();
        Ok(Media { tracks, frames, timecode_ns, tags: self.tags })
    }
}
