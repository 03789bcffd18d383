//! `cru status`: what is changed, what waits, what is not synced and why. Asks nobody.

use std::fs;

use crucible_node::outlook::Status;
use crucible_node::replica::{Replica, Settings, scan_on_all_cores};
use crucible_node::report::Notice;
use crucible_vault::real_fs::RealFs;
use serde_json::json;

use super::sync::{step_as_json, tell_steps};
use crate::context::Context;
use crate::exit::{Exit, Outcome, guard};
use crate::last_failure::LastFailure;
use crate::output::{FAINT, GOOD, Output, STRONG, WARN, count, moment, plain};
use crate::vault_folder::VaultFolder;
use crate::words::{notice_as_json, notice_in_words};
use crate::world::{self, Machine};

/// Tells where the vault stands.
pub fn run(context: &Context) -> Outcome {
    let folder = VaultFolder::find(&context.start)?;
    let status = look(&folder)?;
    let synced_ms = last_round_ms(&folder);
    let failure = LastFailure::of(&folder.root);
    let is_skipped = |notice: &Notice| matches!(notice, Notice::Skipped { .. });
    let attention = status.conflicts > 0
        || status.unsettled > 0
        || status.refusal.is_some()
        || status.notices.iter().any(is_skipped)
        || failure.as_ref().is_some_and(LastFailure::wants_attention);
    if context.output.json {
        let changes: Vec<_> = status.changes.iter().map(step_as_json).collect();
        let notices: Vec<_> = status.notices.iter().map(notice_as_json).collect();
        context.output.value(&json!({
            "type": "status",
            "root": status.root.map(|root| root.to_string()),
            "common_root": status.common_root.map(|root| root.to_string()),
            "folder": folder.root.display().to_string(),
            "vault": folder.config.vault,
            "vault_id": folder.config.vault_id.to_string(),
            "server": folder.server(),
            "notes": status.notes,
            "changes": changes,
            "unsent": status.unsent,
            "unsettled": status.unsettled,
            "conflicts": status.conflicts,
            "refused": status.refusal.as_ref().map(|refusal| json!({
                "message": guard(refusal).message,
                "hint": guard(refusal).hint,
            })),
            "notices": notices,
            "left_out": status.left_out,
            "last_change_ms": synced_ms,
            "last_failure": failure,
        }))?;
    } else {
        tell(context, &folder, &status, synced_ms, failure.as_ref())?;
    }
    Ok(if attention { Exit::Attention } else { Exit::Ok })
}

/// Looks without the lock, so that it answers while another `cru` keeps the vault in step.
fn look(folder: &VaultFolder) -> Outcome<Status> {
    let unique = crucible_core::hash::hex(&world::random::<16>()?);
    let store = folder.store()?;
    let fs = RealFs::open(&folder.root, &unique)?;
    let replica = Replica::new(fs, store, Settings::default(), scan_on_all_cores);
    let mut replica = replica.expect("no policies, so none is wrong");
    Ok(replica.status(&mut Machine)?)
}

/// When the store last changed, which every round that did something does.
fn last_round_ms(folder: &VaultFolder) -> Option<u64> {
    let wal = folder.database().with_extension("db-wal");
    let times = [folder.database(), wal].map(|path| {
        let modified = fs::metadata(path).ok()?.modified().ok()?;
        let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
        u64::try_from(since.as_millis()).ok()
    });
    times.into_iter().flatten().max()
}

fn tell(
    context: &Context,
    folder: &VaultFolder,
    status: &Status,
    synced_ms: Option<u64>,
    failure: Option<&LastFailure>,
) -> Outcome<()> {
    let output = &context.output;
    let name = output.paint(STRONG, &folder.config.vault);
    let place = match folder.server() {
        Some(server) => format!("with {server}"),
        None => "without another side".to_owned(),
    };
    let notes = count(status.notes, "note", "notes");
    output.line(format!("{name} {place}: {notes} in {}", folder.root.display()))?;
    match (failure, synced_ms) {
        (Some(failure), _) => tell_failure(output, failure)?,
        (None, Some(ms)) => {
            output.line(output.paint(FAINT, format!("last round {}", moment(ms))))?;
        }
        (None, None) => {}
    }
    tell_steps(&status.changes, "  ", output)?;
    if status.unsent > 0 && folder.server().is_some() {
        let versions = count(status.unsent, "version waits", "versions wait");
        output.line(format!("{versions} to be sent: `cru sync`"))?;
    }
    if status.unsettled > 0 {
        let files = match status.unsettled {
            1 => "1 file is not yet as the vault has it".to_owned(),
            several => format!("{several} files are not yet as the vault has them"),
        };
        let text = format!("{files}: `cru sync`");
        output.line(output.paint(WARN, text))?;
    }
    if status.conflicts > 0 {
        let conflicts = count(status.conflicts, "conflict", "conflicts");
        output.line(output.paint(WARN, format!("{conflicts} to look at: `cru conflicts`")))?;
    }
    let in_step = status.root == status.common_root || folder.server().is_none();
    let refused = failure.is_some_and(LastFailure::was_refused);
    if let Some(refusal) = status.refusal.as_ref().filter(|_| !refused) {
        let said = guard(refusal);
        let text = format!("the next round would be refused: {}", said.message);
        output.line(output.paint(WARN, text))?;
        output.line(format!("  {}", said.hint))?;
    }
    let refused = refused || status.refusal.is_some();
    if status.changes.is_empty() && status.unsent == 0 && status.unsettled == 0 && in_step {
        output.line(output.paint(GOOD, "nothing has changed here since the last round"))?;
    } else if !in_step && status.common_root.is_none() && failure.is_none() {
        output.line(output.paint(WARN, "the first round is not finished: `cru sync`"))?;
    } else if !status.changes.is_empty() && !refused {
        output.note("`cru sync` sends what is marked ->");
    }
    for notice in &status.notices {
        output.warn(plain(&notice_in_words(notice)));
    }
    if let [first, more @ ..] = status.left_out.as_slice() {
        let more = match more.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        output.note(format!(
            "left out, as everything in a .git or .crucible is: {}{more}",
            plain(first)
        ));
    }
    Ok(())
}

fn tell_failure(output: &Output, failure: &LastFailure) -> Outcome<()> {
    let end = match failure.was_refused() {
        true => "was refused",
        false => "did not come to its end",
    };
    let when = moment(failure.at_ms);
    let text = format!("last round {when} {end}: {}", plain(&failure.message));
    output.line(output.paint(WARN, text))?;
    if failure.hint.is_empty() { Ok(()) } else { output.line(format!("  {}", failure.hint)) }
}
