use biscuit_auth::builder::BlockBuilder;
use proptest::prelude::*;

use super::*;

const NOW_MS: u64 = 1_795_449_600_000;

fn root() -> SecretKey {
    SecretKey::from_seed([1; 32])
}

fn subject() -> Subject {
    Subject { user: UserId::from_bytes([2; 16]), device: DeviceId::from_bytes([3; 32]) }
}

fn issued(rights: &Rights) -> Token {
    Capability::issue(&root(), subject(), rights, [4; 32]).token()
}

fn verified(token: &Token) -> Capability {
    Capability::verify(token, &root().public()).unwrap()
}

fn name(text: &str) -> VaultName {
    VaultName::new(text).unwrap()
}

fn folder(text: &str) -> VaultPath {
    VaultPath::new(text).unwrap()
}

fn request<'a>(op: Op, vault: Option<&'a VaultName>) -> Request<'a> {
    Request { op, vault, path: None, now_ms: NOW_MS }
}

/// A token of ours with a block of somebody's own datalog appended.
fn appended(source: &str) -> Token {
    let biscuit = UnverifiedBiscuit::from_base64(issued(&Rights::ALL).reveal()).unwrap();
    let block = BlockBuilder::new().code(source).unwrap();
    let biscuit = biscuit.append_with_keypair(&biscuit_key(&[5; 32]), block).unwrap();
    Token::parse(&biscuit.to_base64().unwrap()).unwrap()
}

#[test]
fn a_token_says_whose_it_is_and_what_it_allows() {
    let rights = Rights {
        folders: Within::Only(BTreeSet::from([folder("a \"b\" or c"), folder("100% \\ é")])),
        expires_ms: Some(NOW_MS + 1),
        ..Rights::of_vault(&name("Notes"), Access::Read)
    };
    let capability = verified(&issued(&rights));
    assert_eq!(capability.subject(), subject());
    assert_eq!(capability.rights(), &rights);
}

#[test]
fn the_same_seed_issues_the_same_token_and_another_seed_another() {
    assert_eq!(issued(&Rights::ALL), issued(&Rights::ALL));
    let other = Capability::issue(&root(), subject(), &Rights::ALL, [9; 32]);
    assert_ne!(other.id(), verified(&issued(&Rights::ALL)).id());
}

#[test]
fn a_device_token_for_one_vault_is_short() {
    let rights = Rights::of_vault(&name("notes"), Access::Write);
    let length = issued(&rights).reveal().len();
    assert!(length <= 480, "{length} characters");
}

#[test]
fn a_token_of_another_root_is_refused() {
    let stranger = SecretKey::from_seed([8; 32]).public();
    let refused = Capability::verify(&issued(&Rights::ALL), &stranger);
    assert!(matches!(refused, Err(VerifyError::Signature)), "{refused:?}");
}

#[test]
fn a_changed_character_anywhere_is_refused() {
    let token = issued(&Rights::of_vault(&name("notes"), Access::Read));
    let text = token.reveal();
    for at in 0..text.trim_end_matches('=').len() {
        let mut changed = text.as_bytes().to_vec();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = Token::parse(std::str::from_utf8(&changed).unwrap()).unwrap();
        let refused = Capability::verify(&changed, &root().public());
        assert!(refused.is_err(), "character {at} does not matter");
    }
}

#[test]
fn a_token_ends_on_the_millisecond() {
    let token = issued(&Rights { expires_ms: Some(NOW_MS), ..Rights::ALL });
    let ask = |now_ms| {
        let vault = name("n");
        verified(&token)
            .authorize(&Request { op: Op::Read, vault: Some(&vault), path: None, now_ms })
            .map(drop)
    };
    assert_eq!(ask(NOW_MS - 1), Ok(()));
    assert_eq!(ask(NOW_MS), Err(Denied::Expired));
}

