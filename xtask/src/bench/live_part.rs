//! The last part of docs/bench.md, which `cargo xtask bench-live` writes: either task leaves the
//! other's alone.

/// How the part begins.
pub const HEADING: &str = "## Live sessions\n";

/// A page with what is before the part anew.
pub fn before_anew(page: &str, before: &str) -> String {
    match place(page) {
        Some(place) => format!("{}\n\n{}", before.trim_end(), &page[place..]),
        None => before.to_owned(),
    }
}

/// A page with the part anew.
pub fn part_anew(page: &str, part: &str) -> String {
    let before = &page[..place(page).unwrap_or(page.len())];
    format!("{}\n\n{part}", before.trim_end())
}

fn place(page: &str) -> Option<usize> {
    if page.starts_with(HEADING) {
        return Some(0);
    }
    page.find(&format!("\n{HEADING}")).map(|place| place + 1)
}

#[cfg(test)]
mod tests {
    use super::{before_anew, part_anew};

    #[test]
    fn either_task_leaves_the_others_part_alone() {
        let page = part_anew("# A\n\nold\n", "## Live sessions\n\none\n");
        assert_eq!(page, "# A\n\nold\n\n## Live sessions\n\none\n");
        let page = before_anew(&page, "# A\n\nnew\n");
        assert_eq!(page, "# A\n\nnew\n\n## Live sessions\n\none\n");
        let page = part_anew(&page, "## Live sessions\n\ntwo\n");
        assert_eq!(page, "# A\n\nnew\n\n## Live sessions\n\ntwo\n");
    }

    #[test]
    fn a_page_without_the_part_is_replaced() {
        assert_eq!(before_anew("# A\n\nold\n", "# A\n\nnew\n"), "# A\n\nnew\n");
    }
}
