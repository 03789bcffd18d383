//! `cru conflicts [show N | take N ours|theirs|both]`: what merges set aside, and taking it back.

use crucible_core::conflict::{Clash, Conflict, Hunk, Kept};
use crucible_core::id::ConflictId;
use crucible_node::actions::Take;
use crucible_store::sync_db::SyncDb;
use crucible_sync::repo::{ConflictState, Repo};
use serde_json::json;

use crate::args::{ConflictsVerb, Side};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{BAD, FAINT, GOOD, MARK, STRONG, count, moment, plain};
use crate::past::Fetcher;
use crate::vault_folder::VaultFolder;
use crate::words::{clash_in_words, conflict_as_json, notice_in_words};
use crate::world::Machine;

/// Most open conflicts that are listed.
const LISTED_MAX: usize = 100_000;

/// Lists, shows or takes.
pub fn run(what: Option<ConflictsVerb>, context: &Context) -> Outcome {
    let folder = VaultFolder::find(&context.start)?;
    match what {
        None | Some(ConflictsVerb::List) => list(&folder, context),
        Some(ConflictsVerb::Show { which }) => show(&folder, context, &which),
        Some(ConflictsVerb::Take { which, side }) => take(&folder, context, &which, side),
    }
}

fn list(folder: &VaultFolder, context: &Context) -> Outcome {
    let output = &context.output;
    let open = folder.store()?.numbered_conflicts(LISTED_MAX)?;
    for (number, conflict) in &open {
        let mut value = conflict_as_json(conflict);
        value["number"] = json!(number);
        output.value(&value)?;
        let path = output.paint(STRONG, plain(conflict.path.as_str()));
        let words = clash_in_words(&conflict.clash);
        output.line(format!("{}  {path}: {words}", output.paint(MARK, format!("{number:>3}"))))?;
    }
    if open.is_empty() {
        output.line("no conflicts: every merge so far went by itself, or was settled")?;
    } else {
        output.note(
            "`cru conflicts show N` shows one; `cru conflicts take N ours|theirs|both` settles it",
        );
    }
    Ok(Exit::Ok)
}

fn show(folder: &VaultFolder, context: &Context, which: &str) -> Outcome {
    let store = folder.store()?;
    let conflict = find(&store, which)?;
    let output = &context.output;
    let number = store.number_of_conflict(&conflict.id)?;
    let mut value = conflict_as_json(&conflict);
    value["number"] = json!(number);
    output.value(&value)?;
    let path = output.paint(STRONG, plain(conflict.path.as_str()));
    let named = match number {
        Some(number) => format!("conflict {number}, id {}", conflict.id),
        None => format!("id {}", conflict.id),
    };
    let named = output.paint(FAINT, named);
    output.line(format!("{path}, merged {}  {named}", moment(conflict.stamp.ms())))?;
    output.line(clash_in_words(&conflict.clash))?;
    match &conflict.clash {
        Clash::Body(hunk) | Clash::Key { hunk, .. } | Clash::FirstContact(hunk) => {
            show_hunk(context, hunk, matches!(conflict.clash, Clash::FirstContact(_)))?;
        }
        Clash::EditOverDelete | Clash::Path { .. } | Clash::Content => {}
    }
    let (one, other) = match both_stand(&conflict.clash) {
        true => ("one side", "the other"),
        false => ("stayed", "set aside"),
    };
    output.line(output.paint(
        FAINT,
        format!(
            "{one}: {}   {other}: {}   (`cru show '{}@VERSION'`)",
            conflict.winner.short(),
            conflict.loser.short(),
            plain(conflict.path.as_str()),
        ),
    ))?;
    Ok(Exit::Ok)
}

/// Whether the note has the texts of both sides.
fn both_stand(clash: &Clash) -> bool {
    match clash {
        Clash::Body(hunk) | Clash::Key { hunk, .. } | Clash::FirstContact(hunk) => {
            hunk.kept == Kept::Both
        }
        Clash::EditOverDelete | Clash::Path { .. } | Clash::Content => false,
    }
}

