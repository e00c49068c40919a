//! Flags, made from the table of settings.

use std::marker::PhantomData;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::table::{Kind, SETTINGS, Scope, Setting};

/// Which settings a verb has.
pub trait Scoped: Clone + Send + Sync + 'static {
    /// The verb.
    const SCOPE: Scope;
}

macro_rules! scoped {
    ($name:ident, $scope:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Debug)]
        pub struct $name;

        impl Scoped for $name {
            const SCOPE: Scope = Scope::$scope;
        }
    };
}

scoped!(ForUp, Up, "Settings of `up`.");
scoped!(ForProcess, Process, "Settings of `process`.");
scoped!(ForServe, Serve, "Settings of `serve`.");
scoped!(ForCollect, Collect, "Settings of `collect`.");
scoped!(ForCheck, Check, "Settings of `check`.");
scoped!(ForClient, Client, "Settings of verbs that speak to a running process.");
scoped!(ForPlan, Plan, "Settings of verbs that compare the schemas folder with a running process.");

/// The settings that were said as flags.
#[derive(Clone, Debug)]
pub struct SettingFlags<S> {
    /// Flag and value.
    pub values: Vec<(&'static str, String)>,
    /// The file named instead of `refold.toml`.
    pub config: Option<PathBuf>,
    scope: PhantomData<S>,
}

impl<S: Scoped> SettingFlags<S> {
    /// Whether a setting was said as a flag.
    pub fn has(&self, flag: &str) -> bool {
        self.values.iter().any(|(said, _)| *said == flag)
    }

    fn settings() -> impl Iterator<Item = &'static Setting> {
        SETTINGS.iter().filter(|setting| setting.scopes.contains(&S::SCOPE))
    }
}

impl<S: Scoped> Args for SettingFlags<S> {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config").long("config").value_name("FILE").value_parser(value_parser!(PathBuf));
        let config = config.help("The file of settings [default: refold.toml, if it is there]").help_heading("Settings");
        Self::settings().fold(command.arg(config), |command, setting| command.arg(flag(setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<S: Scoped> FromArgMatches for SettingFlags<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let said = |setting: &'static Setting| Some((setting.flag, matches.get_one::<String>(setting.flag)?.clone()));
        let values = Self::settings().filter_map(said).collect();
        Ok(SettingFlags { values, config: matches.get_one::<PathBuf>("config").cloned(), scope: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn flag(setting: &'static Setting) -> Arg {
    let default = if setting.default.is_empty() { "none" } else { setting.default };
    let arg = Arg::new(setting.flag).long(setting.flag).action(ArgAction::Set).hide_short_help(setting.tuning);
    let arg = arg.help(format!("{} [{}] [default: {default}]", setting.meaning, setting.variable()));
    let (heading, name) = (if setting.tuning { "Tuning" } else { "Settings" }, value_name(setting.kind));
    let arg = arg.help_heading(heading).value_name(name);
    if setting.kind == Kind::Switch { arg.num_args(0..=1).require_equals(true).default_missing_value("true") } else { arg }
}

fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "TEXT",
        Kind::Folder => "DIR",
        Kind::File => "FILE",
        Kind::Address => "ADDR",
        Kind::Url => "URL",
        Kind::Number(..) => "N",
        Kind::Switch => "true|false",
    }
}
