//! `cru log [PATH|FOLDER]`: versions, newest first.

use crate::args::Log;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{FAINT, MARK, STRONG, moment, plain, size};
use crate::past::{self, Entry, Past};
use crate::vault_folder::VaultFolder;

/// Lists versions.
pub fn run(args: &Log, context: &Context) -> Outcome {
    let folder = VaultFolder::find(&context.start)?;
    let path = args.path.as_deref().map(|path| folder.path_of(context, path)).transpose()?;
    let mut past = Past::open(&folder, context)?;
    let limit = args.limit.unwrap_or(usize::MAX);
    let mut entries = past.list(path.as_ref(), limit)?;
    let of_note = path.is_some() && !entries.is_empty();
    if let (true, Some(folder)) = (entries.is_empty(), &path) {
        entries = past.list(None, usize::MAX)?;
        let is_below = |path: &Option<String>| {
            path.as_deref().is_some_and(|path| past::is_below(path, folder))
        };
        entries.retain(|entry| is_below(&entry.path) || is_below(&entry.from));
        entries.truncate(limit);
    }
    if let (true, Some(asked)) = (entries.is_empty(), &path) {
        let path = plain(asked.as_str());
        if folder.root.join(&path).exists() {
            return Err(Failure::failed(format!("{path} has no version yet"))
                .hint("`cru sync` makes its first one"));
        }
        return Err(past.never_was(asked, "`cru log` without a name lists everything"));
    }
    for entry in &entries {
        context.output.value(&entry.as_json())?;
    }
    for Sitting { last, others } in sittings(&entries, args.all) {
        context.output.line(line(context, last, !of_note, folder.server().is_some()))?;
        if let Some(first) = others.last() {
            let with = match others.len() {
                1 => "one version".to_owned(),
                more => format!("{more} versions"),
            };
            let span = span(last.stamp.0.saturating_sub(first.stamp.0));
            let text =
                format!("            {with} before it while it was written live, {span} (--all)");
            context.output.line(context.output.paint(FAINT, text))?;
        }
    }
    Ok(Exit::Ok)
}

/// Between two versions of one sitting, in milliseconds, at most.
const SITTING_MS: u64 = 60_000;

/// A version, and those before it that somebody who typed on left behind.
struct Sitting<'a> {
    last: &'a Entry,
    others: Vec<&'a Entry>,
}

/// Versions of one live session between which nobody paused for long make one entry.
fn sittings(entries: &[Entry], all: bool) -> Vec<Sitting<'_>> {
    let mut found: Vec<Sitting<'_>> = Vec::new();
    for entry in entries {
        let joins = |sitting: &&mut Sitting<'_>| {
            let next = sitting.others.last().unwrap_or(&sitting.last);
            !all && entry.session.is_some()
                && (&entry.session, entry.note) == (&next.session, next.note)
                && (entry.op.as_str(), next.op.as_str()) == ("edit", "edit")
                && next.stamp.0.saturating_sub(entry.stamp.0) <= SITTING_MS
        };
        match found.last_mut().filter(joins) {
            Some(sitting) => sitting.others.push(entry),
            None => found.push(Sitting { last: entry, others: Vec::new() }),
        }
    }
    found
}

/// How long something took, for a person.
fn span(ms: u64) -> String {
    match ms.div_ceil(1_000) {
        seconds @ 0..100 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

fn line(context: &Context, entry: &Entry, named: bool, remote: bool) -> String {
    let output = &context.output;
    let id = &entry.version.to_string()[..10];
    let mut text =
        format!("{}  {}  {:<7}", output.paint(MARK, id), moment(entry.stamp.0), entry.op,);
    if named || entry.op == "rename" {
        let path = plain(entry.last_path());
        text.push_str(&format!("  {}", output.paint(STRONG, path)));
        if let (Some(from), Some(_)) = (&entry.from, &entry.path) {
            text.push_str(&format!(" (was {})", plain(from)));
        }
    }
    if let Some(bytes) = entry.bytes {
        text.push_str(&format!("  {}", size(bytes)));
    }
    let who = match (&entry.user, &entry.device) {
        _ if entry.author == "merge" => "merged".to_owned(),
        (Some((_, user)), Some((id, device))) => {
            // Two machines may have one name.
            let id = id.get(..8).unwrap_or(id);
            let with: Vec<String> =
                entry.with.iter().map(|other| plain(other).to_string()).collect();
            let with = match with.as_slice() {
                [] => String::new(),
                others => format!(", with {}", others.join(", ")),
            };
            format!("{} on {} ({id}){with}", plain(user), plain(device))
        }
        _ if !remote => "known here alone".to_owned(),
        _ if entry.unsent => "not sent yet".to_owned(),
        _ => "sent; the server knows who made it".to_owned(),
    };
    format!("{text}  {}", output.paint(FAINT, who))
}
