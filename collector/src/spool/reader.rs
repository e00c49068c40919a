//! The reading end of a spool.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::frame::{Frame, HEAD_BYTES, payload_bytes};
use super::{MAGIC, Message, Place, path_of, start_of};

/// Reads messages from a place on, across segments.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    file: BufReader<File>,
    place: Place,
    frame: Vec<u8>,
}

impl Reader {
    /// Reads from `place` on.
    ///
    /// # Errors
    /// When its segment is not there, is none, or is shorter.
    pub fn at(folder: &Path, place: Place) -> io::Result<Reader> {
        let mut file = BufReader::with_capacity(256 << 10, File::open(path_of(folder, place.segment))?);
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(io::Error::new(ErrorKind::InvalidData, "it is no segment of a spool"));
        }
        if file.get_ref().metadata()?.len() < place.offset {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        file.seek(SeekFrom::Start(place.offset))?;
        Ok(Reader { folder: folder.to_path_buf(), file, place, frame: Vec::new() })
    }

    /// The place behind what was read.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The next message before `until`; `None`: there is none.
    ///
    /// # Errors
    /// When the spool cannot be read, or is damaged.
    pub fn next(&mut self, until: Place) -> io::Result<Option<Message>> {
        let mut is_read_again = false;
        while self.place < until {
            let frame = match self.next_frame() {
                // What was read ahead may have been torn, cut off and written anew since.
                Err(_) if !is_read_again => {
                    is_read_again = true;
                    *self = Reader::at(&self.folder, self.place)?;
                    continue;
                }
                frame => frame?,
            };
            match frame {
                Some(Frame::Message(message)) => return Ok(Some(message)),
                Some(_) => {}
                None if self.place.segment < until.segment => *self = Reader::at(&self.folder, start_of(self.place.segment + 1))?,
                None => break,
            }
        }
        Ok(None)
    }

    /// The next frame of the segment; `None` at its end.
    pub(super) fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        self.frame.clear();
        self.file.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut self.frame)?;
        if self.frame.is_empty() {
            return Ok(None);
        }
        let length = self.frame.first_chunk::<4>().and_then(|length| payload_bytes(u32::from_le_bytes(*length)));
        let length = length.ok_or_else(|| self.damaged())?;
        self.file.by_ref().take(length as u64).read_to_end(&mut self.frame)?;
        let (frame, bytes) = Frame::read(&self.frame).ok_or_else(|| self.damaged())?;
        self.place.offset += bytes as u64;
        Ok(Some(frame))
    }

    fn damaged(&self) -> io::Error {
        let Place { segment, offset } = self.place;
        let path = path_of(&self.folder, segment);
        io::Error::new(ErrorKind::InvalidData, format!("{} is damaged at offset {offset}", path.display()))
    }
}
