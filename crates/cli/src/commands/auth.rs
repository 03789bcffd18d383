//! `cru auth`: users, devices and tokens.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crucible_core::id::{DeviceId, UserId};
use crucible_node::api::{self, Device, Member};
use crucible_node::config::parse_server;
use crucible_node::http::{Http, Origin};
use crucible_store::accounts::{Accounts, Email, User};
use crucible_trust::capability::Subject;
use crucible_trust::name::VaultName;
use crucible_trust::rights::{Access, Rights};
use serde_json::json;

use super::join::{proof, read_token};
use super::server::data_of;
use crate::args::{AuthVerb, DataFolder};
use crate::attach::{self, Proof};
use crate::context::Context;
use crate::exit::{During, Exit, Failure, Outcome, of_server_data};
use crate::join_link::JoinLink;
use crate::output::{FAINT, GOOD, MARK, STRONG, moment, plain};
use crate::vault_folder::VaultFolder;
use crate::world;
use crate::{nesting, service};

/// What was asked about users, devices and tokens.
pub fn run(what: AuthVerb, context: &Context) -> Outcome {
    match what {
        AuthVerb::AddUser { email, data, device_name } => {
            let added = add_user(&email, &data, &device_name, context);
            added.map_err(of_server_data)
        }
        AuthVerb::Login { url, token_stdin, device_name } => {
            let name = device_name.as_deref().unwrap_or(&context.machine);
            login(&url, token_stdin, name, context)
        }
        AuthVerb::Whoami { url } => whoami(url.as_deref(), context),
        AuthVerb::Devices { url } => devices(url.as_deref(), context),
        AuthVerb::Members => members(context),
        AuthVerb::Add { email, read_only } => add(&email, read_only, context),
        AuthVerb::Remove { email } => remove(&email, context),
        AuthVerb::Revoke { id, url } => revoke(&id, url.as_deref(), context),
    }
}

fn add_user(email: &str, folder: &DataFolder, device_name: &str, context: &Context) -> Outcome {
    let data = &data_of(folder, context)?;
    nesting::require_unsynced(data)?;
    let email = address(email)?;
    let accounts = service::accounts(data)?;
    let now_ms = world::now_ms();
    let user = accounts.add_user(UserId::from_bytes(world::random()?), &email, now_ms)?;
    let subject = Subject { user: user.id, device: DeviceId::from_bytes(world::random()?) };
    let token = accounts.mint(subject, device_name, &Rights::ALL, world::random()?, now_ms)?;
    let way = let_in(&user, data, &accounts, context);
    let (link, page) = match &way {
        Ok(Some((link, page))) => (Some(link.to_string()), Some(page)),
        // The token is shown once, whatever else fails.
        Ok(None) | Err(_) => (None, None),
    };
    let output = &context.output;
    output.value(&json!({
        "type": "user",
        "user": user.id.to_string(),
        "email": user.email.as_str(),
        "token": token.reveal(),
        "link": link,
        "page": page,
    }))?;
    output.line(token.reveal())?;
    match way? {
        Some((link, page)) => {
            output.note(format!("the token of {email}, for scripts: shown this once"));
            output.note(format!("their device comes in by: cru join {link}"));
            output.note(format!("their browser by: {page}"));
            output.note("both are good once, for ten minutes");
        }
        None => output.note(format!(
            "the token of {email}: shown this once. On their device: CRU_TOKEN=… cru join \
             http://HOST:PORT/VAULT"
        )),
    }
    Ok(Exit::Ok)
}

fn address(text: &str) -> Outcome<Email> {
    Email::new(text).map_err(|error| Failure::new(Exit::Usage, format!("{text:?}: {error}")))
}

/// A server on this machine takes a connection within this time.
const HEARS_WITHIN: Duration = Duration::from_secs(1);