#[test]
fn a_token_for_one_vault_is_for_no_other() {
    let capability = verified(&issued(&Rights::of_vault(&name("mine"), Access::Write)));
    let (mine, yours) = (name("MINE"), name("yours"));
    assert!(capability.authorize(&request(Op::Write, Some(&mine))).is_ok());
    assert_eq!(capability.authorize(&request(Op::Read, Some(&yours))), Err(Denied::Vault));
    assert_eq!(capability.authorize(&request(Op::Create, Some(&mine))), Err(Denied::Access));
    assert!(capability.authorize(&request(Op::Identify, None)).is_ok());
}

#[test]
fn a_token_for_a_folder_is_not_for_the_whole_vault_nor_for_a_name_that_begins_like_it() {
    let rights = Rights { folders: Within::one(folder("Work")), ..Rights::ALL };
    let capability = verified(&issued(&rights));
    let vault = name("n");
    let ask = |path: Option<&VaultPath>| {
        let request = Request { op: Op::Read, vault: Some(&vault), path, now_ms: NOW_MS };
        capability.authorize(&request).map(drop)
    };
    assert_eq!(ask(Some(&folder("Work/plan.md"))), Ok(()));
    assert_eq!(ask(Some(&folder("Work"))), Ok(()));
    assert_eq!(ask(Some(&folder("Workshop/plan.md"))), Err(Denied::Folder));
    assert_eq!(ask(None), Err(Denied::Folder));
}

#[test]
fn attenuating_offline_keeps_the_owner_and_names_both_revocations() {
    let token = issued(&Rights::ALL);
    let narrow = token.attenuate(&Rights::of_vault(&name("n"), Access::Read), [6; 32]).unwrap();
    let (wide, narrow) = (verified(&token), verified(&narrow));
    assert_eq!(narrow.subject(), wide.subject());
    assert_eq!(narrow.id(), wide.id());
    assert_eq!(narrow.ids().len(), 2);
    assert_eq!(narrow.rights(), &Rights::of_vault(&name("n"), Access::Read));
}

#[test]
fn whatever_a_holder_appends_beyond_the_vocabulary_is_refused() {
    for source in [
        "user(hex:00);",
        "operation(\"write\");",
        "right(\"write\") <- user($u);",
        "check if true;",
        "check if user($a), user($b), user($c), user($d), user($e);",
        "check if operation(\"query\") or operation(\"write\");",
        "check if operation(\"query\") or namespace(\"b\") or namespace(\"a\");",
        "check if operation(\"query\") or namespace(\"UPPER\");",
        "check if time($t), $t < -1;",
        "check all time($t), $t < 5;",
        "reject if operation(\"read\");",
        "check if operation(\"query\") or path($p), $p.matches(\"(a+)+\");",
        "check if operation(\"query\") or path(\"a\") or path($p), $p.starts_with(\"b/\");",
        "check if operation(\"query\") or path(\"..\") or path($p), $p.starts_with(\"../\");",
    ] {
        let refused = Capability::verify(&appended(source), &root().public());
        assert!(matches!(refused, Err(VerifyError::Vocabulary)), "{source}: {refused:?}");
    }
}

#[test]
fn text_that_is_no_token_is_refused_without_work() {
    assert!(matches!(Token::parse(&"A".repeat(TOKEN_BYTES_MAX + 1)), Err(VerifyError::TooLong)));
    for text in ["", "a b", "a\nb", "é", "a.b.c", "a+b/c"] {
        assert!(matches!(Token::parse(text), Err(VerifyError::Vocabulary)), "{text:?}");
    }
    for text in ["A", "AAAA", "En0KEwoEMTIzNBgDIgkKBwgKEgMYgAgS", &"A".repeat(TOKEN_BYTES_MAX)] {
        let refused = Capability::verify(&Token::parse(text).unwrap(), &root().public());
        assert!(matches!(refused, Err(VerifyError::Malformed(_))), "{text:.20}: {refused:?}");
    }
}

