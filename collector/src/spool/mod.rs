//! The spool: messages of a network source, on disk between the network and the log.
//!
//! A network cannot be asked for the same bytes again, and the log may be slow or unavailable. So each message is appended to a file first, in one frame with the cursor of
//! its source: what is in the spool and from where the source is read on can never disagree. [`collect`](crate::collect()) reads the file, at points that are the same to the byte
//! after any crash. A segment is removed once all of it is in the log.
//!
//! A segment begins with the cursor and the newest ids, so that nothing before it is needed. A crash may leave the last one with a torn end: that is cut off when it is
//! opened, with its cursor, so the source sends again what it held.

mod frame;
mod reader;
mod seen;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use frame::Frame;
pub use frame::Message;
pub use reader::Reader;
use seen::Seen;

/// What a segment begins with.
const MAGIC: &[u8; 8] = b"RFSPOOL1";
/// Frames are written to the file when there are so many bytes of them, or when they are wanted.
const BUFFER_BYTES: usize = 256 << 10;

/// More ids are never known.
const MOST_REMEMBERED: usize = 100_000;

/// The bounds of a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolSettings {
    /// The most bytes on disk; when it is full, the source is not read.
    pub max_bytes: u64,
    /// When a segment has so many bytes, the next one begins.
    pub segment_bytes: u64,
    /// How many of the newest ids are known.
    pub remembered: usize,
}

impl SpoolSettings {
    /// A spool of so many bytes.
    pub fn of_bytes(max_bytes: u64) -> SpoolSettings {
        let segment_bytes = (max_bytes / 8).clamp(64 << 10, 16 << 20);
        // Each segment begins with the ids: at most a quarter of it.
        let remembered = usize::try_from(segment_bytes / 64).unwrap_or(MOST_REMEMBERED).min(MOST_REMEMBERED);
        SpoolSettings { max_bytes, segment_bytes, remembered }
    }
}

/// A place between two frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The number of the segment.
    pub segment: u64,
    /// The offset in it.
    pub offset: u64,
}

/// The writing end.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    settings: SpoolSettings,
    /// Whole segments before the one that is written: their lengths.
    before: BTreeMap<u64, u64>,
    file: File,
    /// The end of what is in the file.
    written: Place,
    /// The end of what survives a power failure: no reader goes past it.
    synced: Place,
    buffer: Vec<u8>,
    cursor: Option<String>,
    /// Whether the cursor is newer than the last frame.
    cursor_moved: bool,
    seen: Seen,
}

impl Spool {
    /// Opens the spool in `folder`, or begins one.
    ///
    /// # Errors
    /// When the folder cannot be read or written, or a segment is damaged that no crash can have torn.
    pub fn open(folder: &Path, settings: SpoolSettings) -> io::Result<Spool> {
        fs::create_dir_all(folder)?;
        let mut segments = segments(folder)?;
        let mut seen = Seen::new(settings.remembered);
        let mut cursor = None;
        // A segment that a crash has left without its first frame holds nothing yet.
        while let Some((number, _)) = segments.last_key_value() {
            let number = *number;
            if Reader::at(folder, start_of(number)).and_then(|mut reader| reader.next_frame()).is_ok_and(|frame| frame.is_some()) {
                break;
            }
            fs::remove_file(path_of(folder, number))?;
            segments.remove(&number);
        }
        let Some(last) = segments.last_key_value().map(|(number, _)| *number) else {
            return Spool::begin(folder, settings, 1, Vec::new());
        };
        // The last one alone says where the source is and what was seen: it begins with that.
        let mut reader = Reader::at(folder, start_of(last))?;
        let mut end = reader.place();
        while let Ok(Some(frame)) = reader.next_frame() {
            end = reader.place();
            match frame {
                Frame::Message(message) => {
                    if let Some(id) = message.id {
                        seen.insert(id);
                    }
                    cursor = message.cursor.or(cursor);
                }
                Frame::Cursor(moved) => cursor = Some(moved),
                Frame::Start { cursor: before, ids } => {
                    cursor = before.or(cursor);
                    ids.into_iter().for_each(|id| seen.insert(id));
                }
            }
        }
        let file = OpenOptions::new().append(true).open(path_of(folder, last))?;
        if file.metadata()?.len() > end.offset {
            tracing::info!(segment = last, offset = end.offset, "the torn end of a spool is cut off; its source sends it again if it can");
            file.set_len(end.offset)?;
        }
        file.sync_all()?;
        segments.remove(&last);
        let folder = folder.to_path_buf();
        Ok(Spool {
            folder,
            settings,
            before: segments,
            file,
            written: end,
            synced: end,
            buffer: Vec::new(),
            cursor,
            cursor_moved: false,
            seen,
        })
    }

