//! What operators want of a version beside its state: whether it is paused, how fast it may be built, and where it ends.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::records::{ActivePointer, AuditEntry, VersionRecord, VersionState};
use super::{Catalogue, CatalogueError, Change, find, refused};
use crate::table::Version;

/// What is wanted of a version. Workers make what runs equal to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controls {
    /// Whether it stands still: owned, with its state, but nothing is folded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pause: bool,
    /// How fast it may be built.
    #[serde(default, skip_serializing_if = "Throttle::is_default")]
    pub throttle: Throttle,
    /// The record time at which it ends, milliseconds since the Unix epoch: in each partition, the first record with a later one and all behind it are no part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
}

impl Controls {
    /// Whether nothing is wanted that is out of the ordinary.
    pub fn is_default(&self) -> bool {
        *self == Controls::default()
    }
}

/// How fast a version may be built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "events_per_s")]
pub enum Throttle {
    /// As fast as leaves the versions in service of the same process as they were without it.
    #[default]
    Auto,
    /// As fast as it can.
    Off,
    /// At most so many events a second.
    Rate(u64),
}

impl Throttle {
    fn is_default(&self) -> bool {
        *self == Throttle::default()
    }
}

impl fmt::Display for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Throttle::Auto => f.write_str("auto"),
            Throttle::Off => f.write_str("off"),
            Throttle::Rate(rate) => write!(f, "{rate} events/s"),
        }
    }
}

/// Who asks for a change of controls, by which verb, and why.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// `pause` or `throttle`.
    pub verb: &'a str,
    /// Who.
    pub by: &'a str,
    /// Why.
    pub reason: Option<&'a str>,
}

impl Catalogue {
    /// Changes the controls of a version to what `decide` answers, from its record and the active pointer alone; `None`: they stay. What it refuses changes nothing.
    ///
    /// # Errors
    /// Those of the catalogue; the inner one is the refusal.
    pub fn control<R>(
        &self,
        view: &str,
        version: Version,
        asking: &Asking<'_>,
        decide: impl Fn(&VersionRecord, Option<&ActivePointer>) -> Result<Option<Controls>, R>,
    ) -> Result<Result<VersionRecord, R>, CatalogueError> {
        if let Some(dropped) = self.version(view, version)?.filter(|record| record.state == VersionState::Dropped) {
            return Err(refused(&dropped, &VersionState::Building, self.now_ms()));
        }
        self.change(view, |register, now_ms| {
            let active = register.active.clone();
            let record = find(register, view, version)?;
            let wanted = match decide(record, active.as_ref()) {
                Ok(Some(wanted)) if wanted != record.controls => wanted,
                Ok(_) => return Ok(Change { answer: Ok(record.clone()), entry: None }),
                Err(refusal) => return Ok(Change { answer: Err(refusal), entry: None }),
            };
            let (from, to) = match wanted.pause == record.controls.pause {
                true => (record.controls.throttle.to_string(), wanted.throttle.to_string()),
                false => (record.state.to_string(), "paused".to_owned()),
            };
            record.controls = wanted;
            let entry = AuditEntry {
                version: Some(version),
                from: Some(from),
                to: Some(to),
                reason: asking.reason.map(str::to_owned),
                ..AuditEntry::new(asking.verb, view, asking.by, now_ms)
            };
            Ok(Change { answer: Ok(record.clone()), entry: Some(entry) })
        })
    }
}
