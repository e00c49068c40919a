//! A project to begin with, a source from a sample, and the applications beside the sample one.

use refold_tests::command::{refold, text};
use refold_tests::http::{get, post_lines, wait_until};
use serde_json::json;

use crate::http::up_over;

#[test]
fn a_new_project_is_checked_tested_and_run_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("my project");
    refold(&["new", text(&project)]).ends(0).says("sources.toml").says("refold up --schemas");
    refold(&["new", text(&project)]).ends(1).complains("is there already, and nothing was written");
    refold(&["check", "--schemas", text(&project)]).ends(0);
    refold(&["test", "--schemas", text(&project)]).ends(0);
    let data = tempfile::tempdir().unwrap();
    let program = up_over(&project, data.path(), &[]);
    post_lines(&program.url, "visits", "{\"at\": \"2026-11-30T12:00:00Z\", \"visitor\": \"ann\", \"page\": \"/\"}\n").is(200);
    wait_until("the visit is counted", || {
        get(&format!("{}/v1/views/visits_per_minute/rows?page=%2F", program.url)).json["rows"][0]["visits"] == 1
    });
}

#[test]
fn a_source_is_proposed_from_a_sample_and_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let (file, schemas) = (folder.path().join("web-orders.jsonl"), folder.path().join("schemas"));
    let lines: Vec<String> = (0..20)
        .map(|number| {
            let buyer = json!({ "id": format!("b{}", number % 3), "mail": null });
            json!({ "placed": format!("2026-11-30 12:00:{number:02}"), "buyer": buyer, "total": 1.5, "when": "01/02/2026", "lines": [{ "a": 1 }] }).to_string()
        })
        .collect();
    std::fs::write(&file, lines.join("\n") + "\noops\n").unwrap();
    let said = refold(&["source", "infer", text(&file)]).ends(0).says("[sources.web_orders]").says("# events/web_orders.avsc");
    said.complains("1 of 21 lines").complains("lines is not taken").complains("when may be a time");
    refold(&["source", "infer", text(&file), "--write", text(&schemas)]).ends(0).complains("event time placed, key buyer_id");
    refold(&["source", "infer", text(&file), "--write", text(&schemas)]).ends(1).complains("is there already");
    let spec = format!("jsonl:{}?mapping=web_orders", file.display());
    let printed = refold(&["collect", &spec, "--print", "3", "--schemas", text(&schemas)]).ends(0).complains("3 printed");
    assert_eq!(printed.objects()[0], json!({ "placed": 1_796_040_000_000_i64, "buyer_id": "b0", "total": 1.5, "when": "01/02/2026" }));
    let whole = refold(&["collect", &spec, "--schemas", text(&schemas), "--data", text(&folder.path().join("data"))]).ends(0);
    whole.says("21 read, 20 written, 1 skipped");
    std::fs::write(&file, "{\"a\": 1}\n").unwrap();
    refold(&["source", "infer", text(&file)]).ends(1).complains("no field of every line is a time");
}

#[test]
fn the_other_applications_are_valid_and_their_cases_pass() {
    for app in ["wikipedia", "bluesky"] {
        refold(&["check", "--app", app]).ends(0);
        refold(&["test", "--app", app]).ends(0);
    }
}
