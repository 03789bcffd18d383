//! `cru demo [FOLDER]`: two devices, one server, edits on both while apart, and what comes of it.
//!
//! Nothing is pretended: a real server on the loopback, real rounds, real files, in a temporary
//! folder. It ends with an error if the two folders are not the same, byte for byte.

mod notes;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crucible_core::conflict::{Clash, Conflict};
use crucible_core::vault_path::VaultPath;
use crucible_node::actions::Take;
use crucible_node::api;
use crucible_node::config::{self, Config, Mode};
use crucible_node::http::Origin;
use crucible_node::link::Link;
use crucible_node::replica::Options;
use crucible_node::report::Report;
use crucible_sync::repo::Repo;
use crucible_trust::name::VaultName;
use crucible_trust::rights::Rights;

use crate::args::Demo;
use crate::attach::{self, Proof};
use crate::context::Context;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::home::Home;
use crate::output::{BAD, FAINT, GOOD, MARK, Output, STRONG, count, moment, plain};
use crate::past::{Fetcher, Past};
use crate::progress::Bar;
use crate::sample;
use crate::service::{self, Plan, Running};
use crate::vault_folder::VaultFolder;
use crate::words::clash_in_words;
use crate::world::Machine;
use notes::Picks;

const VAULT: &str = "demo";
const PICTURES: [&str; 5] = ["png", "jpg", "jpeg", "gif", "webp"];

