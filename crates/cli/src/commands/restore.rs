//! `cru restore PATH@V` and `cru undelete PATH|FOLDER`: bringing a version of the past back.

use std::collections::BTreeMap;

use crucible_core::vault_path::VaultPath;
use crucible_core::version::Version;
use crucible_node::outlook::Operation;
use crucible_sync::repo::Repo;
use serde_json::json;

use crate::args::{Restore, Undelete};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{STRONG, moment, plain};
use crate::past::{Entry, Past, is_below};
use crate::vault_folder::VaultFolder;
use crate::words::notice_in_words;
use crate::world::Machine;

/// Most versions looked through for the one before a deletion.
const LOOKED_THROUGH: usize = 10_000;

/// Makes a version of old the newest one.
pub fn run(args: &Restore, context: &Context) -> Outcome {
    let folder = VaultFolder::find(&context.start)?;
    let (path, version) = folder.path_at(context, &args.what)?;
    let Some(version) = version else {
        return Err(Failure::new(Exit::Usage, "which version?")
            .hint(format!("`cru log '{path}'` lists them; then `cru restore '{path}@VERSION'`")));
    };
    let mut past = Past::open(&folder, context)?;
    let entry = past.find(&path, &version)?;
    bring_back(&folder, context, &mut past, &entry)?;
    tell_next(&folder, context);
    Ok(Exit::Ok)
}

/// Brings a deleted note back as it last was, or all that were deleted below a folder.
pub fn undelete(args: &Undelete, context: &Context) -> Outcome {
    let folder = VaultFolder::find(&context.start)?;
    let path = folder.path_of(context, &args.path)?;
    if folder.root.join(path.as_str()).is_file() {
        return Err(Failure::failed(format!("{} is there", plain(path.as_str()))).hint(format!(
            "to go back to an earlier version: `cru log '{path}'`, `cru restore '{path}@VERSION'`"
        )));
    }
    let pending = Pending::of(&folder)?;
    let mut past = Past::open(&folder, context)?;
    let mut found = deleted_below(&folder, &past, &pending, &path)?;
    if found.is_empty() {
        found.push(deleted_at(&mut past, &pending, &path)?);
    }
    for entry in &found {
        bring_back(&folder, context, &mut past, entry)?;
    }
    tell_next(&folder, context);
    Ok(Exit::Ok)
}

/// What has happened in the folder since the last round.
struct Pending(BTreeMap<VaultPath, Operation>);

impl Pending {
    fn of(folder: &VaultFolder) -> Outcome<Self> {
        let status = folder.open()?.replica.status(&mut Machine)?;
        Ok(Self(status.changes.into_iter().map(|step| (step.path, step.operation)).collect()))
    }

    /// Where the note of a version is now; `None` when it is deleted.
    fn place_of(&self, past: &Past<'_>, entry: &Entry) -> Outcome<Option<VaultPath>> {
        for head in past.store().heads(&entry.note)? {
            let version = past.store().version(&head)?;
            let Some(path) = version.as_deref().and_then(Version::path) else { continue };
            match self.0.get(path) {
                Some(Operation::Delete) => {}
                Some(Operation::Rename(to)) => return Ok(Some(to.clone())),
                _ => return Ok(Some(path.clone())),
            }
        }
        Ok(None)
    }
}

/// The last versions of the notes that were below a folder when they were deleted, by path. Where
/// something is again, nothing is brought back.
fn deleted_below(
    folder: &VaultFolder,
    past: &Past<'_>,
    pending: &Pending,
    path: &VaultPath,
) -> Outcome<Vec<Entry>> {
    let mut gone = BTreeMap::new();
    let mut last: Vec<(String, Entry)> = Vec::new();
    for entry in past.list_here(None, usize::MAX)? {
        let is_gone = match gone.get(&entry.note) {
            Some(is_gone) => *is_gone,
            None => pending.place_of(past, &entry)?.is_none(),
        };
        // The newest version with a path is the one to bring back; older ones are not asked.
        let at = entry.path.clone().filter(|_| is_gone);
        gone.insert(entry.note, is_gone && at.is_none());
        last.extend(at.map(|at| (at, entry)));
    }
    last.retain(|(at, _)| is_below(at, path) && !folder.root.join(at).exists());
    last.sort_by(|(one, _), (other, _)| one.cmp(other));
    last.dedup_by(|(one, _), (other, _)| one == other);
    Ok(last.into_iter().map(|(_, entry)| entry).collect())
}

