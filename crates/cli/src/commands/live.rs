//! `cru live [NOTE]`: opens a note for writing together, keeps the folder in step meanwhile, and
//! tells who comes and goes.

use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use crucible_core::vault_path::VaultPath;
use crucible_node::api::{self, Asked};
use crucible_node::http::Http;
use crucible_node::sessions::{self, Notice, Notices, Session};
use serde_json::json;

use super::watch::Keeper;
use crate::args::{Live, Watch};
use crate::context::Context;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::output::{FAINT, MARK, STRONG, count, moment, plain};
use crate::resembling::{did_you_mean, resembling};
use crate::signals::Stop;
use crate::vault_folder::VaultFolder;
use crate::world;

/// Milliseconds and seconds of the watching that comes with it.
const WATCH: Watch = Watch { quiet_ms: 400, every: 300 };
/// Between two tries to hear of the session.
const PAUSE: Duration = Duration::from_secs(1);

/// Opens, lists or ends.
pub fn run(args: &Live, context: &Context) -> Outcome {
    let stopped = context.signals.take();
    let folder = VaultFolder::find(&context.start)?;
    if folder.server().is_none() {
        return Err(Failure::new(
            Exit::Usage,
            "this vault has no server, and one writes together there",
        )
        .hint("`cru up` serves it from here, `cru join` makes it a copy of one on a server"));
    }
    let mut http = folder.http(context)?;
    let Some(note) = &args.note else { return list(&folder, &mut http, context) };
    let named = note_of(&folder, context, note);
    if args.end {
        // Its file may be gone: then it is what was named.
        let path = named.or_else(|_| folder.path_of(context, note))?;
        return end(&folder, &mut http, &path, context);
    }
    let path = named?;
    let (tell, told) = mpsc::channel();
    let mut keeper = Keeper::start(folder.root.clone(), WATCH, context, told)?;
    // What is on this disk is what it begins with.
    keeper.begin()?;
    let opened = sessions::open(&mut http, &folder.config.vault, path.as_str())
        .map_err(|error| Failure::from(error).hint("`cru status` tells what is not synced"))?;
    let address = address(&folder, &mut http, &path);
    let output = &context.output;
    output.value(&json!({
        "type": "live", "id": opened.id, "path": path.as_str(), "page": address,
    }))?;
    output.line(format!(
        "{} is open for writing together",
        output.paint(STRONG, plain(path.as_str()))
    ))?;
    output.line(format!("in a browser: {}", output.paint(MARK, &address)))?;
    if args.no_wait {
        return Ok(Exit::Ok);
    }
    output.note("the file is kept in step; Ctrl-C leaves, and the others go on");
    let teller = tell.clone();
    let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    spawn("signals", move || {
        if let Ok(stop) = stopped.recv() {
            let _ = teller.send(stop);
        }
    })?;
    let (listener, id, over) = (context.clone(), opened.id, std::sync::Arc::clone(&ended));
    let heard = folder.root.clone();
    spawn("session", move || hear(&heard, &listener, &id, &over, &tell))?;
    let exit = keeper.run()?;
    keeper.begin()?;
    let is_over = ended.load(std::sync::atomic::Ordering::SeqCst);
    let shown = plain(path.as_str());
    let told = if is_over { "ended" } else { "left" };
    output.value(&json!({ "type": told, "path": path.as_str() }))?;
    match is_over {
        true => output.line(format!("the session has ended; {shown} has what was written"))?,
        false => output.line(format!("left; {shown} has what was written up to now"))?,
    }
    Ok(if is_over { Exit::Ok } else { exit })
}

/// The note that a person means: with or without its `.md`, and wherever it is if only one is
/// called so.
fn note_of(folder: &VaultFolder, context: &Context, text: &str) -> Outcome<VaultPath> {
    let path = folder.path_of(context, text)?;
    let with = format!("{path}.md");
    if folder.root.join(path.as_str()).is_file() {
        return Ok(path);
    }
    if folder.root.join(&with).is_file() {
        return folder.path_of(context, &format!("{text}.md"));
    }
    let all = notes_in(&folder.root);
    let called = |note: &&String| {
        let name = note.rsplit('/').next().unwrap_or(note);
        !text.contains('/') && name.strip_suffix(".md").is_some_and(|name| name == text)
    };
    let found: Vec<&String> = all.iter().filter(called).collect();
    let known = |note: &str| {
        VaultPath::new(note).map_err(|error| Failure::failed(format!("{}: {error}", plain(note))))
    };
    match found.as_slice() {
        [only] => known(only),
        [] => {
            let message = format!("there is no note {}", plain(path.as_str()));
            let meant = did_you_mean(&resembling(path.as_str(), all.iter().map(String::as_str)));
            let hint = meant.unwrap_or_else(|| "`cru status` tells what is not synced".to_owned());
            Err(Failure::failed(message).hint(hint))
        }
        several => {
            let names: Vec<_> = several.iter().map(|note| plain(note).to_string()).collect();
            let message = format!("several notes are called {}", plain(text));
            Err(Failure::new(Exit::Usage, message).hint(format!("name one: {}", names.join(", "))))
        }
    }
}

