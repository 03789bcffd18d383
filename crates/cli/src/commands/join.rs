//! `cru join LINK [DIR]`: makes a folder a copy of a vault on a server, and the first round.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crucible_node::api;
use crucible_node::config::{self, Change, Config, Mode};
use crucible_node::http::{Http, Origin};
use crucible_node::link::Link;
use crucible_node::replica::Options;
use serde_json::json;

use super::sync;
use crate::args::Join;
use crate::attach::{self, Proof};
use crate::context::Context;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::join_link::JoinLink;
use crate::last_failure;
use crate::nesting;
use crate::output::STRONG;
use crate::progress::Bar;
use crate::resembling::{did_you_mean, resembling};
use crate::rounds;
use crate::vault_folder::{DATABASE, VaultFolder};
use crate::world::Machine;

/// Vaults told by name; more are counted.
const VAULTS_TOLD: usize = 8;
/// Longest token that is read.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// Joins.
pub fn run(args: &Join, context: &Context) -> Outcome {
    let link = JoinLink::parse(&args.link)?;
    let root = folder(args, &link, context)?;
    let there = VaultFolder::at(&root)?;
    match &there {
        Some(there) => check_same(there, &link, &root)?,
        None => nesting::require_alone(&root)?,
    }
    let proof = proof(&link, args.token_stdin, context)?;
    if let Some(there) = there.as_ref().filter(|there| there.server().is_some()) {
        let also = match proof {
            Proof::Known => "; `cru sync` is all it needs",
            Proof::Code(_) | Proof::Token(_) => "; asking for a new token for this device",
        };
        let vault = &there.config.vault;
        context.output.note(format!("{} is a copy of {vault} already{also}", root.display()));
    }
    let showed_code = matches!(proof, Proof::Code(_));
    let device_name = args.device_name.as_deref().unwrap_or(&context.machine);
    let vault = link.vault.as_str();
    let credential = attach::let_in(context, &link.server, vault, proof, device_name)?;
    // From here on this device speaks with what it was given, not with what it showed.
    let context = &context.with_kept_tokens();
    let token = Some(credential.token);
    let mut http = context.http(Origin { url: link.server.clone(), token, roots_pem: None })?;
    let known = there.as_ref().map(|there| there.config.vault_id);
    let mut made = None;
    let agreed = |http: &mut Http| {
        made = Some(match known {
            // It has its name from here, and is not another one mistyped.
            Some(_) => String::new(),
            None => agree_to_new(vault, http, context)?,
        });
        Ok(())
    };
    let vault = attach::vault_there(&mut http, vault, known, agreed).map_err(|failure| {
        let mean = made.as_ref().filter(|_| failure.exit == Exit::NotAllowed);
        match mean.filter(|mean| !mean.is_empty()) {
            Some(mean) => failure.hint(mean),
            None => after_code(failure, showed_code, &link, &root),
        }
    })?;
    if let Some(mean) = made {
        tell_made(&vault.name, &mean, http.url(), context)?;
    }
    match there {
        Some(there) if there.server().is_some() => first_round(&there, context),
        Some(there) => {
            config::change(&there.root, &Change::Server(link.server))?;
            let there = VaultFolder::find(&there.root)?;
            first_round(&there, context)
        }
        None => make(&root, &link.server, &vault, context)
            .map_err(|failure| after_code(failure, showed_code, &link, &root)),
    }
}

/// Which folder is meant: without a name the vault one stands in, if it is a copy of that one.
fn folder(args: &Join, link: &JoinLink, context: &Context) -> Outcome<PathBuf> {
    if let Some(folder) = &args.folder {
        return Ok(context.path(folder));
    }
    match nesting::vault_around(&context.start)? {
        Some(around) if is_same(&around, link) => Ok(around.root),
        _ => Ok(context.start.join(link.vault.as_str())),
    }
}

/// Whether a vault that the server does not have is meant: beside others it may be one of them,
/// mistyped. Gives "did you mean", where one is called nearly so.
fn agree_to_new(name: &str, http: &mut Http, context: &Context) -> Outcome<String> {
    let vaults = api::vaults(http)?;
    let mut others: Vec<&str> = vaults.iter().map(|vault| vault.name.as_str()).collect();
    others.sort_unstable();
    let url = http.url();
    let mean = did_you_mean(&resembling(name, others.iter().copied())).unwrap_or_default();
    if !others.is_empty() && !context.yes {
        let listed = match others.split_at(others.len().min(VAULTS_TOLD)) {
            (told, []) => told.join(", "),
            (told, more) => format!("{} and {} more", told.join(", "), more.len()),
        };
        let missing = format!("{url} has no vault {name}; it has {listed}");
        if !context.output.asks() {
            let space = if mean.is_empty() { "" } else { " " };
            return Err(Failure::new(Exit::Refused, missing)
                .hint(format!("{mean}{space}--yes makes the vault {name} there")));
        }
        let question = format!("{missing}. {mean} Make {name} there?").replace("  ", " ");
        if !context.output.confirm(&question, false)? {
            return Err(Failure::new(Exit::Refused, "not joined; no vault was made"));
        }
    }
    Ok(mean)
}

