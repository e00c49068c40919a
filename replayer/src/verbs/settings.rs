//! `refold settings`: all settings, as a documented `refold.toml`.

use std::fmt::Write;

use crate::failure::Failure;
use crate::output::Output;
use crate::settings::table::{Kind, SETTINGS};

/// Writes the file.
pub fn run(output: &mut Output) -> Result<(), Failure> {
    Ok(output.bytes(documented().as_bytes())?)
}

/// Every setting with its meaning and default, commented out.
fn documented() -> String {
    let mut text = String::from(
        "# All settings of refold, with their defaults. This is what refold settings prints.\n\
         #\n\
         # A flag counts before an environment variable, before this file, before the default. The key memory_mb is --memory-mb as a flag and\n\
         # REFOLD_MEMORY_MB in the environment.\n",
    );
    for setting in SETTINGS {
        let default = match setting.kind {
            Kind::Number(..) | Kind::Switch => setting.default.to_owned(),
            _ => format!("{:?}", setting.default),
        };
        // Writing to a text cannot fail.
        let _ = write!(text, "\n# {}.\n# {} = {default}\n", setting.meaning, setting.key());
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_documented_file_is_the_one_in_the_documentation() {
        let documentation = std::fs::read_to_string("../docs/refold.toml").unwrap();
        assert_eq!(documentation, documented(), "write it anew: refold settings > docs/refold.toml");
    }

    #[test]
    fn without_the_comment_signs_it_is_a_valid_file() {
        let text = documented();
        let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| line.contains(" = ")).collect();
        let table: toml::Table = lines.join("\n").parse().unwrap();
        assert_eq!(table.len(), SETTINGS.len());
    }
}
