//! Under which name a path can exist here: escaped, shortened, or moved aside. Pure.
//!
//! Laws, each a property test:
//! - *total*: every note gets a place, whatever the paths;
//! - *injective*: no two places are one name on this disk, and none is a folder of another;
//! - *unchanged* where the disk can hold it and nobody else has a better claim;
//! - *symmetric*: the places depend on the set of claims alone;
//! - *local*: a claim that comes or goes changes only the places at [`affected`] names (unless it
//!   has the very name, hash and all, that another was shortened to).
//!
//! **Escapes** (only under the rules of Windows): a character the disk refuses becomes `%` and its
//! code in two upper-case hex digits: `a:b.md` is `a%3Ab.md`, `CON.md` is `%43ON.md`, a final dot
//! or space is `%2E` or `%20`. A `%` that would read as such an escape is itself `%25`, any other
//! stays. **Shortened**: a name beyond the disk's limit keeps its beginning and its extension, with
//! `~` and ten digits of its hash between; only the record of the placement leads back.
//! **Moved aside**: of several notes that claim one name the largest rank keeps it, and a folder
//! wins over any file; the others are `name (conflict 1a2b3c).md`, by their note's id.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crucible_core::hash::ContentHash;
use crucible_core::id::{NoteId, VersionId};
use crucible_core::limits::PATH_BYTES_MAX;
use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::{FoldKey, VaultPath};

use crate::fs::{Facts, file_name, join, parent};

/// Digits of a note's id in the name of a file moved aside, and by how many more it grows.
const DIGITS: usize = 6;
const CONFLICT: &str = " (conflict ";
/// Longest extension that a shortened name keeps, with its dot.
const EXTENSION_BYTES_MAX: usize = 8;
/// A name that fits anywhere: `~`, ten digits, an extension.
const SHORT_BYTES: usize = 20;

/// Equal for paths that are one on this disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskKey(String);

impl DiskKey {
    /// The key of a path on disk. Folds more than some disks do, never less.
    pub fn of(disk_path: &str, facts: &Facts) -> Self {
        if facts.folds_case || facts.normalises {
            return Self(FoldKey::new(disk_path).as_str().to_owned());
        }
        Self(disk_path.to_owned())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What decides between notes that claim one path: the stamp and id of their version.
pub type Rank = (Stamp, VersionId);

/// A note that wants to be at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Which note.
    pub note: NoteId,
    /// By which right.
    pub rank: Rank,
    /// Where.
    pub path: VaultPath,
}

/// Why a note is where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// It is where it wants to be.
    AsIs,
    /// The disk cannot hold the name as it is.
    Escaped,
    /// Another note, or a folder, has the name.
    Conflict,
}

/// Where a note is put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which note.
    pub note: NoteId,
    /// Its path on this disk.
    pub path: VaultPath,
    /// Why there.
    pub why: Why,
}

/// All claims of a vault, by where they lead on this disk.
pub trait Claims {
    /// The claims whose [`disk_path`] has this key, in any order.
    fn at(&self, key: &DiskKey) -> Vec<Claim>;

    /// Whether some claim's [`disk_path`] leads through a folder of this key.
    fn is_folder(&self, key: &DiskKey) -> bool;
}

/// Places all notes.
pub fn place_all(claims: impl IntoIterator<Item = Claim>, facts: &Facts) -> Vec<Place> {
    let all = ClaimTable::new(claims, facts);
    let mut places: Vec<_> = all.by_key.keys().flat_map(|key| place_at(&all, key, facts)).collect();
    places.sort_by_key(|place| place.note);
    places
}

/// Places the notes that claim one name.
pub fn place_at(claims: &impl Claims, key: &DiskKey, facts: &Facts) -> Vec<Place> {
    let mut group = claims.at(key);
    group.sort_by_key(|claim| std::cmp::Reverse((claim.rank, claim.note)));
    let mut places = Vec::with_capacity(group.len());
    let mut used = HashSet::new();
    let mut is_free = !claims.is_folder(key);
    for claim in group {
        let wanted = disk_path(&claim.path, facts);
        if std::mem::take(&mut is_free) {
            let why = if wanted == claim.path { Why::AsIs } else { Why::Escaped };
            places.push(Place { note: claim.note, path: wanted, why });
            continue;
        }
        let path = aside_paths(&wanted, claim.note, facts)
            .find(|path| {
                let key = DiskKey::of(path.as_str(), facts);
                claims.at(&key).is_empty() && !claims.is_folder(&key) && used.insert(key)
            })
            .expect("the names are endless, the claims are not");
        places.push(Place { note: claim.note, path, why: Why::Conflict });
    }
    places
}

