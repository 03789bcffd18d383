//! A unified diff of two texts, as `diff -u` prints it; pure.

use std::fmt::Write;
use std::ops::Range;

use crucible_core::lines::lines;
use crucible_core::text_diff::{Change, diff_lines};

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// The difference between two texts for people to read; empty when they are equal.
pub fn unified_diff(before: &str, after: &str, names: (&str, &str)) -> String {
    let old: Vec<&str> = lines(before).collect();
    let new: Vec<&str> = lines(after).collect();
    let changes = diff_lines(before, after);
    let mut out = String::new();
    if !changes.is_empty() {
        write(&mut out, format_args!("--- {}\n+++ {}\n", names.0, names.1));
    }
    for group in groups(&changes) {
        hunk(&mut out, &old, &new, &changes[group]);
    }
    out
}

/// Changes whose contexts touch, together.
fn groups(changes: &[Change]) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (at, change) in changes.iter().enumerate() {
        match groups.last_mut() {
            Some(last) if change.before.start - changes[last.end - 1].before.end <= 2 * CONTEXT => {
                last.end = at + 1;
            }
            _ => groups.push(at..at + 1),
        }
    }
    groups
}

fn hunk(out: &mut String, old: &[&str], new: &[&str], changes: &[Change]) {
    let (Some(first), Some(last)) = (changes.first(), changes.last()) else {
        return;
    };
    let lead = first.before.start.min(CONTEXT);
    let tail = (old.len() - last.before.end).min(CONTEXT);
    let from = first.before.start - lead..last.before.end + tail;
    let to = first.after.start - lead..last.after.end + tail;
    write(out, format_args!("@@ -{} +{} @@\n", span(&from), span(&to)));
    let mut at = from.start;
    for change in changes {
        print(out, ' ', &old[at..change.before.start]);
        print(out, '-', &old[change.before.clone()]);
        print(out, '+', &new[change.after.clone()]);
        at = change.before.end;
    }
    print(out, ' ', &old[at..from.end]);
}

/// `first line,count`; an empty range names the line before it.
fn span(range: &Range<usize>) -> String {
    match range.len() {
        0 => format!("{},0", range.start),
        1 => format!("{}", range.start + 1),
        count => format!("{},{count}", range.start + 1),
    }
}

fn print(out: &mut String, sign: char, lines: &[&str]) {
    for line in lines {
        out.push(sign);
        out.push_str(line);
        if !line.ends_with('\n') {
            out.push_str("\n\\ No newline at end of file\n");
        }
    }
}

fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: &str, after: &str, expected: &str) {
        assert_eq!(unified_diff(before, after, ("a", "b")), expected);
    }

    #[test]
    fn equal_texts_have_no_difference() {
        check("x\ny\n", "x\ny\n", "");
    }

    #[test]
    fn a_changed_line_stands_in_its_context() {
        let before = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let after = "1\n2\n3\n4\nfive\n6\n7\n8\n9\n";
        let diff = "--- a\n+++ b\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n";
        check(before, after, diff);
    }

    #[test]
    fn far_changes_are_hunks_of_their_own() {
        let before: String = (1..=20).map(|n| format!("{n}\n")).collect();
        let after = before.replace("2\n3\n", "3\n").replace("19\n", "19\nnew\n");
        let diff = unified_diff(&before, &after, ("a", "b"));
        assert_eq!(diff.matches("@@ -").count(), 2, "{diff}");
        assert!(diff.contains("\n@@ -17,4 +16,5 @@\n 17\n 18\n 19\n+new\n 20\n"), "{diff}");
    }

    #[test]
    fn a_missing_last_newline_is_said() {
        let note = "\\ No newline at end of file\n";
        check("x", "x\n", &format!("--- a\n+++ b\n@@ -1 +1 @@\n-x\n{note}+x\n"));
    }

    #[test]
    fn a_new_text_begins_at_line_nought() {
        check("", "x\n", "--- a\n+++ b\n@@ -0,0 +1 @@\n+x\n");
    }
}
