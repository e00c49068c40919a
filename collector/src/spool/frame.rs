//! The frames of a segment: a length, a checksum, and one of three things.
//!
//! ```text
//! frame   = length of the payload (u32, little endian) · CRC-32C of the payload (u32) · payload
//! payload = 0 · time of receipt, ms (i64) · id (1 byte: whether there is one; 16) · cursor (text) · body       a message
//!         | 1 · cursor (text)                                                                               how far the source was read
//!         | 2 · cursor (text) · number of ids (u32) · ids (16 each)                                          the first frame of a segment
//! text    = length (u32; all bits set: none) · UTF-8
//! ```

use bytes::Bytes;

/// Length and checksum before a payload.
pub(super) const HEAD_BYTES: usize = 8;
/// A longer payload is damage: no message, and no list of ids, is as long.
const MAX_PAYLOAD_BYTES: usize = 128 << 20;

const MESSAGE: u8 = 0;
const CURSOR: u8 = 1;
const START: u8 = 2;

/// A message as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// When it was received, milliseconds since the Unix epoch.
    pub received_ms: i64,
    /// The digest of what identifies it; `None`: nothing does.
    pub id: Option<u128>,
    /// The cursor of its source behind it; `None`: it has none.
    pub cursor: Option<String>,
    /// Its text.
    pub body: Bytes,
}

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Message(Message),
    Cursor(String),
    Start { cursor: Option<String>, ids: Vec<u128> },
}

impl Frame {
    /// Appends the frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        let from = out.len();
        out.extend_from_slice(&[0; HEAD_BYTES]);
        match self {
            Frame::Message(message) => {
                out.push(MESSAGE);
                out.extend_from_slice(&message.received_ms.to_le_bytes());
                out.push(u8::from(message.id.is_some()));
                out.extend_from_slice(&message.id.unwrap_or_default().to_le_bytes());
                write_text(message.cursor.as_deref(), out);
                out.extend_from_slice(&message.body);
            }
            Frame::Cursor(cursor) => {
                out.push(CURSOR);
                write_text(Some(cursor), out);
            }
            Frame::Start { cursor, ids } => {
                out.push(START);
                write_text(cursor.as_deref(), out);
                out.extend_from_slice(&(ids.len() as u32).to_le_bytes());
                ids.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
            }
        }
        let payload = out.get(from + HEAD_BYTES..).unwrap_or_default();
        let (length, checksum) = (payload.len() as u32, crc32c::crc32c(payload));
        if let Some(head) = out.get_mut(from..from + HEAD_BYTES) {
            let (length_at, checksum_at) = head.split_at_mut(4);
            length_at.copy_from_slice(&length.to_le_bytes());
            checksum_at.copy_from_slice(&checksum.to_le_bytes());
        }
    }

    /// The frame that `bytes` begin with, and how long it is; `None`: not a whole one, or a damaged one.
    pub fn read(bytes: &[u8]) -> Option<(Frame, usize)> {
        let mut head = bytes;
        let length = payload_bytes(take_u32(&mut head)?)?;
        let checksum = take_u32(&mut head)?;
        let payload = head.get(..length)?;
        if crc32c::crc32c(payload) != checksum {
            return None;
        }
        Some((Frame::read_payload(payload)?, HEAD_BYTES + length))
    }

    fn read_payload(payload: &[u8]) -> Option<Frame> {
        let (kind, mut rest) = payload.split_first()?;
        match *kind {
            MESSAGE => {
                let received_ms = i64::from_le_bytes(take(&mut rest)?);
                let [has_id] = take::<1>(&mut rest)?;
                let id = u128::from_le_bytes(take(&mut rest)?);
                let cursor = take_text(&mut rest)?;
                let body = Bytes::copy_from_slice(rest);
                Some(Frame::Message(Message { received_ms, id: (has_id == 1).then_some(id), cursor, body }))
            }
            CURSOR => take_text(&mut rest)?.map(Frame::Cursor),
            START => {
                let cursor = take_text(&mut rest)?;
                let count = take_u32(&mut rest)? as usize;
                let ids = (0..count).map(|_| Some(u128::from_le_bytes(take(&mut rest)?))).collect::<Option<_>>()?;
                Some(Frame::Start { cursor, ids })
            }
            _ => None,
        }
    }
}

/// The length of a payload, if it can be one.
pub(super) fn payload_bytes(length: u32) -> Option<usize> {
    usize::try_from(length).ok().filter(|length| (1..=MAX_PAYLOAD_BYTES).contains(length))
}

fn write_text(text: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(&text.map_or(u32::MAX, |text| text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.unwrap_or_default().as_bytes());
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    take(rest).map(u32::from_le_bytes)
}

/// `Some(None)`: there is none, and that is said.
fn take_text(rest: &mut &[u8]) -> Option<Option<String>> {
    let length = take_u32(rest)?;
    if length == u32::MAX {
        return Some(None);
    }
    let (text, left) = rest.split_at_checked(length as usize)?;
    *rest = left;
    String::from_utf8(text.to_vec()).ok().map(Some)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let cursor = || prop::option::of(".{0,9}");
        let message = (any::<i64>(), any::<Option<u128>>(), cursor(), prop::collection::vec(any::<u8>(), 0..99));
        prop_oneof![
            message.prop_map(|(received_ms, id, cursor, body)| Frame::Message(Message { received_ms, id, cursor, body: body.into() })),
            ".{0,9}".prop_map(Frame::Cursor),
            (cursor(), prop::collection::vec(any::<u128>(), 0..9)).prop_map(|(cursor, ids)| Frame::Start { cursor, ids }),
        ]
    }

    proptest! {
        #[test]
        fn a_frame_is_read_as_it_was_written_and_no_beginning_or_altered_one_is(frame in frames(), at in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            frame.write(&mut bytes);
            prop_assert_eq!(Frame::read(&bytes), Some((frame, bytes.len())));
            let at = at.index(bytes.len());
            prop_assert_eq!(Frame::read(&bytes[..at]), None);
            bytes[at] ^= 0x10;
            prop_assert_eq!(Frame::read(&bytes), None);
        }
    }

    #[test]
    fn the_form_on_disk_is_stable() {
        let message = Message { received_ms: 7, id: Some(9), cursor: Some("c".into()), body: Bytes::from_static(b"{}") };
        let mut bytes = Vec::new();
        Frame::Message(message).write(&mut bytes);
        let payload = [&[0_u8][..], &7_i64.to_le_bytes(), &[1], &9_u128.to_le_bytes(), &1_u32.to_le_bytes(), b"c", b"{}"].concat();
        assert_eq!(&bytes[..4], (payload.len() as u32).to_le_bytes());
        assert_eq!(&bytes[HEAD_BYTES..], payload);
    }
}
