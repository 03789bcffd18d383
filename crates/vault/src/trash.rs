//! The trash: removed files, by day, as long as [`TRASH_DAYS`].
//!
//! Invariant: nothing is ever overwritten in it, and only whole days that are over leave it.
//! A file lies at `.crucible/trash/<day>/<batch>/<its path>`, so that people find it by hand.

use std::io::{self, ErrorKind};

use crucible_core::vault_path::VaultPath;

use crate::fs::{FileKind, FileSystem, Stat, TRASH_DIR, join, parent};
use crate::write::{UniqueName, copy, make_state_dir, remove_tree};

/// How long a removed file is kept.
pub const TRASH_DAYS: i64 = 30;
/// How many files of one path one batch may remove.
const COPIES_MAX: u32 = 1000;
const DAY_MS: i64 = 86_400_000;

/// Where the files of one round go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrashPlace {
    dir: String,
}

/// A file in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trashed {
    /// Where it lies.
    pub at: String,
    /// Where it was in the vault.
    pub path: String,
    /// On which day it was removed, as `2026-11-23`.
    pub day: String,
    /// How it looks.
    pub stat: Stat,
}

impl TrashPlace {
    /// The place for what is removed now, by a batch of removals with a name of its own.
    pub fn new(now_ms: u64, batch: &UniqueName) -> Self {
        let days = i64::try_from(now_ms / DAY_MS as u64).unwrap_or(i64::MAX / DAY_MS);
        Self { dir: format!("{TRASH_DIR}/{}/{}", day_name(days), batch.as_str()) }
    }

    /// Where the first file of this path is put.
    pub fn place_of(&self, path: &VaultPath) -> String {
        join(&self.dir, path.as_str())
    }

    /// Puts a file of ours away as the removed `path`; says where it is and whether it had to be
    /// copied, in which case the file it was copied from stays.
    pub(crate) fn keep<F: FileSystem>(
        &self,
        fs: &F,
        from: &str,
        path: &VaultPath,
        crosses: bool,
    ) -> io::Result<(String, bool)> {
        for count in 1..=COPIES_MAX {
            let at = match count {
                1 => self.place_of(path),
                _ => format!("{}.{count}/{path}", self.dir),
            };
            let kept = make_state_dir(fs, parent(&at)).and_then(|()| {
                if crosses {
                    copy(fs, from, &at).and_then(|()| fs.sync_file(&at))
                } else {
                    fs.rename_new(from, &at)
                }
            });
            match kept {
                Ok(()) => return Ok((at, crosses)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                // A file of this batch is where this one needs a folder.
                Err(error) if error.kind() == ErrorKind::NotADirectory => {}
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }
}

/// What is in the trash, oldest day first.
///
/// # Errors
/// When some of it cannot be listed.
pub fn list<F: FileSystem>(fs: &F) -> io::Result<Vec<Trashed>> {
    let mut found = Vec::new();
    for (day, _) in days(fs)? {
        let day_dir = join(TRASH_DIR, &day);
        for entry in fs.list(&day_dir)? {
            let Some(batch) = entry.name.to_str() else { continue };
            let batch_dir = join(&day_dir, batch);
            collect(fs, &batch_dir, "", &day, &mut found)?;
        }
    }
    Ok(found)
}

/// Removes the days that are over for good, but for folders that `keep` wants; says which.
///
/// # Errors
/// The system's; what is left goes the next time.
pub fn expire<F: FileSystem>(
    fs: &F,
    now_ms: u64,
    keep: impl Fn(&str) -> bool,
) -> io::Result<Vec<String>> {
    let today = i64::try_from(now_ms / DAY_MS as u64).unwrap_or(0);
    let mut gone = Vec::new();
    for (name, day) in days(fs)? {
        let dir = join(TRASH_DIR, &name);
        if today - day > TRASH_DAYS && !keep(&dir) {
            remove_tree(fs, &dir)?;
            gone.push(name);
        }
    }
    Ok(gone)
}

fn collect<F: FileSystem>(
    fs: &F,
    dir: &str,
    path: &str,
    day: &str,
    found: &mut Vec<Trashed>,
) -> io::Result<()> {
    for entry in fs.list(dir)? {
        let Some(name) = entry.name.to_str() else { continue };
        let (at, path, stat) = (join(dir, name), join(path, name), entry.stat?);
        if stat.kind == FileKind::Dir {
            collect(fs, &at, &path, day, found)?;
        } else {
            found.push(Trashed { at, path, day: day.to_owned(), stat });
        }
    }
    Ok(())
}

/// The days in the trash; whatever else somebody put there is not ours to touch.
fn days<F: FileSystem>(fs: &F) -> io::Result<Vec<(String, i64)>> {
    let entries = match fs.list(TRASH_DIR) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let name = |entry: crate::fs::Entry| entry.name.into_string().ok();
    Ok(entries
        .into_iter()
        .filter_map(name)
        .filter_map(|name| {
            let day = parse_day(&name)?;
            Some((name, day))
        })
        .collect())
}

/// The civil date of a day since 1970 (Hinnant, `civil_from_days`).
fn day_name(days: i64) -> String {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The day since 1970 of a civil date; `None` for any other text.
fn parse_day(name: &str) -> Option<i64> {
    if name.len() != "2026-11-23".len() {
        return None;
    }
    let mut parts = name.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let shifted_year = year - i64::from(month <= 2);
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    (day_name(days) == name).then_some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_civil_names_and_back() {
        assert_eq!(day_name(0), "1970-01-01");
        assert_eq!(day_name(11_016), "2000-02-29");
        assert_eq!(day_name(20_780), "2026-11-23");
        for day in (0..60_000).step_by(17) {
            assert_eq!(parse_day(&day_name(day)), Some(day));
        }
        for other in ["", "x", "2026-13-01", "2026-02-30", "2026-1-1", "2026-11-23-4", "notes"] {
            assert_eq!(parse_day(other), None, "{other}");
        }
    }
}
