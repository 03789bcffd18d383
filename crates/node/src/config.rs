//! `.crucible/config.toml`: which vault a folder is, where its other side is, and its policies.
//!
//! Invariants: no secret is ever in it; what is not understood is refused with its line instead of
//! ignored; a newer format is not touched; a change keeps every byte it is not about, comments
//! included, and replaces the file in one step.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crucible_core::id::VaultId;
use crucible_proto::limits::{POLICIES_MAX, POLICY_BYTES_MAX};
use crucible_proto::message::PolicyRule;
use serde::Deserialize;

/// The folder of ours inside a vault.
pub const FOLDER: &str = ".crucible";
/// The format that this release writes and reads.
pub const FORMAT: u32 = 1;
const FILE: &str = "config.toml";
/// Longest file that is read.
const BYTES_MAX: u64 = 1 << 20;

/// Where the other side of a vault is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Nowhere yet: versions are kept here alone.
    Local,
    /// On a server.
    Remote {
        /// `http(s)://host[:port]`.
        server: String,
    },
}

/// What two edits of the same words come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// The later one; the other is kept in a conflict record.
    Lww,
    /// Both, one after the other.
    Both,
    /// The later one; a replaced picture or other file is kept beside it as a copy.
    Copy,
}

/// What happens below some paths.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Over the paths of the vault: `Daily/**`, `*.png`.
    pub glob: String,
    /// What to do there.
    pub overlap: Overlap,
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Which vault.
    pub vault_id: VaultId,
    /// What the vault is called on its server.
    pub vault: String,
    /// Where the other side is.
    pub mode: Mode,
    /// The first whose glob matches is the one.
    pub policies: Vec<Policy>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is none: the folder is not a vault.
    #[error("{} is not a vault", .0.display())]
    NotAVault(PathBuf),
    /// It cannot be read or written.
    #[error("{} cannot be read or written: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not TOML, or not what belongs there.
    #[error("{}, line {line}: {reason}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Written by a newer release; nothing was touched.
    #[error("{} has format {found}; this release knows formats up to {FORMAT}", path.display())]
    TooNew {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

#[derive(Deserialize)]
struct FormatOnly {
    format: Option<toml::Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    #[serde(rename = "format")]
    _format: u32,
    vault: toml::Spanned<String>,
    vault_id: toml::Spanned<String>,
    mode: toml::Spanned<String>,
    server: Option<toml::Spanned<String>>,
    #[serde(default)]
    policies: Vec<toml::Spanned<Policy>>,
}

impl Config {
    /// Reads the configuration of the vault at `root`.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn read(root: &Path) -> Result<Self, ConfigError> {
        let path = path_of(root);
        let text = read_text(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                ConfigError::NotAVault(root.to_owned())
            }
            _ => ConfigError::Io { path: path.clone(), source },
        })?;
        Self::parse(&text, &path)
    }

    /// Reads a configuration from text; `path` is what errors call it.
    ///
    /// # Errors
    /// [`ConfigError::Wrong`], [`ConfigError::TooNew`]
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let wrong_at = |at: usize, reason: &str| {
            let line = 1 + text.get(..at).unwrap_or(text).matches('\n').count();
            ConfigError::Wrong { path: path.to_owned(), line, reason: reason.to_owned() }
        };
        let wrong = |error: &toml::de::Error| {
            wrong_at(error.span().map_or(0, |span| span.start), error.message())
        };
        let format: FormatOnly = toml::from_str(text).map_err(|error| wrong(&error))?;
        match format.format.map(toml::Spanned::into_inner) {
            Some(FORMAT) => {}
            Some(found) if found > FORMAT => {
                return Err(ConfigError::TooNew { path: path.to_owned(), found });
            }
            Some(_) => return Err(wrong_at(0, "there has never been such a `format`")),
            None => return Err(wrong_at(0, "`format = 1` is missing")),
        }
        let shape: Shape = toml::from_str(text).map_err(|error| wrong(&error))?;
        let vault_id = shape.vault_id.as_ref().parse().map_err(|_| {
            wrong_at(shape.vault_id.span().start, "`vault_id` is not 32 hexadecimal digits")
        })?;
        let mode = match (shape.mode.as_ref().as_str(), &shape.server) {
            ("local", None) => Mode::Local,
            ("local", Some(server)) => {
                return Err(wrong_at(server.span().start, "a local vault has no `server`"));
            }
            ("remote", Some(server)) => {
                let reason = "`server` is not of the form http(s)://host[:port]";
                let url = parse_server(server.as_ref());
                Mode::Remote { server: url.ok_or_else(|| wrong_at(server.span().start, reason))? }
            }
            ("remote", None) => return Err(wrong_at(0, "`server` is missing")),
            _ => {
                return Err(wrong_at(shape.mode.span().start, "`mode` is `local` or `remote`"));
            }
        };
        for policy in &shape.policies {
            check_policy(policy.as_ref())
                .map_err(|reason| wrong_at(policy.span().start, reason))?;
        }
        if shape.policies.len() > POLICIES_MAX {
            return Err(wrong_at(0, "there are more than 256 policies"));
        }
        let policies = shape.policies.into_iter().map(toml::Spanned::into_inner).collect();
        Ok(Self { vault_id, vault: shape.vault.into_inner(), mode, policies })
    }

    /// Writes the first configuration of a folder, making `.crucible` for it.
    ///
    /// # Errors
    /// [`ConfigError::Io`]
    pub fn create(&self, root: &Path) -> Result<(), ConfigError> {
        let path = path_of(root);
        let io = |source| ConfigError::Io { path: path.clone(), source };
        fs::create_dir_all(root.join(FOLDER)).map_err(io)?;
        replace(&path, self.render().as_bytes(), None).map_err(io)
    }

    fn render(&self) -> String {
        let mut text = String::from(
            "# What `cru` knows about this folder. No secrets are kept here.\n\
             # `cru sync config` shows and changes it; edits by hand are fine.\n",
        );
        text.push_str(&format!("format = {FORMAT}\n"));
        text.push_str(&format!("vault = {}\n", quoted(&self.vault)));
        text.push_str(&format!("vault_id = \"{}\"\n", self.vault_id));
        match &self.mode {
            Mode::Local => text.push_str("mode = \"local\"\n"),
            Mode::Remote { server } => {
                text.push_str("mode = \"remote\"\n");
                text.push_str(&format!("server = {}\n", quoted(server)));
            }
        }
        for policy in &self.policies {
            text.push_str(&policy_block(policy));
        }
        text
    }

    /// What rounds tell the other side about overlaps.
    pub fn rules(&self) -> Vec<PolicyRule> {
        let rule = |policy: &Policy| PolicyRule {
            glob: policy.glob.clone(),
            keep_both: policy.overlap == Overlap::Both,
        };
        self.policies.iter().map(rule).collect()
    }
}

