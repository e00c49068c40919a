//! Embeds the dashboard: the files that its build has left in `dashboard/dist`.
//!
//! Without them the API answers `/` with a plain page. Where the dashboard must be there, as in what is handed to others, `REFOLD_DASHBOARD=required` makes its absence
//! an error.

#![allow(clippy::print_stdout, reason = "cargo reads what a build script prints")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("dashboard").join("dist");
    // A folder that is not there yet is looked for again with each build.
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-env-changed=REFOLD_DASHBOARD");
    let mut files = Vec::new();
    if folder.is_dir() {
        collect(&folder, &mut files)?;
    }
    files.sort();
    if !files.iter().any(|file| *file == folder.join("index.html")) {
        let way_out = "the dashboard is not built: run scripts/dashboard build, or make build, which does";
        if env::var("REFOLD_DASHBOARD").is_ok_and(|value| value == "required") {
            println!("cargo::error={way_out}");
        } else {
            println!("cargo::warning={way_out}; until then / is a plain page");
        }
        files.clear();
    }
    let mut source = String::from("&[\n");
    for file in &files {
        let name = file.strip_prefix(&folder).unwrap_or(file).to_string_lossy().replace('\\', "/");
        writeln!(source, "    (\"{}\", include_bytes!(\"{}\")),", name.escape_default(), file.display().to_string().escape_default())
            .map_err(io::Error::other)?;
    }
    source.push(']');
    fs::write(PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("dashboard.rs"), source)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => collect(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}