/// The last version of the deleted note that was at this path.
fn deleted_at(past: &mut Past<'_>, pending: &Pending, path: &VaultPath) -> Outcome<Entry> {
    let was_there = |entry: &Entry| entry.path.as_deref() == Some(path.as_str());
    let mut renamed_to = None;
    for entry in past.list_here(Some(path), LOOKED_THROUGH)?.into_iter().filter(was_there) {
        match pending.place_of(past, &entry)? {
            None => return Ok(entry),
            Some(now) => renamed_to = renamed_to.or(Some((path.clone(), now))),
        }
    }
    if renamed_to.is_none() {
        renamed_to = moved_from_below(past, pending, path)?;
    }
    match renamed_to {
        // Its file is missing all the same: another disk's name, or one that was never placed.
        Some((was, now)) if was == now => {
            Err(Failure::failed(format!("{} is not deleted", plain(was.as_str())))
                .hint("`cru sync` places its file, or says why not"))
        }
        Some((was, now)) => Err(renamed(&was, &now)),
        None => {
            let all = past.list(Some(path), LOOKED_THROUGH)?;
            let found = all.into_iter().find(was_there);
            found.ok_or_else(|| past.never_was(path, "`cru log` lists everything that was"))
        }
    }
}

/// Going back to the old name would go back to the old text too, and nothing was deleted.
fn renamed(was: &VaultPath, now: &VaultPath) -> Failure {
    let (was, now) = (plain(was.as_str()), plain(now.as_str()));
    Failure::failed(format!("{was} is not deleted: it is called {now} now"))
        .hint(format!("`cru log '{now}'` has its versions, those under the old name too"))
}

/// A note that was below this folder and is somewhere now: what it was called, and is.
fn moved_from_below(
    past: &Past<'_>,
    pending: &Pending,
    folder: &VaultPath,
) -> Outcome<Option<(VaultPath, VaultPath)>> {
    for entry in past.list_here(None, usize::MAX)? {
        let was = entry.path.as_deref().filter(|path| is_below(path, folder));
        let Some(was) = was.and_then(|was| VaultPath::new(was).ok()) else { continue };
        if let Some(now) = pending.place_of(past, &entry)? {
            return Ok(Some((was, now)));
        }
    }
    Ok(None)
}

fn bring_back(
    folder: &VaultFolder,
    context: &Context,
    past: &mut Past<'_>,
    entry: &Entry,
) -> Outcome<()> {
    if entry.path.is_none() {
        let message = format!("{} is deleted in this version", plain(entry.last_path()));
        return Err(Failure::failed(message)
            .hint("take the version before it, or delete the file yourself"));
    }
    let Some(version) = past.store().version(&entry.version)? else {
        let message = format!("this device does not know version {} yet", entry.version.short());
        return Err(Failure::failed(message).hint("`cru sync` first"));
    };
    let bytes = past.bytes(entry)?;
    let mut vault = folder.open()?;
    let report = vault.replica.restore(&version, bytes, &mut Machine)?;
    for notice in &report.notices {
        context.output.warn(notice_in_words(notice));
    }
    context.output.value(&json!({
        "type": "restored",
        "path": entry.path,
        "version": entry.version.to_string(),
    }))?;
    let path = context.output.paint(STRONG, plain(entry.last_path()));
    context.output.line(format!("{path} is again as it was {}", moment(entry.stamp.0)))
}

fn tell_next(folder: &VaultFolder, context: &Context) {
    if folder.server().is_some() {
        context.output.note("`cru sync` tells the other devices");
    }
}
