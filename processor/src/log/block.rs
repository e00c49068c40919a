//! The bytes of a block: records of one partition that were appended, or merged, as one.
//!
//! ```text
//!  0  format          u8    1
//!  1  flags           u8    bit 0: the body is compressed (LZ4 block)
//!  2  checksum        u32   CRC-32C of the block's key, then of every other byte of the block
//!  6  count           u32   records
//! 10  base time       i64   record time of the first record, milliseconds since the Unix epoch
//! 18  raw length      u32   bytes of the body once decompressed
//! 22  values length   u32   bytes of all values
//! 26  body                  values, back to back, then the index
//! ```
//!
//! Numbers are little endian. The index has two variable-length integers (LEB128) a record: the length of its value plus one (zero
//! is a tombstone) and its record time less that of the record before. Offsets are dense: the block's key says the first. The
//! checksum covers the key, so that a block found at the wrong place is noticed too. The index comes last so that the values of
//! many blocks can be decompressed one behind the other into one buffer, without moving any of them.

use crate::log::{LogError, RecordSpan};
use crate::position::{Offset, Partition};

#[cfg(test)]
mod tests;

/// The format this code writes.
pub const FORMAT: u8 = 1;

const COMPRESSED: u8 = 1;
const HEADER_BYTES: usize = 26;
const CHECKSUM_AT: usize = 2;
const CHECKED_FROM: usize = 6;
const BASE_TIME_AT: usize = 10;

/// LZ4 cannot expand a byte into more than this many, so a longer claim is damage and is not allocated.
const LARGEST_EXPANSION: usize = 256;

/// Why the bytes of a block are not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The bytes end before the block does, or go on behind it.
    #[error("it has {0} bytes, which is not the length its header says")]
    Length(usize),
    /// The block was written by another version of this program.
    #[error("its format is {0}, and this program reads format {FORMAT}: was it written by a newer one?")]
    Format(u8),
    /// The bytes are not those that were written, or not written for this place.
    #[error("its checksum is {found:08x}, expected {expected:08x}")]
    Checksum {
        /// Computed from the bytes.
        found: u32,
        /// Read from the header.
        expected: u32,
    },
    /// The body does not decompress.
    #[error("its body does not decompress: {0}")]
    Compression(String),
    /// The index does not describe the values.
    #[error("its index does not fit its values")]
    Index,
}

impl Damage {
    /// The error of a block at a place of the log.
    pub fn at(self, topic: &str, partition: Partition, base: Offset) -> LogError {
        LogError::Broken(format!(
            "the block at offset {base} of {topic}/{partition} is damaged: {self}; restore the log's directory from a copy, \
             or truncate the partition behind it and accept the loss"
        ))
    }
}

/// The records of a block that has no place in the log yet.
#[derive(Debug)]
pub struct Body {
    /// Room for the header, then the body as it is stored.
    bytes: Vec<u8>,
    flags: u8,
    count: u32,
    raw_len: u32,
    values_len: u32,
}

/// Collects records into a [`Body`].
#[derive(Debug, Default)]
pub struct BodyBuilder {
    raw: Vec<u8>,
    index: Vec<u8>,
    count: u32,
    previous_time_ms: Option<i64>,
}

impl BodyBuilder {
    /// Adds a record. Times must not decrease; only their differences are kept, the first is said when the block is sealed.
    pub fn push(&mut self, value: Option<&[u8]>, record_time_ms: i64) {
        if let Some(value) = value {
            self.raw.extend_from_slice(value);
        }
        let advance = record_time_ms.saturating_sub(self.previous_time_ms.unwrap_or(record_time_ms));
        write_varint(&mut self.index, value.map_or(0, |value| value.len() as u64 + 1));
        write_varint(&mut self.index, u64::try_from(advance).unwrap_or(0));
        self.previous_time_ms = Some(record_time_ms);
        self.count += 1;
    }

    /// The bytes of values and index so far.
    pub fn raw_len(&self) -> usize {
        self.raw.len() + self.index.len()
    }

    /// How many records were added.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Ends the block, compressing it when that saves at least an eighth.
    pub fn finish(self) -> Body {
        let BodyBuilder { mut raw, index, count, .. } = self;
        let values_len = raw.len() as u32;
        raw.extend_from_slice(&index);
        let raw_len = raw.len() as u32;
        let mut bytes = vec![0; HEADER_BYTES + lz4_flex::block::get_maximum_output_size(raw.len())];
        let room = bytes.get_mut(HEADER_BYTES..).unwrap_or_default();
        match lz4_flex::block::compress_into(&raw, room) {
            Ok(compressed) if compressed + raw.len() / 8 < raw.len() => {
                bytes.truncate(HEADER_BYTES + compressed);
                bytes.shrink_to_fit();
                Body { bytes, flags: COMPRESSED, count, raw_len, values_len }
            }
            _ => {
                bytes.truncate(HEADER_BYTES);
                bytes.extend_from_slice(&raw);
                Body { bytes, flags: 0, count, raw_len, values_len }
            }
        }
    }
}

impl Body {
    /// How many records the block has.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The bytes of values and index before compression.
    pub fn raw_len(&self) -> u32 {
        self.raw_len
    }

