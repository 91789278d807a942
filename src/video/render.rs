//! Clips and pictures of stored fragments.

use std::io::Write;
use std::time::Duration;

use super::mux::{picture, write_clip};
use super::{
    CodecChanges, Fragment, FragmentInfo, FragmentNumber, FragmentSelector, Media, PictureCodec, PlacedMedia,
    TrackKind, VideoError, VideoStream,
};
use crate::Timestamp;

impl VideoStream {
    /// Writes the selected fragments as one MP4 file, which can play while it is still loading.
    ///
    /// Fragments are in the order of arrival, at the producer's times: in gaps, the last picture remains. A fragment that begins before the end of
    /// the previous one follows it immediately. If the selector is a range of the producer's times, a fragment that does not begin later than the
    /// previous one is left out: the producer has sent that time twice, and the first arrival counts.
    ///
    /// The fragments are not copied. A clip also needs memory for the list of its frames.
    ///
    /// ```
    /// use streamlog::MINUTE;
    /// use streamlog::video::{CodecChanges, FragmentSelector, VideoError, VideoStream};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let stream = VideoStream::open(directory.path().join("door"))?;
    /// let now = stream.now();
    /// let minute = FragmentSelector::ProducerTime(now - MINUTE..=now);
    /// let mut file = vec![];
    /// match stream.clip(&minute, CodecChanges::Describe, &mut file) {
    ///     Ok(()) => std::fs::write(directory.path().join("minute.mp4"), file)?,
    ///     Err(VideoError::NotFound(_)) => println!("nobody at the door"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails with [`VideoError::NotFound`] if no fragment is selected, with [`VideoError::NoDataRetention`] if the stream archives nothing, with
    /// [`VideoError::UnsupportedMedia`], naming the codec, if MP4 cannot hold it, with [`VideoError::MissingCodecPrivateData`] or
    /// [`VideoError::InvalidCodecPrivateData`] if the parameters of a codec are missing or damaged, or change under `CodecChanges::Refuse`, and with
    /// [`VideoError::Write`] if `out` fails.
    pub fn clip(
        &self,
        selector: &FragmentSelector,
        changes: CodecChanges,
        out: &mut impl Write,
    ) -> Result<(), VideoError> {
        let mut chosen = self.fragments(selector)?;
        if matches!(selector, FragmentSelector::ProducerTime(_)) {
            let mut before = None;
            chosen.retain(|info| {
                let is_later = before < Some(info.producer_time);
                before = before.max(Some(info.producer_time));
                is_later
            });
        }
        let fragments = chosen.iter().filter_map(|info| self.fragment(info.number).transpose());
        let fragments = fragments.collect::<Result<Vec<Fragment>, _>>()?;
        if fragments.is_empty() {
            return Err(VideoError::NotFound("there is no fragment in this range".into()));
        }
        let media = fragments.iter().map(Fragment::media).collect::<Result<Vec<_>, _>>()?;
        let infos = fragments.iter().map(Fragment::info);
        let placed = place(infos.zip(&media))?;
        write_clip(&placed, changes, out)
    }

    /// Returns pictures from the selected fragments: the first one, and then the next one after each `interval`.
    ///
    /// It returns only key frames, which can be decoded by themselves. The producer determines how frequent they are. Intervals count from the
    /// beginning of the selector's range or, without a range, from the first picture. Times are the server's if the selector's are, and the
    /// producer's otherwise. The iterator reads fragments one by one.
    ///
    /// ```
    /// use streamlog::SECOND;
    /// use streamlog::video::{FragmentSelector, PictureCodec, VideoStream};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let stream = VideoStream::open(directory.path().join("door"))?;
    /// for image in stream.images(&FragmentSelector::All, 10 * SECOND)? {
    ///     let image = image?;
    ///     match image.codec {
    ///         PictureCodec::Jpeg => std::fs::write("picture.jpeg", &image.data)?,
    ///         codec => println!("{} {codec:?}: {} bytes for a decoder", image.producer_time, image.data.len()),
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails with [`VideoError::NoDataRetention`] if the stream archives nothing. The iterator returns [`VideoError::UnsupportedMedia`] if a
    /// fragment has no H.264, H.265 or MJPEG video, and [`VideoError::MissingCodecPrivateData`] or [`VideoError::InvalidCodecPrivateData`] if the
    /// parameters of a codec are missing or damaged, and then continues with the next fragment.
    pub fn images(&self, selector: &FragmentSelector, interval: Duration) -> Result<Images, VideoError> {
        let (is_by_server, start) = match selector {
            FragmentSelector::All => (false, None),
            FragmentSelector::ServerTime(range) => (true, Some(*range.start())),
            FragmentSelector::ProducerTime(range) => (false, Some(*range.start())),
        };
        Ok(Images {
            fragments: self.fragments(selector)?.into_iter(),
            stream: self.clone(),
            found: vec![].into_iter(),
            interval,
            is_by_server,
            due: start,
        })
    }
}

