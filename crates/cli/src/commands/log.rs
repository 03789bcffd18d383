//! `cru log [PATH]`: versions, newest first.

use crate::args::Log;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{FAINT, MARK, STRONG, moment, plain, size};
use crate::past::{Entry, Past};
use crate::vault_folder::VaultFolder;

/// Lists versions.
pub fn run(args: &Log, context: &Context) -> Outcome {
    let folder = VaultFolder::find(&context.start)?;
    let path = args.path.as_deref().map(|path| folder.path_of(context, path)).transpose()?;
    let mut past = Past::open(&folder, context)?;
    let entries = past.list(path.as_ref(), args.limit.unwrap_or(usize::MAX))?;
    if let (true, Some(path)) = (entries.is_empty(), &path) {
        let path = plain(path.as_str());
        if folder.root.join(&path).exists() {
            return Err(Failure::failed(format!("{path} has no version yet"))
                .hint("`cru sync` makes its first one"));
        }
        return Err(Failure::failed(format!("there is no note {path}, and never was"))
            .hint("`cru log` without a name lists everything"));
    }
    for entry in &entries {
        context.output.value(&entry.as_json())?;
        context.output.line(line(context, entry, path.is_none()))?;
    }
    Ok(Exit::Ok)
}

fn line(context: &Context, entry: &Entry, named: bool) -> String {
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
            format!("{} on {} ({id})", plain(user), plain(device))
        }
        _ => "not sent yet, or known here alone".to_owned(),
    };
    format!("{text}  {}", output.paint(FAINT, who))
}
