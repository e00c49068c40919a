//! What can be written on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::settings::{ForCheck, ForClient, ForCollect, ForProcess, ForServe, ForUp, SettingFlags};

/// Materialized views of an event log: kept up to date, changed by replay, switched in one step.
#[derive(Debug, Parser)]
#[command(name = "refold", version, max_term_width = 120, after_help = AFTER_HELP)]
pub struct Refold {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Settings: a flag counts before an environment variable (REFOLD_…), before refold.toml, before the default.
Exit status: 0 done, 1 failed, 2 wrong usage, 3 a gate was not passed, or someone else was first.";

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs everything in one process: collector, log, processor, view store, API
    #[command(after_help = UP_EXAMPLES)]
    Up(Up),
    /// Runs versions of views: a worker over Kafka and Cassandra
    #[command(after_help = PROCESS_EXAMPLES)]
    Process(Process),
    /// Answers HTTP: the API over Kafka and Cassandra, without running versions
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Serve),
    /// Brings events from a source into the log
    #[command(after_help = COLLECT_EXAMPLES)]
    Collect(Collect),
    /// Parses, plans and explains view files
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Shows how far each version of each view is
    #[command(after_help = STATUS_EXAMPLES)]
    Status(Status),
    /// Starts a new version of a view, built from the start of the log
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(Replay),
    /// Sends readers to another version of a view, in one step
    #[command(after_help = SWITCH_EXAMPLES)]
    Switch(Switch),
    /// Sends readers back to the version that was in service before, in one step
    #[command(after_help = ROLLBACK_EXAMPLES)]
    Rollback(Rollback),
    /// Drops a version, or a whole view: table, change feed and state are removed
    #[command(after_help = DROP_EXAMPLES)]
    Drop(Drop),
    /// Resumes a failed version where it stopped, after the cause was fixed
    #[command(after_help = RESUME_EXAMPLES)]
    Resume(Resume),
    /// Shows the events that a version did not apply, and why
    #[command(subcommand)]
    Quarantine(Quarantine),
    /// Shows what was done to views: by whom, when, why
    #[command(after_help = HISTORY_EXAMPLES)]
    History(History),
    /// Prints all settings with their meaning and default, as a refold.toml
    Settings,
    /// Writes shell completions
    Completions(Completions),
}

const UP_EXAMPLES: &str = "\
Examples:
  refold up                                     generated posts: some days of history, then in real time
  refold up --source none                       no source: post events to /v1/sources/<source>/events
  refold up --source jsonl:posts.jsonl.gz       events of a file
  refold up --listen 0.0.0.0:7070 --token-file token   reachable from other machines
  refold up --kafka localhost:9092 --cassandra localhost:9042   the log in Kafka, rows in Cassandra";

const PROCESS_EXAMPLES: &str = "\
Examples:
  refold process --kafka broker:9092 --cassandra node:9042
  refold process --kafka broker:9092 --cassandra node:9042 --pool replay --data /var/lib/refold/replay";

const SERVE_EXAMPLES: &str = "\
Examples:
  refold serve --kafka broker:9092 --cassandra node:9042 --listen 0.0.0.0:7070 --token-file /etc/refold/token";

const COLLECT_EXAMPLES: &str = "\
Examples:
  refold collect jsonl:posts.jsonl.gz                          into the refold up on this machine
  zcat posts.gz | refold collect jsonl:- --mapping plain_posts posts of another shape, by a mapping of sources.toml
  refold collect generate:1000 --count 100000 --seed 7         generated posts
  refold collect jsonl:posts.jsonl --data ./refold-data        straight into the log, while no refold up is running
  refold collect generate:1000 --kafka broker:9092             straight into Kafka";

const CHECK_EXAMPLES: &str = "\
Examples:
  refold check                                  all files in schemas/views
  refold check schemas/views/hashtag_counts.sql";

const STATUS_EXAMPLES: &str = "\
Examples:
  refold status
  refold status hashtag_counts --watch
  refold status --wait                                          until every version has caught up
  refold status --json | jq 'select(.lag > 1000)'";

const REPLAY_EXAMPLES: &str = "\
Examples:
  refold replay hashtag_counts                                 with the declared file, schemas/views/hashtag_counts.sql
  refold replay hashtag_counts --file new.sql
  refold replay hashtag_counts --switch                         waits until it has caught up, then switches
  refold replay --changed schemas --switch                      all views that have changed
  refold status hashtag_counts --watch                         then: how far it is";

const SWITCH_EXAMPLES: &str = "\
Examples:
  refold switch hashtag_counts                  to the newest version that is caught up
  refold switch hashtag_counts 1                to version 1
  refold switch hashtag_counts 2 --force --reason \"v1 is wrong\"   even if version 2 is not running or is behind";