    /// The block as it is stored at `key`, its first record of time `base_time_ms`.
    pub fn seal(mut self, key: &[u8], base_time_ms: i64) -> Vec<u8> {
        let mut header = [0; HEADER_BYTES];
        let fields = [FORMAT, self.flags, 0, 0, 0, 0]
            .into_iter()
            .chain(self.count.to_le_bytes())
            .chain(base_time_ms.to_le_bytes())
            .chain(self.raw_len.to_le_bytes())
            .chain(self.values_len.to_le_bytes());
        header.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        copy_to(&mut self.bytes, 0, &header);
        let checksum = checksum(key, &self.bytes);
        copy_to(&mut self.bytes, CHECKSUM_AT, &checksum.to_le_bytes());
        self.bytes
    }
}

/// A stored block whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    body: &'a [u8],
    compressed: bool,
    count: u32,
    base_time_ms: i64,
    raw_len: usize,
    values_len: usize,
}

impl<'a> Block<'a> {
    /// Reads and checks the block stored at `key`.
    pub fn open(key: &[u8], bytes: &'a [u8]) -> Result<Block<'a>, Damage> {
        let length = || Damage::Length(bytes.len());
        let format = *bytes.first().ok_or_else(length)?;
        if format != FORMAT {
            return Err(Damage::Format(format));
        }
        let expected = u32::from_le_bytes(array(bytes, CHECKSUM_AT).ok_or_else(length)?);
        let body = bytes.get(HEADER_BYTES..).ok_or_else(length)?;
        let found = checksum(key, bytes);
        if found != expected {
            return Err(Damage::Checksum { found, expected });
        }
        let block = Block {
            body,
            compressed: bytes.get(1).is_some_and(|flags| flags & COMPRESSED != 0),
            count: u32::from_le_bytes(array(bytes, CHECKED_FROM).ok_or_else(length)?),
            base_time_ms: i64::from_le_bytes(array(bytes, BASE_TIME_AT).ok_or_else(length)?),
            raw_len: u32::from_le_bytes(array(bytes, 18).ok_or_else(length)?) as usize,
            values_len: u32::from_le_bytes(array(bytes, 22).ok_or_else(length)?) as usize,
        };
        let plausible = if block.compressed { block.raw_len / LARGEST_EXPANSION <= body.len() } else { block.raw_len == body.len() };
        if !plausible || block.values_len > block.raw_len {
            return Err(length());
        }
        Ok(block)
    }

    /// How many records the block has.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The bytes of all values.
    pub fn values_len(&self) -> usize {
        self.values_len
    }

    /// Appends the values to `values` and their places to `spans`; `base` is the offset of the first. After an error both hold
    /// some of the block.
    pub fn read_into(&self, base: Offset, values: &mut Vec<u8>, spans: &mut Vec<RecordSpan>) -> Result<(), Damage> {
        let at = values.len();
        if self.compressed {
            values.resize(at + self.raw_len, 0);
            let room = values.get_mut(at..).unwrap_or_default();
            let written = lz4_flex::block::decompress_into(self.body, room).map_err(|error| Damage::Compression(error.to_string()))?;
            if written != self.raw_len {
                return Err(Damage::Compression(format!("{written} bytes came of {}", self.raw_len)));
            }
            self.read_index(base, at, values.get(at + self.values_len..).unwrap_or_default(), spans)?;
            values.truncate(at + self.values_len);
        } else {
            let (body, index) = self.body.split_at_checked(self.values_len).ok_or(Damage::Index)?;
            values.extend_from_slice(body);
            self.read_index(base, at, index, spans)?;
        }
        Ok(())
    }

    fn read_index(&self, base: Offset, at: usize, mut index: &[u8], spans: &mut Vec<RecordSpan>) -> Result<(), Damage> {
        // Every record has at least two bytes of index, which bounds what a wrong count can reserve.
        spans.reserve((self.count as usize).min(index.len() / 2));
        let end = u32::try_from(at + self.values_len).map_err(|_| Damage::Index)?;
        let mut start = at as u32;
        let mut record_time_ms = self.base_time_ms;
        for place in 0..self.count {
            let len = match read_varint(&mut index)? {
                0 => None,
                len => Some(u32::try_from(len - 1).map_err(|_| Damage::Index)?),
            };
            let advance = read_varint(&mut index)?;
            record_time_ms = record_time_ms.checked_add_unsigned(advance).ok_or(Damage::Index)?;
            let offset = base.0.checked_add(u64::from(place)).ok_or(Damage::Index)?;
            spans.push(RecordSpan { offset: Offset(offset), record_time_ms, start, len });
            start = start.checked_add(len.unwrap_or(0)).filter(|start| *start <= end).ok_or(Damage::Index)?;
        }
        if start == end && index.is_empty() { Ok(()) } else { Err(Damage::Index) }
    }
}

fn checksum(key: &[u8], bytes: &[u8]) -> u32 {
    let marks = bytes.get(..CHECKSUM_AT).unwrap_or_default();
    let rest = bytes.get(CHECKED_FROM..).unwrap_or_default();
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(key), marks), rest)
}

fn copy_to(bytes: &mut [u8], at: usize, from: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + from.len()) {
        place.copy_from_slice(from);
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

fn write_varint(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

#[inline]
fn read_varint(from: &mut &[u8]) -> Result<u64, Damage> {
    let mut number = 0u64;
    let mut shift = 0;
    loop {
        let (byte, rest) = from.split_first().ok_or(Damage::Index)?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
        shift += 7;
        if shift > 63 {
            return Err(Damage::Index);
        }
    }
}
