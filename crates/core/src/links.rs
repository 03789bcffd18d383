//! Links from one note to another: where they stand in a text, and which note they mean.
//!
//! Wiki links are `[[Name]]`, `[[Name|shown]]`, `[[folder/Name#Heading]]`; Markdown links count
//! when they lead to a `.md` file. What stands in code is no link.
//!
//! Invariant: [`Link::key`] is equal to [`name_key`] of every path that the link could mean, so
//! that an index finds one from the other.

use crate::vault_path::{FoldKey, VaultPath};

/// How a link names its note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Style {
    /// By name, or by the end of its path.
    Wiki,
    /// By path, from the folder of the note it stands in.
    Markdown,
}

/// A link in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The line it stands in, from 1.
    pub line: usize,
    /// How it names its note.
    pub style: Style,
    /// What it names, without heading and shown text; percent signs are decoded.
    pub target: String,
}

impl Link {
    /// What the names of the notes it could mean have in common.
    pub fn key(&self) -> FoldKey {
        let name = self.target.rsplit('/').next().unwrap_or_default();
        FoldKey::new(without_md(name))
    }
}

/// The key of a note's name, see [`Link::key`].
pub fn name_key(path: &VaultPath) -> FoldKey {
    FoldKey::new(title(path))
}

/// A note's name as people say it: without folders and `.md`.
pub fn title(path: &VaultPath) -> &str {
    without_md(path.name())
}

fn without_md(name: &str) -> &str {
    match name.len().checked_sub(3).and_then(|at| name.split_at_checked(at)) {
        Some((stem, extension)) if !stem.is_empty() && extension.eq_ignore_ascii_case(".md") => {
            stem
        }
        _ => name,
    }
}

/// The links of a text in order.
pub fn links(text: &str) -> Vec<Link> {
    let mut found = Vec::new();
    let mut fence: Option<(char, usize)> = None;
    for (line, number) in text.lines().zip(1..) {
        let mark = fence_of(line);
        match (fence, mark) {
            (None, Some((sign, count, _))) => fence = Some((sign, count)),
            (Some((open, least)), Some((sign, count, true))) if open == sign && count >= least => {
                fence = None;
            }
            (Some(_), _) => {}
            (None, None) if line.contains("](") || line.contains("[[") => {
                links_of_line(&without_code(line), number, &mut found);
            }
            (None, None) => {}
        }
    }
    found
}

/// The sign of a fence, how many of them, and whether the line could close one.
fn fence_of(line: &str) -> Option<(char, usize, bool)> {
    let line = line.trim_start();
    let sign = line.chars().next().filter(|sign| matches!(sign, '`' | '~'))?;
    let rest = line.trim_start_matches(sign);
    let count = line.len() - rest.len();
    // More of the sign behind it is code within one line.
    (count >= 3 && !(sign == '`' && rest.contains('`'))).then_some((
        sign,
        count,
        rest.trim().is_empty(),
    ))
}

/// The line with blanks in place of code.
fn without_code(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('`') {
        kept.push_str(&rest[..at]);
        rest = &rest[at..];
        let count = rest.len() - rest.trim_start_matches('`').len();
        let (ticks, behind) = rest.split_at(count);
        match closing(behind, count) {
            Some(end) => {
                kept.push(' ');
                rest = &behind[end..];
            }
            None => {
                kept.push_str(ticks);
                rest = behind;
            }
        }
    }
    kept.push_str(rest);
    kept
}

/// Where code that was opened by `count` backticks is over.
fn closing(text: &str, count: usize) -> Option<usize> {
    let mut at = 0;
    while let Some(next) = text[at..].find('`') {
        at += next;
        let run = text[at..].len() - text[at..].trim_start_matches('`').len();
        at += run;
        if run == count {
            return Some(at);
        }
    }
    None
}

fn links_of_line(line: &str, number: usize, found: &mut Vec<Link>) {
    let mut rest = line;
    while let Some(at) = rest.find(['[', ']']) {
        let is_embed = rest[..at].ends_with('!');
        rest = &rest[at..];
        if let Some(inside) = rest.strip_prefix("[[") {
            let Some(end) = inside.find("]]") else { return };
            if !inside[..end].contains('[') {
                found.extend(wiki(&inside[..end], is_embed, number));
                rest = &inside[end + 2..];
                continue;
            }
        } else if let Some(inside) = rest.strip_prefix("](")
            && let Some(target) = markdown(inside)
        {
            found.push(Link { line: number, style: Style::Markdown, target });
        }
        rest = &rest[1..];
    }
}

fn wiki(inside: &str, is_embed: bool, line: usize) -> Option<Link> {
    let target = inside.split(['|', '#', '^']).next().unwrap_or_default();
    // In a table the bar is written with a backslash before it.
    let target = target.trim_end_matches('\\').trim().trim_matches('/');
    let extension = target.rsplit_once('.').map(|(_, extension)| extension);
    let is_file = is_embed
        && extension.is_some_and(|extension| {
            extension.len() <= 5
                && !extension.eq_ignore_ascii_case("md")
                && extension.bytes().all(|b| b.is_ascii_alphanumeric())
        });
    let is_link = !target.is_empty() && !is_file;
    is_link.then(|| Link { line, style: Style::Wiki, target: target.to_owned() })
}

