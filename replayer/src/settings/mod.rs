//! Settings in two stages: what the user said ([`Said`]), then validated settings ([`Settings`]), from which things are built.

pub mod flags;
mod said;
pub mod table;
#[cfg(test)]
mod tests;
mod validated;

pub use flags::{ForCheck, ForClient, ForCollect, ForPlan, ForProcess, ForServe, ForUp, SettingFlags};
pub use said::Said;
pub use validated::Settings;

use crate::failure::Failure;

/// What the flags, the environment and `refold.toml` say, validated.
pub fn load<S: flags::Scoped>(flags: &SettingFlags<S>) -> Result<Settings, Failure> {
    let file = said::read_file(flags.config.as_deref()).map_err(Failure::Usage)?;
    let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let file = file.as_ref().map(|(path, text)| (path.as_str(), text.as_str()));
    let said = Said::resolve(&flags.values, environment, file).map_err(Failure::Usage)?;
    let settings = Settings::validate(&said).map_err(Failure::Usage)?;
    crate::output::log(&settings.log, settings.log_json).map_err(Failure::Usage)?;
    Ok(settings)
}
