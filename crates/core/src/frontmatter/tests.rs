use super::*;

fn check(head: &str, expected: &[(&str, &str, &str)]) {
    let text = format!("---\n{head}---\nbody\n");
    let (Frontmatter::Keys(read), body) = Frontmatter::of(&text) else {
        panic!("not understood: {head}");
    };
    let found: Vec<_> =
        read.entries.iter().map(|entry| (entry.key.as_str(), entry.lead, entry.text)).collect();
    assert_eq!(found, expected);
    assert_eq!(body, "body\n");
    assert_eq!(join(&read) + body, text);
}

fn join(head: &Head<'_>) -> String {
    let entries = head.entries.iter().flat_map(|entry| [entry.lead, entry.text]);
    [head.open].into_iter().chain(entries).chain([head.tail]).collect()
}

fn is_opaque(head: &str) {
    let text = format!("---\n{head}---\nbody\n");
    assert_eq!(Frontmatter::of(&text), (Frontmatter::Opaque, text.as_str()), "{head}");
}

#[test]
fn plain_keys_keep_their_bytes() {
    check(
        "title:  A  # why\nempty:\nurl: http://a/b\n",
        &[
            ("title", "", "title:  A  # why\n"),
            ("empty", "", "empty:\n"),
            ("url", "", "url: http://a/b\n"),
        ],
    );
}

#[test]
fn nested_values_belong_to_their_key() {
    check(
        "a:\n  b: 1\n\n  c:\n    - 2\nlist:\n- x\n- y: 1\n  z: 2\nlong: one\n  two\n",
        &[
            ("a", "", "a:\n  b: 1\n\n  c:\n    - 2\n"),
            ("list", "", "list:\n- x\n- y: 1\n  z: 2\n"),
            ("long", "", "long: one\n  two\n"),
        ],
    );
}

#[test]
fn block_scalars_hold_whatever_is_indented() {
    check(
        "a: |-\n  text: [\n  # no comment\n\n  more\nb: >\n  x\n",
        &[("a", "", "a: |-\n  text: [\n  # no comment\n\n  more\n"), ("b", "", "b: >\n  x\n")],
    );
}

#[test]
fn brackets_and_quotes_may_run_over_lines() {
    check(
        "tags: [a, 'b ] c',\n  \"d\\\"]\",\n]  # end\nmap: {a: 1, b: [2]}\nq: 'it''s\n  so'\n",
        &[
            ("tags", "", "tags: [a, 'b ] c',\n  \"d\\\"]\",\n]  # end\n"),
            ("map", "", "map: {a: 1, b: [2]}\n"),
            ("q", "", "q: 'it''s\n  so'\n"),
        ],
    );
}

#[test]
fn comments_belong_to_the_key_below_them_and_the_last_to_the_tail() {
    check(
        "# top\na: 1\n\n  # of b\nb: 2\n# end\n\n",
        &[("a", "# top\n", "a: 1\n"), ("b", "\n  # of b\n", "b: 2\n")],
    );
}

#[test]
fn keys_may_be_quoted_or_hold_spaces_and_colons() {
    check(
        "\"a: b\": 1\n'it''s': 2\ntwo words: 3\nns:key: 4\n",
        &[
            ("a: b", "", "\"a: b\": 1\n"),
            ("it's", "", "'it''s': 2\n"),
            ("two words", "", "two words: 3\n"),
            ("ns:key", "", "ns:key: 4\n"),
        ],
    );
}

#[test]
fn line_ends_and_a_byte_order_mark_stay() {
    let text = "\u{feff}---\r\na: 1\r\nb:\r\n  - x\r\n...\r\nbody";
    let (Frontmatter::Keys(head), body) = Frontmatter::of(text) else { panic!("not understood") };
    assert_eq!(join(&head) + body, text);
    assert_eq!(head.get("b").unwrap().text, "b:\r\n  - x\r\n");
}

#[test]
fn what_is_not_plainly_yaml_is_text() {
    for head in [
        "a: 1\na: 2\n",
        "no key\n",
        "a: b: c\n",
        "a: [1, 2\n",
        "a: 'open\nb: 1\n",
        "a: \"x\" y\n",
        "a: &anchor 1\n",
        "a: *alias\n",
        "a: !tag 1\n",
        "? a\n: b\n",
        "a:\n\tb: 1\n",
        "  a: 1\n",
        "a: 1\n- b\n",
        "a: b\n  c: d\n",
        "a: \u{0}\n",
        "a: {{ template }}x\n",
        "a: @x\n",
        "<% if %>\n",
    ] {
        is_opaque(head);
    }
}

#[test]
fn a_note_without_a_head_is_all_body() {
    assert_eq!(Frontmatter::of("# T\n"), (Frontmatter::Absent, "# T\n"));
    assert_eq!(Frontmatter::of("---\na: 1\n"), (Frontmatter::Absent, "---\na: 1\n"));
}

#[test]
fn an_empty_head_has_no_keys() {
    check("", &[]);
    check("# only this\n", &[]);
}

#[test]
fn scalars_are_unquoted() {
    assert_eq!(scalar("plain text").as_deref(), Some("plain text"));
    assert_eq!(scalar("'it''s'").as_deref(), Some("it's"));
    assert_eq!(scalar(r#""a\"\\\u00e9\t""#).as_deref(), Some("a\"\\é\t"));
    assert_eq!(scalar(r#""\q""#), None);
}
