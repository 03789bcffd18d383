//! `cru invite`: a join line for one more device.

use crucible_node::api::{self, Access, Asked};
use crucible_trust::name::VaultName;
use serde_json::json;

use crate::args::Invite;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::join_link::JoinLink;
use crate::output::{MARK, span};
use crate::vault_folder::VaultFolder;
use crate::world;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Prints the line.
pub fn run(args: &Invite, context: &Context) -> Outcome {
    let folder = VaultFolder::find(&context.start)?;
    let mut http = folder.http(context)?;
    let asked = Asked {
        vault: Some(folder.config.vault.clone()),
        access: args.read_only.then_some(Access::Read),
        folders: args.paths.clone(),
        expires_ms: args.days.map(|days| world::now_ms() + u64::from(days) * DAY_MS),
    };
    let invitation = api::invite(&mut http, &asked)?;
    let vault = VaultName::new(&folder.config.vault)
        .map_err(|error| Failure::failed(format!("the vault's name: {error}")))?;
    let code = invitation.code.parse().map_err(|_| {
        Failure::failed("the server gave a code that is none").hint("is it a newer release?")
    })?;
    let link = JoinLink { server: http.url().to_owned(), vault, code: Some(code) };
    let output = &context.output;
    output.value(&json!({
        "type": "invitation",
        "link": link.to_string(),
        "command": format!("cru join {link}"),
        "expires_ms": invitation.expires_ms,
        "read_only": args.read_only,
    }))?;
    output.line(output.paint(MARK, format!("cru join {link}")))?;
    let left = invitation.expires_ms.saturating_sub(world::now_ms());
    output.note(format!("good once, for {}", span(left)));
    if crucible_node::http::is_loopback(&link.server) {
        output.note(
            "this address reaches the server from this machine alone; `cru up --listen \
             0.0.0.0:4200` lets others in",
        );
    }
    Ok(Exit::Ok)
}
