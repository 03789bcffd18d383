//! "Did you mean": names of notes and vaults that somebody who typed another one may have meant.

use crate::output::plain;

/// Most names that are offered.
const OFFERED_MAX: usize = 3;
/// Least similarity (Jaro-Winkler, 0 to 1) of a name that is offered: one letter off in a short
/// name is above it, another word of the same length below.
const LEAST: f64 = 0.88;

/// Those of `known` that are most like `asked`, best first: the same file elsewhere, another
/// spelling, a missing `.md`.
pub fn resembling<'n>(asked: &str, known: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    let asked = plainest(asked);
    let mut found: Vec<(f64, &str)> = known
        .map(|name| (likeness(&asked, &plainest(name)), name))
        .filter(|(likeness, _)| *likeness >= LEAST)
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    found.dedup_by_key(|(_, name)| *name);
    found.truncate(OFFERED_MAX);
    found.into_iter().map(|(_, name)| name).collect()
}

/// The question, for names that were found; `None` for none.
pub fn did_you_mean(found: &[&str]) -> Option<String> {
    let quoted: Vec<String> = found.iter().map(|name| format!("'{}'", plain(name))).collect();
    (!quoted.is_empty()).then(|| format!("did you mean {}?", quoted.join(" or ")))
}

fn plainest(path: &str) -> String {
    let path = path.to_lowercase();
    path.strip_suffix(".md").unwrap_or(&path).to_owned()
}

fn likeness(asked: &str, name: &str) -> f64 {
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    // Where it lies only decides between those that are called alike.
    let called = strsim::jaro_winkler(&last(asked), &last(name));
    0.99 * called + 0.01 * strsim::jaro_winkler(asked, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(asked: &str) -> Vec<&'static str> {
        let known = ["Daily/2026-01-02.md", "Recipes/Bread.md", "ideas.md", "Ideas/one.md"];
        resembling(asked, known.into_iter())
    }

    #[test]
    fn a_name_that_is_nearly_right_is_offered_and_another_is_not() {
        assert_eq!(offered("Bread.md"), ["Recipes/Bread.md"]);
        assert_eq!(offered("recipes/bread"), ["Recipes/Bread.md"]);
        assert_eq!(offered("Recipes/Braed.md"), ["Recipes/Bread.md"]);
        assert_eq!(offered("idea.md"), ["ideas.md"]);
        assert_eq!(offered("zebra.md"), [""; 0]);
    }
}
