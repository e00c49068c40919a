//! Gathers what all gates of a switch are judged by: the facts about its rows, its counts, its audits, and how it differs from the version in service.
//!
//! Audits and the comparison read tables whole. They are judged last, and not at all where a version is refused already, unless all verdicts are wanted.

use refold_processor::store::catalogue::VersionRecord;
use refold_processor::view::Checks;
use refold_versions::audit::{self, AuditError, Audited};
use refold_versions::diff::{Compared, DiffError, DiffSettings, Report, compare};
use refold_versions::gate::judge;
use refold_versions::switching::{self, AUDITS, Counts, DIFF, Judged};

use crate::gate::facts;
use crate::problem::Problem;
use crate::views::Views;

/// How a switch is judged.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// By how much numbers may differ, in the words of whoever switches; `None`: as the view declares.
    pub within: Option<f64>,
    /// Rows are not compared, whatever the view declares.
    pub no_diff: bool,
    /// All gates are judged, also where one refuses.
    pub all: bool,
}

/// Whether nobody waits for the answer any more.
pub type IsGone<'a> = dyn Fn() -> bool + 'a;

/// How many examples of rows that fail an audit are looked for: they are shown by the verb of audits.
const EXAMPLES: usize = 0;

/// Judges a version by all gates, in their order.
///
/// # Errors
/// When facts cannot be read, or nobody waits any more.
pub fn judge_all(
    views: &Views,
    target: &VersionRecord,
    active: Option<&VersionRecord>,
    how: &How,
    is_gone: &IsGone<'_>,
) -> Result<Vec<Judged>, Problem> {
    let refused = judge(&facts(views, target, active)?, views.watch.caught_up_lag_events);
    let mut judged = vec![switching::current(refused.as_ref(), &target.view, target.version)];
    let counts =
        |record: &VersionRecord| Ok::<_, Problem>(views.progress_of(record)?.map(|progress| Counts::of(record.version, &progress)));
    let new = counts(target)?.unwrap_or_default();
    let old = active.map(counts).transpose()?.flatten();
    judged.push(switching::quarantine(&new, old.as_ref(), views.quarantine_allowance, &target.view));
    judged.push(switching::lateness(&new, old.as_ref(), views.quarantine_allowance, &target.view));
    let is_refused = |judged: &[Judged]| judged.iter().any(|judged| !judged.passed);
    if is_refused(&judged) && !how.all {
        return Ok(judged);
    }
    let checks = views.checks_of(target)?;
    judged.push(audits(views, target, &checks, is_gone)?);
    if is_refused(&judged) && !how.all {
        return Ok(judged);
    }
    judged.push(difference(views, target, active, how, &checks, is_gone)?);
    Ok(judged)
}

fn gone() -> Problem {
    Problem::unavailable("whoever asked for the switch is gone: nothing was switched")
}

fn audits(views: &Views, target: &VersionRecord, checks: &Checks, is_gone: &IsGone<'_>) -> Result<Judged, Problem> {
    if checks.audits.is_empty() {
        return Ok(switching::audits(None, &target.view));
    }
    let audited = audited(views, target, checks)?;
    match audit::check(views.rows.as_ref(), &audited, EXAMPLES, &mut |_| !is_gone()) {
        Ok(report) => Ok(switching::audits(Some(&report), &target.view)),
        Err(AuditError::Stopped) => Err(gone()),
        Err(error) => Ok(Judged::unknown(AUDITS, error)),
    }
}

/// A version, to be audited.
pub fn audited(views: &Views, record: &VersionRecord, checks: &Checks) -> Result<Audited, Problem> {
    Ok(Audited { table: views.table(record)?, window: views.planned(record)?.window, audits: checks.audits.clone() })
}

fn difference(
    views: &Views,
    target: &VersionRecord,
    active: Option<&VersionRecord>,
    how: &How,
    checks: &Checks,
    is_gone: &IsGone<'_>,
) -> Result<Judged, Problem> {
    let asked = how.within.or(checks.diff_tolerance).filter(|_| !how.no_diff);
    let Some(tolerance) = asked else { return Ok(switching::diff(switching::Compared::NotAsked, &target.view)) };
    let Some(active) = active else { return Ok(switching::diff(switching::Compared::Nothing, &target.view)) };
    let settings = DiffSettings { tolerance, ignore: checks.diff_ignore.clone(), ..DiffSettings::default() };
    let report = difference_of(views, [active, target], &settings, is_gone);
    match report {
        Ok(report) => Ok(switching::diff(switching::Compared::Report(&report), &target.view)),
        Err(DiffError::Stopped) => Err(gone()),
        Err(error) => Ok(Judged::unknown(DIFF, error)),
    }
}

fn difference_of(views: &Views, sides: [&VersionRecord; 2], settings: &DiffSettings, is_gone: &IsGone<'_>) -> Result<Report, DiffError> {
    let broken = |problem: Problem| DiffError::Unreadable(problem.detail().to_owned());
    let [left, right] = [compared(views, sides[0]).map_err(broken)?, compared(views, sides[1]).map_err(broken)?];
    compare(views.rows.as_ref(), [&left, &right], settings, &mut |_| !is_gone())
}

/// A version, to be compared.
pub fn compared(views: &Views, record: &VersionRecord) -> Result<Compared, Problem> {
    let planned = views.planned(record)?;
    Ok(Compared { table: views.table(record)?, window: planned.window, accept_late_us: planned.options.accepted_late_us() })
}