/// The notes of a folder; what cannot be listed is not offered.
fn notes_in(root: &Path) -> Vec<String> {
    let mut notes = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if kind.is_dir() && !hidden {
                folders.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "md")
            {
                let below = path.strip_prefix(root).ok().and_then(Path::to_str);
                notes.extend(below.map(str::to_owned));
            }
        }
    }
    notes.sort_unstable();
    notes
}

/// The page's address for the note, with a code that lets one browser in where this device may
/// give one.
fn address(folder: &VaultFolder, http: &mut Http, path: &VaultPath) -> String {
    let vault = &folder.config.vault;
    let way: Vec<String> = path.as_str().split('/').map(escaped).collect();
    let way = format!("/v/{}/n/{}?edit", escaped(vault), way.join("/"));
    let asked = Asked { vault: Some(vault.clone()), ..Asked::default() };
    match api::invite(http, &asked) {
        Ok(invitation) => {
            format!("{}/#pair={}&to={}", http.url(), invitation.code, escaped(&way))
        }
        Err(_) => format!("{}/#{way}", http.url()),
    }
}

/// As `encodeURIComponent` does it.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let escape = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

fn of_vault(folder: &VaultFolder, http: &mut Http) -> Outcome<Vec<Session>> {
    let mut all = sessions::list(http)?;
    all.retain(|session| session.vault == folder.config.vault);
    Ok(all)
}

fn list(folder: &VaultFolder, http: &mut Http, context: &Context) -> Outcome {
    let output = &context.output;
    let all = of_vault(folder, http)?;
    for session in &all {
        let names: Vec<&str> = session.people.iter().map(|one| one.name.as_str()).collect();
        output.value(&json!({
            "type": "session",
            "id": session.id,
            "path": session.path,
            "opened_ms": session.opened_ms,
            "people": names,
        }))?;
        let who = match names.as_slice() {
            [] => "nobody is there".to_owned(),
            names => plain(&names.join(", ")).to_string(),
        };
        let path = output.paint(STRONG, plain(&session.path));
        output.line(format!("{path}  since {}  {who}", moment(session.opened_ms)))?;
    }
    if all.is_empty() {
        output.note("nobody writes live in this vault; `cru live NOTE` opens a note");
    }
    Ok(Exit::Ok)
}

fn end(folder: &VaultFolder, http: &mut Http, path: &VaultPath, context: &Context) -> Outcome {
    let found = of_vault(folder, http)?.into_iter().find(|one| one.path == path.as_str());
    let Some(session) = found else {
        let message = format!("nobody writes live in {}", plain(path.as_str()));
        return Err(Failure::failed(message).hint("`cru live` lists where somebody does"));
    };
    sessions::end(http, &session.id)?;
    let there = count(session.people.len() as u64, "person", "people");
    context.output.value(&json!({ "type": "ending", "id": session.id, "path": session.path }))?;
    context.output.line(format!(
        "{} is being closed for {there}; what was written becomes a version first",
        plain(path.as_str())
    ))?;
    Ok(Exit::Ok)
}

/// Tells what happens to the session until it ends.
fn hear(
    root: &std::path::Path,
    context: &Context,
    id: &str,
    over: &std::sync::atomic::AtomicBool,
    tell: &Sender<Stop>,
) {
    loop {
        let listen = || -> Outcome<Notices> {
            let mut http = VaultFolder::find(root)?.http(context)?;
            let notices = Notices::listen(&mut http)?;
            // It may have ended while nobody listened.
            let there = sessions::list(&mut http)?.iter().any(|session| session.id == id);
            over.store(!there, std::sync::atomic::Ordering::SeqCst);
            Ok(notices)
        };
        if let Ok(mut notices) = listen() {
            while !over.load(std::sync::atomic::Ordering::SeqCst)
                && let Ok(Some(notice)) = notices.next_notice()
            {
                if show(&notice, id, context) {
                    over.store(true, std::sync::atomic::Ordering::SeqCst);
                }
            }
        }
        if over.load(std::sync::atomic::Ordering::SeqCst) {
            // The keeper may have been stopped already.
            let _ = tell.send(Stop::Terminate);
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Prints a notice of this session; returns whether it was the last.
fn show(notice: &Notice, id: &str, context: &Context) -> bool {
    let Some(about) = notice.about.as_ref().filter(|about| about.id == id) else { return false };
    let name = about.name.as_deref().unwrap_or("somebody");
    let said = match notice.what.as_str() {
        "joined" => format!("{} is here", plain(name)),
        "left" => format!("{} has left", plain(name)),
        "saved" => format!("saved as a version of {}", plain(&about.path)),
        _ => return notice.what == "closed",
    };
    let now_ms = world::now_ms();
    let value = json!({
        "type": notice.what, "path": about.path, "name": about.name, "at_ms": now_ms,
    });
    let output = &context.output;
    let line = format!("{}  {said}", output.paint(FAINT, moment(now_ms)));
    // Whoever reads no more does not keep the others from writing.
    let _ = output.value(&value).and_then(|()| output.line(line));
    false
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Outcome<()> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map(drop).during("starting a thread")
}
