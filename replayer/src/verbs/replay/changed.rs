//! Which views of a schemas folder need a new version: those whose definition is not the one in service.

use std::path::Path;

use anyhow::Result;
use refold_processor::view::View;
use refold_versions::planner::Planner;
use serde_json::Value;

use crate::parts::declared_all;
use crate::verbs::status::text;
use crate::views;

/// What a declared view needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Readers are on its definition already.
    Nothing,
    /// This version was or is being built from its definition.
    Version(u64),
    /// A new version.
    Replay,
}

/// The views of a schemas folder, each with the name of its file.
pub fn declared(schemas: &Path) -> Result<Vec<(String, View)>> {
    let planner = Planner::new(&declared_all(schemas)?.sources)?;
    Ok(views::load(schemas, &planner)?.into_iter().map(|(path, view)| (path.display().to_string(), view)).collect())
}

/// Decides from the answer of `status`. A retired version is still kept up to date, so going back to an earlier definition builds nothing.
pub fn need(view: &View, status: &Value) -> Need {
    decide(&view.name, &view.digest, status)
}

fn decide(view: &str, digest: &str, status: &Value) -> Need {
    let all = status.get("views").and_then(Value::as_array).into_iter().flatten();
    let Some(document) = all.into_iter().find(|document| document.get("view").and_then(Value::as_str) == Some(view)) else {
        return Need::Replay;
    };
    // One that ends at some time does not follow the log.
    let is_usable = |version: &&Value| {
        text(version, "digest") == digest
            && !["failed", "dropped"].contains(&text(version, "state").as_str())
            && text(version, "until").is_empty()
    };
    let versions = document.get("versions").and_then(Value::as_array).into_iter().flatten();
    let usable: Vec<u64> = versions.filter(is_usable).filter_map(|version| version.get("version")?.as_u64()).collect();
    let active = document.pointer("/active/version").and_then(Value::as_u64);
    match usable.last() {
        _ if active.is_some_and(|active| usable.contains(&active)) => Need::Nothing,
        Some(newest) => Need::Version(*newest),
        None => Need::Replay,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_version_is_needed_unless_one_has_the_definition_already() {
        let status = json!({ "views": [
            { "view": "a", "active": { "version": 2 }, "versions": [
                { "version": 1, "digest": "old", "state": "retired" },
                { "version": 2, "digest": "now", "state": "active" },
                { "version": 3, "digest": "next", "state": "building" },
                { "version": 4, "digest": "broken", "state": "failed" },
            ]},
            { "view": "b", "active": null, "versions": [{ "version": 1, "digest": "first", "state": "building" }] },
        ]});
        let needs = |view: &str, digests: &[&str]| digests.iter().map(|digest| decide(view, digest, &status)).collect::<Vec<_>>();
        assert_eq!(needs("a", &["now", "next", "broken", "other"]), [Need::Nothing, Need::Version(3), Need::Replay, Need::Replay]);
        assert_eq!(needs("a", &["old"]), [Need::Version(1)], "back to the version before");
        assert_eq!(needs("b", &["first"]), [Need::Version(1)]);
        assert_eq!(needs("c", &["any"]), [Need::Replay], "a new view");
    }
}