/// Lets somebody into the vault one stands in, where this is the data of the `cru up` that serves
/// it; gives what their first device joins by, and an address for a browser of theirs.
fn let_in(
    user: &User,
    data: &Path,
    accounts: &Accounts,
    context: &Context,
) -> Outcome<Option<(JoinLink, String)>> {
    let start = std::path::absolute(&context.start).during("finding out which folder this is")?;
    let Some(around) = VaultFolder::around(&start)? else { return Ok(None) };
    let vault = &around.config.vault_id;
    let Some(server) = around.server().filter(|_| *data == context.home.served(vault)) else {
        return Ok(None);
    };
    let name = VaultName::new(&around.config.vault)
        .map_err(|error| Failure::failed(format!("the vault's name: {error}")))?;
    accounts.set_member(*vault, user.id, Access::Write)?;
    let rights = Rights::of_vault(&name, Access::Write);
    let port = server.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let everywhere = port.map(|port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    let others = everywhere.and_then(service::address_for_others);
    // A server that hears this machine alone is named as it hears.
    let hears = |address: &SocketAddr| TcpStream::connect_timeout(address, HEARS_WITHIN).is_ok();
    let here = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let others = others.filter(|address| hears(address) || !hears(&here(address.port())));
    let url = others.map_or_else(|| server.to_owned(), |address| format!("http://{address}"));
    let link = service::join_link(accounts, user, rights.clone(), &url, &name)?;
    let page = service::page_link(accounts, user, rights, &url)?;
    Ok(Some((link, page)))
}

fn login(url: &str, token_stdin: bool, device_name: &str, context: &Context) -> Outcome {
    let (server, vault, proof) = if url.contains('#') {
        let link = JoinLink::parse(url)?;
        let proof = proof(&link, false, context)?;
        (link.server.clone(), link.vault.to_string(), proof)
    } else {
        let server = server_of(url)?;
        let token = match (&context.token, token_stdin) {
            (Some(token), false) => token.clone(),
            (_, true) => read_token()?,
            (None, false) => {
                return Err(Failure::new(Exit::Usage, "there is no token")
                    .hint("set CRU_TOKEN, or --token-stdin < FILE, or paste a link with a #CODE"));
            }
        };
        (server, String::from("*"), Proof::Token(token))
    };
    attach::let_in(context, &server, &vault, proof, device_name)?;
    whoami(Some(&server), context)
}

fn whoami(url: Option<&str>, context: &Context) -> Outcome {
    let mut http = http(url, context)?;
    let me = api::whoami(&mut http)?;
    let output = &context.output;
    output.value(&json!({
        "type": "whoami",
        "server": http.url(),
        "user": me.user,
        "email": me.email,
        "device": me.device,
        "device_name": me.device_name,
        "access": me.rights.access.as_str(),
        "create": me.rights.create,
        "vaults": me.rights.vaults,
        "folders": me.rights.folders,
        "expires_ms": me.rights.expires_ms,
    }))?;
    let email = me.email.unwrap_or(me.user);
    let device = me.device_name.unwrap_or_default();
    output.line(format!(
        "{} on {} ({}), at {}",
        output.paint(STRONG, plain(&email)),
        plain(&device),
        output.paint(MARK, short(&me.device)),
        http.url(),
    ))?;
    let vaults = me.rights.vaults.map_or("all your vaults".to_owned(), |names| names.join(", "));
    let folders = me.rights.folders.map_or(String::new(), |f| format!(", below {}", f.join(", ")));
    let verb = match me.rights.access {
        api::Access::Read => "may read",
        api::Access::Write => "may read and write",
    };
    let end = me.rights.expires_ms.map_or(String::new(), |ms| format!(", until {}", moment(ms)));
    output.line(format!("{verb} {vaults}{folders}{end}"))?;
    Ok(Exit::Ok)
}

fn devices(url: Option<&str>, context: &Context) -> Outcome {
    let devices = api::devices(&mut http(url, context)?)?;
    let output = &context.output;
    for device in &devices {
        output.value(&json!({
            "type": "device",
            "id": device.id,
            "name": device.name,
            "current": device.this,
            "created_ms": device.created_ms,
            "seen_ms": device.seen_ms,
            "revoked_ms": device.revoked_ms,
        }))?;
        output.line(device_line(context, device))?;
    }
    output.note("`cru auth revoke ID` ends all tokens of a device; its first digits are enough");
    Ok(Exit::Ok)
}

fn device_line(context: &Context, device: &Device) -> String {
    let output = &context.output;
    let id = output.paint(MARK, short(&device.id));
    let name = plain(&device.name);
    let since = format!("since {}", moment(device.created_ms));
    let seen = match (device.revoked_ms, device.seen_ms) {
        (Some(ms), _) => format!("revoked {}", moment(ms)),
        (None, Some(ms)) => format!("last seen {}", moment(ms)),
        (None, None) => "never seen".to_owned(),
    };
    let this = if device.this { output.paint(GOOD, "  this one") } else { String::new() };
    format!("{id}  {name:<20}  {}{this}", output.paint(FAINT, format!("{since}  {seen}")))
}

fn revoke(id: &str, url: Option<&str>, context: &Context) -> Outcome {
    let mut http = http(url, context)?;
    let devices = api::devices(&mut http)?;
    let device = named(&devices, id)?;
    api::revoke(&mut http, &device.id)?;
    let (id, name) = (&device.id, &device.name);
    context.output.value(&json!({ "type": "revoked", "id": id, "name": name }))?;
    context.output.line(format!(
        "{} ({}) is out: its files stay with it, it gets nothing new",
        plain(name),
        short(id),
    ))?;
    Ok(Exit::Ok)
}

/// The device whose id begins so; of several the only one that is not out yet.
fn named<'d>(devices: &'d [Device], digits: &str) -> Outcome<&'d Device> {
    let digits = digits.to_ascii_lowercase();
    let fitting: Vec<&Device> =
        devices.iter().filter(|device| device.id.starts_with(&digits)).collect();
    let live: Vec<&Device> =
        fitting.iter().copied().filter(|device| device.revoked_ms.is_none()).collect();
    match (digits.is_empty(), fitting.as_slice(), live.as_slice()) {
        (false, [only], _) | (false, _, [only]) => Ok(only),
        (true, ..) | (_, [], _) => {
            let message = format!("none of your devices has an id that begins with {digits:?}");
            Err(Failure::failed(message).hint("`cru auth devices` lists them"))
        }
        (_, several, _) => {
            let each =
                |device: &&Device| format!("{} ({})", short(&device.id), plain(&device.name));
            let list = several.iter().map(each).collect::<Vec<_>>().join(", ");
            let message = format!("several of your devices begin with {digits}: {list}");
            Err(Failure::failed(message).hint("give more of the digits"))
        }
    }
}

