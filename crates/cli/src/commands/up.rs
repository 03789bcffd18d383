//! `cru up [DIR]`: vault, server and watching in one process, and a join line.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::{fs, io};

use crucible_node::config::{self, Change};
use crucible_store::accounts::{Accounts, Email};
use crucible_trust::name::VaultName;
use crucible_trust::rights::{Access, Rights};
use serde_json::json;

use super::watch::Keeper;
use crate::args::{Up, Watch};
use crate::attach;
use crate::context::Context;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::home::Credential;
use crate::output::{MARK, STRONG};
use crate::sample;
use crate::service::{self, Plan, Running};
use crate::vault_folder::VaultFolder;
use crate::world;

/// Where it listens unless somebody says otherwise, or something listens there already.
const PORT: u16 = 4200;
/// The folder of the sample vault, below the current one.
const SAMPLE: &str = "crucible-sample";
/// Milliseconds and seconds of the watching that comes with it.
const WATCH: Watch = Watch { quiet_ms: 400, every: 300 };

/// Somebody who is not logged in under any name.
const NOBODY: &str = "me@localhost";

/// Serves the vault and keeps the folder in step.
pub fn run(args: &Up, context: &Context) -> Outcome {
    // The server is this process's own, and so is the token for it.
    let context = &context.with_kept_tokens();
    let stopped = context.signals.take();
    let root = match &args.folder {
        Some(folder) => context.path(folder),
        None if stands_in_a_vault(&context.start)? => context.start.clone(),
        None => sample_vault(&context.start, context)?,
    };
    let root = std::path::absolute(&root).during("finding out which folder this is")?;
    let folder = vault(&root, args.name.as_deref())?;
    let data = match &args.data {
        Some(data) => context.path(data),
        None => context.home.served(&folder.config.vault_id),
    };
    let own = OwnAddresses::of(&data);
    if !args.own {
        own.check(&folder)?;
    }
    let running = start(&folder, data, args.listen)?;
    let name = VaultName::new(&folder.config.vault)
        .map_err(|error| Failure::failed(format!("the vault's name: {error}")))?;
    let accounts = running.accounts()?;
    let own_url = own_url(&running);
    own.add(&own_url)?;
    let email = owner(&accounts, args.email.as_deref(), &name)?;
    let folder = attach_own(&folder, context, &accounts, &email, &name, &own_url)?;
    let output = &context.output;
    let shown = output.paint(STRONG, &name);
    output.note(format!("serving {shown} on {}; Ctrl-C stops it", running.address));
    let mut keeper = Keeper::start(folder.root, WATCH, context, stopped)?;
    keeper.begin()?;
    let user = service::user(&accounts, &email)?;
    let rights = Rights::of_vault(&name, Access::Write);
    let others_url = running.url_for_others();
    let link = service::join_link(&accounts, &user, rights.clone(), &others_url, &name)?;
    let page = service::page_link(&accounts, &user, rights, &own_url)?;
    drop(accounts);
    output.value(&json!({
        "type": "up", "url": others_url, "link": link.to_string(), "page": page,
    }))?;
    output.line(format!("in a browser: {}", output.paint(MARK, &page)))?;
    output.line(format!("next device: {}", output.paint(MARK, format!("cru join {link}"))))?;
    output.note("both are good once, for ten minutes; `cru invite` in this folder prints another");
    if running.address.ip().is_loopback() {
        output.note(
            "it listens on this machine alone, so the line works here alone; without --listen \
             other machines get in too",
        );
    } else {
        output.note(format!(
            "whoever is on this network could read along: for one you do not trust, put it behind \
             TLS (`cru serve --tls-cert`), or --listen 127.0.0.1:{} keeps it on this machine",
            running.address.port(),
        ));
    }
    let ended = keeper.run();
    if running.settle() {
        // What the page called saved is in the folder, too, when this ends.
        if let Err(failure) = keeper.round() {
            output.fail(&failure);
        }
    }
    let stopped = running.stop();
    ended.and_then(|exit| stopped.map(|()| exit))
}