/// The `.md` file that the destination of a Markdown link names.
fn markdown(inside: &str) -> Option<String> {
    let destination = match inside.strip_prefix('<') {
        Some(inside) => inside.split_once('>')?.0,
        None => {
            let mut depth = 0;
            let is_end = |c: char| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                depth < 0 || c == ' '
            };
            &inside[..inside.find(is_end)?]
        }
    };
    let path = destination.split(['#', '?']).next().unwrap_or_default();
    let before_slash = path.split('/').next().unwrap_or_default();
    if before_slash.contains(':') {
        return None;
    }
    let path = decoded(path);
    let name = path.rsplit('/').next().unwrap_or_default();
    (without_md(name).len() < name.len()).then_some(path)
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// Which of `candidates` a link in the note at `source` means; they are notes with its key.
pub fn resolve<'c>(
    source: &VaultPath,
    style: Style,
    target: &str,
    candidates: &'c [VaultPath],
) -> Option<&'c VaultPath> {
    let fold = |path: &str| FoldKey::new(without_md(path));
    let is_relative = target.starts_with("./") || target.starts_with("../");
    if style == Style::Markdown || is_relative {
        let exactly = |path: &str| {
            let wanted = fold(path);
            candidates.iter().find(|candidate| fold(candidate.as_str()) == wanted)
        };
        let from_here = joined(source, target).and_then(|path| exactly(&path));
        return from_here.or_else(|| exactly(target.trim_start_matches('/')));
    }
    let wanted = fold(target);
    let ending = format!("/{}", wanted.as_str());
    let fits = candidates.iter().filter_map(|candidate| {
        let key = fold(candidate.as_str());
        let is_whole = key == wanted;
        (is_whole || key.as_str().ends_with(&ending)).then_some((is_whole, candidate))
    });
    let best = fits.min_by_key(|(is_whole, candidate)| {
        let is_beside = candidate.parent() == source.parent();
        (!is_whole, !is_beside, candidate.components().count(), *candidate)
    });
    best.map(|(_, candidate)| candidate)
}

/// `target` as seen from the folder of `source`; `None` when it leads out of the vault.
fn joined(source: &VaultPath, target: &str) -> Option<String> {
    let folder = source.parent();
    let mut parts: Vec<&str> = match &folder {
        Some(folder) if !target.starts_with('/') => folder.components().collect(),
        _ => Vec::new(),
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(text: &str) -> Vec<(usize, String)> {
        links(text).into_iter().map(|link| (link.line, link.target)).collect()
    }

    fn at(path: &str) -> VaultPath {
        VaultPath::new(path).unwrap()
    }

    #[test]
    fn links_are_found_where_people_write_them() {
        let text = "See [[Plan]] and [[a/Plan#Next|the plan]].\n\
                    | [[In table\\|x]] | ![[Embedded]] ![[picture.png]] |\n\
                    [x](b/c%20d.md#h) [y](<e f.md> \"t\") [z](https://x.org/a.md) [p](p.png)\n\
                    [[#Heading]] [[ ]] [a [[Inner]] b](g(1).md) [[v1.2 plan]]\n";
        let expected = [
            (1, "Plan"),
            (1, "a/Plan"),
            (2, "In table"),
            (2, "Embedded"),
            (3, "b/c d.md"),
            (3, "e f.md"),
            (4, "Inner"),
            (4, "g(1).md"),
            (4, "v1.2 plan"),
        ];
        assert_eq!(targets(text), expected.map(|(line, target)| (line, target.to_owned())));
    }

    #[test]
    fn code_holds_no_links_and_broken_ones_do_no_harm() {
        let text = "`[[a]]` ``x ` [[b]]`` [[c]] `open [[d]]\n\
                    ```md\n[[e]]\n~~~\n```` \n[[f]]\n~~~\n[[g]]\n~~~\n[[h\n[[i]\n[j](k.md\n[[[l]]]\n";
        let expected = [(1, "c"), (1, "d"), (6, "f"), (13, "l")];
        assert_eq!(targets(text), expected.map(|(line, target)| (line, target.to_owned())));
    }

    #[test]
    fn a_name_means_the_nearest_note_and_a_path_exactly_one() {
        let notes = [at("Plan.md"), at("a/plan.md"), at("a/b/PLAN.md")];
        let wiki = |source: &str, target: &str| {
            resolve(&at(source), Style::Wiki, target, &notes).map(VaultPath::as_str)
        };
        assert_eq!(wiki("x.md", "plan"), Some("Plan.md"));
        assert_eq!(wiki("a/x.md", "a/plan"), Some("a/plan.md"));
        assert_eq!(wiki("x.md", "b/Plan.md"), Some("a/b/PLAN.md"));
        assert_eq!(wiki("x.md", "c/Plan"), None);
        assert_eq!(wiki("a/b/x.md", "../Plan"), Some("a/plan.md"));
        let path = |source: &str, target: &str| {
            resolve(&at(source), Style::Markdown, target, &notes).map(VaultPath::as_str)
        };
        assert_eq!(path("a/x.md", "plan.md"), Some("a/plan.md"));
        assert_eq!(path("a/x.md", "../plan.md"), Some("Plan.md"));
        assert_eq!(path("a/x.md", "/plan.md"), Some("Plan.md"));
        assert_eq!(path("a/x.md", "a/b/plan.md"), Some("a/b/PLAN.md"));
        assert_eq!(path("a/x.md", "../../plan.md"), None);
    }

    #[test]
    fn a_link_has_the_key_of_the_note_it_means() {
        let link = &links("[[Ordner/GRÖSSE]]")[0];
        assert_eq!(link.key(), name_key(&at("ordner/größe.md")));
        let link = &links("[x](../Plan.md)")[0];
        assert_eq!(link.key(), name_key(&at("plan.MD")));
    }
}