fn members(context: &Context) -> Outcome {
    let folder = VaultFolder::find(&context.start)?;
    let vault = &folder.config.vault;
    let mut http = folder.http(context)?;
    let me = api::whoami(&mut http)?.user;
    let mut members = api::members(&mut http, vault)?;
    members.sort_by(|a, b| b.owner.cmp(&a.owner).then_with(|| a.email.cmp(&b.email)));
    let output = &context.output;
    for member in &members {
        output.value(&json!({
            "type": "member",
            "user": member.user,
            "email": member.email,
            "access": member.access.as_str(),
            "owner": member.owner,
            "you": member.user == me,
        }))?;
        let reach = match (member.owner, member.access) {
            (true, _) => "owner",
            (false, api::Access::Write) => "reads and writes",
            (false, api::Access::Read) => "reads",
        };
        let you = if member.user == me { output.paint(GOOD, "  you") } else { String::new() };
        let email = plain(&member.email);
        output.line(format!("{email:<30}  {}{you}", output.paint(FAINT, reach)))?;
    }
    if members.len() > 1 && members.iter().any(|member| member.owner && member.user == me) {
        output.note("`cru auth remove EMAIL` takes a person out of this vault");
    }
    Ok(Exit::Ok)
}

fn add(email: &str, read_only: bool, context: &Context) -> Outcome {
    let folder = VaultFolder::find(&context.start)?;
    let vault = &folder.config.vault;
    let email = &address(email)?;
    let access = if read_only { api::Access::Read } else { api::Access::Write };
    let mut http = folder.http(context)?;
    let member = api::add_member(&mut http, vault, email.as_str(), access)?;
    context.output.value(&json!({
        "type": "member",
        "user": member.user,
        "email": member.email,
        "access": member.access.as_str(),
        "owner": member.owner,
    }))?;
    let verb = if read_only { "may read" } else { "may read and write" };
    context.output.line(format!("{} {verb} {vault} now", plain(&member.email)))?;
    context.output.note(format!(
        "what they have of it goes on by itself; a device of theirs that never had it: cru join {}/{vault}",
        http.url(),
    ));
    Ok(Exit::Ok)
}