/// The names at which places may change when a claim to `path` comes, goes or changes its rank.
pub fn affected(path: &VaultPath, facts: &Facts) -> BTreeSet<DiskKey> {
    let wanted = disk_path(path, facts);
    let mut keys = BTreeSet::new();
    let mut prefix = wanted.as_str();
    while !prefix.is_empty() {
        let key = DiskKey::of(prefix, facts);
        // Who was moved aside from another name may have wanted to be here.
        if let Some(name) = conflict_of(file_name(key.as_str())) {
            keys.insert(DiskKey::of(&join(parent(key.as_str()), &name), facts));
        }
        keys.insert(key);
        prefix = parent(prefix);
    }
    keys
}

/// The path on this disk that a note at `path` wants: `path` itself where the disk can hold it.
pub fn disk_path(path: &VaultPath, facts: &Facts) -> VaultPath {
    if !facts.windows_names && !facts.normalises && facts.name_bytes_max >= 255 {
        return path.clone();
    }
    let names: Vec<_> = path.components().map(|name| fit(&escape(name, facts), facts)).collect();
    from_names(names)
}

/// The path of the model that a file found at `disk_path` has, unless a placement says otherwise.
pub fn model_path(disk_path: &VaultPath, facts: &Facts) -> VaultPath {
    if !facts.windows_names || !disk_path.as_str().contains('%') {
        return disk_path.clone();
    }
    let names: Vec<_> = disk_path.components().map(unescape).collect();
    // What would not be a path of the model was not escaped by us.
    VaultPath::new(&names.join("/")).unwrap_or_else(|_| disk_path.clone())
}

/// The name a file was moved aside from, if its name says that it was.
pub fn conflict_of(name: &str) -> Option<String> {
    let (stem, rest) = name.rsplit_once(CONFLICT)?;
    let (id, extension) = rest.split_once(')')?;
    let digits = id.split_once(' ').map_or(id, |(digits, _)| digits);
    let is_ours = digits.len() >= DIGITS
        && digits.len() <= 2 * NoteId::LEN
        && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (is_ours && !stem.is_empty()).then(|| format!("{stem}{extension}"))
}

/// Claims in memory.
#[derive(Debug, Default)]
pub struct ClaimTable {
    by_key: BTreeMap<DiskKey, Vec<Claim>>,
    folders: HashMap<DiskKey, usize>,
}

impl ClaimTable {
    /// Files claims by where they lead.
    pub fn new(claims: impl IntoIterator<Item = Claim>, facts: &Facts) -> Self {
        let mut table = Self::default();
        for claim in claims {
            table.insert(claim, facts);
        }
        table
    }

    /// Adds a claim; a note has at most one at a time.
    pub fn insert(&mut self, claim: Claim, facts: &Facts) {
        let wanted = disk_path(&claim.path, facts);
        for folder in folders_of(wanted.as_str(), facts) {
            *self.folders.entry(folder).or_default() += 1;
        }
        self.by_key.entry(DiskKey::of(wanted.as_str(), facts)).or_default().push(claim);
    }

    /// Takes a note's claim to `path` back; one that is not there changes nothing.
    pub fn remove(&mut self, note: NoteId, path: &VaultPath, facts: &Facts) {
        let wanted = disk_path(path, facts);
        let key = DiskKey::of(wanted.as_str(), facts);
        let Some(claims) = self.by_key.get_mut(&key) else { return };
        let Some(index) = claims.iter().position(|claim| claim.note == note) else { return };
        claims.swap_remove(index);
        if claims.is_empty() {
            self.by_key.remove(&key);
        }
        for folder in folders_of(wanted.as_str(), facts) {
            if let Some(count) = self.folders.get_mut(&folder) {
                *count -= 1;
                if *count == 0 {
                    self.folders.remove(&folder);
                }
            }
        }
    }
}

impl Claims for ClaimTable {
    fn at(&self, key: &DiskKey) -> Vec<Claim> {
        self.by_key.get(key).cloned().unwrap_or_default()
    }

