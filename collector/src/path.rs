//! Paths: where in a JSON value something is.

use std::borrow::Cow;

use serde_json::Value;

/// Where in a value another one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JsonPath {
    text: String,
    /// For each step the keys that it may be: the shortest first, each next one takes another step with it.
    keys: Vec<Vec<String>>,
    /// Whether a step is `*`: then what is found is a list.
    is_list: bool,
}

/// Each item of a list.
const EACH: &str = "*";

impl JsonPath {
    /// A path as it is written in one text. Dots are between its steps, but a key may have some too: `log.level` is `level` in the object `log`, or
    /// else the key `log.level`. A step `*` goes into each item of a list.
    pub fn of_text(text: &str) -> JsonPath {
        let steps: Vec<&str> = text.split('.').collect();
        let keys = |from: usize| (from + 1..=steps.len()).filter_map(|to| steps.get(from..to)).map(|keys| keys.join(".")).collect();
        JsonPath { text: text.to_owned(), keys: (0..steps.len()).map(keys).collect(), is_list: steps.contains(&EACH) }
    }

    /// A path whose steps are these keys, dots and all.
    pub fn of_steps(steps: Vec<String>) -> JsonPath {
        let is_list = steps.iter().any(|step| step == EACH);
        JsonPath { text: steps.join("."), keys: steps.into_iter().map(|key| vec![key]).collect(), is_list }
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is there; `None`: it leads nowhere. A path with `*` finds the list of all that its items have, without those that have nothing.
    pub fn find_in<'j>(&self, json: &'j Value) -> Option<Cow<'j, Value>> {
        if !self.is_list {
            return walk(json, &self.keys).map(Cow::Borrowed);
        }
        let mut found = Vec::new();
        walk_each(json, &self.keys, &mut found).then(|| Cow::Owned(Value::Array(found)))
    }

    /// Whether it may lead through this key of a line.
    pub fn begins_with(&self, key: &str) -> bool {
        self.keys.first().is_some_and(|keys| keys.iter().any(|known| known == key))
    }
}

fn walk<'j>(json: &'j Value, path: &[Vec<String>]) -> Option<&'j Value> {
    let Some((keys, rest)) = path.split_first() else { return Some(json) };
    match json {
        Value::Array(items) => walk(items.get(keys.first()?.parse::<usize>().ok()?)?, rest),
        Value::Object(members) => keys.iter().enumerate().find_map(|(more, key)| walk(members.get(key)?, rest.get(more..)?)),
        _ => None,
    }
}

/// Collects what a path with `*` in it leads to; `false`: there is no list where one is to be.
fn walk_each(json: &Value, path: &[Vec<String>], found: &mut Vec<Value>) -> bool {
    let Some((keys, rest)) = path.split_first() else {
        found.push(json.clone());
        return true;
    };
    match json {
        Value::Array(items) if keys.first().is_some_and(|key| key == EACH) => {
            for item in items {
                walk_each(item, rest, found);
            }
            true
        }
        Value::Array(items) => {
            let item = keys.first().and_then(|key| key.parse::<usize>().ok()).and_then(|index| items.get(index));
            item.is_some_and(|item| walk_each(item, rest, found))
        }
        Value::Object(members) => keys.iter().enumerate().any(|(more, key)| {
            let inner = members.get(key).zip(rest.get(more..));
            inner.is_some_and(|(member, rest)| walk_each(member, rest, found))
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_star_collects_what_each_item_has() {
        let tags = JsonPath::of_text("facets.*.features.*.tag");
        let json = json!({"facets": [{"features": [{"tag": "a"}, {"uri": "u"}]}, {"features": [{"tag": "b"}]}, {}]});
        assert_eq!(tags.find_in(&json).map(|found| found.into_owned()), Some(json!(["a", "b"])));
        assert_eq!(tags.find_in(&json!({"facets": []})).map(|found| found.into_owned()), Some(json!([])));
        assert_eq!(tags.find_in(&json!({"facets": 1})), None);
        assert_eq!(tags.find_in(&json!({})), None);
    }
}
