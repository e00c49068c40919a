//! What the embedded store keeps beside the rows: the one file that knows these keys and values.
//!
//! Column family `rows` holds rows (see `rows.rs`); each key starts with the number of its table, 4 bytes big endian.
//! Column family `meta`:
//!
//! | key | value |
//! |---|---|
//! | `f` | format of this directory, 4 bytes big endian |
//! | `n` | greatest table number ever given, 4 bytes big endian |
//! | `t` name | [`StoredTable`], JSON |
//! | `p` name | [`Told`], JSON |
//! | `r` key | revision, 8 bytes big endian · text of the register |
//! | `j` number, 8 bytes big endian | journal entry |

use serde::{Deserialize, Serialize};

use crate::store::shape::ShapeDescription;
use crate::store::{Progress, Register, StoreError};
use crate::table::Epoch;

/// The format of a directory. A change of the layout, or of Arrow's row format, is another one.
pub(super) const FORMAT: u32 = 1;

pub(super) const ROWS: &str = "rows";
pub(super) const META: &str = "meta";

pub(super) const FORMAT_KEY: &[u8] = b"f";
pub(super) const LAST_TABLE_KEY: &[u8] = b"n";
pub(super) const REGISTER_PREFIX: &[u8] = b"r";
pub(super) const JOURNAL_PREFIX: &[u8] = b"j";

/// A table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredTable {
    /// Its number, given once; its rows' keys start with it.
    pub id: u32,
    pub shape: ShapeDescription,
}

/// What an owner told about a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Told {
    pub epoch: Epoch,
    pub progress: Progress,
}

impl Told {
    /// Of two tellings, the one with the greater rank stays; of equal ones the later.
    pub fn rank(&self) -> (Epoch, u64, u64) {
        (self.epoch, self.progress.writing.sum(), self.progress.visible.sum())
    }
}

pub(super) fn table_key(name: &str) -> Vec<u8> {
    [b"t", name.as_bytes()].concat()
}

pub(super) fn progress_key(name: &str) -> Vec<u8> {
    [b"p", name.as_bytes()].concat()
}

pub(super) fn register_key(key: &str) -> Vec<u8> {
    [REGISTER_PREFIX, key.as_bytes()].concat()
}

pub(super) fn journal_key(number: u64) -> Vec<u8> {
    [JOURNAL_PREFIX, &number.to_be_bytes()].concat()
}

/// The number in a key that [`journal_key`] made.
pub(super) fn journal_number(key: &[u8]) -> Option<u64> {
    key.strip_prefix(JOURNAL_PREFIX)?.try_into().ok().map(u64::from_be_bytes)
}

/// What the keys of a table's rows start with.
pub(super) fn rows_prefix(id: u32) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

pub(super) fn encode_number(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

pub(super) fn decode_number(what: &str, bytes: &[u8]) -> Result<u32, StoreError> {
    bytes.try_into().map(u32::from_be_bytes).map_err(|_| damaged(what, "it is not 4 bytes long"))
}

pub(super) fn encode_register(register: &Register) -> Vec<u8> {
    [&register.revision.to_be_bytes(), register.value.as_bytes()].concat()
}

pub(super) fn decode_register(key: &str, bytes: &[u8]) -> Result<Register, StoreError> {
    let (revision, text) = bytes.split_first_chunk::<8>().ok_or_else(|| damaged(key, "it has no revision"))?;
    let value = text_of(key, text)?;
    Ok(Register { value, revision: u64::from_be_bytes(*revision) })
}

pub(super) fn encode_json<T: Serialize>(what: &str, value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| damaged(what, &error.to_string()))
}

pub(super) fn decode_json<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| damaged(what, &error.to_string()))
}

pub(super) fn text_of(what: &str, bytes: &[u8]) -> Result<String, StoreError> {
    String::from_utf8(bytes.to_vec()).map_err(|error| damaged(what, &error.to_string()))
}

fn damaged(what: &str, error: &str) -> StoreError {
    StoreError::Broken(format!("the view store's entry {what} cannot be read: {error}; rebuild the store by replaying its views"))
}