#[test]
fn a_token_cannot_grow_without_end() {
    let mut token = issued(&Rights::ALL);
    let mut blocks = 1;
    let error = loop {
        match token.attenuate(&Rights::ALL, [7; 32]) {
            Ok(longer) => token = longer,
            Err(error) => break error,
        }
        blocks += 1;
        assert!(blocks <= BLOCKS_MAX, "{blocks} blocks");
    };
    assert!(matches!(error, AttenuateError::Token(VerifyError::TooLong)), "{error:?}");
    assert!(Capability::verify(&token, &root().public()).is_ok());
}

#[test]
fn debug_shows_no_secret() {
    let token = issued(&Rights::ALL);
    let shown = format!("{token:?} {:?}", verified(&token));
    assert!(!shown.contains(&token.reveal()[..20]), "{shown}");
}

fn any_name() -> impl Strategy<Value = VaultName> {
    prop::sample::select(vec!["a", "B", "b.c", "notes"]).prop_map(name)
}

fn any_path() -> impl Strategy<Value = VaultPath> {
    let component =
        prop::sample::select(vec!["x", "x y", "\"", "%22", "\\", "é", "or path(\"x\")"]);
    prop::collection::vec(component, 1..4).prop_map(|parts| folder(&parts.join("/")))
}

fn within<T: Ord + Clone + std::fmt::Debug>(
    item: impl Strategy<Value = T>,
) -> impl Strategy<Value = Within<T>> {
    prop_oneof![Just(Within::All), prop::collection::btree_set(item, 0..3).prop_map(Within::Only),]
}

prop_compose! {
    fn any_rights()(
        access in prop::sample::select(vec![Access::Read, Access::Write]),
        create: bool,
        vaults in within(any_name()),
        folders in within(any_path()),
        expires_ms in prop::option::of(NOW_MS - 1..NOW_MS + 2),
    ) -> Rights {
        // Creating takes writing, so a reader's `create` says nothing and is not kept.
        Rights { access, create: create && access == Access::Write, vaults, folders, expires_ms }
    }
}

prop_compose! {
    fn any_question()(
        op in prop::sample::select(vec![Op::Identify, Op::Read, Op::Write, Op::Create]),
        vault in prop::option::of(any_name()),
        path in prop::option::of(any_path()),
    ) -> (Op, Option<VaultName>, Option<VaultPath>) {
        (op, vault, path)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn rights_survive_the_token(rights in any_rights()) {
        let capability = verified(&issued(&rights));
        prop_assert_eq!(capability.rights(), &rights);
    }

    #[test]
    fn an_attenuated_token_allows_what_both_sides_allow(
        wide in any_rights(), narrow in any_rights(), question in any_question(),
    ) {
        let token = issued(&wide);
        let Ok(attenuated) = token.attenuate(&narrow, [6; 32]) else {
            return Ok(());
        };
        let (op, vault, path) = &question;
        let request = Request {
            op: *op, vault: vault.as_ref(), path: path.as_ref(), now_ms: NOW_MS,
        };
        let both = wide.permit(&request).is_ok() && narrow.permit(&request).is_ok();
        let capability = verified(&attenuated);
        prop_assert_eq!(capability.authorize(&request).is_ok(), both);
        // Two independent judges: the rights read back, and the biscuit's own logic.
        let logic = capability.authorizer(&request).unwrap().authorize_with_limits(LIMITS).is_ok();
        prop_assert_eq!(logic, both, "logic differs on {:?}", request);
        prop_assert!(capability.rights().within(&wide));
        prop_assert!(capability.rights().within(&narrow));
    }

    #[test]
    fn meeting_rights_is_a_lattice(a in any_rights(), b in any_rights(), c in any_rights()) {
        prop_assert_eq!(a.meet(&b), b.meet(&a));
        prop_assert_eq!(a.meet(&b).meet(&c), a.meet(&b.meet(&c)));
        prop_assert!(a.meet(&a).within(&a) && a.within(&a.meet(&a)));
        prop_assert!(a.meet(&b).within(&a));
    }

    #[test]
    fn garbage_is_refused_and_never_panics(text in "[A-Za-z0-9_=-]{0,200}") {
        if let Ok(token) = Token::parse(&text) {
            prop_assert!(Capability::verify(&token, &root().public()).is_err());
        }
    }
}
