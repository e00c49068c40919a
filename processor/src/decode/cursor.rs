//! Reading Avro's binary encoding from bytes that nobody vouches for.

use crate::quarantine::Reason;

/// How deep values may be nested. Only a type that refers to itself gets there: a schema of its own is bounded when it is compiled.
const MAX_DEPTH: usize = 256;

/// How many values without a single byte (records without fields, items of type `null`) one record may hold. They cost the writer nothing: an array of
/// any number of them takes a few bytes, as does a record that holds two of a type that holds two of another, and so on. So
/// they must be bounded by something else than the record's size.
const MAX_EMPTY_VALUES: usize = 1024;

/// Why a record does not decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    what: String,
    /// The names of the fields that lead to it, innermost first.
    path: Vec<String>,
    /// Whether the columns cannot take more, of whatever content.
    pub(super) columns_full: bool,
}

/// Boxed, so that the result of reading a value is small.
pub(super) type Faulty<T> = Result<T, Box<Fault>>;

impl Fault {
    #[cold]
    pub(super) fn new(reason: Reason, what: impl Into<String>) -> Box<Fault> {
        Box::new(Fault { reason, what: what.into(), path: Vec::new(), columns_full: false })
    }

    #[cold]
    pub(super) fn invalid(what: impl Into<String>) -> Box<Fault> {
        Fault::new(Reason::InvalidValue, what)
    }

    #[cold]
    pub(super) fn columns_full() -> Box<Fault> {
        let mut fault = Fault::new(Reason::TooLarge, "its values take more than the 2 GiB that a column can hold");
        fault.columns_full = true;
        fault
    }

    /// The same fault, seen from the record that has the field.
    #[cold]
    pub(super) fn in_field(mut self: Box<Self>, name: &str) -> Box<Fault> {
        self.path.push(name.to_string());
        self
    }

    /// What happened, for people.
    pub(super) fn detail(&self) -> String {
        if self.path.is_empty() {
            return self.what.clone();
        }
        let path: Vec<&str> = self.path.iter().rev().map(String::as_str).collect();
        format!("field {}: {}", path.join("."), self.what)
    }
}