    fn begin(folder: &Path, settings: SpoolSettings, number: u64, ids: Vec<u128>) -> io::Result<Spool> {
        let mut seen = Seen::new(settings.remembered);
        ids.into_iter().for_each(|id| seen.insert(id));
        let (file, end) = begin_segment(folder, number, None, &seen)?;
        let folder = folder.to_path_buf();
        let before = BTreeMap::new();
        Ok(Spool { folder, settings, before, file, written: end, synced: end, buffer: Vec::new(), cursor: None, cursor_moved: false, seen })
    }

    /// The cursor behind all that was appended.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// The oldest place that is still there.
    pub fn first(&self) -> Place {
        start_of(self.before.keys().next().copied().unwrap_or(self.written.segment))
    }

    /// Whether nothing more is to be appended before a segment was released.
    pub fn is_full(&self) -> bool {
        self.bytes() >= self.settings.max_bytes
    }

    /// How many bytes it has on disk.
    pub fn bytes(&self) -> u64 {
        self.before.values().sum::<u64>() + self.written.offset + self.buffer.len() as u64
    }

    /// Appends a message, unless it was appended before: then `false`.
    ///
    /// # Errors
    /// When it cannot be written. The spool is to be opened again before its next use.
    pub fn append(&mut self, message: Message) -> io::Result<bool> {
        if message.id.is_some_and(|id| self.seen.contains(id)) {
            return Ok(false);
        }
        if let Some(id) = message.id {
            self.seen.insert(id);
        }
        if message.cursor.is_some() {
            self.cursor.clone_from(&message.cursor);
            self.cursor_moved = false;
        }
        Frame::Message(message).write(&mut self.buffer);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        if self.written.offset + self.buffer.len() as u64 >= self.settings.segment_bytes {
            self.roll()?;
        }
        Ok(true)
    }

    /// Notes that the source was read up to `cursor`, without a message that is kept.
    pub fn move_cursor(&mut self, cursor: String) {
        self.cursor_moved = self.cursor_moved || self.cursor.as_ref() != Some(&cursor);
        self.cursor = Some(cursor);
    }

    /// Makes all that was appended durable, and lets readers see it: up to the place that is returned.
    ///
    /// # Errors
    /// As [`append`](Spool::append).
    pub fn sync(&mut self) -> io::Result<Place> {
        if std::mem::take(&mut self.cursor_moved)
            && let Some(cursor) = &self.cursor
        {
            Frame::Cursor(cursor.clone()).write(&mut self.buffer);
        }
        if !self.buffer.is_empty() || self.written != self.synced {
            self.flush()?;
            self.file.sync_data()?;
            self.synced = self.written;
        }
        Ok(self.synced)
    }

    /// Removes the segments that are wholly before `place`.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn release(&mut self, place: Place) -> io::Result<()> {
        while let Some(number) = self.before.keys().next().copied().filter(|number| *number < place.segment) {
            match fs::remove_file(path_of(&self.folder, number)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => self.before.remove(&number),
            };
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.written.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Ends the segment, and begins the next one with the cursor and the ids.
    fn roll(&mut self) -> io::Result<()> {
        self.sync()?;
        let number = self.written.segment + 1;
        let (file, end) = begin_segment(&self.folder, number, self.cursor.clone(), &self.seen)?;
        self.before.insert(self.written.segment, self.written.offset);
        (self.file, self.written, self.synced) = (file, end, end);
        Ok(())
    }
}

/// Removes a spool with all that is in it.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A segment with its first frame, durable with its name.
fn begin_segment(folder: &Path, number: u64, cursor: Option<String>, seen: &Seen) -> io::Result<(File, Place)> {
    let mut begins = MAGIC.to_vec();
    Frame::Start { cursor, ids: seen.ids() }.write(&mut begins);
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(path_of(folder, number))?;
    file.write_all(&begins)?;
    file.sync_all()?;
    File::open(folder)?.sync_all()?;
    Ok((file, Place { segment: number, offset: begins.len() as u64 }))
}

/// The place before the first frame of a segment.
fn start_of(segment: u64) -> Place {
    Place { segment, offset: MAGIC.len() as u64 }
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.segment"))
}

/// The segments in a folder, with their lengths.
fn segments(folder: &Path) -> io::Result<BTreeMap<u64, u64>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".segment")).and_then(|number| number.parse::<u64>().ok());
        if let Some(number) = number {
            found.insert(number, entry.metadata()?.len());
        }
    }
    Ok(found)
}
