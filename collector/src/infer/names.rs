//! Names of fields that Avro and SQL take.

use std::collections::BTreeSet;

/// The names that were given so far.
#[derive(Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// A name for what is at a path: letters, digits and `_`, and no other one's.
    pub fn of(&mut self, path: &[String]) -> String {
        let clean = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_lowercase() } else { '_' };
        let mut name: String = path.join("_").chars().map(clean).collect();
        if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
            name.insert(0, '_');
        }
        // A column's name that the record has already, written in another way.
        if path.len() == 1
            && path.first().is_some_and(|key| {
                key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !key.starts_with(|c: char| c.is_ascii_digit())
            })
        {
            name = path.first().cloned().unwrap_or(name);
        }
        let mut unique = name.clone();
        let mut number = 2;
        while !self.0.insert(unique.clone()) {
            unique = format!("{name}_{number}");
            number += 1;
        }
        unique
    }
}
