//! Stamps that are not believed: further ahead of the other side's clock than clocks are apart.
//!
//! Law: nothing is refused for ever. Where both clocks were wrong, a version far ahead was believed
//! and stays; what is written on top of it is as little later as can be, and that is believed too.
//! So a wrong clock costs its own note the order of concurrent edits, and no other note anything.

use crucible_core::id::VersionId;
use crucible_core::limits::CLOCK_AHEAD_MAX_MS;
use crucible_core::timestamp::Stamp;
use crucible_core::version::Version;

use crate::repo::Repo;
use crate::staged::{EngineError, Staged};

/// Whether a stamp is further ahead of this time than clocks are apart.
pub fn is_ahead(stamp: Stamp, now_ms: u64) -> bool {
    stamp.ms() > now_ms.saturating_add(CLOCK_AHEAD_MAX_MS)
}

/// Whether a side at `now_ms` refuses a version that is new to it: its stamp is ahead, and more
/// than a millisecond above its newest parent's. Where a parent is not known here, as on a server
/// from a backup, nobody can tell how late it has to be, and it is believed.
///
/// # Errors
/// The store's.
pub fn is_refused<R: Repo>(
    staged: &Staged<'_, R>,
    version: &Version,
    now_ms: u64,
) -> Result<bool, EngineError<R::Error>> {
    const STEP_TICKS: u64 = 1 << 16;
    if !is_ahead(version.stamp, now_ms) {
        return Ok(false);
    }
    let mut after = None;
    for parent in &version.parents {
        let Some(parent) = staged.version(parent)? else { return Ok(false) };
        after = after.max(Some(parent.stamp.ticks().saturating_add(STEP_TICKS)));
    }
    Ok(after.is_none_or(|after| version.stamp.ticks() > after))
}

/// Which of `unsent` (oldest first) a side at `now_ms` refuses, and what descends from them.
///
/// # Errors
/// The store's.
pub fn refused<R: Repo>(
    staged: &Staged<'_, R>,
    unsent: &[VersionId],
    now_ms: u64,
) -> Result<Vec<VersionId>, EngineError<R::Error>> {
    let mut found: Vec<VersionId> = Vec::new();
    for id in unsent {
        let version = staged.known_version(id)?;
        let descends = version.parents.iter().any(|parent| found.contains(parent));
        if descends || is_refused(staged, &version, now_ms)? {
            found.push(*id);
        }
    }
    Ok(found)
}
