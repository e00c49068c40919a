//! What can be written on the command line to change a view: verbs about its versions.

use std::path::PathBuf;

use clap::Args;

use super::version;
use crate::settings::{ForClient, ForPlan, SettingFlags};

pub(super) const PLAN_EXAMPLES: &str = "\
Examples:
  refold plan                                   all views of the schemas folder
  refold plan hashtag_counts
  refold plan --canary                          also what the changes would do to a tenth of the keys, over the beginning of the log
  refold plan --detailed-exitcode               status 4 if there are changes, for scripts
  refold plan --markdown                        for a comment on a pull request";

pub(super) const APPLY_EXAMPLES: &str = "\
Examples:
  refold apply                                  shows the plan, asks, replays, compares, asks, switches
  refold apply hashtag_counts --yes             without asking
  refold apply --yes --tolerance 0.01           switches only if no row differs by more than a hundredth";

pub(super) const REPLAY_EXAMPLES: &str = "\
Examples:
  refold replay hashtag_counts                                 with the declared file, schemas/views/hashtag_counts.sql
  refold replay hashtag_counts --file new.sql
  refold replay hashtag_counts --switch                         waits until it has caught up, then switches
  refold replay --changed schemas --switch                      all views that have changed
  refold replay hashtag_counts --until 2026-11-23T00:00:00Z     as it was then: ends at that record time
  refold status hashtag_counts --watch                         then: how far it is";

pub(super) const SWITCH_EXAMPLES: &str = "\
Examples:
  refold switch hashtag_counts                  to the newest version that is caught up
  refold switch hashtag_counts 1                to version 1
  refold switch hashtag_counts --dry-run        only shows which gates it passes
  refold switch hashtag_counts --diff-within 0  only if no row differs from those in service
  refold switch hashtag_counts 2 --force --reason \"v1 is wrong\"   whatever the gates say";

pub(super) const AUDIT_EXAMPLES: &str = "\
Examples:
  refold audit hashtag_counts                   the newest version that is caught up, else the one in service
  refold audit hashtag_counts 2 --examples 20
  refold audit hashtag_counts --json | jq '.audits[] | select(.failed > 0)'

Exit status: 0 all rows meet all audits, 3 some do not.";

pub(super) const VERIFY_EXAMPLES: &str = "\
Examples:
  refold verify hashtag_counts                  the newest version that is caught up, else the one in service
  refold verify hashtag_counts 2 --from 2026-11-01T00:00:00Z
  refold verify hashtag_counts --window 2026-11-23T13:30:00Z --json | jq '.examples[]'

Exit status: 0 the rows of all closed windows are those that the log makes, 3 some are not.";

pub(super) const DIFF_EXAMPLES: &str = "\
Examples:
  refold diff hashtag_counts                    the newest version that is caught up, with the one in service
  refold diff hashtag_counts 1 3                version 3 with version 1
  refold diff hashtag_counts --tolerance 0.01   numbers may differ by a hundredth
  refold diff hashtag_counts --json | jq .changed
  refold diff hashtag_counts --why              with the events behind each example

Exit status: 0 no row differs, 3 some do, or kept changing while they were compared.";

pub(super) const WHY_EXAMPLES: &str = "\
Examples:
  refold why hashtag_counts hashtag=rust slot=2026-11-23T13:30:00Z
  refold why hashtag_counts hashtag=rust slot=2026-11-23T13:30:00Z --version 2 --json | jq .value";

pub(super) const ROLLBACK_EXAMPLES: &str = "\
Examples:
  refold rollback hashtag_counts                back to the version before; asked again, nothing is changed
  refold rollback hashtag_counts --reason \"v2 miscounts\"
  refold rollback hashtag_counts --expected 2   only if readers are on version 2
  refold rollback hashtag_counts --force --reason \"v2 is wrong\"   even if the version before is not running or is behind";

pub(super) const DROP_EXAMPLES: &str = "\
Examples:
  refold drop hashtag_counts 1                  version 1, unless readers are on it or were lately (drop_grace_ms)
  refold drop hashtag_counts 1 --force --reason \"never again\"   even if readers were on it lately
  refold drop hashtag_counts --all              the whole view; asks for its name
  refold drop hashtag_counts --all --yes        without asking";

pub(super) const PAUSE_EXAMPLES: &str = "\
Examples:
  refold pause hashtag_counts 2                 version 2, which is being built, stands still
  refold resume hashtag_counts 2                and goes on";

pub(super) const THROTTLE_EXAMPLES: &str = "\
Examples:
  refold throttle hashtag_counts 2 --rate 5000  version 2 reads at most 5,000 events a second while it is built
  refold throttle hashtag_counts 2 --auto       as fast as versions in service do not mind (the default)
  refold throttle hashtag_counts 2 --off        as fast as it can";

pub(super) const RESUME_EXAMPLES: &str = "\
Examples:
  refold resume hashtag_counts 1                version 1 continues; of a failed one, fix the cause first
  refold status hashtag_counts                  shows which version has failed, and why";

/// `refold plan`
#[derive(Debug, Args)]
pub struct Plan {
    /// These views only
    #[arg(value_name = "VIEW")]
    pub views: Vec<String>,
    /// Evaluates new definitions over the beginning of the log (32 MiB at most), and compares the rows of this share of partition keys [default: 0.1]
    #[arg(long, value_name = "SHARE", num_args = 0..=1, require_equals = true, default_missing_value = "0.1")]
    pub canary: Option<f64>,
    /// Ends with status 4 if there are changes
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Prints one object a view
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// Prints Markdown
    #[arg(long)]
    pub markdown: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForPlan>,
}