const ROLLBACK_EXAMPLES: &str = "\
Examples:
  refold rollback hashtag_counts                back to the version before; asked again, nothing is changed
  refold rollback hashtag_counts --reason \"v2 miscounts\"
  refold rollback hashtag_counts --expected 2   only if readers are on version 2
  refold rollback hashtag_counts --force --reason \"v2 is wrong\"   even if the version before is not running or is behind";

const DROP_EXAMPLES: &str = "\
Examples:
  refold drop hashtag_counts 1                  version 1, unless readers are on it or were lately (drop_grace_ms)
  refold drop hashtag_counts 1 --force --reason \"never again\"   even if readers were on it lately
  refold drop hashtag_counts --all              the whole view; asks for its name
  refold drop hashtag_counts --all --yes        without asking";

const RESUME_EXAMPLES: &str = "\
Examples:
  refold resume hashtag_counts 1                version 1 continues; fix the cause of the failure first
  refold status hashtag_counts                  shows which version has failed, and why";

const QUARANTINE_EXAMPLES: &str = "\
Examples:
  refold quarantine list hashtag_counts                        of the version in service
  refold quarantine list hashtag_counts --version 2 --reason too_late
  refold quarantine list hashtag_counts --json | jq -r .reason | sort | uniq -c";

const QUARANTINED_EXAMPLES: &str = "\
Examples:
  refold quarantine show hashtag_counts 3 1041                 the event at offset 1041 of partition 3";

const HISTORY_EXAMPLES: &str = "\
Examples:
  refold history
  refold history hashtag_counts --limit 10";

/// `refold up`
#[derive(Debug, Args)]
pub struct Up {
    /// Reads the source from its start, and appends everything again
    #[arg(long)]
    pub restart: bool,
    /// Prints what it listens on as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForUp>,
}

/// `refold process`
#[derive(Debug, Args)]
pub struct Process {
    /// Which versions it runs: those in service (live), those that are being built beside them (replay), or all
    #[arg(long, value_enum, default_value_t = PoolArgument::All)]
    pub pool: PoolArgument,
    /// Prints what it listens on as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForProcess>,
}

/// Which versions a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PoolArgument {
    /// All
    All,
    /// Those that readers are or were sent to, and the first one of each view
    Live,
    /// Those that are being built beside one in service
    Replay,
}

/// `refold serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Prints what it listens on as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForServe>,
}

/// `refold collect`
#[derive(Debug, Args)]
pub struct Collect {
    /// Where events come from: jsonl:FILE (- is standard input), generate:RATE
    #[arg(value_name = "SPEC")]
    pub spec: String,
    /// The running refold up that takes the events [default: http://127.0.0.1:7070]
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    pub to: Option<String>,
    /// The declared source that the events are of; needed when several are declared
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// The mapping of sources.toml that turns lines into events
    #[arg(long, value_name = "NAME")]
    pub mapping: Option<String>,
    /// Ends after so many generated posts
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Decides what is generated
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Generates a history of this length first, as fast as it is taken, for instance 3d
    #[arg(long, value_name = "DURATION")]
    pub backlog: Option<String>,
    /// Reads the source from its start again; events that were read before are written twice
    #[arg(long)]
    pub restart: bool,
    /// Prints the totals as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForCollect>,
}

/// `refold check`
#[derive(Debug, Args)]
pub struct Check {
    /// View files, or folders of them [default: all in the schemas folder]
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Prints one object a file
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForCheck>,
}

/// `refold status`
#[derive(Debug, Args)]
pub struct Status {
    /// Of this view only
    #[arg(value_name = "VIEW")]
    pub view: Option<String>,
    /// Shows it again every second, until stopped
    #[arg(long)]
    pub watch: bool,
    /// Waits until every version has caught up; ends with status 1 if one has failed
    #[arg(long, conflicts_with = "watch")]
    pub wait: bool,
    /// Prints one object a version
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForClient>,
}

/// `refold replay`
#[derive(Debug, Args)]
pub struct Replay {
    /// The view
    #[arg(value_name = "VIEW", required_unless_present = "changed", conflicts_with = "changed")]
    pub view: Option<String>,
    /// The definition [default: the file that declares the view where refold up runs]
    #[arg(long, value_name = "NEW.sql", requires = "view")]
    pub file: Option<PathBuf>,
    /// All views of this schemas folder whose definition is not the one in service. A version that has the definition already is used
    #[arg(long, value_name = "DIR")]
    pub changed: Option<PathBuf>,
    /// Waits until the version has caught up; ends with status 1 if it fails
    #[arg(long)]
    pub wait: bool,
    /// Waits, then sends readers to the version
    #[arg(long)]
    pub switch: bool,
    /// Why it is switched to, for the audit trail
    #[arg(long, value_name = "TEXT", requires = "switch")]
    pub reason: Option<String>,
    /// Prints the answer as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForClient>,
}