/// A change of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The vault is reached at another address.
    Server(String),
    /// What happens below a glob; appended, or changed where it stands.
    Policy(Policy),
    /// The glob has no policy any more.
    NoPolicy(String),
}

/// Changes the file of the vault at `root`, and nothing in it but what the change is about.
///
/// # Errors
/// [`ConfigError`]; the file is then as it was.
pub fn change(root: &Path, change: &Change) -> Result<Config, ConfigError> {
    Config::read(root)?;
    let path = path_of(root);
    let io = |source| ConfigError::Io { path: path.clone(), source };
    let text = read_text(&path).map_err(io)?;
    let changed = match change {
        Change::Server(server) => with_server(&text, server),
        Change::Policy(policy) => with_policy(&text, &policy.glob, Some(policy)),
        Change::NoPolicy(glob) => with_policy(&text, glob, None),
    };
    let config = Config::parse(&changed, &path)?;
    if changed != text {
        replace(&path, changed.as_bytes(), None).map_err(io)?;
    }
    Ok(config)
}

/// Where the configuration of the vault at `root` is.
pub fn path_of(root: &Path) -> PathBuf {
    root.join(FOLDER).join(FILE)
}

/// `http(s)://host[:port]` without anything after it; `None` for anything else.
pub fn parse_server(url: &str) -> Option<String> {
    let url = url.trim_end_matches('/');
    let (scheme, authority) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '?' | '#' | '@' | '\\' | '"');
    let known = matches!(scheme.as_str(), "http" | "https");
    let good = known && !authority.is_empty() && authority.chars().all(plain);
    good.then(|| format!("{scheme}://{}", authority.to_ascii_lowercase()))
}

