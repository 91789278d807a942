//! Video: fragments of Matroska in, live and archived playback out.