/// `refold switch`
#[derive(Debug, Args)]
pub struct Switch {
    /// The view
    #[arg(value_name = "VIEW")]
    pub view: String,
    /// The version, such as 2 [default: the newest that is caught up]
    #[arg(value_name = "VERSION", value_parser = version)]
    pub version: Option<u32>,
    /// The version that must be in service now; the switch is refused when another is. Idempotent: repeating a switch that succeeded succeeds
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub expected: Option<u32>,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Switches even if no worker runs the version or it is behind
    #[arg(long, requires = "reason")]
    pub force: bool,
    /// Prints the answer as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForClient>,
}

/// `refold rollback`
#[derive(Debug, Args)]
pub struct Rollback {
    /// The view
    #[arg(value_name = "VIEW")]
    pub view: String,
    /// The version that readers are to be sent back from; the rollback is refused when another is in service
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub expected: Option<u32>,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Goes back even if no worker runs the version or it is behind
    #[arg(long, requires = "reason")]
    pub force: bool,
    /// Prints the answer as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForClient>,
}

/// `refold drop`
#[derive(Debug, Args)]
pub struct Drop {
    /// The view
    #[arg(value_name = "VIEW")]
    pub view: String,
    /// The version, such as 2
    #[arg(value_name = "VERSION", value_parser = version, required_unless_present = "all", conflicts_with = "all")]
    pub version: Option<u32>,
    /// All versions, also the one in service: the view cannot be read any more. The file that declares it stays
    #[arg(long)]
    pub all: bool,
    /// Does not ask for the name of the view
    #[arg(long, requires = "all", conflicts_with = "version")]
    pub yes: bool,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Drops the version even if it was in service lately
    #[arg(long, requires = "reason", conflicts_with = "all")]
    pub force: bool,
    /// Prints the answer as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForClient>,
}

/// `refold resume`
#[derive(Debug, Args)]
pub struct Resume {
    /// The view
    #[arg(value_name = "VIEW")]
    pub view: String,
    /// The version, such as 2
    #[arg(value_name = "VERSION", value_parser = version)]
    pub version: u32,
    /// Prints the answer as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForClient>,
}

/// `refold quarantine`
#[derive(Debug, Subcommand)]
pub enum Quarantine {
    /// Lists them, in the order of partitions and offsets
    #[command(after_help = QUARANTINE_EXAMPLES)]
    List(QuarantineList),
    /// Shows one of them, with its value as far as it is kept
    #[command(after_help = QUARANTINED_EXAMPLES)]
    Show(QuarantineShow),
}

/// `refold quarantine list`
#[derive(Debug, Args)]
pub struct QuarantineList {
    /// The view
    #[arg(value_name = "VIEW")]
    pub view: String,
    /// The version, such as 2 [default: the one in service]
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub version: Option<u32>,
    /// Those with this reason only, such as too_late
    #[arg(long, value_name = "REASON")]
    pub reason: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
    /// Prints one object an event
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForClient>,
}

/// `refold quarantine show`
#[derive(Debug, Args)]
pub struct QuarantineShow {
    /// The view
    #[arg(value_name = "VIEW")]
    pub view: String,
    /// The partition of the event
    #[arg(value_name = "PARTITION")]
    pub partition: u32,
    /// Its offset
    #[arg(value_name = "OFFSET")]
    pub offset: u64,
    /// The version, such as 2 [default: the one in service]
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub version: Option<u32>,
    /// Prints it as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForClient>,
}

/// `refold history`
#[derive(Debug, Args)]
pub struct History {
    /// Of this view only
    #[arg(value_name = "VIEW")]
    pub view: Option<String>,
    /// At most so many, the newest of all
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub limit: u64,
    /// Prints one object an entry
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForClient>,
}

/// `refold completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

fn version(text: &str) -> Result<u32, String> {
    text.strip_prefix('v').unwrap_or(text).parse().map_err(|_| format!("{text:?} is not the number of a version"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_do_not_collide() {
        Refold::command().debug_assert();
    }

    #[test]
    fn a_setting_is_said_by_its_flag() {
        let refold = Refold::try_parse_from(["refold", "up", "--memory-mb", "64", "--log-sync=false", "--log-json"]).unwrap();
        let Command::Up(up) = refold.command else { unreachable!("up was said") };
        assert_eq!(up.settings.values, [("memory-mb", "64".to_owned()), ("log-json", "true".to_owned()), ("log-sync", "false".to_owned())]);
        assert!(Refold::try_parse_from(["refold", "status", "--memory-mb", "64"]).is_err(), "a setting of up alone");
    }
}
