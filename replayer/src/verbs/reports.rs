//! Reports that take their time: how far they are is shown on a terminal, and the last line has what was asked for.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::anyhow;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::client::{Client, escaped};
use crate::failure::Failure;

/// Asks for a report. `going` says how far it is, in words.
pub fn ask(client: &Client, path: &str, body: &Value, going: &dyn Fn(&Value) -> String) -> Result<Value, Failure> {
    let bar = std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new_spinner()
            .with_style(ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    });
    let mut report = None;
    let asked = client.post_lines(path, body, &mut |mut line| {
        if let (Some(bar), Some(told)) = (&bar, line.get("going")) {
            bar.set_message(going(told));
        }
        report = line.get_mut("report").map(Value::take).or(report.take());
        Ok(())
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    asked?;
    report.ok_or_else(|| anyhow!("the answer broke off without a report: the server's log says why").into())
}

/// The version that is looked at when none is named: the newest that waits to be switched to, else the one in service.
pub fn version_to_look_at(client: &Client, view: &str) -> Result<u64, Failure> {
    let document = client.get(&format!("/v1/views/{}", escaped(view)))?;
    let active = document.pointer("/active/version").and_then(Value::as_u64);
    let versions = document.get("versions").and_then(Value::as_array).into_iter().flatten();
    let waiting = versions.filter(|version| version.get("state").and_then(Value::as_str) == Some("caught_up"));
    let newest = waiting.filter_map(|version| version.get("version")?.as_u64()).max().filter(|newest| Some(*newest) > active);
    newest.or(active).ok_or_else(|| {
        Failure::Gate(format!("no version of view {view} is caught up; refold status {view} --watch shows how far they are"))
    })
}

/// A number of a report.
pub fn number(report: &Value, name: &str) -> u64 {
    report.get(name).and_then(Value::as_u64).unwrap_or_default()
}
