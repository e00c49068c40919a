//! Digests of values: an id of whatever identifies a thing, or a name that stands for another one.

use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use crate::path::JsonPath;
use crate::secret;

/// A digest of the values at some paths.
#[derive(Clone, Debug)]
pub(super) struct Hash {
    paths: Vec<JsonPath>,
    /// As 32 hexadecimal digits; otherwise as a number of 63 bits.
    as_text: bool,
    key: Option<HashKey>,
}

/// The secret that digests are made with: who does not have it cannot tell of a digest what it stands for by trying.
#[derive(Clone)]
pub(super) struct HashKey(PKey<Private>);

/// It is never shown.
impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey")
    }
}

impl HashKey {
    /// The key that `${NAME}` or `${file:PATH}` says.
    pub fn read(text: &str) -> Result<HashKey, String> {
        HashKey::check(text)?;
        let key = secret::expand(text)?;
        PKey::hmac(key.as_bytes()).map(HashKey).map_err(|error| error.to_string())
    }

    /// Refuses a key that is written where all can read it.
    pub fn check(text: &str) -> Result<(), String> {
        match text.contains("${") {
            true => Ok(()),
            false => {
                Err("a secret is not written here; name the environment variable or the file that it is in: ${NAME} or ${file:PATH}".into())
            }
        }
    }

    /// HMAC-SHA-256, its first half.
    fn digest(&self, bytes: &[u8]) -> Result<u128, openssl::error::ErrorStack> {
        let mut signer = Signer::new(MessageDigest::sha256(), &self.0)?;
        signer.update(bytes)?;
        let digest = signer.sign_to_vec()?;
        Ok(digest.first_chunk::<16>().map_or(0, |half| u128::from_be_bytes(*half)))
    }
}

impl Hash {
    pub fn new(paths: Vec<String>, as_text: bool, key: Option<&HashKey>) -> Result<Hash, String> {
        if paths.is_empty() {
            return Err("hash names no path".into());
        }
        Ok(Hash { paths: paths.iter().map(|path| JsonPath::of_text(path)).collect(), as_text, key: key.cloned() })
    }

    pub fn paths(&self) -> &[JsonPath] {
        &self.paths
    }

    /// The digest; `None`: one of the paths leads nowhere, or to null.
    pub fn of(&self, json: &Value) -> Option<Value> {
        let bytes = bytes_at(&self.paths, json)?;
        let digest = match &self.key {
            // It fails only where the library does: then there is none, and the field is refused as missing.
            Some(key) => key.digest(&bytes).ok()?,
            None => xxh3_128(&bytes),
        };
        Some(if self.as_text { format!("{digest:032x}").into() } else { ((digest as u64) >> 1).into() })
    }
}

/// The values at some paths, so written that different ones never have the same bytes; `None`: one of them is not there.
pub(crate) fn bytes_at(paths: &[JsonPath], json: &Value) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for path in paths {
        match path.find_in(json).as_deref() {
            None | Some(Value::Null) => return None,
            Some(Value::String(text)) => {
                bytes.push(b'"');
                bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
            Some(other) => {
                let text = other.to_string();
                bytes.push(b'=');
                bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }
    Some(bytes)
}
