//! The declared views: the files in the views folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use refold_api::Definitions;
use refold_processor::view::View;
use refold_versions::planner::Planner;

/// The files that declare views, in the order of their names. A folder that is not there declares none.
pub fn files(schemas: &Path) -> Result<Vec<PathBuf>> {
    files_in(&schemas.join("views"), "sql")
}

/// The files in a folder whose names end like this, in the order of their names. A folder that is not there has none.
pub fn files_in(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == ending) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The text of a view file.
pub fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // Some editors begin a file with a mark that says that it is UTF-8.
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    String::from_utf8(text.to_vec()).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        anyhow!("{}:{line}: the file is not UTF-8; save it in that encoding", path.display())
    })
}

/// A file, or the view files in a folder.
pub fn named(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_dir() { files_in(path, "sql") } else { Ok(vec![path.to_path_buf()]) }
}

/// Plans all declared views. What is wrong with any of them is in the error.
pub fn load(schemas: &Path, planner: &Planner) -> Result<Vec<(PathBuf, View)>> {
    let (mut views, mut errors) = (Vec::<(PathBuf, View)>::new(), Vec::new());
    for path in files(schemas)? {
        match planner.plan(&read(&path)?, &path.display().to_string()) {
            Ok(view) => match views.iter().find(|(_, other)| other.name == view.name) {
                Some((other, _)) => errors.push(format!("{}: view {} is defined in {} too", path.display(), view.name, other.display())),
                None => views.push((path, view)),
            },
            Err(error) => errors.push(error.to_string()),
        }
    }
    if errors.is_empty() {
        return Ok(views);
    }
    let (verb, them) = if errors.len() == 1 { ("a view file is", "it") } else { ("view files are", "them") };
    bail!("{verb} refused; mend {them}, refold check shows more\n{}", errors.join("\n"))
}

/// The declared definitions, read anew each time, so that an edited file counts at once.
pub struct ViewFolder {
    schemas: PathBuf,
    planner: Planner,
}

impl ViewFolder {
    /// The views of a schemas folder.
    pub fn new(schemas: &Path, planner: Planner) -> ViewFolder {
        ViewFolder { schemas: schemas.to_path_buf(), planner }
    }

    fn find(&self, view: &str) -> Result<Option<(String, String)>> {
        let files = files(&self.schemas)?;
        // The file that has the view's name is its own even when it does not plan: the error in it is then the answer.
        let (named, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|path| path.file_stem().is_some_and(|stem| stem == view));
        for path in named.iter().chain(&others) {
            let (label, sql) = (path.display().to_string(), read(path)?);
            let planned = self.planner.plan(&sql, &label);
            let is_named = named.contains(path);
            if planned.map_or(is_named, |planned| planned.name == view) {
                return Ok(Some((label, sql)));
            }
        }
        Ok(None)
    }
}

impl Definitions for ViewFolder {
    fn of(&self, view: &str) -> Result<Option<(String, String)>, String> {
        self.find(view).map_err(|error| format!("{error:#}"))
    }
}
