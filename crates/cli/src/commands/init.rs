//! `cru init [DIR]`: a vault with no other side yet.

use crucible_node::replica::Options;
use serde_json::json;

use crate::args::Init;
use crate::attach;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{STRONG, count};
use crate::progress::Bar;
use crate::rounds;
use crate::vault_folder::VaultFolder;
use crate::world;

/// Makes it, and the first version of everything in it.
pub fn run(args: &Init, context: &Context) -> Outcome {
    let root = match &args.folder {
        Some(folder) => context.path(folder),
        None => context.start.clone(),
    };
    if let Some(there) = VaultFolder::at(&root)? {
        let message = format!("{} is the vault {} already", root.display(), there.config.vault);
        return Err(Failure::new(Exit::Refused, message).hint("`cru status` tells more"));
    }
    let folder = attach::make_local(&root, args.name.as_deref())?;
    let config = &folder.config;
    let mut vault = folder.open()?;
    let bar = Bar::new(&context.output);
    let done = rounds::make(&mut vault, None, Options::default(), &bar)?;
    bar.clear();
    let notes = vault.replica.status(&mut world::Machine)?.notes;
    context.output.value(&json!({
        "type": "vault",
        "folder": root.display().to_string(),
        "vault": config.vault,
        "vault_id": config.vault_id.to_string(),
        "notes": notes,
        "root": done.report.root.map(|root| root.to_string()),
    }))?;
    let name = context.output.paint(STRONG, &config.vault);
    let notes = count(notes, "note", "notes");
    context.output.line(format!("{} is the vault {name} now: {notes}", root.display()))?;
    context.output.note("`cru sync` records versions; `cru up` lets other devices in");
    Ok(Exit::Ok)
}
