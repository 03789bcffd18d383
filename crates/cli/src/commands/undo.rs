//! `cru undo`: takes back what the last round changed in this folder.

use serde_json::json;

use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::past::Fetcher;
use crate::vault_folder::VaultFolder;
use crate::words::notice_in_words;
use crate::world::Machine;

/// Undoes one round.
pub fn run(context: &Context) -> Outcome {
    let folder = VaultFolder::find(&context.start)?;
    let mut vault = folder.open()?;
    let mut fetcher = Fetcher::new(&folder, context);
    let mut fetch = |version: &_| fetcher.bytes(version);
    let report = vault.replica.undo(&mut Machine, &mut fetch)?;
    for notice in &report.notices {
        context.output.warn(notice_in_words(notice));
    }
    let root = report.root.map(|root| root.to_string());
    context.output.value(&json!({ "type": "undone", "root": root }))?;
    context.output.line("what the last round changed here is as it was before, as new versions")?;
    if folder.server().is_some() {
        context
            .output
            .note("`cru sync` tells the other devices; once more takes back the round before it");
    }
    Ok(Exit::Ok)
}
