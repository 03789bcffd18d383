//! `cru init [DIR]`: a vault with no other side yet.

use std::fs;

use crucible_core::id::VaultId;
use crucible_node::config::{Config, Mode};
use crucible_node::replica::Options;
use crucible_trust::name::VaultName;
use serde_json::json;

use crate::args::Init;
use crate::attach;
use crate::context::Context;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::nesting;
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
    nesting::require_alone(&root)?;
    let name = match &args.name {
        Some(name) => VaultName::new(name)
            .map_err(|error| Failure::new(Exit::Usage, format!("--name: {error}")))?
            .to_string(),
        None => attach::name_like(&std::path::absolute(&root).unwrap_or_else(|_| root.clone())),
    };
    fs::create_dir_all(&root).during(format!("making {}", root.display()))?;
    let config = Config {
        vault_id: VaultId::from_bytes(world::random()?),
        vault: name,
        mode: Mode::Local,
        policies: Vec::new(),
    };
    let folder = attach::make_folder(&root, &config)?;
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
