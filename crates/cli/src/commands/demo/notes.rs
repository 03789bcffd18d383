//! Which notes of any folder the demo is shown on, and how they are edited. Pure.

/// What the demo adds where a folder has no note of a kind.
pub const SPARE: &[(&str, &str)] = &[
    (
        "Demo/Harbour.md",
        "# Harbour\n\nThe boat lies at the second pier. It rained the whole night. The harbour \
         master wants the fee before Friday.\n",
    ),
    ("Demo/Weather.md", "# Weather\n\nThe wind will turn to the north this evening.\n"),
    ("Demo/Tide table.md", "# Tides\n\nHigh water is at six and at half past six.\n"),
    ("Demo/Old list.md", "# Old list\n\n- rope\n- varnish\n"),
    ("Demo/Log.md", "---\ntitle: Log\ntags: [demo]\n---\n\n# Log\n\nNothing to report.\n"),
];

/// Where two notes' worth of sentences end: byte offsets of their full stops.
fn stops(paragraph: &str) -> Vec<usize> {
    let bytes = paragraph.as_bytes();
    let ends = |at: usize| {
        let after = bytes.get(at + 1).is_none_or(u8::is_ascii_whitespace);
        let before = at > 0 && bytes[at - 1].is_ascii_lowercase();
        bytes[at] == b'.' && after && before
    };
    (0..bytes.len()).filter(|at| ends(*at)).collect()
}

/// Plain paragraphs outside of the head, code, lists, tables and quotes: where they begin.
fn paragraphs(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut fenced = false;
    let in_head = text.starts_with("---\n");
    let mut head = in_head;
    for block in text.split_inclusive("\n\n") {
        let begin = at;
        at += block.len();
        if head {
            head = !block.trim_end().ends_with("---");
            continue;
        }
        let fences = block.lines().filter(|line| line.trim_start().starts_with("```")).count();
        let plain = !fenced
            && fences == 0
            && block
                .lines()
                .all(|line| line.starts_with(|c: char| c.is_alphabetic()) || line.is_empty());
        fenced ^= fences % 2 == 1;
        if plain && !block.trim().is_empty() && !block.contains("](") {
            found.push((begin, block));
        }
    }
    found
}

/// The first and the last full stop of one paragraph with several sentences.
pub fn two_sentences(text: &str) -> Option<(usize, usize)> {
    let of = |(begin, paragraph): (usize, &str)| {
        let stops = stops(paragraph);
        let (first, last) = (*stops.first()?, *stops.last()?);
        (stops.len() >= 3 || (stops.len() == 2 && last - first > 40))
            .then_some((begin + first, begin + last))
    };
    paragraphs(text).into_iter().find_map(of)
}

/// The last word of a sentence, to be replaced: where it begins and ends.
pub fn last_word(text: &str) -> Option<(usize, usize)> {
    let of = |(begin, paragraph): (usize, &str)| {
        let stop = *stops(paragraph).first()?;
        let word = paragraph[..stop].rfind(|c: char| !c.is_ascii_lowercase())? + 1;
        (stop - word >= 2 && word > 10).then_some((begin + word, begin + stop))
    };
    paragraphs(text).into_iter().find_map(of)
}

/// Puts words in before a full stop.
pub fn before(text: &str, stop: usize, words: &str) -> String {
    format!("{}{words}{}", &text[..stop], &text[stop..])
}

/// Puts another word in the place of one.
pub fn instead(text: &str, (begin, end): (usize, usize), word: &str) -> String {
    format!("{}{word}{}", &text[..begin], &text[end..])
}

/// Whether a note has a head with tags on one line, which the demo knows how to edit.
pub fn has_tags(text: &str) -> bool {
    head(text).is_some_and(|head| head.lines().any(is_tag_line))
}

fn head(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("---\n")?;
    rest.find("\n---\n").map(|end| &rest[..end + 1])
}

fn is_tag_line(line: &str) -> bool {
    line.starts_with("tags: [") && line.ends_with(']') && line.len() > "tags: []".len()
}

/// Adds a tag and a key to the head.
pub fn with_tag_and_key(text: &str, tag: &str, key: &str) -> String {
    let Some(head) = head(text) else { return text.to_owned() };
    let mut edited = String::new();
    for line in head.lines() {
        match line.strip_suffix(']') {
            Some(open) if is_tag_line(line) => edited.push_str(&format!("{open}, {tag}]\n")),
            _ => edited.push_str(&format!("{line}\n")),
        }
    }
    text.replacen(head, &format!("{edited}{key}\n"), 1)
}

/// The sentence or line around a place, for showing.
pub fn line_around(text: &str, at: usize) -> &str {
    let begin = text[..at].rfind("\n\n").map_or(0, |at| at + 2);
    let end = text[at..].find("\n\n").map_or(text.len(), |len| at + len);
    text[begin..end].trim()
}

/// Which note shows what.
#[derive(Debug, PartialEq, Eq)]
pub struct Picks {
    /// Different sentences of one paragraph.
    pub sentences: String,
    /// The same word.
    pub word: String,
    /// Renamed while edited.
    pub renamed: String,
    /// Deleted while edited.
    pub deleted: String,
    /// Head and tags.
    pub head: String,
}

impl Picks {
    /// Picks from notes in the order of their paths; `None` for a kind there is none of.
    pub fn from(notes: &[(String, String)]) -> [Option<String>; 5] {
        let mut taken: Vec<&str> = Vec::new();
        let mut pick = |fits: &dyn Fn(&str) -> bool| -> Option<String> {
            let found = notes
                .iter()
                .filter(|(path, text)| text.len() < 20_000 && !taken.contains(&path.as_str()))
                .find(|(_, text)| fits(text))?;
            taken.push(&found.0);
            Some(found.0.clone())
        };
        let sentences = pick(&|text| two_sentences(text).is_some());
        let word = pick(&|text| last_word(text).is_some());
        let head = pick(&has_tags);
        let renamed = pick(&|text| last_word(text).is_some());
        let deleted = pick(&|text| !text.trim().is_empty());
        [sentences, word, renamed, deleted, head]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_is_found_behind_heads_lists_and_code() {
        let text = "---\ntitle: A.\n---\n\n# A b.\n\n- one two. three.\n\n```\ncode it. x.\n\nmore. z.\n```\n\n\
                    The first one. The second one is longer. The last one.\n";
        let (first, last) = two_sentences(text).unwrap();
        assert!(text[..first].ends_with("The first one"), "{}", &text[..first]);
        assert!(text[..last].ends_with("The last one"), "{}", &text[..last]);
        let word = last_word("The wind will turn north.\n").unwrap();
        assert_eq!(
            instead("The wind will turn north.\n", word, "south"),
            "The wind will turn south.\n"
        );
    }

    #[test]
    fn heads_get_a_tag_and_a_key() {
        let text = "---\ntitle: T\ntags: [a, b]\n---\nBody\n";
        assert!(has_tags(text));
        assert_eq!(
            with_tag_and_key(text, "c", "mood: good"),
            "---\ntitle: T\ntags: [a, b, c]\nmood: good\n---\nBody\n"
        );
        assert!(!has_tags("---\ntags: []\n---\n") && !has_tags("tags: [a]\n"));
    }

    #[test]
    fn the_spare_notes_show_everything_a_folder_may_lack() {
        let notes: Vec<(String, String)> =
            SPARE.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        assert!(Picks::from(&notes).iter().all(Option::is_some), "{:?}", Picks::from(&notes));
    }
}