fn stands_in_a_vault(start: &Path) -> Outcome<bool> {
    let start = std::path::absolute(start).during("finding out which folder this is")?;
    for folder in start.ancestors() {
        if VaultFolder::at(folder)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The sample vault below this folder, written the first time.
fn sample_vault(start: &Path, context: &Context) -> Outcome<PathBuf> {
    let root = start.join(SAMPLE);
    let is_new = fs::read_dir(&root).map_or(true, |mut entries| entries.next().is_none());
    if is_new {
        sample::write(&root).during(format!("writing the sample vault to {}", root.display()))?;
    } else if VaultFolder::at(&root)?.is_none() {
        let message = format!("{} is there, and is no vault", root.display());
        return Err(Failure::new(Exit::Refused, message)
            .hint("name the folder to serve: `cru up FOLDER`, or `cru up .` for this one"));
    }
    context.output.note(format!(
        "no folder was named: this is a sample vault, in {}; `cru up FOLDER` serves your own \
         notes, `cru up .` the folder you are in",
        root.display()
    ));
    Ok(root)
}

/// The vault at this folder, made if it is none.
fn vault(root: &Path, name: Option<&str>) -> Outcome<VaultFolder> {
    match VaultFolder::at(root)? {
        Some(folder) => Ok(folder),
        None => attach::make_local(root, name),
    }
}

/// The addresses under which a folder was served from here, a line each, beside the server's data:
/// a folder that syncs with any other one has been moved to another server.
struct OwnAddresses(PathBuf);

impl OwnAddresses {
    fn of(data: &Path) -> Self {
        Self(data.join("own-addresses"))
    }

    fn read(&self) -> Outcome<String> {
        match fs::read_to_string(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read.during(format!("reading {}", self.0.display())),
        }
    }

    /// Refuses to serve a folder that syncs elsewhere: its devices would part in two, each half in
    /// step with a server of its own.
    fn check(&self, folder: &VaultFolder) -> Outcome<()> {
        let (Some(server), known) = (folder.server(), self.read()?) else { return Ok(()) };
        if known.is_empty() || known.lines().any(|known| known == server) {
            return Ok(());
        }
        let message = format!("this folder syncs with {server} now, not with its own server");
        Err(Failure::new(Exit::Refused, message).hint(
            "`cru sync watch` keeps it in step; `cru up --own` serves it from here all the same, \
             and devices that are not told so stay with the other one",
        ))
    }

    fn add(&self, url: &str) -> Outcome<()> {
        let known = self.read()?;
        if known.lines().last() == Some(url) {
            return Ok(());
        }
        let known = known.lines().filter(|known| *known != url);
        let all: Vec<&str> = known.chain([url]).collect();
        config::replace(&self.0, (all.join("\n") + "\n").as_bytes(), None)
            .during(format!("writing {}", self.0.display()))
    }
}

/// Starts the server: where it was asked to listen, or where it did the last time.
fn start(folder: &VaultFolder, data: PathBuf, listen: Option<SocketAddr>) -> Outcome<Running> {
    if let Some(server) = folder.server().filter(|_| !data.join("accounts.db").exists()) {
        let vault = &folder.config.vault;
        let message = format!("this folder is a copy of {vault} at {server}");
        return Err(Failure::new(Exit::Refused, message)
            .hint("`cru sync watch` keeps it in step; `cru invite` lets another device in"));
    }
    let plan = |listen| Plan {
        data: data.clone(),
        listen,
        tls: None,
        hosts: Vec::new(),
        behind_proxy: false,
    };
    if let Some(listen) = listen {
        return Running::start(plan(listen));
    }
    let everywhere = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let port_before = folder.server().and_then(|url| url.rsplit_once(':')?.1.parse().ok());
    if let Some(port) = port_before {
        return Running::start(plan(everywhere(port)));
    }
    let in_use = |error: &Failure| error.exit == Exit::Failed && error.message.contains("in use");
    Running::start(plan(everywhere(PORT))).or_else(|error| match in_use(&error) {
        true => Running::start(plan(everywhere(0))),
        false => Err(error),
    })
}

/// The address this machine itself reaches the server by.
fn own_url(running: &Running) -> String {
    match running.address {
        address if address.ip().is_unspecified() => {
            format!("http://{}:{}", Ipv4Addr::LOCALHOST, address.port())
        }
        address => format!("http://{address}"),
    }
}

/// Whose vault it is: who is said, or was before, or is logged in.
fn owner(accounts: &Accounts, said: Option<&str>, name: &VaultName) -> Outcome<String> {
    if let Some(said) = said {
        return Ok(said.to_owned());
    }
    if let Some(vault) = accounts.vault(name)?
        && let Some(user) = accounts.user(vault.owner)?
    {
        return Ok(user.email.to_string());
    }
    let login = ["LOGNAME", "USER"].iter().find_map(|name| std::env::var(name).ok());
    let login = login.map(|login| format!("{login}@localhost"));
    Ok(login.filter(|login| Email::new(login).is_ok()).unwrap_or_else(|| NOBODY.to_owned()))
}

/// Gives this device a token and the vault its place on the server.
fn attach_own(
    folder: &VaultFolder,
    context: &Context,
    accounts: &Accounts,
    email: &str,
    name: &VaultName,
    url: &str,
) -> Outcome<VaultFolder> {
    let user = service::user(accounts, email)?;
    match accounts.vault(name)? {
        Some(there) if there.id == folder.config.vault_id => {}
        Some(_) => {
            let message = format!("the server has another vault that is called {name}");
            return Err(Failure::new(Exit::Refused, message).hint("name another --data"));
        }
        None => {
            let now_ms = world::now_ms();
            accounts.create_vault(folder.config.vault_id, name, user.id, now_ms)?;
        }
    }
    if context.home.credential(url, name.as_str())?.is_none() {
        let device = context.home.device_key()?.public().device();
        let token = service::token(accounts, &user, device, &context.machine)?;
        let email = Some(user.email.to_string());
        context.home.keep(
            url,
            name.as_str(),
            Some(&[name.to_string()]),
            Credential { token, email, read_only: false },
        )?;
    }
    if folder.server() != Some(url) {
        config::change(&folder.root, &Change::Server(url.to_owned()))?;
    }
    VaultFolder::find(&folder.root)
}
