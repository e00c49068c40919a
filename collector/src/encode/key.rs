//! The key of a record: the text of one of its fields, read back from its encoded form so that one value has one text, however it was written.

use super::plan::Node;

/// How a field that can be a key is read back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Key {
    Integer,
    Text,
    Boolean,
    Symbol(Vec<String>),
    /// By branch; null has no text, and such a record has no key.
    Union(Vec<Option<Key>>),
}

impl Key {
    /// `None` when the type has no text that two writers would agree on.
    pub fn new(node: &Node) -> Option<Key> {
        match node {
            Node::Int | Node::Long | Node::Date | Node::TimeOfDay(_) | Node::Timestamp(_) | Node::LocalTimestamp(_) => Some(Key::Integer),
            Node::String | Node::UuidText => Some(Key::Text),
            Node::Boolean => Some(Key::Boolean),
            Node::Enum(symbols) => Some(Key::Symbol(symbols.clone())),
            Node::Union(branches) => {
                let key = |branch: &Node| if *branch == Node::Null { Some(None) } else { Key::new(branch).map(Some) };
                branches.iter().map(key).collect::<Option<Vec<_>>>().map(Key::Union)
            }
            _ => None,
        }
    }

    /// The text of the field that `bytes` begin with.
    pub fn text(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        match self {
            Key::Integer => read_long(bytes).map(|(value, _)| value.to_string().into_bytes()),
            Key::Text => {
                let (len, rest) = read_long(bytes)?;
                rest.get(..usize::try_from(len).ok()?).map(<[u8]>::to_vec)
            }
            Key::Boolean => bytes.first().map(|byte| if *byte == 0 { b"false".to_vec() } else { b"true".to_vec() }),
            Key::Symbol(symbols) => {
                let (index, _) = read_long(bytes)?;
                symbols.get(usize::try_from(index).ok()?).map(|symbol| symbol.clone().into_bytes())
            }
            Key::Union(branches) => {
                let (index, rest) = read_long(bytes)?;
                branches.get(usize::try_from(index).ok()?)?.as_ref()?.text(rest)
            }
        }
    }
}

/// A zigzag varint, and what follows it.
fn read_long(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(((value >> 1) as i64 ^ -((value & 1) as i64), bytes.get(index + 1..)?));
        }
    }
    None
}