/// The texts of a hunk; two sides that meet for the first time began with nothing in common.
fn show_hunk(context: &Context, hunk: &Hunk, first_contact: bool) -> Outcome<()> {
    let output = &context.output;
    let part = |title: String, text: &str| -> Outcome<()> {
        output.line(title)?;
        if text.is_empty() {
            output.line("    (nothing)")?;
        }
        for line in text.lines() {
            output.line(format!("    {}", plain(line)))?;
        }
        Ok(())
    };
    if !first_contact {
        part(output.paint(FAINT, "  both began with:"), &hunk.base)?;
    }
    part(output.paint(GOOD, "  stands in the note (ours):"), &hunk.winner)?;
    let other = match hunk.kept {
        Kept::Winner => output.paint(BAD, "  was set aside (theirs):"),
        Kept::Both => output.paint(GOOD, "  stands in the note too (theirs):"),
    };
    part(other, &hunk.loser)
}

fn take(folder: &VaultFolder, context: &Context, which: &str, side: Side) -> Outcome {
    let mut vault = folder.open()?;
    let conflict = find(vault.replica.store(), which)?;
    let wanted = match side {
        Side::Ours => Take::Winner,
        Side::Theirs => Take::Loser,
        Side::Both => Take::Both,
    };
    let mut fetcher = Fetcher::new(folder, context);
    let mut fetch = |version: &_| fetcher.bytes(version);
    let taken = vault.replica.take(&conflict.id, wanted, &mut Machine, &mut fetch);
    let report = taken.map_err(|error| fetcher.explained(error))?;
    for notice in &report.notices {
        context.output.warn(notice_in_words(notice));
    }
    let left = vault.replica.store().open_conflicts(LISTED_MAX)?.len();
    context.output.value(&json!({
        "type": "taken",
        "id": conflict.id.to_string(),
        "path": conflict.path.as_str(),
        "side": match side { Side::Ours => "ours", Side::Theirs => "theirs", Side::Both => "both" },
        "left": left,
    }))?;
    let path = context.output.paint(STRONG, plain(conflict.path.as_str()));
    let done = match (side, &conflict.clash) {
        (Side::Ours, _) => "settled as it is",
        (Side::Theirs, Clash::EditOverDelete) => "deleted after all",
        (Side::Theirs, Clash::Path { .. }) => "has the other name now",
        (Side::Theirs, _) => "has the other side's text now",
        (Side::Both, Clash::Content) => "kept, with the other file beside it",
        (Side::Both, _) => "has both now",
    };
    let left = match left {
        0 => "no conflict is left".to_owned(),
        left => format!("{} left", count(left, "conflict", "conflicts")),
    };
    context.output.line(format!("{path}: {done}; {left}"))?;
    if folder.server().is_some() {
        context.output.note("`cru sync` tells the other devices");
    }
    Ok(Exit::Ok)
}

/// By number, or by the beginning of the id.
fn find(store: &SyncDb, which: &str) -> Outcome<Conflict> {
    let by_number = match which.parse::<u64>() {
        Ok(number) => store.conflict_of_number(number)?,
        Err(_) => None,
    };
    if let Some(id) = by_number.or_else(|| which.parse::<ConflictId>().ok()) {
        match store.conflict(&id)? {
            Some((conflict, ConflictState::Open)) => return Ok(conflict),
            Some((conflict, ConflictState::Closed)) => {
                let path = plain(conflict.path.as_str());
                let message = format!("conflict {which}, in {path}, was settled already");
                return Err(Failure::failed(message).hint(format!(
                    "`cru show '{path}@{}'` has what was set aside then",
                    conflict.loser.short(),
                )));
            }
            None => {}
        }
    }
    let open = store.open_conflicts(LISTED_MAX)?;
    let starts =
        |conflict: &&Conflict| which.len() >= 4 && conflict.id.to_string().starts_with(which);
    let mut fitting = open.iter().filter(starts);
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(only.clone()),
        _ => Err(Failure::failed(format!("there is no conflict {which:?}"))
            .hint("`cru conflicts` lists the open ones with their numbers")),
    }
}
