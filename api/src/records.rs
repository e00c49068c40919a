//! Encoded records as a body: `application/vnd.refold.records`, what `refold collect` posts.
//!
//! Records follow each other without anything between them:
//!
//! ```text
//! key length    4 bytes, big endian; FFFFFFFF: without a key
//! key
//! value length  4 bytes, big endian
//! value         in the framing of the source: Confluent, single-object or bare Avro
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use refold_processor::log::NewRecord;

/// The media type.
pub const RECORDS: &str = "application/vnd.refold.records";

const NO_KEY: u32 = u32::MAX;

/// The body of these records.
pub fn encode(records: &[NewRecord]) -> Bytes {
    let size = records.iter().map(|record| 8 + record.key.as_ref().map_or(0, Bytes::len) + record.value.len()).sum();
    let mut body = BytesMut::with_capacity(size);
    for record in records {
        match &record.key {
            Some(key) => put(&mut body, key),
            None => body.put_u32(NO_KEY),
        }
        put(&mut body, &record.value);
    }
    body.freeze()
}

fn put(body: &mut BytesMut, bytes: &[u8]) {
    body.put_u32(bytes.len() as u32);
    body.put_slice(bytes);
}

/// The records of a body, which they share; `Err` says where it is not one.
pub fn decode(mut body: Bytes) -> Result<Vec<NewRecord>, String> {
    let mut records = Vec::new();
    while body.has_remaining() {
        let number = records.len() + 1;
        let key = take(&mut body).map_err(|()| format!("record {number}: the body ends within its key"))?;
        let value = take(&mut body).map_err(|()| format!("record {number}: the body ends within its value"))?;
        let value = value.ok_or_else(|| format!("record {number}: it has no value"))?;
        records.push(NewRecord { key, value });
    }
    Ok(records)
}

fn take(body: &mut Bytes) -> Result<Option<Bytes>, ()> {
    let length = body.try_get_u32().map_err(|_| ())?;
    if length == NO_KEY {
        return Ok(None);
    }
    let length = length as usize;
    if length > body.remaining() { Err(()) } else { Ok(Some(body.split_to(length))) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let records = vec![
            NewRecord { key: Some(Bytes::from_static(b"k")), value: Bytes::from_static(b"value") },
            NewRecord { key: None, value: Bytes::new() },
            NewRecord { key: Some(Bytes::new()), value: Bytes::from_static(&[0; 300]) },
        ];
        assert_eq!(decode(encode(&records)), Ok(records));
        assert_eq!(decode(Bytes::new()), Ok(Vec::new()));
    }

    #[test]
    fn a_body_that_ends_early_is_refused_at_the_record() {
        let record = NewRecord { key: Some(Bytes::from_static(b"k")), value: Bytes::from_static(b"value") };
        let body = encode(&[record.clone(), record]);
        for length in 1..body.len() {
            let decoded = decode(body.slice(..length));
            if length == body.len() / 2 {
                assert_eq!(decoded.map(|records| records.len()), Ok(1));
            } else {
                let number = if length < body.len() / 2 { "record 1" } else { "record 2" };
                assert!(decoded.unwrap_err().starts_with(number), "{length}");
            }
        }
        assert!(decode(Bytes::from_static(&[0xFF; 8])).unwrap_err().contains("no value"));
    }
}