/// `refold apply`
#[derive(Debug, Args)]
pub struct Apply {
    /// These views only
    #[arg(value_name = "VIEW")]
    pub views: Vec<String>,
    /// Does not ask
    #[arg(long)]
    pub yes: bool,
    /// Switches only if no row differs, numbers by at most this part, such as 0.01 for a hundredth [default: as each view declares in diff_tolerance]
    #[arg(long, value_name = "PART")]
    pub tolerance: Option<f64>,
    /// Does not compare the rows of old and new versions
    #[arg(long, conflicts_with = "tolerance")]
    pub no_diff: bool,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Switches whatever the gates say; the audit trail has those that were not passed
    #[arg(long, requires = "reason")]
    pub force: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForPlan>,
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
    /// Ends the version at this record time (RFC 3339): in each partition, it folds what comes before the first record with a later one. Readers can be switched to
    /// it only with --force
    #[arg(long, value_name = "TIME", value_parser = time, requires = "view", conflicts_with_all = ["switch", "changed"])]
    pub until: Option<chrono::DateTime<chrono::Utc>>,
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
    /// Switches whatever the gates say; the audit trail has those that were not passed
    #[arg(long, requires = "reason")]
    pub force: bool,
    /// Switches only if rows differ from those in service by at most this part [default: as the view declares in diff_tolerance]
    #[arg(long, value_name = "PART")]
    pub diff_within: Option<f64>,
    /// Does not compare the rows, whatever the view declares
    #[arg(long, conflicts_with = "diff_within")]
    pub no_diff: bool,
    /// Only shows what the gates say; status 3 if one is not passed
    #[arg(long, conflicts_with = "force")]
    pub dry_run: bool,
    /// Prints the answer as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForClient>,
}

/// `refold audit`
#[derive(Debug, Args)]
pub struct Audit {
    /// The view
    #[arg(value_name = "VIEW")]
    pub view: String,
    /// The version, such as 2 [default: the newest that is caught up, else the one in service]
    #[arg(value_name = "VERSION", value_parser = version)]
    pub version: Option<u32>,
    /// How many rows that fail are shown of each audit
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub examples: usize,
    /// Prints the report as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForClient>,
}

/// `refold verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// The view
    #[arg(value_name = "VIEW")]
    pub view: String,
    /// The version, such as 2 [default: the newest that is caught up, else the one in service]
    #[arg(value_name = "VERSION", value_parser = version)]
    pub version: Option<u32>,
    /// Only the window that begins at this time
    #[arg(long, value_name = "TIME", conflicts_with_all = ["from", "to"])]
    pub window: Option<String>,
    /// Only windows that begin at this time or later
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Only windows that begin before this time
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// How many rows that differ are named
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub rows: usize,
    /// Prints the report as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForClient>,
}

/// `refold diff`
#[derive(Debug, Args)]
pub struct Diff {
    /// The view
    #[arg(value_name = "VIEW")]
    pub view: String,
    /// The version to compare with, such as 1 [default: the one in service]; alone, the version to compare
    #[arg(value_name = "A", value_parser = version)]
    pub left: Option<u32>,
    /// The version to compare [default: the newest that is caught up, else the one in service with the one before]
    #[arg(value_name = "B", value_parser = version)]
    pub right: Option<u32>,
    /// Numbers that differ by at most this part count as equal, such as 0.01 for a hundredth [default: as the view declares in diff_tolerance, else 0]
    #[arg(long, value_name = "PART")]
    pub tolerance: Option<f64>,
    /// How many examples of each kind of difference are shown
    #[arg(long, value_name = "N")]
    pub examples: Option<usize>,
    /// For how long rows that change meanwhile are compared again, seconds
    #[arg(long, value_name = "SECONDS")]
    pub settle: Option<f64>,
    /// Shows the events behind the first examples, in both versions; each reads the log twice
    #[arg(long)]
    pub why: bool,
    /// Prints the report as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForClient>,
}

/// `refold why`
#[derive(Debug, Args)]
pub struct Why {
    /// The view
    #[arg(value_name = "VIEW")]
    pub view: String,
    /// The row, by the columns of its key
    #[arg(value_name = "COLUMN=VALUE", required = true, value_parser = column_value)]
    pub key: Vec<(String, String)>,
    /// The version whose definition is evaluated, such as 2 [default: the one in service]
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub version: Option<u32>,
    /// How many events are shown; all are counted
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    /// Prints each event as JSON, one a line
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

/// `refold pause`
#[derive(Debug, Args)]
pub struct Pause {
    /// The view
    #[arg(value_name = "VIEW")]
    pub view: String,
    /// The version, such as 2
    #[arg(value_name = "VERSION", value_parser = version)]
    pub version: u32,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Prints the answer as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForClient>,
}

/// `refold throttle`
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("how").required(true)))]
pub struct Throttle {
    /// The view
    #[arg(value_name = "VIEW")]
    pub view: String,
    /// The version, such as 2
    #[arg(value_name = "VERSION", value_parser = version)]
    pub version: u32,
    /// At most so many events a second
    #[arg(long, value_name = "EVENTS", group = "how", value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// As fast as leaves versions in service in the same process as they were
    #[arg(long, group = "how")]
    pub auto: bool,
    /// As fast as it can
    #[arg(long, group = "how")]
    pub off: bool,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
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

fn time(text: &str) -> Result<chrono::DateTime<chrono::Utc>, String> {
    let time = chrono::DateTime::parse_from_rfc3339(text);
    time.map(|time| time.to_utc()).map_err(|_| "write a time as RFC 3339 has it, such as 2026-11-23T13:30:00Z".to_owned())
}

pub(super) fn column_value(text: &str) -> Result<(String, String), String> {
    let (column, value) = text.split_once('=').ok_or_else(|| "write COLUMN=VALUE, such as hashtag=rust".to_owned())?;
    Ok((column.to_owned(), value.to_owned()))
}
