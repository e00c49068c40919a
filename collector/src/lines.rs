//! Bytes → lines of a bounded length, each with its number and the offset after it.

use memchr::memchr;
use xxhash_rust::xxh3::Xxh3;

use crate::event_source::{BadReason, Refused};

/// The byte-order mark, in UTF-8. Windows tools begin files with it, and files that were put together have it within.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'b> {
    /// From 1.
    pub number: u64,
    /// The offset of the byte after it, its line end included.
    pub end: u64,
    /// Whether it has a line end: only the last one may have none.
    pub is_ended: bool,
    /// Whether its beginning was read as a line when nothing more was there.
    pub continues: bool,
    /// Without its line end and a byte-order mark; a line that is too long is refused with how it begins.
    pub content: Result<&'b [u8], (Refused, Vec<u8>)>,
}

/// A place between two lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Of the text before it, in bytes.
    pub offset: u64,
    /// How many lines are before it.
    pub lines: u64,
    /// Whether the last one of these had no line end yet.
    pub continues: bool,
    /// The digest of the text before it, where one is kept.
    pub digest: Option<u64>,
}

/// Splits what is pushed into lines. Holds no more than one line of the longest length and what was last pushed.
pub(crate) struct Lines {
    max_line_bytes: usize,
    buffer: Vec<u8>,
    /// Where the next line begins in `buffer`.
    start: usize,
    /// Up to where `buffer` is known to have no line end.
    scanned: usize,
    /// The offset of the next line; behind that of `start` while a line is being skipped.
    offset: u64,
    /// Lines before `start`.
    lines: u64,
    /// Whether the last of these had no line end.
    continues: bool,
    /// The digest of the text before `offset`.
    digest: Option<Box<Xxh3>>,
    /// Where the line began that had no line end.
    before_last: Place,
    /// The part of an overlong line that is no longer held.
    skipping: Option<Skipped>,
    finished: bool,
}

struct Skipped {
    begins: Vec<u8>,
    bytes: u64,
    /// The digest of the text with it.
    digest: Option<Box<Xxh3>>,
}

impl Lines {
    pub fn new(max_line_bytes: usize) -> Self {
        Lines::at(max_line_bytes, &Place::default(), None)
    }

    /// Goes on at a place, with the digest of the text before it, where one is kept.
    pub fn at(max_line_bytes: usize, place: &Place, digest: Option<Xxh3>) -> Self {
        Lines {
            max_line_bytes,
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            offset: place.offset,
            lines: place.lines,
            continues: place.continues,
            digest: digest.map(Box::new),
            before_last: Place::default(),
            skipping: None,
            finished: false,
        }
    }

    /// The offset of the next line, and the number of lines before it.
    pub fn position(&self) -> (u64, u64) {
        (self.offset, self.lines)
    }

    /// The place before the next line.
    pub fn place(&self) -> Place {
        let digest = self.digest.as_ref().map(|digest| digest.digest());
        Place { offset: self.offset, lines: self.lines, continues: self.continues, digest }
    }

