//! `refold new`: a small project to begin with.

use std::io::Write;
use std::path::PathBuf;

use anyhow::anyhow;
use serde_json::json;

use crate::cli::New;
use crate::failure::Failure;
use crate::output::Output;

const FILES: [(&str, &str); 4] = [
    ("sources.toml", include_str!("sources.toml")),
    ("events/visit.avsc", include_str!("visit.avsc")),
    ("views/visits_per_minute.sql", include_str!("visits_per_minute.sql")),
    ("tests/visits_per_minute.toml", include_str!("visits_per_minute.toml")),
];

/// Writes it, and says what to do next.
pub fn run(arguments: &New, output: &mut Output) -> Result<(), Failure> {
    let folder = &arguments.folder;
    let files: Vec<(PathBuf, String)> = FILES.iter().map(|(name, text)| (folder.join(name), (*text).to_owned())).collect();
    write_all(&files)?;
    if arguments.json {
        return Ok(output.json(&json!({ "folder": folder.display().to_string(), "files": FILES.map(|(name, _)| name) }))?);
    }
    for (path, _) in &files {
        output.line(&path.display().to_string())?;
    }
    let folder = folder.display();
    output
        .line(&format!("\nnext:\n  refold check --schemas {folder}\n  refold test --schemas {folder}\n  refold up --schemas {folder}"))?;
    Ok(())
}

/// Writes files, with their folders. None is written if one is there.
pub fn write_all(files: &[(PathBuf, String)]) -> Result<(), Failure> {
    if let Some((path, _)) = files.iter().find(|(path, _)| path.exists()) {
        return Err(anyhow!("{} is there already, and nothing was written; name another folder", path.display()).into());
    }
    for (path, text) in files {
        let write = || -> std::io::Result<()> {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::File::create_new(path)?.write_all(text.as_bytes())
        };
        write().map_err(|error| anyhow!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}
