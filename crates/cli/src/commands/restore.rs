//! `cru restore PATH@V` and `cru undelete PATH|FOLDER`: bringing a version of the past back.

use std::collections::BTreeMap;

use crucible_core::vault_path::VaultPath;
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
    let mut past = Past::open(&folder, context)?;
    let below = deleted_below(&folder, &mut past, &path)?;
    if below.is_empty() {
        let entry = last_alive(&mut past, &path)?;
        bring_back(&folder, context, &mut past, &entry)?;
    }
    for entry in &below {
        bring_back(&folder, context, &mut past, entry)?;
    }
    tell_next(&folder, context);
    Ok(Exit::Ok)
}

/// The last versions of the notes that were below a folder when they were deleted, by path. Where
/// something is again, nothing is brought back.
fn deleted_below(
    folder: &VaultFolder,
    past: &mut Past<'_>,
    path: &VaultPath,
) -> Outcome<Vec<Entry>> {
    let mut newest = BTreeMap::new();
    let mut last = BTreeMap::new();
    for entry in past.list_here(None, usize::MAX)? {
        let is_gone = entry.path.is_none();
        if *newest.entry(entry.note).or_insert(is_gone)
            && let Some(at) = entry.path.clone()
        {
            last.entry(entry.note).or_insert((at, entry));
        }
    }
    let mut last: Vec<(String, Entry)> = last.into_values().collect();
    last.retain(|(at, _)| is_below(at, path) && !folder.root.join(at).exists());
    last.sort_by(|(one, _), (other, _)| one.cmp(other));
    last.dedup_by(|(one, _), (other, _)| one == other);
    Ok(last.into_iter().map(|(_, entry)| entry).collect())
}

/// The newest version in which a note was at this path.
fn last_alive(past: &mut Past<'_>, path: &VaultPath) -> Outcome<Entry> {
    let alive = |entry: &Entry| entry.path.as_deref() == Some(path.as_str());
    let here = past.list_here(Some(path), LOOKED_THROUGH)?;
    if let Some(entry) = here.into_iter().find(alive) {
        return Ok(entry);
    }
    let all = past.list(Some(path), LOOKED_THROUGH)?;
    let found = all.into_iter().find(alive);
    found.ok_or_else(|| past.never_was(path, "`cru log` lists everything that was"))
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
