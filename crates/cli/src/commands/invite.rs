//! `cru invite`: a join line for one more device.

use std::net::SocketAddr;

use crucible_node::api::{self, Access, Asked};
use crucible_node::http::is_loopback;
use crucible_trust::name::VaultName;
use serde_json::json;

use crate::args::Invite;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::join_link::JoinLink;
use crate::output::{MARK, span};
use crate::service;
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
        expires_ms: args.days.map(|days| world::now_ms() + u64::from(days) * DAY_MS),
    };
    let invitation = api::invite(&mut http, &asked)?;
    let vault = VaultName::new(&folder.config.vault)
        .map_err(|error| Failure::failed(format!("the vault's name: {error}")))?;
    let code = invitation.code.parse().map_err(|_| {
        Failure::failed("the server gave a code that is none").hint("is it a newer release?")
    })?;
    let (server, here_alone) = address(http.url(), &invitation.listens_on);
    let page = format!("{server}/#pair={code}");
    let link = JoinLink { server, vault, code: Some(code) };
    let output = &context.output;
    output.value(&json!({
        "type": "invitation",
        "link": link.to_string(),
        "command": format!("cru join {link}"),
        "page": page,
        "expires_ms": invitation.expires_ms,
        "read_only": args.read_only,
        "this_machine_alone": here_alone.is_some(),
    }))?;
    output.line(output.paint(MARK, format!("cru join {link}")))?;
    output.note(format!("or in a browser: {page}"));
    let left = invitation.expires_ms.saturating_sub(world::now_ms());
    output.note(format!("good once, for {}", span(left)));
    if let Some(why) = here_alone {
        output.note(why);
    }
    Ok(Exit::Ok)
}

/// The address to print, and why only this machine reaches it, if that is so. What a device on the
/// server's own machine reaches it by is no use to others; the server says where it listens.
fn address(url: &str, listens_on: &str) -> (String, Option<&'static str>) {
    if !is_loopback(url) {
        return (url.to_owned(), None);
    }
    // A server of another make may say what it likes; then the line says less.
    let listener = listens_on.parse::<SocketAddr>().ok();
    let others = listener.and_then(service::address_for_others);
    match (others, listener) {
        // A certificate for this machine's own name is none for its address.
        (Some(address), _) if url.starts_with("http://") => (format!("http://{address}"), None),
        (None, Some(listener)) if listener.ip().is_loopback() => (
            url.to_owned(),
            Some(
                "the server listens on this machine alone, so the line works here alone; to let \
                 others in, stop it and start it with `--listen 0.0.0.0:4200` (`cru up` or `cru \
                 serve`)",
            ),
        ),
        _ => (
            url.to_owned(),
            Some(
                "this address reaches the server from this machine alone; on another one, put \
                 this machine's name or address in its place",
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_others_has_an_address_that_others_reach() {
        let reached = "http://192.0.2.7:4200";
        assert_eq!(address(reached, "127.0.0.1:4200"), (reached.to_owned(), None));
        let own = "http://127.0.0.1:4200";
        assert_eq!(address(own, "192.0.2.9:4200"), ("http://192.0.2.9:4200".to_owned(), None));
        for (url, listens_on, why) in [
            (own, "127.0.0.1:4200", "--listen 0.0.0.0:4200"),
            (own, "[::1]:4200", "--listen 0.0.0.0:4200"),
            ("https://localhost:4200", "192.0.2.9:4200", "this machine's name"),
            (own, "of a newer release", "this machine's name"),
        ] {
            let (shown, said) = address(url, listens_on);
            assert_eq!(shown, url);
            assert!(said.is_some_and(|said| said.contains(why)), "{listens_on}: {said:?}");
        }
    }
}
