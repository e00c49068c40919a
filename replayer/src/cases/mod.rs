//! Cases of views: events in, rows expected, declared in `tests/*.toml` of the schemas folder and run without any service.
//!
//! Data flows one way: [`declared`] reads a file, [`records`] encodes its events as a collector does, [`ways`] brings them through the engine's own
//! steps, [`expected`] compares the rows, [`outcome`] puts the verdict together and [`report`] words it.

mod declared;
mod difference;
mod events;
mod expected;
mod mistake;
mod outcome;
mod records;
mod report;
mod values;
mod verdicts;
mod ways;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use refold_collector::{Encoder, Mapping};
use refold_processor::decode::{SchemaFolder, SchemaLookup};
use refold_processor::source::{Source, Sources};
use refold_processor::view::View;
use refold_versions::planner::Planner;

pub use self::mistake::Mistake;
pub use self::outcome::Outcome;
pub use self::report::{json, milliseconds, text};

use self::declared::Case;
use self::expected::Expected;
use self::records::Record;
use crate::parts::{Declared, declared_all};
use crate::views;

/// A case that can be run.
pub struct Prepared {
    case: Case,
    view: Arc<View>,
    source: Source,
    schemas: Arc<dyn SchemaLookup>,
    records: Vec<Record>,
    expected: Expected,
}

impl Prepared {
    /// Runs it, straight and cut at places that `seed` decides.
    pub fn run(&self, seed: u64) -> Outcome {
        outcome::run(self, seed)
    }

    /// The columns of a partition's key.
    pub fn partition_key(&self) -> &[String] {
        &self.view.options.partition_key
    }
}

/// Reads the cases in the schemas folder, of the views named or of all. Everything that is wrong with any of them is in the error.
///
/// # Errors
/// When declarations, view files or files of cases cannot be read, a view that is named has no case, or a case has a mistake.
pub fn load(schemas: &Path, named: &[String]) -> Result<Vec<Prepared>, String> {
    let stand = Stand::load(schemas)?;
    if let Some(unknown) = named.iter().find(|view| !stand.views.contains_key(*view)) {
        return Err(stand.no_such_view(unknown));
    }
    let files = views::files_in(&schemas.join("tests"), "toml").map_err(|error| format!("{error:#}"))?;
    let (mut prepared, mut mistakes) = (Vec::new(), Vec::new());
    for file in &files {
        match declared::read(file) {
            Ok(cases) => {
                let wanted = cases.into_iter().filter(|case| named.is_empty() || named.contains(&case.view));
                for case in wanted {
                    match stand.prepare(case) {
                        Ok(case) => prepared.push(case),
                        Err(mistake) => mistakes.push(mistake.to_string()),
                    }
                }
            }
            Err(mistake) => mistakes.push(mistake.to_string()),
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes.join("\n"));
    }
    if let Some(view) = named.iter().find(|view| !prepared.iter().any(|prepared| prepared.case.view == **view)) {
        return Err(format!("view {view} has no case in {}; write one: docs/testing.md", schemas.join("tests").display()));
    }
    if prepared.is_empty() {
        return Err(format!(
            "there are no cases in {}; write one (docs/testing.md), or name another schemas folder with --schemas",
            schemas.join("tests").display()
        ));
    }
    Ok(prepared)
}

/// The cases in a text, which `file` is to hold.
///
/// # Errors
/// When declarations or view files cannot be read, or a case has a mistake.
pub fn of_text(schemas: &Path, file: &Path, text: &str) -> Result<Vec<Prepared>, String> {
    let stand = Stand::load(schemas)?;
    let cases = declared::parse(file, text).map_err(|mistake| mistake.to_string())?;
    cases.into_iter().map(|case| stand.prepare(case).map_err(|mistake| mistake.to_string())).collect()
}

/// What cases are prepared with.
struct Stand {
    schemas: PathBuf,
    views: BTreeMap<String, Arc<View>>,
    sources: Sources,
    encoders: Vec<Encoder>,
    folder: Arc<SchemaFolder>,
}

impl Stand {
    fn load(schemas: &Path) -> Result<Stand, String> {
        let Declared { sources, folder, encoders } = declared_all(schemas).map_err(|error| format!("{error:#}"))?;
        let planner = Planner::new(&sources).map_err(|error| error.to_string())?;
        let planned = views::load(schemas, &planner).map_err(|error| format!("{error:#}"))?;
        Ok(Stand {
            schemas: schemas.to_path_buf(),
            views: planned.into_iter().map(|(_, view)| (view.name.clone(), Arc::new(view))).collect(),
            sources,
            encoders,
            folder: Arc::new(folder),
        })
    }

    fn prepare(&self, case: Case) -> Result<Prepared, Mistake> {
        let view = self.views.get(&case.view).ok_or_else(|| case.mistake(case.view_line, self.no_such_view(&case.view)))?;
        let no_source = || case.mistake(case.view_line, format!("the source of view {}, {}, is not declared", view.name, view.source));
        let source = self.sources.get(&view.source).ok_or_else(no_source)?;
        let encoder = self.encoders.iter().find(|encoder| encoder.source() == source.name).ok_or_else(no_source)?;
        let mapping = match &case.mapping {
            Some((line, name)) => {
                Some(Mapping::load(&self.schemas, name, encoder).map_err(|error| case.mistake(*line, error.to_string()))?)
            }
            None => None,
        };
        let records = records::encode(&case, source, encoder, mapping.as_ref())?;
        let expected = Expected::new(&case, &view.shape)?;
        Ok(Prepared { view: view.clone(), source: source.clone(), schemas: self.folder.clone(), records, expected, case })
    }

    fn no_such_view(&self, name: &str) -> String {
        let nearest = self.views.keys().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
        let nearest = nearest.filter(|nearest| strsim::jaro(nearest, name) > ALIKE).map(|nearest| format!("; did you mean {nearest}?"));
        let declared = || format!("; declared are: {}", self.views.keys().cloned().collect::<Vec<_>>().join(", "));
        format!("there is no view {name}{}", nearest.unwrap_or_else(declared))
    }
}

/// Names that are more alike than this are taken for one another.
const ALIKE: f64 = 0.8;