fn tell_made(name: &str, mean: &str, url: &str, context: &Context) -> Outcome<()> {
    let output = &context.output;
    let vault = json!({ "type": "vault_made", "vault": name, "server": url, "hint": mean });
    output.value(&vault)?;
    let made = format!("made the vault {name} on {url}; it has no notes yet");
    match mean {
        // Whoever was asked has thought of that already.
        mean if context.yes && !mean.is_empty() && !output.json => {
            output.warn(format!("{made}. {mean}"));
        }
        _ => output.note(made),
    }
    Ok(())
}

fn make(root: &Path, server: &str, vault: &api::Vault, context: &Context) -> Outcome {
    let filled = attach::is_filled(root)?;
    fs::create_dir_all(root).during(format!("making {}", root.display()))?;
    let config = Config {
        vault_id: vault.id,
        vault: vault.name.clone(),
        mode: Mode::Remote { server: server.to_owned() },
        policies: Vec::new(),
    };
    if filled && vault.root.is_some() && !context.yes {
        ask(root, &config, context)?;
    }
    let folder = attach::make_folder(root, &config)?;
    let name = context.output.paint(STRONG, &vault.name);
    context.output.note(format!("{} is a copy of {name} now", root.display()));
    first_round(&folder, context).map_err(|failure| Failure {
        message: format!("the folder has joined, but its first round was cut: {}", failure.message),
        ..failure
    })
}

/// A code is good once: whoever did not go on after showing it needs to hear that it is not needed
/// again.
fn after_code(failure: Failure, showed_code: bool, link: &JoinLink, root: &Path) -> Failure {
    if !showed_code || failure.exit != Exit::Refused {
        return failure;
    }
    let (server, vault) = (&link.server, &link.vault);
    let again = format!(
        "this device is known to the server now: `cru join {server}/{vault} '{}'` goes on, without \
         the code",
        root.display()
    );
    let hint = match failure.hint.is_empty() {
        true => again,
        false => format!("{}; {again}", failure.hint),
    };
    failure.hint(hint)
}

/// Shows what would be merged with what, and asks. A no leaves nothing behind.
fn ask(root: &Path, config: &Config, context: &Context) -> Outcome<()> {
    let was_there = root.join(config::FOLDER).exists();
    let folder = attach::make_folder(root, config)?;
    let answer = plan(&folder, context).and_then(|()| {
        let question = format!(
            "{} holds files already. What is on both sides is merged, nothing is deleted. Go on?",
            root.display()
        );
        context.output.confirm(&question, false)
    });
    if matches!(answer, Ok(true)) {
        return Ok(());
    }
    if !was_there {
        let state = root.join(config::FOLDER);
        fs::remove_dir_all(&state).during(format!("removing {}", state.display()))?;
    } else {
        let file = config::path_of(root);
        fs::remove_file(&file).during(format!("removing {}", file.display()))?;
        let database = root.join(config::FOLDER).join(DATABASE);
        context.output.note(format!("{} stays for the next try", database.display()));
    }
    answer.and_then(|_| Err(Failure::new(Exit::Refused, "not joined; no file was changed")))
}

fn plan(folder: &VaultFolder, context: &Context) -> Outcome<()> {
    let mut vault = folder.open_for_rounds(context)?;
    let mut link = folder.link(context)?;
    let link = link.as_mut().map(|link| link as &mut dyn Link);
    let plan = vault.replica.plan(link, &mut Machine)?;
    sync::tell(&plan, &context.output).map(|_| ())
}

fn first_round(folder: &VaultFolder, context: &Context) -> Outcome {
    let mut vault = folder.open_for_rounds(context)?;
    last_failure::noting(&folder.root, || {
        let mut link = folder.link(context)?;
        let bar = Bar::new(&context.output);
        let link = link.as_mut().map(|link| link as &mut dyn Link);
        let done = rounds::make(&mut vault, link, Options::default(), &bar)?;
        bar.clear();
        rounds::tell(context, &done)
    })
}

/// A folder that is a vault already may join again, or be given a server; never another vault.
fn check_same(there: &VaultFolder, link: &JoinLink, root: &Path) -> Outcome<()> {
    if is_same(there, link) {
        return Ok(());
    }
    let at = there.server().map_or(String::new(), |server| format!(" of {server}"));
    let message = format!("{} is a copy of {}{at} already", root.display(), there.config.vault);
    Err(Failure::new(Exit::Usage, message)
        .hint("name another folder; if the server has only moved: `cru sync config server URL`"))
}

fn is_same(there: &VaultFolder, link: &JoinLink) -> bool {
    let same_name = there.config.vault.eq_ignore_ascii_case(link.vault.as_str());
    same_name && there.server().is_none_or(|server| server == link.server)
}

/// What this device has to show.
pub fn proof(link: &JoinLink, token_stdin: bool, context: &Context) -> Outcome<Proof> {
    if let Some(code) = &link.code {
        return Ok(Proof::Code(code.clone()));
    }
    if token_stdin {
        return read_token().map(Proof::Token);
    }
    Ok(context.token.clone().map_or(Proof::Known, Proof::Token))
}

/// A token on standard input.
pub fn read_token() -> Outcome<String> {
    let mut text = String::new();
    let read = std::io::stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut text);
    read.during("reading the token from standard input")?;
    Ok(text.trim().to_owned())
}
