//! `refold source infer`: a sample of JSON lines → schema, mapping, event time and key.

use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::anyhow;
use refold_collector::infer::{Proposal, propose};
use serde_json::{Value, json};

use crate::cli::Infer;
use crate::failure::Failure;
use crate::output::{Output, complain};

/// Proposes, and prints or writes.
pub fn infer(arguments: &Infer, output: &mut Output) -> Result<(), Failure> {
    let path = &arguments.file;
    let read_error = |error: std::io::Error| anyhow!("cannot read {}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(read_error)?;
    let (mut lines, mut bad) = (Vec::new(), 0);
    for line in BufReader::new(file).lines().take(usize::try_from(arguments.lines).unwrap_or(usize::MAX)) {
        let line = line.map_err(read_error)?;
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<Value>(&line) {
            Ok(json) if json.is_object() => lines.push(json),
            _ => bad += 1,
        }
    }
    let name = arguments.name.clone().unwrap_or_else(|| name_of(path));
    let proposal = propose(&name, &lines).map_err(|message| anyhow!("{}: {message}", path.display()))?;
    if bad > 0 {
        complain(&format!("{bad} of {} lines are no JSON objects, and were left out", bad + lines.len()));
    }
    for note in &proposal.notes {
        complain(&format!("note: {note}"));
    }
    let Proposal { schema, declaration, event_time, key, notes, .. } = &proposal;
    if arguments.json {
        output.json(
            &json!({ "name": name, "schema": schema, "sources": declaration, "event_time": event_time, "key": key, "notes": notes }),
        )?;
    } else if arguments.write.is_none() {
        output.line(&format!("# events/{name}.avsc\n{schema}\n# sources.toml\n{declaration}"))?;
    }
    if let Some(folder) = &arguments.write {
        write(folder, &proposal)?;
        let key = key.as_deref().unwrap_or("none");
        complain(&format!(
            "written to {}: event time {event_time}, key {key}; look at both, then: refold collect jsonl:{}?mapping={name} --print 3 --schemas {}",
            folder.display(),
            path.display(),
            folder.display()
        ));
    }
    Ok(())
}

/// A name for the source: that of the file, as far as names go.
fn name_of(path: &Path) -> String {
    let stem = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().split('.').next().unwrap_or_default();
    let name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    match name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        true => name,
        false => format!("events_{name}").trim_end_matches('_').to_owned(),
    }
}

/// Writes schema and declaration; what is there already is left alone.
fn write(folder: &Path, proposal: &Proposal) -> Result<(), Failure> {
    let files = [
        (folder.join("events").join(format!("{}.avsc", proposal.name)), &proposal.schema),
        (folder.join("sources.toml"), &proposal.declaration),
    ];
    super::new::write_all(&files.map(|(path, text)| (path, text.clone())))
}