/// Shows everything, and cleans up.
pub fn run(args: &Demo, context: &Context) -> Outcome {
    if context.output.json {
        return Err(Failure::new(Exit::Usage, "the demo is for people, and has no JSON to print")
            .hint("`cru sync --json` and the others have"));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix("cru-demo-").disable_cleanup(args.keep);
    let scratch = builder.tempdir().during("making a temporary folder")?;
    let told = tell(args, context, scratch.path());
    let output = &context.output;
    if args.keep {
        output.line(format!("\nEverything is left in {}", scratch.path().display()))?;
    } else {
        scratch.close().during("removing the temporary folder")?;
    }
    told?;
    if !args.keep {
        output.line(output.paint(
            FAINT,
            "\nThat was all in a temporary folder, which is gone (--keep leaves it).",
        ))?;
        output.line(
            "Your own notes: `cru up FOLDER` here, and the line it prints on the other machine.",
        )?;
    }
    Ok(Exit::Ok)
}

fn tell(args: &Demo, context: &Context, scratch: &Path) -> Outcome<()> {
    let output = &context.output;
    let laptop = Device::new("laptop", context, scratch);
    let phone = Device::new("phone", context, scratch);
    let source = args.folder.as_ref().map(|folder| context.path(folder));
    let files = lay_out(source.as_deref(), &laptop.root)?;
    let stage = Stage::choose(&laptop.root)?;
    let what = match &source {
        Some(source) => format!("a copy of {}", source.display()),
        None => "a small vault that comes with it".to_owned(),
    };
    let files = count(files, "file", "files");
    output.line(format!(
        "{}: {what}, {files}, in {}",
        output.paint(STRONG, "cru demo"),
        scratch.display()
    ))?;

    heading(output, "A server, and two devices that join it")?;
    let server = serve(scratch)?;
    output.line(format!("  listening on {}", server.url()))?;
    for device in [&laptop, &phone] {
        device.join(&server)?;
        let report = device.round()?;
        output.line(format!("  {:<7} joined: {}", device.name, did(&report)))?;
    }

    heading(output, "Both edit the same notes while they are apart")?;
    stage.edit(output, &laptop, &phone)?;

    heading(output, "They sync")?;
    let mut conflicts = Vec::new();
    for device in [&laptop, &phone, &laptop] {
        let report = device.round()?;
        output.line(format!("  {:<7} {}", device.name, did(&report)))?;
        if device.name == phone.name {
            conflicts = report.conflicts;
        }
    }

    heading(output, "What came of it, on both devices")?;
    stage.show_merged(output, &laptop)?;

    heading(
        output,
        "Where the merge had to choose, it says so and keeps the other side (cru conflicts)",
    )?;
    for conflict in &conflicts {
        let path = output.paint(STRONG, plain(conflict.path.as_str()));
        output.line(format!("  {path}: {}", clash_in_words(&conflict.clash)))?;
    }
    stage.take_back(output, &laptop, &phone, &conflicts)?;

    heading(output, "Who wrote what, and when (cru log)")?;
    laptop.show_log(output, &stage.picks.word)?;

    heading(output, "In the end")?;
    compare(output, &laptop, &phone)?;
    server.stop()
}

fn heading(output: &Output, text: &str) -> Outcome<()> {
    output.line(format!("\n{}", output.paint(STRONG, text)))
}

fn did(report: &Report) -> String {
    let mut parts = Vec::new();
    let mut add = |number: u64, what: &str| {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    };
    add(report.pushed, "sent");
    add(report.pulled, "received");
    add(report.merged, "merged");
    add(report.conflicts.len() as u64, "conflicts to tell of");
    let requests = count(report.traffic.requests, "request", "requests");
    if parts.is_empty() {
        return format!("nothing to do ({requests})");
    }
    format!("{} ({requests})", parts.join(", "))
}

fn serve(scratch: &Path) -> Outcome<Running> {
    Running::start(Plan {
        data: scratch.join("server"),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        tls: None,
        hosts: Vec::new(),
        behind_proxy: false,
    })
}

/// One device: a home, a folder, and what is done there.
struct Device {
    name: &'static str,
    root: PathBuf,
    context: Context,
    /// Where progress is drawn.
    output: Output,
}

impl Device {
    fn new(name: &'static str, context: &Context, scratch: &Path) -> Self {
        let root = scratch.join(name);
        let output = context.output;
        let context = Context {
            start: root.clone(),
            home: Home::at(scratch.join(format!("home of the {name}"))),
            token: None,
            machine: name.to_owned(),
            output: context.output.silent(),
            ..context.clone()
        };
        Self { name, root, context, output }
    }

    /// Joins with a code, as a person would with the line they were given.
    fn join(&self, server: &Running) -> Outcome<()> {
        let name = VaultName::new(VAULT).expect("the name is one");
        let accounts = server.accounts()?;
        let user = service::user(&accounts, "ada@example.org")?;
        let url = server.url();
        let link = service::join_link(&accounts, &user, Rights::ALL, &url, &name)?;
        let proof = link.code.map_or(Proof::Known, Proof::Code);
        let known = attach::let_in(&self.context, &url, VAULT, proof, self.name)?;
        let origin = Origin { url: url.clone(), token: Some(known.token), roots_pem: None };
        let mut http = self.context.http(origin)?;
        let vault: api::Vault = attach::vault_there(&mut http, VAULT, None, |_| Ok(()))?;
        fs::create_dir_all(&self.root).during("making a folder")?;
        let mode = Mode::Remote { server: url };
        let config = Config { vault_id: vault.id, vault: vault.name, mode, policies: Vec::new() };
        attach::make_folder(&self.root, &config).map(drop)
    }

    fn folder(&self) -> Outcome<VaultFolder> {
        VaultFolder::find(&self.root)
    }

    fn round(&self) -> Outcome<Report> {
        let folder = self.folder()?;
        let mut vault = folder.open_for_rounds(&self.context)?;
        let mut link = folder.link(&self.context)?;
        let bar = Bar::new(&self.output);
        let link = link.as_mut().map(|link| link as &mut dyn Link);
        Ok(crate::rounds::make(&mut vault, link, Options::default(), &bar)?.report)
    }

    fn read(&self, path: &str) -> Outcome<String> {
        let file = self.root.join(path);
        fs::read_to_string(&file).during(format!("reading {}", file.display()))
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> Outcome<()> {
        let file = self.root.join(path);
        fs::write(&file, bytes).during(format!("writing {}", file.display()))
    }

    fn show_log(&self, output: &Output, path: &str) -> Outcome<()> {
        let folder = self.folder()?;
        let path = vault_path(path)?;
        let mut past = Past::open(&folder, &self.context)?;
        for entry in past.list(Some(&path), 20)? {
            let id = output.paint(MARK, &entry.version.to_string()[..10]);
            let device = entry.device.as_ref().map_or("", |(_, name)| name.as_str());
            let who = match entry.author.as_str() {
                "merge" => "merged, from both".to_owned(),
                _ => format!("on the {}", plain(device)),
            };
            let at = moment(entry.stamp.0);
            output.line(format!("  {id}  {at}  {:<7} {who}", entry.op))?;
        }
        let entry = past.list(Some(&path), 20)?.into_iter().find(|entry| entry.author != "merge");
        if let Some(entry) = entry {
            let name = format!("{path}@{}", &entry.version.to_string()[..10]);
            output.line(output.paint(FAINT, format!("  cru show '{name}' prints any of them")))?;
        }
        Ok(())
    }

    fn files(&self) -> Outcome<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::new();
        collect(&self.root, "", &mut files)?;
        Ok(files)
    }
}

/// Which notes are edited, and their texts before.
struct Stage {
    picks: Picks,
    picture: String,
    texts: BTreeMap<String, String>,
}

impl Stage {
    /// Chooses among the files of a folder; what it lacks is added to it.
    fn choose(root: &Path) -> Outcome<Self> {
        let mut files = BTreeMap::new();
        collect(root, "", &mut files)?;
        let text = |(path, bytes): (&String, &Vec<u8>)| {
            let hidden = path.split('/').any(|name| name.starts_with('.'));
            let is_note = path.to_ascii_lowercase().ends_with(".md") && !hidden;
            let text = String::from_utf8(bytes.clone()).ok().filter(|_| is_note)?;
            (!text.contains('\r')).then(|| (path.clone(), text))
        };
        let notes: Vec<(String, String)> = files.iter().filter_map(text).collect();
        let mut picks = Picks::from(&notes);
        let mut texts: BTreeMap<String, String> = notes.into_iter().collect();
        for (pick, (path, text)) in picks.iter_mut().zip(notes::SPARE) {
            if pick.is_none() {
                put(root, path, text.as_bytes())?;
                texts.insert((*path).to_owned(), (*text).to_owned());
                *pick = Some((*path).to_owned());
            }
        }
        let is_picture = |path: &&String| {
            let end = path.rsplit('.').next().unwrap_or("").to_ascii_lowercase();
            PICTURES.contains(&end.as_str())
        };
        let picture = match files.keys().find(is_picture) {
            Some(path) => path.clone(),
            None => {
                let (path, bytes) = sample::FILES
                    .iter()
                    .find(|(path, _)| path.ends_with(".png"))
                    .expect("the sample vault has a picture");
                put(root, path, bytes)?;
                (*path).to_owned()
            }
        };
        let [sentences, word, renamed, deleted, head] =
            picks.map(|pick| pick.expect("what was missing has been added"));
        let picks = Picks { sentences, word, renamed, deleted, head };
        Ok(Self { picks, picture, texts })
    }

    fn text(&self, path: &str) -> &str {
        self.texts.get(path).map_or("", String::as_str)
    }

    /// Where the renamed note goes.
    fn new_name(&self) -> String {
        let name = self.picks.renamed.rsplit('/').next().unwrap_or("note.md");
        format!("Archive/{name}")
    }

    fn edit(&self, output: &Output, laptop: &Device, phone: &Device) -> Outcome<()> {
        let picks = &self.picks;
        let say = |path: &str, here: &str, there: &str| -> Outcome<()> {
            output.line(format!("  {}", output.paint(STRONG, plain(path))))?;
            output.line(format!("    laptop: {here}"))?;
            output.line(format!("    phone:  {there}"))
        };

        let text = self.text(&picks.sentences);
        let (first, last) = notes::two_sentences(text).expect("picked for that");
        laptop.write(&picks.sentences, notes::before(text, first, LAPTOP_ADDS))?;
        phone.write(&picks.sentences, notes::before(text, last, PHONE_ADDS))?;
        let added = |words: &str| words.trim_start_matches([',', ' ']).to_owned();
        say(
            &picks.sentences,
            &format!("adds “{}” to one sentence", added(LAPTOP_ADDS)),
            &format!("adds “{}” to another sentence of the paragraph", added(PHONE_ADDS)),
        )?;

        let text = self.text(&picks.word);
        let word = notes::last_word(text).expect("picked for that");
        laptop.write(&picks.word, notes::instead(text, word, LAPTOP_WORD))?;
        phone.write(&picks.word, notes::instead(text, word, PHONE_WORD))?;
        let old = &text[word.0..word.1];
        say(
            &picks.word,
            &format!("“{old}” becomes “{LAPTOP_WORD}”"),
            &format!("the same “{old}” becomes “{PHONE_WORD}”"),
        )?;

        let text = self.text(&picks.head);
        laptop.write(&picks.head, notes::with_tag_and_key(text, "on-laptop", "checked: yes"))?;
        phone.write(&picks.head, notes::with_tag_and_key(text, "on-phone", "mood: calm"))?;
        say(
            &picks.head,
            "adds the tag on-laptop and the key `checked`",
            "adds the tag on-phone and the key `mood`",
        )?;

        let text = self.text(&picks.renamed);
        let to = self.new_name();
        move_file(&laptop.root.join(&picks.renamed), &laptop.root.join(&to))?;
        let (_, stop) = notes::last_word(text).expect("picked for that");
        phone.write(&picks.renamed, notes::before(text, stop, PHONE_ADDS))?;
        say(
            &picks.renamed,
            &format!("moves it to {to}"),
            &format!("adds “{}”", added(PHONE_ADDS)),
        )?;

        let gone = laptop.root.join(&picks.deleted);
        fs::remove_file(&gone).during(format!("removing {}", gone.display()))?;
        let text = self.text(&picks.deleted);
        phone.write(&picks.deleted, format!("{}\n\n{STILL_NEEDED}\n", text.trim_end()))?;
        say(&picks.deleted, "deletes it", &format!("adds “{STILL_NEEDED}”"))?;

        for device in [laptop, phone] {
            let file = device.root.join(&self.picture);
            let mut bytes = fs::read(&file).during(format!("reading {}", file.display()))?;
            bytes.extend_from_slice(format!("\nas the {} sees it", device.name).as_bytes());
            device.write(&self.picture, bytes)?;
        }
        say(&self.picture, "puts another picture there", "puts yet another picture there")
    }

    fn show_merged(&self, output: &Output, device: &Device) -> Outcome<()> {
        let picks = &self.picks;
        let show = |path: &str, text: &str| -> Outcome<()> {
            output.line(format!("  {}", output.paint(STRONG, plain(path))))?;
            for line in text.lines() {
                output.line(format!("    {}", painted(output, &plain(line))))?;
            }
            Ok(())
        };
        let around = |path: &str, mark: &str| -> Outcome<String> {
            let text = device.read(path)?;
            let at = text.find(mark).ok_or_else(|| lost(path, mark))?;
            Ok(notes::line_around(&text, at).to_owned())
        };
        let merged = around(&picks.sentences, PHONE_ADDS)?;
        if !merged.contains(LAPTOP_ADDS) {
            return Err(lost(&picks.sentences, LAPTOP_ADDS));
        }
        show(&picks.sentences, &merged)?;
        let text = device.read(&picks.word)?;
        let word = if text.contains(PHONE_WORD) { PHONE_WORD } else { LAPTOP_WORD };
        show(&picks.word, &around(&picks.word, word)?)?;
        let text = device.read(&picks.head)?;
        let end = text[4..].find("---").map_or(text.len(), |at| at + 7);
        for part in ["on-laptop", "on-phone", "checked: yes", "mood: calm"] {
            if !text[..end].contains(part) {
                return Err(lost(&picks.head, part));
            }
        }
        show(&picks.head, &text[..end])?;
        show(&self.new_name(), &around(&self.new_name(), PHONE_ADDS)?)?;
        show(&picks.deleted, &around(&picks.deleted, STILL_NEEDED)?)
    }

    /// Takes back what lost, as a person would who wants it.
    fn take_back(
        &self,
        output: &Output,
        laptop: &Device,
        phone: &Device,
        conflicts: &[Conflict],
    ) -> Outcome<()> {
        let is_word = |conflict: &&Conflict| {
            conflict.path.as_str() == self.picks.word && matches!(conflict.clash, Clash::Body(_))
        };
        let Some(conflict) = conflicts.iter().find(is_word) else {
            return Err(lost(&self.picks.word, "the conflict over one word"));
        };
        let folder = laptop.folder()?;
        let mut vault = folder.open_for_rounds(&laptop.context)?;
        let number = vault.replica.store().number_of_conflict(&conflict.id)?;
        let named = number.map_or_else(|| conflict.id.to_string(), |number| number.to_string());
        let mut fetcher = Fetcher::new(&folder, &laptop.context);
        let mut fetch = |version: &_| fetcher.bytes(version);
        let taken = vault.replica.take(&conflict.id, Take::Loser, &mut Machine, &mut fetch);
        taken.map_err(|error| fetcher.explained(error))?;
        drop(vault);
        laptop.round()?;
        phone.round()?;
        let text = phone.read(&self.picks.word)?;
        let taken = if text.contains(LAPTOP_WORD) { LAPTOP_WORD } else { PHONE_WORD };
        let at = text.find(taken).ok_or_else(|| lost(&self.picks.word, taken))?;
        output.line(format!(
            "  {}: the laptop wants the other word after all: `cru conflicts take {named} \
             theirs`, and one sync later the phone has",
            plain(&self.picks.word),
        ))?;
        for line in notes::line_around(&text, at).lines() {
            output.line(format!("    {}", painted(output, &plain(line))))?;
        }
        Ok(())
    }
}

const LAPTOP_ADDS: &str = ", as the laptop puts it";
const PHONE_ADDS: &str = ", the phone adds";
const LAPTOP_WORD: &str = "yesterday";
const PHONE_WORD: &str = "tomorrow";
const STILL_NEEDED: &str = "Still needed, says the phone.";

/// Marks what the demo's devices have written.
fn painted(output: &Output, line: &str) -> String {
    let words = [
        LAPTOP_ADDS,
        PHONE_ADDS,
        LAPTOP_WORD,
        PHONE_WORD,
        STILL_NEEDED,
        "on-laptop",
        "on-phone",
        "checked: yes",
        "mood: calm",
    ];
    words
        .iter()
        .fold(line.to_owned(), |line, words| line.replace(words, &output.paint(GOOD, words)))
}

fn lost(path: &str, what: &str) -> Failure {
    Failure::new(Exit::Integrity, format!("{path} lacks {what:?}: this is a bug, please report it"))
}

/// Both folders byte for byte, and both roots.
fn compare(output: &Output, laptop: &Device, phone: &Device) -> Outcome<()> {
    let (ours, theirs) = (laptop.files()?, phone.files()?);
    let names = ours.keys().chain(theirs.keys());
    if let Some(name) = names.into_iter().find(|name| ours.get(*name) != theirs.get(*name)) {
        let message = format!("{name} is not the same on both: this is a bug, please report it");
        return Err(Failure::new(Exit::Integrity, message));
    }
    output.line(format!(
        "  {} the same on both, byte for byte",
        count(ours.len(), "file", "files")
    ))?;
    let root = |device: &Device| -> Outcome<String> {
        let root = device.folder()?.store()?.root()?;
        Ok(root.map_or(String::new(), |root| root.to_string()))
    };
    let folder = laptop.folder()?;
    let mut http = folder.http(&laptop.context)?;
    let there = api::vault(&mut http, VAULT)?.and_then(|vault| vault.root);
    let there = there.map_or(String::new(), |root| root.to_string());
    let (one, other) = (root(laptop)?, root(phone)?);
    let equal = one == other && other == there;
    let paint =
        |root: &str| output.paint(if equal { GOOD } else { BAD }, &root[..root.len().min(16)]);
    output.line(format!(
        "  roots: laptop {}, phone {}, server {}",
        paint(&one),
        paint(&other),
        paint(&there),
    ))?;
    if equal {
        return Ok(());
    }
    Err(Failure::new(Exit::Integrity, "the roots differ: this is a bug, please report it"))
}

/// Copies the folder, or lays out the sample vault; how many files there are.
fn lay_out(source: Option<&Path>, to: &Path) -> Outcome<u64> {
    let Some(source) = source else {
        for (path, bytes) in sample::FILES {
            put(to, path, bytes)?;
        }
        return Ok(sample::FILES.len() as u64);
    };
    if !source.is_dir() {
        return Err(Failure::new(Exit::Usage, format!("there is no folder {}", source.display())));
    }
    fs::create_dir_all(to).during("making a folder")?;
    let mut files = 0;
    let mut folders = vec![PathBuf::new()];
    while let Some(inside) = folders.pop() {
        let here = source.join(&inside);
        for entry in fs::read_dir(&here).during(format!("reading {}", here.display()))? {
            let entry = entry.during(format!("reading {}", here.display()))?;
            let kind = entry.file_type().during(format!("reading {}", here.display()))?;
            let relative = inside.join(entry.file_name());
            let ours = [config::FOLDER, ".git"].iter().any(|name| entry.file_name() == *name);
            if kind.is_dir() && !ours {
                let folder = to.join(&relative);
                fs::create_dir_all(&folder).during(format!("making {}", folder.display()))?;
                folders.push(relative);
            } else if kind.is_file() {
                let from = entry.path();
                fs::copy(&from, to.join(&relative))
                    .during(format!("copying {}", from.display()))?;
                files += 1;
            }
        }
    }
    Ok(files)
}

fn put(root: &Path, path: &str, bytes: &[u8]) -> Outcome<()> {
    let file = root.join(path);
    let folder = file.parent().unwrap_or(root);
    fs::create_dir_all(folder).during(format!("making {}", folder.display()))?;
    fs::write(&file, bytes).during(format!("writing {}", file.display()))
}

fn move_file(from: &Path, to: &Path) -> Outcome<()> {
    let folder = to.parent().unwrap_or(to);
    fs::create_dir_all(folder).during(format!("making {}", folder.display()))?;
    fs::rename(from, to).during(format!("moving {}", from.display()))
}

fn collect(folder: &Path, inside: &str, files: &mut BTreeMap<String, Vec<u8>>) -> Outcome<()> {
    for entry in fs::read_dir(folder).during(format!("reading {}", folder.display()))? {
        let entry = entry.during(format!("reading {}", folder.display()))?;
        if inside.is_empty() && entry.file_name() == config::FOLDER {
            continue;
        }
        // A name that is not UTF-8 is not synced, so it is not compared either.
        let Some(name) = entry.file_name().to_str().map(|name| format!("{inside}{name}")) else {
            continue;
        };
        let kind = entry.file_type().during(format!("reading {}", folder.display()))?;
        let path = entry.path();
        if kind.is_dir() {
            collect(&path, &format!("{name}/"), files)?;
        } else if kind.is_file() {
            let bytes = fs::read(&path).during(format!("reading {}", path.display()))?;
            files.insert(name, bytes);
        }
    }
    Ok(())
}

fn vault_path(path: &str) -> Outcome<VaultPath> {
    VaultPath::new(path).map_err(|error| Failure::failed(format!("{path:?} {error}")))
}
