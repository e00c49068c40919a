//! Bytes → lines of a bounded length, each with its number and the offset after it.

use memchr::memchr;

use crate::event_source::{BadReason, Refused};

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'b> {
    /// From 1.
    pub number: u64,
    /// The offset of its first byte.
    pub begin: u64,
    /// The offset of the byte after it, its line end included.
    pub end: u64,
    /// Whether it has a line end: only the last one may have none.
    pub is_ended: bool,
    /// Without its line end; a line that is too long is refused with how it begins.
    pub content: Result<&'b [u8], (Refused, Vec<u8>)>,
}

/// Splits what is pushed into lines. Holds no more than one line of the longest length and what was last pushed.
#[derive(Debug)]
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
    /// The part of an overlong line that is no longer held.
    skipping: Option<Skipped>,
    finished: bool,
}

#[derive(Debug)]
struct Skipped {
    begins: Vec<u8>,
    bytes: u64,
}

impl Lines {
    pub fn new(max_line_bytes: usize) -> Self {
        Lines::at(max_line_bytes, 0, 0)
    }

    /// Goes on after `lines` lines, at `offset`.
    pub fn at(max_line_bytes: usize, offset: u64, lines: u64) -> Self {
        Lines { max_line_bytes, buffer: Vec::new(), start: 0, scanned: 0, offset, lines, skipping: None, finished: false }
    }

    /// The offset of the next line, and the number of lines before it.
    pub fn position(&self) -> (u64, u64) {
        (self.offset, self.lines)
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
        let (from, skipped) = (self.start, self.skipping.take());
        self.start = next;
        self.scanned = next;
        let begin = self.offset;
        self.offset += (next - from) as u64 + skipped.as_ref().map_or(0, |skipped| skipped.bytes);
        self.lines += 1;
        let bytes = self.buffer.get(from..line_end)?;
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let content = match skipped {
            None if bytes.len() <= self.max_line_bytes => Ok(bytes),
            None => Err((self.too_long(), beginning(bytes).to_vec())),
            Some(skipped) => Err((self.too_long(), skipped.begins)),
        };
        Some(Line { number: self.lines, begin, end: self.offset, is_ended: found.is_some(), content })
    }

    fn skip_what_is_here(&mut self) {
        let here = self.buffer.get(self.start..).unwrap_or_default();
        let skipped = self.skipping.get_or_insert_with(|| Skipped { begins: beginning(here).to_vec(), bytes: 0 });
        skipped.bytes += here.len() as u64;
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
