//! Groups that have no row because it cannot be computed or kept: how many, and which.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use serde::{Deserialize, Serialize};

/// The most examples that are kept.
const MOST_EXAMPLES: usize = 16;

/// The most letters of a key or a reason that are kept.
const MOST_LETTERS: usize = 300;

/// A row that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbsentRow {
    /// The values that the view groups by, as `name=value, name=value`.
    pub key: String,
    /// Why there is no row.
    pub reason: String,
}

/// Evaluations of groups that made no row because something failed for the group: a division by zero, a number that does not fit its type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Absent {
    /// How many evaluations there were: a group is counted each time that its row is computed in vain.
    pub count: u64,
    /// The last ones, one for each group.
    pub examples: Vec<AbsentRow>,
}

impl Absent {
    /// Notes the group in the first row of `groups`, which are named `names`.
    pub(super) fn note(&mut self, names: &[String], groups: &[ArrayRef], reason: &str) {
        let key: Vec<String> = names.iter().zip(groups).map(|(name, group)| format!("{name}={}", first_value(group))).collect();
        self.add(Absent { count: 1, examples: vec![AbsentRow { key: shortened(&key.join(", ")), reason: shortened(reason) }] });
    }

    /// Adds others, which came later.
    pub(super) fn add(&mut self, later: Absent) {
        self.count += later.count;
        for example in later.examples {
            self.examples.retain(|known| known.key != example.key);
            self.examples.push(example);
        }
        let surplus = self.examples.len().saturating_sub(MOST_EXAMPLES);
        self.examples.drain(..surplus);
    }
}

fn first_value(column: &ArrayRef) -> String {
    let options = FormatOptions::default().with_null("NULL");
    match ArrayFormatter::try_new(column.as_ref(), &options) {
        Ok(formatter) if !column.is_empty() => formatter.value(0).try_to_string().unwrap_or_else(|_| "?".to_owned()),
        _ => "?".to_owned(),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_LETTERS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
