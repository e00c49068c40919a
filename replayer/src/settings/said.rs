//! The first stage: what the user said, and where.

use std::collections::BTreeMap;
use std::path::Path;

use super::table::{SETTINGS, Setting};

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "refold.toml";
const PREFIX: &str = "REFOLD_";
/// Variables of the project's own scripts.
const OF_SCRIPTS: [&str; 3] = ["REFOLD_TOOLS", "REFOLD_PROVE_SCALE", "REFOLD_SEED"];

/// One value, and where it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// As it was written.
    pub text: String,
    /// For errors: `--listen`, `REFOLD_LISTEN`, `listen in refold.toml`.
    pub place: String,
}

/// What the user said, by flag. What nobody said is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said(BTreeMap<&'static str, Value>);

impl Said {
    /// Puts together what was said: flags before the environment before the file.
    ///
    /// # Errors
    /// A key that is not known, with the nearest one that is; a file that is not TOML.
    pub fn resolve(
        flags: &[(&'static str, String)],
        environment: impl Iterator<Item = (String, String)>,
        file: Option<(&str, &str)>,
    ) -> Result<Said, String> {
        let mut said = Said::default();
        if let Some((path, text)) = file {
            said.add_file(path, text)?;
        }
        let is_said = |name: &str| name.starts_with(PREFIX) && !OF_SCRIPTS.contains(&name) && !is_service_link(name);
        let mut variables: Vec<(String, String)> = environment.filter(|(name, _)| is_said(name)).collect();
        variables.sort();
        for (name, text) in variables {
            let setting = SETTINGS.iter().find(|setting| setting.variable() == name);
            let setting = setting.ok_or_else(|| unknown("environment variable", &name, Setting::variable))?;
            said.0.insert(setting.flag, Value { text, place: name });
        }
        for (flag, text) in flags {
            said.0.insert(flag, Value { text: text.clone(), place: format!("--{flag}") });
        }
        Ok(said)
    }

    /// What was said of a setting.
    pub fn get(&self, flag: &str) -> Option<&Value> {
        self.0.get(flag)
    }

    fn add_file(&mut self, path: &str, text: &str) -> Result<(), String> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| format!("{path}: {}", error.to_string().trim_end()))?;
        for (key, value) in table {
            let setting = SETTINGS.iter().find(|setting| setting.key() == key);
            let setting = setting.ok_or_else(|| format!("{path}: {}", unknown("key", &key, Setting::key)))?;
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(switch) => switch.to_string(),
                other => return Err(format!("{path}: {key} must be a text, a whole number, true or false, not {}", other.type_str())),
            };
            self.0.insert(setting.flag, Value { text, place: format!("{key} in {path}") });
        }
        Ok(())
    }
}

/// Kubernetes tells every container of the services beside it, among them one called `refold` or `refold-…`: `REFOLD_SERVICE_HOST`,
/// `REFOLD_PORT`, `REFOLD_PORT_7070_TCP_ADDR`.
fn is_service_link(name: &str) -> bool {
    let port = name.rsplit_once("_PORT").map(|(_, rest)| rest);
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || port.is_some_and(|rest| rest.is_empty() || rest.starts_with('_') && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit))
}

fn unknown(what: &str, name: &str, spelled: impl Fn(&Setting) -> String) -> String {
    let near = SETTINGS.iter().map(spelled).map(|known| (strsim::damerau_levenshtein(&known, name), known)).min();
    match near {
        Some((distance, known)) if distance <= name.len() / 2 => format!("{what} {name} is not known; did you mean {known}?"),
        _ => format!("{what} {name} is not known; refold up --help names all settings"),
    }
}

/// The file named, which must be there, or the default one, if it is; with its path for errors.
pub fn read_file(named: Option<&Path>) -> Result<Option<(String, String)>, String> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.display().to_string(), text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}
