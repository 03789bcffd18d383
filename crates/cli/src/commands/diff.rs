//! `cru diff PATH[@A] [@B]`: how two versions of a note differ, or a version and the file.

use std::fs;
use std::io;

use crucible_core::vault_path::VaultPath;
use serde_json::json;

use crate::args::Diff;
use crate::context::Context;
use crate::exit::{During, Exit, Outcome};
use crate::output::{BAD, GOOD, MARK, plain};
use crate::past::Past;
use crate::vault_folder::VaultFolder;

/// One of the two.
struct Side {
    name: String,
    bytes: Vec<u8>,
}

/// Shows the difference.
pub fn run(args: &Diff, context: &Context) -> Outcome {
    let folder = VaultFolder::find(&context.start)?;
    let (path, from) = folder.path_at(context, &args.from)?;
    let to = args.to.as_deref();
    let to = to.map(|to| to.rsplit_once('@').map_or(to, |(_, version)| version).to_owned());
    let mut past = Past::open(&folder, context)?;
    let before = match from {
        Some(version) => version_of(&mut past, &path, &version)?,
        None => last(&mut past, &path)?,
    };
    let after = match to {
        Some(version) => version_of(&mut past, &path, &version)?,
        None => file(&folder, &path)?,
    };
    tell(context, &before, &after)?;
    Ok(Exit::Ok)
}

fn version_of(past: &mut Past<'_>, path: &VaultPath, digits: &str) -> Outcome<Side> {
    let entry = past.find(path, digits)?;
    let name = format!("{}@{}", entry.last_path(), entry.version.short());
    let bytes = if entry.path.is_some() { past.bytes(&entry)? } else { Vec::new() };
    Ok(Side { name, bytes })
}

/// The version the file was last in step with, or else the newest one.
fn last(past: &mut Past<'_>, path: &VaultPath) -> Outcome<Side> {
    let entries = past.list_here(Some(path), 1)?;
    let newest = match entries.into_iter().next() {
        Some(newest) => newest,
        None => {
            let elsewhere = past.list(Some(path), 1)?.into_iter().next();
            elsewhere.ok_or_else(|| past.never_was(path, "`cru log` lists everything that was"))?
        }
    };
    let name = format!("{}@{}", newest.last_path(), newest.version.short());
    let bytes = if newest.path.is_some() { past.bytes(&newest)? } else { Vec::new() };
    Ok(Side { name, bytes })
}

fn file(folder: &VaultFolder, path: &VaultPath) -> Outcome<Side> {
    let file = folder.root.join(path.as_str());
    match fs::read(&file) {
        Ok(bytes) => Ok(Side { name: path.to_string(), bytes }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Side { name: format!("{path} (deleted)"), bytes: Vec::new() })
        }
        Err(error) => Err(error).during(format!("reading {}", file.display())),
    }
}

fn tell(context: &Context, before: &Side, after: &Side) -> Outcome<()> {
    let output = &context.output;
    let texts = (std::str::from_utf8(&before.bytes), std::str::from_utf8(&after.bytes));
    let equal = before.bytes == after.bytes;
    let diff = match texts {
        (Ok(old), Ok(new)) if !equal => {
            Some(crucible_server::unified_diff(old, new, (&before.name, &after.name)))
        }
        _ => None,
    };
    output.value(&json!({
        "type": "diff",
        "from": before.name,
        "to": after.name,
        "equal": equal,
        "diff": diff,
    }))?;
    match diff {
        _ if equal => output.note("no difference"),
        None => output.line(format!(
            "{} and {} differ, and are no text",
            plain(&before.name),
            plain(&after.name)
        ))?,
        Some(diff) => {
            for line in diff.lines() {
                output.line(painted(context, line))?;
            }
        }
    }
    Ok(())
}

fn painted(context: &Context, line: &str) -> String {
    let output = &context.output;
    let text = plain(line);
    match line.as_bytes().first() {
        Some(b'+') => output.paint(GOOD, text),
        Some(b'-') => output.paint(BAD, text),
        Some(b'@') => output.paint(MARK, text),
        _ => text,
    }
}