/// A place in the body of one record.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    depth: usize,
    empty_values: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Cursor { rest: body, depth: 0, empty_values: 0 }
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Goes one level of nesting down; [`Cursor::leave`] is its counterpart.
    pub(super) fn enter(&mut self) -> Faulty<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(Fault::invalid(format!("nested deeper than {MAX_DEPTH} levels"))) } else { Ok(()) }
    }

    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Counts a value that took no bytes.
    pub(super) fn empty_value(&mut self) -> Faulty<()> {
        self.empty_values += 1;
        if self.empty_values > MAX_EMPTY_VALUES {
            return Err(Fault::invalid(format!("more than {MAX_EMPTY_VALUES} values that take no bytes")));
        }
        Ok(())
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Faulty<&'a [u8]> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.truncated(count)),
        }
    }

    fn array<const N: usize>(&mut self) -> Faulty<[u8; N]> {
        match self.rest.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(self.truncated(N)),
        }
    }

    #[cold]
    fn truncated(&self, count: usize) -> Box<Fault> {
        Fault::new(Reason::Truncated, format!("needs {count} more bytes, the record has {}", self.rest.len()))
    }

    /// An unsigned varint of at most `max_bytes` bytes. Byte by byte: eight at a time, with masks and shifts, was measured to be a fifth slower.
    #[inline]
    fn varint(&mut self, max_bytes: usize) -> Faulty<u64> {
        let mut value = 0u64;
        let mut shift = 0u32;
        for (index, byte) in self.rest.iter().take(max_bytes).enumerate() {
            let bits = u64::from(byte & 0x7f);
            value |= bits.wrapping_shl(shift);
            if byte & 0x80 == 0 {
                if shift == 63 && bits > 1 {
                    return Err(Fault::invalid("a number of more than 64 bits"));
                }
                self.rest = self.rest.get(index + 1..).unwrap_or_default();
                return Ok(value);
            }
            shift += 7;
        }
        if self.rest.len() < max_bytes {
            Err(Fault::new(Reason::Truncated, "the record ends within a number"))
        } else {
            Err(Fault::invalid(format!("a number does not end within {max_bytes} bytes")))
        }
    }

    #[inline]
    pub(super) fn long(&mut self) -> Faulty<i64> {
        self.varint(10).map(unzigzag)
    }

    #[inline]
    pub(super) fn int(&mut self) -> Faulty<i32> {
        let value = unzigzag(self.varint(5)?);
        i32::try_from(value).map_err(|_| Fault::invalid(format!("{value} is out of bounds of an int")))
    }

    pub(super) fn boolean(&mut self) -> Faulty<bool> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(Fault::invalid(format!("{other} is not a boolean"))),
        }
    }

    pub(super) fn float(&mut self) -> Faulty<f32> {
        self.array().map(f32::from_le_bytes)
    }

    pub(super) fn double(&mut self) -> Faulty<f64> {
        self.array().map(f64::from_le_bytes)
    }

    /// Bytes with their length before them.
    #[inline]
    pub(super) fn bytes(&mut self) -> Faulty<&'a [u8]> {
        let length = self.long()?;
        match usize::try_from(length) {
            Ok(length) => self.take(length),
            Err(_) => Err(Fault::invalid(format!("a length of {length}"))),
        }
    }

    /// Text with its length before it.
    #[inline]
    pub(super) fn text(&mut self) -> Faulty<&'a str> {
        let bytes = self.bytes()?;
        simdutf8::basic::from_utf8(bytes).map_err(|_| not_utf8(bytes))
    }

    /// The head of a block of an array or map: how many items, and at which number of bytes left it must end, if the writer said so. `None`: no more
    /// blocks.
    pub(super) fn block(&mut self) -> Faulty<Option<(u64, Option<usize>)>> {
        let count = self.long()?;
        if count >= 0 {
            return Ok((count > 0).then_some((count.unsigned_abs(), None)));
        }
        if count == i64::MIN {
            return Err(Fault::invalid("a block of more items than a number can say"));
        }
        let size = self.long()?;
        let size = usize::try_from(size).map_err(|_| Fault::invalid(format!("a block of {size} bytes")))?;
        let end = self.left().checked_sub(size).ok_or_else(|| self.truncated(size))?;
        Ok(Some((count.unsigned_abs(), Some(end))))
    }

    /// The index of a union's branch or an enum's symbol, of which there are `count`.
    #[inline]
    pub(super) fn index(&mut self, count: usize, of: &str) -> Faulty<usize> {
        let index = self.long()?;
        match usize::try_from(index) {
            Ok(index) if index < count => Ok(index),
            _ => Err(Fault::invalid(format!("{of} {index} of {count}"))),
        }
    }
}

#[cold]
fn not_utf8(bytes: &[u8]) -> Box<Fault> {
    let place = std::str::from_utf8(bytes).err().map_or(0, |error| error.valid_up_to());
    Fault::new(Reason::InvalidUtf8, format!("text that is not UTF-8 at byte {place} of {}", bytes.len()))
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ (value & 1).cast_signed().wrapping_neg()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The specification's encoding, written plainly.
    fn varint(value: i64) -> Vec<u8> {
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        let mut bytes = Vec::new();
        while rest >= 0x80 {
            bytes.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        bytes
    }

    #[test]
    fn numbers_of_every_length_are_read_wherever_the_record_ends() {
        for bits in 0..64 {
            for value in [i64::MAX >> bits, i64::MIN >> bits, 1 << bits, 0x5555_5555_5555_5555 >> bits] {
                let encoded = varint(value);
                for after in [0, 1, 7, 12] {
                    let bytes = [encoded.as_slice(), &vec![0xff; after]].concat();
                    let mut cursor = Cursor::new(&bytes);
                    assert_eq!((cursor.long().unwrap(), cursor.left()), (value, after));
                    let int = Cursor::new(&bytes).int();
                    assert_eq!(int.ok(), i32::try_from(value).ok(), "{value}");
                }
                for length in 0..encoded.len() {
                    let fault = Cursor::new(encoded.get(..length).unwrap()).long().unwrap_err();
                    assert_eq!(fault.reason, Reason::Truncated);
                }
            }
        }
    }

    /// Writers that reserve room for a number may pad it, as other implementations accept.
    #[test]
    fn padded_numbers_are_read() {
        assert_eq!(Cursor::new(&[0x82, 0x80, 0x00]).long().unwrap(), 1);
        assert_eq!(Cursor::new(&[0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]).long().unwrap(), 1);
    }
}
