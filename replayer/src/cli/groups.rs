//! The help of the program: its verbs by what they are for.

use clap::CommandFactory;

use super::Refold;

/// The verbs by what they are for; one that is not in it stands at the end.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Run", &["up", "process", "serve", "collect"]),
    ("Write views", &["check", "test"]),
    ("Change what readers see", &["plan", "apply", "replay", "pause", "throttle", "resume", "switch", "rollback", "drop"]),
    ("Look closer", &["status", "diff", "audit", "verify", "why", "quarantine", "history"]),
    ("Refold itself", &["settings", "completions"]),
];

const TEMPLATE: &str = "{about-with-newline}\n{usage-heading} {usage}\n\n{before-help}Options:\n{options}{after-help}";

/// The command line, whose help has the verbs by what they are for.
pub fn command() -> clap::Command {
    let command = Refold::command();
    let verbs: Vec<(&str, String)> = command
        .get_subcommands()
        .map(|verb| (verb.get_name(), verb.get_about().map(ToString::to_string).unwrap_or_default()))
        .chain([("help", "Prints this message, or the help of a verb".to_owned())])
        .collect();
    let width = verbs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let line = |(name, about): &(&str, String)| format!("  {name:width$}  {about}\n");
    let is_grouped = |name: &str| GROUPS.iter().any(|(_, names)| names.contains(&name));
    let mut text = String::new();
    for (title, names) in GROUPS {
        let of_group = names.iter().filter_map(|name| verbs.iter().find(|(verb, _)| verb == name));
        text.push_str(&format!("{title}:\n{}\n", of_group.map(line).collect::<String>()));
    }
    text.push_str(&format!("More:\n{}", verbs.iter().filter(|(name, _)| !is_grouped(name)).map(line).collect::<String>()));
    command.help_template(TEMPLATE).before_help(text)
}