fn remove(email: &str, context: &Context) -> Outcome {
    let folder = VaultFolder::find(&context.start)?;
    let vault = &folder.config.vault;
    let mut http = folder.http(context)?;
    let members = api::members(&mut http, vault)?;
    let member =
        members.iter().find(|one| one.email.eq_ignore_ascii_case(email)).ok_or_else(|| {
            let message = format!("{email:?} is not in the vault {vault}");
            Failure::failed(message).hint("`cru auth members` lists who is")
        })?;
    let Member { user, email, .. } = member;
    api::remove_member(&mut http, vault, user)?;
    context.output.value(&json!({ "type": "removed", "user": user, "email": email }))?;
    context.output.line(format!(
        "{} is out of {vault}: what they wrote stays, they get nothing new",
        plain(email),
    ))?;
    context.output.note("their copies stay with them; `cru auth add` lets them in again");
    Ok(Exit::Ok)
}

/// As much of an id as lists show.
fn short(id: &str) -> &str {
    id.get(..10).unwrap_or(id)
}

/// Speaks to the server that is named, or to this vault's.
fn http(url: Option<&str>, context: &Context) -> Outcome<Http> {
    let Some(url) = url else {
        let folder = VaultFolder::find(&context.start).map_err(|failure| match failure.exit {
            Exit::NotAVault => {
                failure.hint("run it in a vault, or name the server: http(s)://host:port")
            }
            _ => failure,
        })?;
        return folder.http(context);
    };
    let url = server_of(url)?;
    let token = context.token_for(&url, |home| home.any_credential(&url))?;
    context.http(Origin { url, token: Some(token), roots_pem: None })
}

fn server_of(url: &str) -> Outcome<String> {
    parse_server(url).ok_or_else(|| {
        Failure::new(Exit::Usage, format!("{url:?} is no address of a server"))
            .hint("it has the form http(s)://host:port")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, revoked: bool) -> Device {
        Device {
            id: id.to_owned(),
            name: "laptop".to_owned(),
            this: false,
            created_ms: 1,
            seen_ms: None,
            revoked_ms: revoked.then_some(2),
        }
    }

    #[test]
    fn any_beginning_that_fits_one_device_names_it() {
        let devices = [device("abc1", false), device("abd2", true), device("f0", true)];
        let id = |digits| named(&devices, digits).map(|device| device.id.as_str());
        assert_eq!((id("abc"), id("ABD"), id("f")), (Ok("abc1"), Ok("abd2"), Ok("f0")));
        assert_eq!(id("ab"), Ok("abc1"), "the other one is out already");
        assert!(id("").is_err() && id("0").is_err());
        let both = [device("abc1", false), device("abd2", false)];
        let failure = named(&both, "ab").unwrap_err();
        assert!(failure.message.contains("abc1 (laptop), abd2 (laptop)"), "{failure:?}");
    }
}