    /// The place before the last line, which had no line end.
    pub fn place_before_last(&self) -> Place {
        self.before_last.clone()
    }

    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// There are no more bytes: what is left is the last line, without a line end.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// The next whole line; `None`: more bytes are needed, or there is nothing left.
    pub fn next(&mut self) -> Option<Line<'_>> {
        let found = memchr(b'\n', self.buffer.get(self.scanned..)?).map(|at| self.scanned + at);
        let (line_end, next) = match found {
            Some(at) => (at, at + 1),
            None if self.finished && (self.start < self.buffer.len() || self.skipping.is_some()) => (self.buffer.len(), self.buffer.len()),
            None => {
                self.scanned = self.buffer.len();
                if self.scanned - self.start > self.max_line_bytes {
                    self.skip_what_is_here();
                }
                return None;
            }
        };
        if found.is_none() {
            self.before_last = self.place();
        }
        let (from, skipped) = (self.start, self.skipping.take());
        self.start = next;
        self.scanned = next;
        let with_end = self.buffer.get(from..next)?;
        let (begins, skipped_bytes) = match skipped {
            Some(Skipped { begins, bytes, digest }) => {
                self.digest = digest;
                (Some(begins), bytes)
            }
            None => (None, 0),
        };
        if let Some(digest) = &mut self.digest {
            digest.update(with_end);
        }
        self.offset += with_end.len() as u64 + skipped_bytes;
        let continues = std::mem::replace(&mut self.continues, found.is_none());
        // What goes on is of the line before.
        self.lines += u64::from(!continues);
        let bytes = self.buffer.get(from..line_end)?;
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let bytes = bytes.strip_prefix(MARK).unwrap_or(bytes);
        let content = match begins {
            None if bytes.len() <= self.max_line_bytes => Ok(bytes),
            None => Err((self.too_long(), beginning(bytes).to_vec())),
            Some(begins) => Err((self.too_long(), begins)),
        };
        Some(Line { number: self.lines, end: self.offset, is_ended: found.is_some(), continues, content })
    }

    fn skip_what_is_here(&mut self) {
        let here = self.buffer.get(self.start..).unwrap_or_default();
        let digest = &self.digest;
        let skipped = self.skipping.get_or_insert_with(|| Skipped { begins: beginning(here).to_vec(), bytes: 0, digest: digest.clone() });
        skipped.bytes += here.len() as u64;
        if let Some(digest) = &mut skipped.digest {
            digest.update(here);
        }
        self.buffer.clear();
        self.start = 0;
        self.scanned = 0;
    }

    fn too_long(&self) -> Refused {
        Refused::new(BadReason::LineTooLong, format!("the line is longer than {} bytes (max_line_bytes)", self.max_line_bytes))
    }
}

fn beginning(bytes: &[u8]) -> &[u8] {
    bytes.get(..crate::event_source::BAD_TEXT_BYTES).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    /// The lines of `input` when it arrives `chunk` bytes at a time, and the most that was held.
    fn split(input: &[u8], chunk: usize, max: usize) -> (Vec<(u64, u64, Option<String>)>, usize) {
        let mut lines = Lines::new(max);
        let (mut out, mut held) = (Vec::new(), 0);
        let mut chunks = input.chunks(chunk);
        loop {
            while let Some(line) = lines.next() {
                out.push((line.number, line.end, line.content.ok().map(|text| String::from_utf8(text.to_vec()).unwrap())));
            }
            held = held.max(lines.buffer.len());
            match chunks.next() {
                Some(bytes) => lines.push(bytes),
                None if lines.finished => return (out, held),
                None => lines.finish(),
            }
        }
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_arrive() {
        let input = b"one\n\r\ntwo\r\n\nfour is too long\nlast";
        let some = |text: &str| Some(text.to_string());
        let expected =
            vec![(1, 4, some("one")), (2, 6, some("")), (3, 11, some("two")), (4, 12, some("")), (5, 29, None), (6, 33, some("last"))];
        for chunk in 1..=input.len() {
            assert_eq!(split(input, chunk, 8).0, expected, "chunks of {chunk}");
        }
    }

    #[test]
    fn a_line_end_at_the_end_begins_no_line() {
        assert_eq!(split(b"a\n", 1, 8).0.len(), 1);
        assert_eq!(split(b"", 1, 8).0.len(), 0);
    }

    #[test]
    fn a_huge_line_is_skipped_without_being_held() {
        let mut input = vec![b'x'; 10_000_000];
        input.extend_from_slice(b"\nnext\n");
        let (lines, held) = split(&input, 4096, 1000);
        assert_eq!(lines, vec![(1, 10_000_001, None), (2, 10_000_006, Some("next".into()))]);
        assert!(held <= 1000 + 2 * 4096, "held {held} bytes");
    }

    #[test]
    fn a_huge_last_line_is_one_bad_line() {
        let (lines, _) = split(&vec![b'x'; 100_000], 4096, 1000);
        assert_eq!(lines, vec![(1, 100_000, None)]);
    }
}
