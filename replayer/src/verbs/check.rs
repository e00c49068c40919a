//! `refold check`: what the schemas folder declares, and view files, parsed, planned and explained.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use refold_collector::Mapping;
use refold_collector::live::check_streams;
use refold_processor::view::{View, ViewError};
use refold_versions::planner::Planner;
use serde_json::json;

use crate::cli::Check;
use crate::failure::Failure;
use crate::output::{Output, complain};
use crate::parts::declared_all;
use crate::settings;
use crate::views;

/// Checks the files named, or all declared ones.
pub fn run(arguments: &Check, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let declared = declared_all(&settings.schemas)?;
    Mapping::check_all(&settings.schemas, &declared.encoders)?;
    check_streams(&settings.schemas)?;
    let planner = Planner::new(&declared.sources)?;
    let files = match arguments.files.is_empty() {
        true => views::files(&settings.schemas)?,
        false => arguments.files.iter().map(|path| views::named(path)).collect::<Result<Vec<_>, _>>()?.concat(),
    };
    if files.is_empty() {
        let folder = arguments.files.first().cloned().unwrap_or_else(|| settings.schemas.join("views"));
        return Err(anyhow!("there are no view files (*.sql) in {}; name them, or the folder with --schemas", folder.display()).into());
    }
    let (mut defined, mut refused) = (Vec::<(String, PathBuf)>::new(), 0_usize);
    for path in &files {
        let planned = planner.plan(&views::read(path)?, &path.display().to_string()).and_then(|view| twice(view, path, &defined));
        match planned {
            Ok(view) => {
                show(path, &view, arguments.json, output)?;
                defined.push((view.name, path.clone()));
            }
            Err(error) => {
                refused += 1;
                if arguments.json {
                    output.json(&json!({
                        "file": error.file, "ok": false, "line": error.line, "column": error.column, "message": error.message, "help": error.help
                    }))?;
                }
                complain(&format!("error: {error}"));
            }
        }
    }
    match refused {
        0 => Ok(()),
        _ => Err(anyhow!("{refused} of {} view files refused", files.len()).into()),
    }
}

fn twice(view: View, path: &Path, defined: &[(String, PathBuf)]) -> Result<View, ViewError> {
    match defined.iter().find(|(name, _)| *name == view.name) {
        None => Ok(view),
        Some((_, other)) => Err(ViewError {
            file: path.display().to_string(),
            line: 1,
            column: 1,
            message: format!("view {} is defined in {} too", view.name, other.display()),
            help: Some("give one of them another name".into()),
        }),
    }
}

fn show(path: &Path, view: &View, as_json: bool, output: &mut Output) -> std::io::Result<()> {
    if as_json {
        let columns: Vec<_> = view
            .shape
            .columns
            .fields()
            .iter()
            .map(|field| json!({ "name": field.name(), "type": field.data_type().to_string() }))
            .collect();
        return output.json(&json!({
            "file": path.display().to_string(),
            "ok": true,
            "view": view.name,
            "source": view.source,
            "digest": view.digest,
            "partition_key": view.options.partition_key,
            "columns": columns,
            "explain": view.explain(),
        }));
    }
    output.line(&format!("{}: ok\n\n{}\n", path.display(), view.explain().trim_end()))
}