fn check_policy(policy: &Policy) -> Result<(), &'static str> {
    if policy.glob.len() > POLICY_BYTES_MAX {
        return Err("a glob has at most 1024 bytes");
    }
    match globset::GlobBuilder::new(&policy.glob).literal_separator(true).build() {
        Ok(_) => Ok(()),
        Err(_) => Err("a `glob` that cannot be read; an example: \"Daily/**\""),
    }
}

fn with_server(text: &str, server: &str) -> String {
    let line = format!("server = {}", quoted(server));
    let head = text.find("[[").unwrap_or(text.len());
    let (top, rest) = text.split_at(head);
    let mut lines: Vec<String> = top.lines().map(str::to_owned).collect();
    let key_of = |line: &str| line.split('=').next().map(|key| key.trim().to_owned());
    let at = |lines: &[String], key: &str| {
        lines.iter().position(|line| key_of(line).as_deref() == Some(key))
    };
    match (at(&lines, "server"), at(&lines, "mode")) {
        (Some(at), _) => lines[at] = line,
        (None, Some(mode)) => lines.insert(mode + 1, line),
        (None, None) => lines.push(line),
    }
    if let Some(mode) = at(&lines, "mode") {
        lines[mode] = "mode = \"remote\"".to_owned();
    }
    lines.join("\n") + "\n" + rest
}

/// Replaces, appends or (with `None`) takes out the block of a glob.
fn with_policy(text: &str, glob: &str, policy: Option<&Policy>) -> String {
    let mut out = String::new();
    let mut found = false;
    for block in blocks(text) {
        let is_it = block.starts_with("[[")
            && toml::from_str::<PolicyBlock>(block)
                .is_ok_and(|parsed| parsed.policies.iter().any(|policy| policy.glob == glob));
        if !is_it {
            out.push_str(block);
            continue;
        }
        if let Some(policy) = policy.filter(|_| !found) {
            out.push_str(policy_block(policy).trim_start());
        }
        found = true;
    }
    if let Some(policy) = policy.filter(|_| !found) {
        if !out.ends_with('\n') {
            out.push('\n');
        }
        out.push_str(&policy_block(policy));
    }
    out
}

#[derive(Deserialize)]
struct PolicyBlock {
    policies: Vec<Policy>,
}

/// The text before the first `[[`, then one piece for each `[[`.
fn blocks(text: &str) -> Vec<&str> {
    let mut cuts = vec![0];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with("[[") && at > 0 {
            cuts.push(at + (line.len() - line.trim_start().len()));
        }
        at += line.len();
    }
    cuts.push(text.len());
    cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect()
}

fn policy_block(policy: &Policy) -> String {
    let overlap = match policy.overlap {
        Overlap::Lww => "lww",
        Overlap::Both => "both",
        Overlap::Copy => "copy",
    };
    format!("\n[[policies]]\nglob = {}\noverlap = \"{overlap}\"\n", quoted(&policy.glob))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn read_text(path: &Path) -> io::Result<String> {
    let bytes = fs::metadata(path)?.len();
    if bytes > BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than 1 MiB"));
    }
    fs::read_to_string(path)
}

