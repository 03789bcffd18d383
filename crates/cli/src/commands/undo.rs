//! `cru undo`: takes back what the last round changed in this folder, note by note, and says so.

use crucible_node::undo::{Left, TakenBack, UndoneNote};
use serde_json::{Value, json};

use crate::args::Undo;
use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::output::{STRONG, moment, plain};
use crate::past::Fetcher;
use crate::vault_folder::VaultFolder;
use crate::words::notice_in_words;
use crate::world::Machine;

/// Undoes one round.
pub fn run(args: &Undo, context: &Context) -> Outcome {
    let folder = VaultFolder::find(&context.start)?;
    let mut vault = folder.open()?;
    let mut fetcher = Fetcher::new(&folder, context);
    let mut fetch = |version: &_| fetcher.bytes(version);
    let undone = vault.replica.undo(args.allow_mass_delete, &mut Machine, &mut fetch);
    let undone = undone.map_err(|error| fetcher.explained(error))?;
    let output = &context.output;
    for notice in &undone.report.notices {
        output.warn(notice_in_words(notice));
    }
    output.value(&json!({
        "type": "undone",
        "round_ms": undone.at_ms,
        "root": undone.report.root.map(|root| root.to_string()),
        "notes": undone.notes.iter().map(as_json).collect::<Vec<_>>(),
    }))?;
    let is_left = |note: &&UndoneNote| matches!(note.what, TakenBack::Left { .. });
    let left = undone.notes.iter().filter(is_left).count();
    let when = moment(undone.at_ms);
    output.line(match (undone.notes.len(), left) {
        (0, _) => format!("what the round of {when} brought in is out again already"),
        (all, left) if all == left => format!("nothing of the round of {when} was taken back"),
        _ => format!("taken back, what the round of {when} brought in:"),
    })?;
    for note in &undone.notes {
        let path = output.paint(STRONG, plain(note.path.as_str()));
        output.line(format!("  {path}: {}", in_words(note)))?;
    }
    if folder.server().is_some() && left < undone.notes.len() {
        output.note("`cru sync` tells the other devices; once more takes back the round before it");
    }
    Ok(if left > 0 { Exit::Attention } else { Exit::Ok })
}

fn in_words(note: &UndoneNote) -> String {
    let path = plain(note.path.as_str());
    let what = match note.what {
        TakenBack::Restored => "as it was before".to_owned(),
        TakenBack::Merged => {
            "what came in is out again, and what was changed since stays".to_owned()
        }
        TakenBack::Removed => format!("gone again (`cru undelete '{path}'` brings it back)"),
        TakenBack::BroughtBack => "back again".to_owned(),
        TakenBack::Left { why, before } => {
            let why = match why {
                Left::EditedSince => "it was edited since, at the same place",
                Left::DeletedSince => "it was deleted since",
                Left::NameTaken => "another note has its name now",
                Left::Unmerged => "two versions of it wait for `cru sync`",
                Left::Forgotten => "its version from before is on the server alone",
            };
            let by_hand = before.map_or(String::new(), |before| {
                format!("; `cru restore '{path}@{}'` makes it what it was", before.short())
            });
            format!("left as it is: {why}{by_hand}")
        }
    };
    match &note.renamed_to {
        Some(name) => format!("{what}, and called {} again", plain(name.as_str())),
        None => what,
    }
}

fn as_json(note: &UndoneNote) -> Value {
    let (what, why, before) = match note.what {
        TakenBack::Restored => ("restored", None, None),
        TakenBack::Merged => ("merged", None, None),
        TakenBack::Removed => ("removed", None, None),
        TakenBack::BroughtBack => ("brought_back", None, None),
        TakenBack::Left { why, before } => {
            let why = match why {
                Left::EditedSince => "edited_since",
                Left::DeletedSince => "deleted_since",
                Left::NameTaken => "name_taken",
                Left::Unmerged => "unmerged",
                Left::Forgotten => "forgotten",
            };
            ("left", Some(why), before)
        }
    };
    json!({
        "path": note.path.as_str(),
        "what": what,
        "why": why,
        "renamed_to": note.renamed_to.as_ref().map(|path| path.as_str()),
        "before": before.map(|before| before.to_string()),
    })
}