    fn is_folder(&self, key: &DiskKey) -> bool {
        self.folders.contains_key(key)
    }
}

fn folders_of<'a>(path: &'a str, facts: &'a Facts) -> impl Iterator<Item = DiskKey> + 'a {
    let above = |path: &&'a str| Some(parent(path)).filter(|dir| !dir.is_empty());
    std::iter::successors(above(&path), move |dir| above(dir)).map(|dir| DiskKey::of(dir, facts))
}

/// The names for a note that lost `wanted`, in order of preference; endless.
fn aside_paths<'a>(
    wanted: &'a VaultPath,
    note: NoteId,
    facts: &'a Facts,
) -> impl Iterator<Item = VaultPath> + 'a {
    let id = note.to_string();
    let (stem, extension) = split_extension(wanted.name());
    let longer = (DIGITS..id.len()).step_by(DIGITS).map(|digits| id[..digits].to_owned());
    let labels: Vec<_> = longer.chain([id.clone()]).collect();
    let numbered = (2_u64..).map(move |count| format!("{id} {count}"));
    labels.into_iter().chain(numbered).map(move |label| {
        let tail = format!("{CONFLICT}{label}){extension}");
        let room = facts.name_bytes_max.saturating_sub(tail.len());
        let stem = if fits(&format!("{stem}{tail}"), facts) {
            stem.to_owned()
        } else {
            shorten(stem, "", room.min(stem.len()))
        };
        let name = format!("{stem}{tail}");
        match wanted.with_name(&name) {
            Ok(path) => path,
            // No room in the path: every part of it gives way.
            Err(_) => {
                let folder = wanted.parent();
                let above = folder.iter().flat_map(VaultPath::components).map(to_short);
                from_names(
                    above.chain([format!("{}{tail}", shorten(stem.as_str(), "", 12))]).collect(),
                )
            }
        }
    })
}

/// Joins names that are each fit for the disk; where the path is too long, all become short.
fn from_names(names: Vec<String>) -> VaultPath {
    let path = names.join("/");
    if path.len() <= PATH_BYTES_MAX
        && let Ok(path) = VaultPath::new(&path)
    {
        return path;
    }
    let short: Vec<_> = names.iter().map(|name| to_short(name)).collect();
    VaultPath::new(&short.join("/")).expect("96 names of 20 bytes are a path, and `~…` is fine")
}

fn to_short(name: &str) -> String {
    if name.len() <= SHORT_BYTES {
        return name.to_owned();
    }
    let (_, extension) = split_extension(name);
    shorten(name, extension, SHORT_BYTES)
}

/// Escapes what the disk refuses in one name.
fn escape(name: &str, facts: &Facts) -> String {
    if !facts.windows_names {
        return name.to_owned();
    }
    let mut out = String::with_capacity(name.len() + 2);
    for (at, c) in name.char_indices() {
        let rest = &name[at..];
        let is_last = rest.len() == c.len_utf8();
        let refused = is_refused(c) || is_last && matches!(c, '.' | ' ');
        if refused || c == '%' && reads_as_escape(rest, at == 0).is_some() {
            out.push_str(&format!("%{:02X}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    if is_device(&out) {
        let first = out.remove(0);
        out.insert_str(0, &format!("%{:02X}", u32::from(first)));
    }
    out
}

fn unescape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let read = reads_as_escape(rest, rest.len() == name.len());
        out.push(read.unwrap_or(c));
        rest = &rest[if read.is_some() { 3 } else { c.len_utf8() }..];
    }
    out
}

/// The character that `rest`, which begins with `%`, is an escape of at this place. Letters, dots
/// and spaces are escaped at one place only and read as escapes only there.
fn reads_as_escape(rest: &str, is_first: bool) -> Option<char> {
    let code = rest.strip_prefix('%')?.get(..2)?;
    if !code.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b)) {
        return None;
    }
    let c = char::from(u8::from_str_radix(code, 16).ok()?);
    let is_last = rest.len() == 3;
    let known = c == '%'
        || is_refused(c)
        || is_last && matches!(c, '.' | ' ')
        || is_first && matches!(c, 'A' | 'C' | 'L' | 'N' | 'P' | 'a' | 'c' | 'l' | 'n' | 'p');
    known.then_some(c)
}

fn is_refused(c: char) -> bool {
    matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '\\')
}