/// Puts a whole new file in the place of the old one, durably; with `mode` as its permissions, or
/// those that new files get.
///
/// # Errors
/// Those of the file system; the old file is as it was then.
pub fn replace(path: &Path, text: &[u8], mode: Option<u32>) -> io::Result<()> {
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let mut options = OpenOptions::new();
    let mut file = options
        .create(true)
        .truncate(true)
        .write(true)
        .mode(mode.unwrap_or(0o666))
        .open(&temporary)?;
    if let Some(mode) = mode {
        // One left by a crash may be there with others.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Config {
        Config {
            vault_id: VaultId::from_bytes([7; 16]),
            vault: "notes".to_owned(),
            mode: Mode::Remote { server: "https://example.org:8443".to_owned() },
            policies: vec![Policy { glob: "Daily/**".to_owned(), overlap: Overlap::Both }],
        }
    }

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("config.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let local = Config { mode: Mode::Local, policies: vec![], ..sample() };
        for config in [sample(), local] {
            config.create(folder.path()).unwrap();
            assert_eq!(Config::read(folder.path()).unwrap(), config);
        }
    }

    #[test]
    fn a_folder_without_the_file_is_not_a_vault() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Config::read(folder.path()), Err(ConfigError::NotAVault(_))));
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        let good = sample().render();
        let check = |text: &str, line: usize, reason: &str| {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(&format!("config.toml, line {line}: ")), "{error}");
            assert!(error.contains(reason), "{error}");
        };
        check(&good.replace("vault =", "valut ="), 4, "valut");
        check(&good.replace("remote", "remoat"), 6, "`local` or `remote`");
        check(&good.replace("https://", "ftp://"), 7, "http(s)://");
        check(&good.replace("0707", "070"), 5, "32 hexadecimal");
        check(&good.replace("both", "most"), 11, "most");
        check(&good.replace("Daily/**", "Daily/["), 9, "Daily/**");
        check("vault = \"x", 1, "");
    }

    #[test]
    fn a_newer_format_is_told_even_when_the_rest_is_unknown() {
        let newer = "format = 2\nwhatever = true\n";
        let error = Config::parse(newer, Path::new("c")).unwrap_err();
        assert!(matches!(error, ConfigError::TooNew { found: 2, .. }), "{error}");
    }

    #[test]
    fn a_change_keeps_every_byte_it_is_not_about() {
        let folder = tempfile::tempdir().unwrap();
        sample().create(folder.path()).unwrap();
        let path = path_of(folder.path());
        let text = fs::read_to_string(&path).unwrap();
        let text = text.replace("vault =", "# mine\nvault =") + "# the end\n";
        fs::write(&path, &text).unwrap();

        let server = Change::Server("http://10.0.0.1:4100".to_owned());
        let config = change(folder.path(), &server).unwrap();
        assert_eq!(config.mode, Mode::Remote { server: "http://10.0.0.1:4100".to_owned() });
        let expected = text.replace("https://example.org:8443", "http://10.0.0.1:4100");
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);

        let png = Policy { glob: "*.png".to_owned(), overlap: Overlap::Copy };
        change(folder.path(), &Change::Policy(png)).unwrap();
        let block = "\n[[policies]]\nglob = \"*.png\"\noverlap = \"copy\"\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), expected.clone() + block);

        let config = change(folder.path(), &Change::NoPolicy("*.png".to_owned())).unwrap();
        assert_eq!(config.policies, sample().policies);
        let daily = Policy { glob: "Daily/**".to_owned(), overlap: Overlap::Lww };
        let config = change(folder.path(), &Change::Policy(daily.clone())).unwrap();
        assert_eq!(config.policies, [daily]);
    }

    #[test]
    fn a_local_vault_gets_a_server() {
        let folder = tempfile::tempdir().unwrap();
        Config { mode: Mode::Local, ..sample() }.create(folder.path()).unwrap();
        let server = Change::Server("http://10.0.0.1".to_owned());
        let config = change(folder.path(), &server).unwrap();
        assert_eq!(config.mode, Mode::Remote { server: "http://10.0.0.1".to_owned() });
    }

    #[test]
    fn a_change_that_would_break_the_file_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        sample().create(folder.path()).unwrap();
        let before = fs::read_to_string(path_of(folder.path())).unwrap();
        let bad = Change::Server("nowhere".to_owned());
        assert!(matches!(change(folder.path(), &bad), Err(ConfigError::Wrong { .. })));
        assert_eq!(fs::read_to_string(path_of(folder.path())).unwrap(), before);
    }

    #[test]
    fn servers_are_an_origin_and_nothing_more() {
        assert_eq!(parse_server("HTTP://Host:80/").as_deref(), Some("http://host:80"));
        for bad in ["host", "http://", "http://a/b", "http://u@h", "file://x", "http://a b"] {
            assert_eq!(parse_server(bad), None, "{bad}");
        }
    }
}
