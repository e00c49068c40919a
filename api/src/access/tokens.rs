//! The tokens that are known: their digests, never they themselves.
//!
//! ```toml
//! [[token]]
//! name = "ann"
//! role = "operate"
//! sha256 = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
//! ```
//!
//! `printf %s TOKEN | sha256sum` makes the digest. A token is to be long and random, as of `openssl rand -hex 32`: digests of such tokens need no salt and no
//! slow function.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use openssl::sha::sha256;
use serde::Deserialize;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// The name of the token of the settings.
pub const OF_SETTINGS: &str = "token";

/// What a token allows; each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Rows, views and their live changes.
    Read,
    /// Events in, replay, switch, quarantine.
    Operate,
    /// Everything.
    Admin,
}

impl Role {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Operate => "operate",
            Role::Admin => "admin",
        }
    }
}

/// Why a tokens file is not one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// It cannot be read.
    #[error("the tokens file {} cannot be read: {error}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It has something in it that is no token.
    #[error("the tokens file {} is not valid: {message}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    role: Role,
    sha256: String,
}

/// A token that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub role: Role,
}

/// When a file was changed last, and its size.
pub type Stamp = Option<(SystemTime, u64)>;

/// The tokens that are known.
#[derive(Debug, Default)]
pub struct Tokens {
    known: Vec<([u8; 32], Known)>,
    /// Of the file when it was read.
    pub stamp: Stamp,
}

impl Tokens {
    /// When the file was changed last.
    pub fn stamp(file: &Path) -> Stamp {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }

    /// The token of the settings, and those of a file.
    pub fn load(token: Option<&str>, file: Option<&Path>) -> Result<Tokens, TokensError> {
        let admin = |token: &str| (sha256(token.as_bytes()), Known { name: OF_SETTINGS.into(), role: Role::Admin });
        let mut tokens = Tokens { known: token.map(admin).into_iter().collect(), stamp: None };
        let Some(path) = file else { return Ok(tokens) };
        // Before it is read: what is changed meanwhile is read again.
        tokens.stamp = Tokens::stamp(path);
        let invalid = |message: String| TokensError::Invalid { file: path.to_owned(), message };
        let text = std::fs::read_to_string(path).map_err(|error| TokensError::Read { file: path.to_owned(), error })?;
        let file: File = toml::from_str(&text).map_err(|error| invalid(error.to_string().trim_end().to_owned()))?;
        for entry in file.token {
            if tokens.known.iter().any(|(_, known)| known.name == entry.name) {
                return Err(invalid(format!("the name {:?} is there twice, or that of the setting token", entry.name)));
            }
            let digest = digest(&entry.sha256).ok_or_else(|| {
                let name = &entry.name;
                invalid(format!("sha256 of token {name:?} is not 64 hexadecimal digits; printf %s TOKEN | sha256sum makes them"))
            })?;
            tokens.known.push((digest, Known { name: entry.name, role: entry.role }));
        }
        Ok(tokens)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// The token with this text. How long it takes says nothing about which tokens there are.
    pub fn find(&self, token: &str) -> Option<Known> {
        let digest = sha256(token.as_bytes());
        let mut found = u64::MAX;
        for (index, (known, _)) in (0_u64..).zip(&self.known) {
            let is_it: Choice = known.ct_eq(&digest);
            found = u64::conditional_select(&found, &index, is_it);
        }
        self.known.get(usize::try_from(found).ok()?).map(|(_, known)| known.clone())
    }
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn loaded(text: &str) -> Result<Tokens, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.toml");
        std::fs::write(&file, text).unwrap();
        Tokens::load(Some("secret"), Some(&file)).map_err(|error| error.to_string())
    }

    fn entry(name: &str, role: &str, token: &str) -> String {
        let digest: String = sha256(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[[token]]\nname = {name:?}\nrole = {role:?}\nsha256 = {digest:?}\n")
    }

    #[test]
    fn tokens_are_found_by_their_text() {
        let tokens = loaded(&(entry("ann", "operate", "ann's") + &entry("bob", "read", "bob's"))).unwrap();
        let found = |token: &str| tokens.find(token).map(|known| (known.name, known.role));
        assert_eq!(found("ann's"), Some(("ann".into(), Role::Operate)));
        assert_eq!(found("bob's"), Some(("bob".into(), Role::Read)));
        assert_eq!(found("secret"), Some(("token".into(), Role::Admin)));
        assert_eq!([found(""), found("ann"), found("eve's")], [None, None, None]);
    }

    #[test]
    fn a_file_with_a_mistake_is_refused_with_its_place() {
        for (text, told) in [
            ("[[token]]\nname = \"ann\"\nrole = \"root\"\nsha256 = \"\"\n".to_owned(), "unknown variant `root`"),
            ("[[token]]\nname = \"ann\"\nrole = \"read\"\nsha256 = \"00\"\n".to_owned(), "64 hexadecimal digits"),
            ("[[tokens]]\n".to_owned(), "unknown field `tokens`"),
            (entry("ann", "read", "1") + &entry("ann", "read", "2"), "there twice"),
            (entry("token", "read", "1"), "that of the setting token"),
        ] {
            let error = loaded(&text).unwrap_err();
            assert!(error.contains(told) && error.contains("tokens.toml"), "{error}");
        }
        assert!(Tokens::load(None, Some(Path::new("/nowhere/tokens.toml"))).unwrap_err().to_string().contains("cannot be read"));
    }
}