/// Whether Windows takes a name for a device, whatever follows its first dot.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end_matches(' ');
    let upper = stem.to_ascii_uppercase();
    if matches!(upper.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$") {
        return true;
    }
    let digit = upper.strip_prefix("COM").or_else(|| upper.strip_prefix("LPT"));
    digit.is_some_and(|digit| {
        let mut chars = digit.chars();
        let one = chars.next().is_some_and(|c| c.is_ascii_digit() || "¹²³".contains(c));
        one && chars.next().is_none()
    })
}

fn fit(name: &str, facts: &Facts) -> String {
    if fits(name, facts) {
        return name.to_owned();
    }
    let (_, extension) = split_extension(name);
    // A third of the bytes: what is left fits even where each character is three units decomposed.
    let room = if facts.normalises { facts.name_bytes_max / 3 } else { facts.name_bytes_max };
    shorten(name, extension, room)
}

fn fits(name: &str, facts: &Facts) -> bool {
    use unicode_normalization::UnicodeNormalization;
    name.len() <= facts.name_bytes_max
        && (!facts.normalises
            || name.is_ascii()
            || name.nfd().map(char::len_utf16).sum::<usize>() <= facts.name_bytes_max)
}

/// The beginning of a name, ten digits of its hash, an extension: at most `room` bytes, or
/// [`SHORT_BYTES`] where that is less. A trailing dot or space cannot come about.
fn shorten(name: &str, extension: &str, room: usize) -> String {
    let extension = if extension.len() <= EXTENSION_BYTES_MAX { extension } else { "" };
    let tail = format!("~{}{extension}", ContentHash::of_blob(name.as_bytes()).short());
    let mut keep =
        room.saturating_sub(tail.len()).min(name.len() - extension.len().min(name.len()));
    while !name.is_char_boundary(keep) {
        keep -= 1;
    }
    format!("{}{tail}", &name[..keep])
}

/// A name before and from its last dot; a dot at the beginning is none.
fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 => name.split_at(dot),
        Some(_) | None => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: Facts = Facts { folds_case: true, windows_names: true, ..Facts::LINUX };

    #[test]
    fn names_that_windows_refuses_are_escaped_and_read_back() {
        let cases = [
            ("a.md", "a.md"),
            ("a:b.md", "a%3Ab.md"),
            ("a\\b?.md", "a%5Cb%3F.md"),
            ("CON", "%43ON"),
            ("aux.md", "%61ux.md"),
            ("com1.tar.md", "%63om1.tar.md"),
            ("nul .md", "%6Eul .md"),
            ("LPT\u{b9}", "%4CPT\u{b9}"),
            ("console.md", "console.md"),
            ("a.", "a%2E"),
            ("a ", "a%20"),
            ("...", "..%2E"),
            ("100%.md", "100%.md"),
            ("a%20b.md", "a%20b.md"),
            ("a%20", "a%2520"),
            ("a%3Ab.md", "a%253Ab.md"),
            ("a%3ab.md", "a%3ab.md"),
            ("%43ON", "%2543ON"),
            ("%25", "%2525"),
            ("dir:x/CON/a.md", "dir%3Ax/%43ON/a.md"),
        ];
        for (model, disk) in cases {
            let path = VaultPath::new(model).unwrap();
            let placed = disk_path(&path, &WINDOWS);
            assert_eq!(placed.as_str(), disk);
            assert_eq!(model_path(&placed, &WINDOWS), path, "{disk}");
            assert_eq!(disk_path(&path, &Facts::LINUX), path);
        }
    }

    #[test]
    fn the_name_a_file_was_moved_aside_from_can_be_read_off() {
        let cases = [
            ("a (conflict 1a2b3c).md", Some("a.md")),
            ("a (conflict 1a2b3c).tar.gz", Some("a.tar.gz")),
            ("a (conflict 1a2b3c) (conflict ffffff).md", Some("a (conflict 1a2b3c).md")),
            ("a (conflict 1a2b3c 2)", Some("a")),
            ("a (conflict 1A2B3C).md", None),
            ("a (conflict 12).md", None),
            (" (conflict 1a2b3c).md", None),
            ("a.md", None),
        ];
        for (name, from) in cases {
            assert_eq!(conflict_of(name).as_deref(), from, "{name}");
        }
    }
}