/// Puts fragments on one time line, which begins with the first of them.
fn place<'m>(
    fragments: impl Iterator<Item = (FragmentInfo, &'m Media<'m>)>,
) -> Result<Vec<PlacedMedia<'m>>, VideoError> {
    let mut placed = vec![];
    let mut first = None;
    // When the last picture of the previous fragment is presented, and when it ends.
    let mut before: Option<(i128, i128)> = None;
    for (info, media) in fragments {
        let micros = i128::from(info.producer_time.as_micros());
        let first = *first.get_or_insert(micros);
        let mut offset_ns = (micros - first) * 1_000 - i128::from(media.timecode_ns);
        if let Some((start_ns, last_ns, end_ns)) = extent(media) {
            if let Some((last_before, end_before)) = before
                && start_ns + offset_ns <= last_before
            {
                offset_ns = end_before - start_ns;
            }
            before = Some((last_ns + offset_ns, end_ns + offset_ns));
        }
        let offset_ns = i64::try_from(offset_ns)
            .map_err(|_| VideoError::InvalidMedia("fragments of one clip are centuries apart".into()))?;
        placed.push(PlacedMedia { media, offset_ns });
    }
    Ok(placed)
}

/// Returns when a fragment's pictures begin, when the last one is presented, and when that one ends; or the same of its sound, if it has no pictures.
fn extent(media: &Media<'_>) -> Option<(i128, i128, i128)> {
    let is_video = |number| media.track(number).is_some_and(|track| track.kind == TrackKind::Video);
    let has_video = media.frames.iter().any(|frame| is_video(frame.track));
    let mut times: Vec<_> = media
        .frames
        .iter()
        .filter(|frame| is_video(frame.track) == has_video)
        .map(|frame| (i128::from(frame.time_ns), frame.duration_ns))
        .collect();
    times.sort_unstable();
    let (&(start, _), &(last, told)) = (times.first()?, times.last()?);
    let before = times.iter().rev().nth(1).map_or(last, |&(before, _)| before);
    Some((start, last, last + told.map_or(last - before, i128::from).max(1)))
}

/// A picture of a video stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Image {
    /// The fragment that contains it.
    pub fragment: FragmentNumber,
    /// When it was taken, by the producer's clock.
    pub producer_time: Timestamp,
    /// When its fragment arrived, plus the time of the picture within the fragment.
    pub server_time: Timestamp,
    /// The coding of its bytes.
    pub codec: PictureCodec,
    /// The width of the coded picture, in pixels.
    pub width: u32,
    /// The height of the coded picture, in pixels.
    pub height: u32,
    /// The bytes of the picture, which a decoder can decode without anything else.
    pub data: Vec<u8>,
}

/// Pictures of a video stream, from [`VideoStream::images`].
#[derive(Debug)]
pub struct Images {
    stream: VideoStream,
    fragments: std::vec::IntoIter<FragmentInfo>,
    /// Pictures of a fragment that has been read.
    found: std::vec::IntoIter<Image>,
    interval: Duration,
    is_by_server: bool,
    /// The next picture is the first one taken at this time or later.
    due: Option<Timestamp>,
}

impl Images {
    fn read(&mut self, info: FragmentInfo) -> Result<Vec<Image>, VideoError> {
        let Some(fragment) = self.stream.fragment(info.number)? else { return Ok(vec![]) };
        let media = fragment.media()?;
        let Some(track) = media.tracks.iter().find(|track| track.kind == TrackKind::Video) else {
            let what = format!("fragment {} has no video", info.number);
            return Err(VideoError::UnsupportedMedia(what.into()));
        };
        let mut images = vec![];
        for frame in media.frames.iter().filter(|frame| frame.track == track.number && frame.is_key) {
            let after_ns = frame.time_ns.saturating_sub(media.timecode_ns);
            let (producer_time, server_time) =
                (shifted(info.producer_time, after_ns), shifted(info.server_time, after_ns));
            let time = if self.is_by_server { server_time } else { producer_time };
            if self.due.is_some_and(|due| time < due) {
                continue;
            }
            self.due = Some(next_due(self.due.unwrap_or(time), time, self.interval));
            let (codec, data) = picture(track, frame)?;
            let (width, height) = (track.width, track.height);
            images.push(Image {
                fragment: info.number,
                producer_time,
                server_time,
                codec,
                width,
                height,
                data,
            });
        }
        Ok(images)
    }
}

impl Iterator for Images {
    type Item = Result<Image, VideoError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(image) = self.found.next() {
                return Some(Ok(image));
            }
            let info = self.fragments.next()?;
            match self.read(info) {
                Ok(found) => self.found = found.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Returns the first time after `time` that is a whole number of intervals after `due`.
fn next_due(due: Timestamp, time: Timestamp, interval: Duration) -> Timestamp {
    let interval = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).max(1);
    let passed = time.as_micros().saturating_sub(due.as_micros()) / interval;
    Timestamp::from_micros(due.as_micros().saturating_add((passed + 1).saturating_mul(interval)))
}

fn shifted(time: Timestamp, ns: i64) -> Timestamp {
    let by = Duration::from_nanos(ns.unsigned_abs());
    if ns < 0 { time - by } else { time + by }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_do_not_drift() {
        let at = Timestamp::from_millis;
        let second = Duration::from_secs(1);
        assert_eq!(next_due(at(500), at(500), second), at(1_500));
        assert_eq!(next_due(at(500), at(1_499), second), at(1_500));
        assert_eq!(next_due(at(500), at(7_700), second), at(8_500));
        assert_eq!(next_due(at(500), at(7_700), Duration::ZERO), Timestamp::from_micros(7_700_001));
    }
}
