use crucible_core::id::{DeviceId, UserId};
use crucible_core::vault_path::VaultPath;
use crucible_server::config::Rate;
use crucible_store::accounts::Invite;
use crucible_trust::capability::{Capability, Subject};
use crucible_trust::key::SecretKey;
use crucible_trust::pairing::{LIFETIME_MS, PairingCode};
use crucible_trust::rights::{Access, Rights, Within};
use serde_json::json;

use crate::client::Reply;
use crate::running::{NOW_MS, Running, name};

fn refused(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.refusal(), (status, code.to_owned()));
}

fn pair(server: &Running, code: &str, device: u8) -> Reply {
    let device = DeviceId::from_bytes([device; 32]).to_string();
    let body = json!({ "code": code, "device": device, "name": "phone" });
    server.ask("POST", "/api/auth/pair").json(body).send()
}

fn reading_notes(expires_ms: Option<u64>) -> serde_json::Value {
    json!({
        "access": "read",
        "create": false,
        "vaults": ["notes"],
        "folders": null,
        "expires_ms": expires_ms,
    })
}

#[test]
fn every_endpoint_but_three_asks_for_a_token() {
    let server = Running::start();
    server.anna();
    let document = server.ask("GET", "/api/openapi.json").send().json();
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method = match method.as_str() {
                "get" => "GET",
                "put" => "PUT",
                "post" => "POST",
                "head" => "HEAD",
                "delete" => "DELETE",
                _ => continue,
            };
            let path = path.replace("{vault}", "notes").replace("{hash}", &"0".repeat(64));
            let reply = server.ask(method, &path).json(json!({})).send();
            let open = operation["security"].as_array().is_some_and(Vec::is_empty);
            assert_eq!(reply.status == 401, !open, "{method} {path}: {}", reply.status);
            // Described, so there.
            assert!(!matches!(reply.status, 404 | 405), "{method} {path}: {}", reply.status);
            asked += 1;
        }
    }
    assert!(asked >= 25, "{asked}");
    let reply = server.ask("GET", "/api/vaults").send();
    refused(&reply, 401, "unauthenticated");
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
}

#[test]
fn methods_that_are_not_described_are_not_there() {
    let server = Running::start();
    let document = server.ask("GET", "/api/openapi.json").send().json();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let has = |method: &str| methods.get(method).is_some();
        for (method, name) in [
            ("GET", "get"),
            ("PUT", "put"),
            ("POST", "post"),
            ("DELETE", "delete"),
            ("PATCH", "patch"),
        ] {
            if !has(name) {
                let reply = server.ask(method, &path.replace(['{', '}'], "")).send();
                refused(&reply, 405, "method_not_allowed");
            }
        }
    }
}

#[test]
fn tokens_that_are_garbled_foreign_or_not_bearer_are_refused() {
    let server = Running::start();
    let (anna, token) = server.anna();
    let subject = Subject { user: anna, device: DeviceId::from_bytes([11; 32]) };
    let stranger = SecretKey::from_seed([77; 32]);
    let foreign = Capability::issue(&stranger, subject, &Rights::ALL, [5; 32]).token();
    let garbled = token.reveal().replacen('A', "B", 1);
    for value in [
        format!("Bearer {}", foreign.reveal()),
        format!("Bearer {garbled}"),
        format!("Bearer {}", "A".repeat(5000)),
        "Bearer ".to_owned(),
        "Bearer a b".to_owned(),
        format!("Basic {}", token.reveal()),
        token.reveal().to_owned(),
    ] {
        let reply = server.ask("GET", "/api/vaults").header("Authorization", &value).send();
        refused(&reply, 401, "unauthenticated");
    }
    let twice = server.ask("GET", "/api/vaults").token(token.reveal()).token(token.reveal()).send();
    refused(&twice, 400, "bad_request");
    let lower = format!("bearer {}", token.reveal());
    let reply = server.ask("GET", "/api/vaults").header("Authorization", &lower).send();
    assert_eq!(reply.status, 200);
}

#[test]
fn a_token_in_the_query_is_no_token() {
    let server = Running::start();
    let (_, token) = server.anna();
    let reply = server.ask("GET", &format!("/api/vaults?token={}", token.reveal())).send();
    refused(&reply, 401, "unauthenticated");
}

#[test]
fn an_expired_token_is_told_apart() {
    let server = Running::start();
    let (anna, _) = server.anna();
    let rights = Rights { expires_ms: Some(NOW_MS + 1000), ..Rights::ALL };
    let token = server.token(anna, 12, &rights);
    assert_eq!(server.get("/api/vaults", &token).status, 200);
    server.advance(1000);
    refused(&server.get("/api/vaults", &token), 401, "token_expired");
}

#[test]
fn a_device_revoked_by_another_process_is_out_at_the_next_request() {
    let server = Running::start();
    let (anna, token) = server.anna();
    let narrow = token.attenuate(&Rights::of_vault(&name("notes"), Access::Read), [4; 32]).unwrap();
    assert_eq!(server.get("/api/vaults", &token).status, 200);
    assert_eq!(server.get("/api/vaults", &narrow).status, 200);
    server.accounts.revoke_device(anna, DeviceId::from_bytes([11; 32]), NOW_MS).unwrap();
    refused(&server.get("/api/vaults", &token), 401, "token_revoked");
    refused(&server.get("/api/vaults", &narrow), 401, "token_revoked");
}

#[test]
fn a_token_of_a_forgotten_user_is_refused() {
    let server = Running::start();
    let subject =
        Subject { user: UserId::from_bytes([9; 16]), device: DeviceId::from_bytes([9; 32]) };
    let root = SecretKey::from_seed([1; 32]);
    let token = Capability::issue(&root, subject, &Rights::ALL, [5; 32]).token();
    refused(&server.get("/api/vaults", &token), 401, "unauthenticated");
}

#[test]
fn a_token_reaches_its_own_vaults_and_no_others() {
    let server = Running::start();
    let (anna, all) = server.anna();
    server.vault("work", anna);
    let bert = server.user(2);
    server.vault("berts", bert);
    let one = server.token(anna, 12, &Rights::of_vault(&name("work"), Access::Write));
    let berts = server.token(bert, 13, &Rights::ALL);
    let folder = Rights {
        folders: Within::one(VaultPath::new("Work").unwrap()),
        ..Rights::of_vault(&name("notes"), Access::Write)
    };
    let folder = server.token(anna, 14, &folder);
    for (token, vault, status) in [
        (&all, "notes", 200),
        (&all, "Notes", 200),
        (&all, "berts", 403),
        (&all, "nowhere", 404),
        (&all, "no%2fname", 404),
        (&one, "work", 200),
        (&one, "notes", 403),
        (&one, "berts", 403),
        (&berts, "berts", 200),
        (&berts, "notes", 403),
        (&folder, "notes", 403),
    ] {
        let reply = server.round(token, vault, "pull");
        assert_eq!(reply.status, status, "{vault}: {}", String::from_utf8_lossy(&reply.body));
    }
}

#[test]
fn a_reader_may_ask_and_not_change() {
    let server = Running::start();
    let (anna, _) = server.anna();
    let reader = server.token(anna, 12, &Rights::of_vault(&name("notes"), Access::Read));
    assert_eq!(server.round(&reader, "notes", "pull").status, 200);
    refused(&server.round(&reader, "notes", "push"), 403, "forbidden");
    let body = json!({ "version": "00".repeat(32) });
    let restore = server.ask("POST", "/api/history/notes/restore").token(reader.reveal());
    refused(&restore.json(body).send(), 403, "forbidden");
    let hash = "0".repeat(64);
    let blob = server.ask("PUT", &format!("/api/sync/notes/blobs/{hash}")).token(reader.reveal());
    refused(&blob.body("x").send(), 403, "forbidden");
    let invite = server.ask("POST", "/api/auth/invite").token(reader.reveal());
    let body = json!({ "vault": "notes", "access": "write" });
    refused(&invite.json(body).send(), 403, "forbidden");
    let create = server.ask("POST", "/api/vaults").token(reader.reveal());
    refused(&create.json(json!({ "name": "more" })).send(), 403, "forbidden");
}

#[test]
fn a_member_who_may_only_read_cannot_write_with_any_token() {
    let server = Running::start();
    server.anna();
    let bert = server.user(2);
    let vault = server.accounts.vault(&name("notes")).unwrap().unwrap();
    server.accounts.set_member(vault.id, bert, Access::Read).unwrap();
    let token = server.token(bert, 13, &Rights::ALL);
    assert_eq!(server.round(&token, "notes", "pull").status, 200);
    refused(&server.round(&token, "notes", "push"), 403, "forbidden");
    let blob = format!("/api/sync/notes/blobs/{}", "0".repeat(64));
    let put = server.ask("PUT", &blob).token(token.reveal()).body("x").send();
    refused(&put, 403, "forbidden");
    server.accounts.remove_member(vault.id, bert).unwrap();
    refused(&server.round(&token, "notes", "pull"), 403, "forbidden");
}

#[test]
fn a_device_joins_with_a_code_and_may_do_what_the_invitation_says() {
    let server = Running::start();
    let (anna, token) = server.anna();
    let invite = server.ask("POST", "/api/auth/invite").token(token.reveal());
    let invited = invite.json(json!({ "vault": "notes", "access": "read" })).send();
    assert_eq!(invited.status, 201);
    let code = invited.json()["code"].as_str().unwrap().to_owned();
    let paired = pair(&server, &code.to_lowercase(), 21);
    assert_eq!(paired.status, 200, "{}", paired.json());
    let paired = paired.json();
    assert_eq!(paired["email"], "user1@example.org");
    assert_eq!(paired["user"], anna.to_string());
    let new = crucible_trust::capability::Token::parse(paired["token"].as_str().unwrap()).unwrap();
    let whoami = server.get("/api/auth/whoami", &new).json();
    assert_eq!(whoami["device_name"], "phone");
    assert_eq!(whoami["rights"], reading_notes(None));
    assert_eq!(server.round(&new, "notes", "pull").status, 200);
    refused(&server.round(&new, "notes", "push"), 403, "forbidden");
    refused(&pair(&server, &code, 22), 403, "code_refused");
}

#[test]
fn an_invitation_is_for_whole_vaults_alone() {
    let server = Running::start();
    let (anna, token) = server.anna();
    // A limit that is not kept must not be overlooked: the token would allow more than was asked.
    for limit in [json!({ "folders": ["Work"] }), json!({ "vault": "notes", "hours": "9-17" })] {
        let invite = server.ask("POST", "/api/auth/invite").token(token.reveal());
        refused(&invite.json(limit).send(), 422, "malformed");
    }
    let folder = Rights { folders: Within::one(VaultPath::new("Work").unwrap()), ..Rights::ALL };
    let folder = server.token(anna, 12, &folder);
    let invite = server.ask("POST", "/api/auth/invite").token(folder.reveal());
    refused(&invite.json(json!({})).send(), 403, "forbidden");
}

#[test]
fn an_invitation_without_a_vault_is_as_wide_as_the_inviter_and_never_wider() {
    let server = Running::start();
    let (anna, _) = server.anna();
    let end = NOW_MS + 60_000;
    let limited =
        Rights { expires_ms: Some(end), ..Rights::of_vault(&name("notes"), Access::Read) };
    let limited = server.token(anna, 12, &limited);
    let invite = server.ask("POST", "/api/auth/invite").token(limited.reveal());
    let later = json!({ "expires_ms": end + 1 });
    let rights = invite.json(later).send().json()["rights"].clone();
    assert_eq!(rights, reading_notes(Some(end)));
    let elsewhere = server.vault("work", anna);
    let invite = server.ask("POST", "/api/auth/invite").token(limited.reveal());
    refused(&invite.json(json!({ "vault": elsewhere.name.as_str() })).send(), 403, "forbidden");
}

#[test]
fn codes_end_after_ten_minutes_and_are_limited_in_number() {
    let server = Running::with(|config| config.limits.invitations_max = 2);
    let (_, token) = server.anna();
    let invite =
        || server.ask("POST", "/api/auth/invite").token(token.reveal()).json(json!({})).send();
    let first = invite();
    assert_eq!((first.status, invite().status), (201, 201));
    refused(&invite(), 429, "rate_limited");
    server.advance(LIFETIME_MS);
    let first = first.json()["code"].as_str().unwrap().to_owned();
    let late = pair(&server, &first, 21);
    refused(&late, 403, "code_refused");
    assert_eq!(late.json()["message"], "the pairing code has expired");
    assert_eq!(invite().status, 201);
    // Swept out meanwhile: that it was good once is not known any more.
    let later = pair(&server, &first, 21);
    refused(&later, 403, "code_refused");
    assert_eq!(later.json()["message"], "the pairing code is wrong, or no longer good");
    for refusal in [later, pair(&server, "7K2M", 21)] {
        let hint = refusal.json()["hint"].to_string();
        assert!(hint.contains("once, for ten minutes; `cru invite`"), "{hint}");
    }
}

#[test]
fn guessing_codes_is_limited_by_address_and_altogether() {
    let server = Running::with(|config| {
        config.limits.pairing_rate = Rate { burst: 3, refill_ms: 10_000 };
        config.limits.pairing_rate_all = Rate { burst: 5, refill_ms: 10_000 };
        config.client_address = crucible_server::config::ClientAddress::Forwarded;
    });
    let (anna, _) = server.anna();
    let guess = |from: &str, code: &str| {
        let body = json!({ "code": code, "device": "11".repeat(32), "name": "thief" });
        server.ask("POST", "/api/auth/pair").header("X-Forwarded-For", from).json(body).send()
    };
    for _ in 0..3 {
        refused(&guess("10.9.9.9, 192.0.2.1", "0000-0000"), 403, "code_refused");
    }
    let limited = guess("192.0.2.1", "0000-0000");
    refused(&limited, 429, "rate_limited");
    assert_eq!(limited.header("retry-after"), Some("10"));
    // The right code does not help who has guessed too often.
    let code = PairingCode::from_entropy([1; 5]);
    let invite = Invite { user: anna, rights: Rights::ALL };
    server.accounts.open_invitation(&code, &invite, NOW_MS).unwrap();
    refused(&guess("192.0.2.1", &code.to_string()), 429, "rate_limited");
    // Nor do more addresses of one IPv6 network, nor more networks than the server bears.
    refused(&guess("2001:db8::1", "0000-0000"), 403, "code_refused");
    refused(&guess("2001:db8::2", "0000-0000"), 403, "code_refused");
    refused(&guess("198.51.100.7", "0000-0000"), 429, "rate_limited");
    server.advance(10_000);
    assert_eq!(guess("192.0.2.1", &code.to_string()).status, 200);
}

#[test]
fn good_codes_use_up_no_tries() {
    let server = Running::with(|config| {
        config.limits.pairing_rate = Rate { burst: 2, refill_ms: 10_000 };
        config.limits.pairing_rate_all = Rate { burst: 2, refill_ms: 10_000 };
    });
    let (anna, _) = server.anna();
    for n in 1..6 {
        let code = PairingCode::from_entropy([n; 5]);
        let invite = Invite { user: anna, rights: Rights::ALL };
        server.accounts.open_invitation(&code, &invite, NOW_MS).unwrap();
        assert_eq!(pair(&server, &code.to_string(), 20 + n).status, 200, "device {n}");
    }
    for _ in 0..2 {
        refused(&pair(&server, "0000-0000", 30), 403, "code_refused");
    }
    refused(&pair(&server, "0000-0000", 30), 429, "rate_limited");
}

#[test]
fn wrong_tokens_are_limited_by_address_and_good_ones_go_on() {
    let server = Running::with(|config| {
        config.limits.stranger_rate = Rate { burst: 3, refill_ms: 1_000 };
    });
    let (_, token) = server.anna();
    assert_eq!(server.get("/api/vaults", &token).status, 200);
    let wrong = || server.ask("GET", "/api/vaults").token("AAAA").send();
    for _ in 0..3 {
        refused(&wrong(), 401, "unauthenticated");
    }
    refused(&wrong(), 429, "rate_limited");
    // A device that was here before shares the address with the attacker, not its fate.
    assert_eq!(server.get("/api/vaults", &token).status, 200);
    server.advance(1_000);
    refused(&wrong(), 401, "unauthenticated");
}

#[test]
fn a_busy_device_is_slowed_down_and_no_other() {
    let server = Running::with(|config| {
        config.limits.device_rate = Rate { burst: 2, refill_ms: 500 };
    });
    let (anna, busy) = server.anna();
    let other = server.token(anna, 12, &Rights::ALL);
    assert_eq!(server.get("/api/vaults", &busy).status, 200);
    assert_eq!(server.get("/api/vaults", &busy).status, 200);
    refused(&server.get("/api/vaults", &busy), 429, "rate_limited");
    assert_eq!(server.get("/api/vaults", &other).status, 200);
}

#[test]
fn devices_are_listed_in_pages_and_revoked_by_a_short_id() {
    let server = Running::start();
    let (anna, token) = server.anna();
    let lost = server.token(anna, 0xab, &Rights::of_vault(&name("notes"), Access::Write));
    let page = server.get("/api/auth/devices?limit=1", &token).json();
    assert_eq!(page["devices"].as_array().unwrap().len(), 1);
    assert_eq!(page["devices"][0]["this"], true);
    assert_eq!(page["devices"][0]["seen_ms"], NOW_MS);
    let next = page["next"].as_str().unwrap();
    let page = server.get(&format!("/api/auth/devices?limit=5&after={next}"), &token).json();
    assert_eq!(page["devices"][0]["id"], "ab".repeat(32));
    assert_eq!(page["devices"][0]["tokens"][0]["rights"]["vaults"], json!(["notes"]));
    assert_eq!(page["next"], json!(null));
    let text = page.to_string();
    assert!(!text.contains(&lost.reveal()[..30]), "a list shows no secret");

    let revoke = |id: &str, by: &crucible_trust::capability::Token| {
        server.ask("DELETE", &format!("/api/auth/devices/{id}")).token(by.reveal()).send()
    };
    refused(&revoke("zzzz", &token), 400, "bad_request");
    refused(&revoke("abc", &token), 400, "bad_request");
    refused(&revoke("ffff", &token), 404, "not_found");
    assert_eq!(revoke("abab", &token).status, 204);
    refused(&server.get("/api/vaults", &lost), 401, "token_revoked");
}

#[test]
fn a_device_revokes_itself_and_none_that_may_do_more() {
    let server = Running::start();
    let (anna, _) = server.anna();
    let agent = server.token(anna, 0xcc, &Rights::of_vault(&name("notes"), Access::Read));
    let revoke = |id: String| {
        server.ask("DELETE", &format!("/api/auth/devices/{id}")).token(agent.reveal()).send()
    };
    refused(&revoke("0b".repeat(32)), 403, "forbidden");
    assert_eq!(revoke("cc".repeat(32)).status, 204);
    refused(&server.get("/api/vaults", &agent), 401, "token_revoked");
}

#[test]
fn nobody_pairs_as_a_device_of_another_user() {
    let server = Running::start();
    let (anna, _) = server.anna();
    let bert = server.user(2);
    server.token(bert, 0x21, &Rights::ALL);
    let code = PairingCode::from_entropy([1; 5]);
    let invite = Invite { user: anna, rights: Rights::ALL };
    server.accounts.open_invitation(&code, &invite, NOW_MS).unwrap();
    refused(&pair(&server, &code.to_string(), 0x21), 403, "forbidden");
}

#[test]
fn a_token_gets_another_device_one_of_its_own_and_no_more_than_it_has() {
    let server = Running::start();
    let (anna, token) = server.anna();
    let enroll = |token: &str, device: &str| {
        let body = json!({ "device": device, "name": "laptop" });
        server.ask("POST", "/api/auth/devices").token(token).json(body).send()
    };
    let device = "ab".repeat(32);
    let answer = enroll(token.reveal(), &device);
    assert_eq!((answer.status, &answer.json()["device"]), (201, &json!(device)));
    let me = |token: &str| server.ask("GET", "/api/auth/whoami").token(token).send().json();
    let own = me(answer.json()["token"].as_str().unwrap());
    assert_eq!((&own["device"], &own["device_name"]), (&json!(device), &json!("laptop")));

    let narrow = server.token(anna, 19, &Rights::of_vault(&name("notes"), Access::Read));
    let narrow = enroll(narrow.reveal(), &"cd".repeat(32)).json();
    let own = me(narrow["token"].as_str().unwrap());
    assert_eq!(own["rights"]["access"], "read");
    assert_eq!(own["rights"]["vaults"], json!(["notes"]));

    let berts = server.token(server.user(2), 20, &Rights::ALL);
    assert_eq!(enroll(berts.reveal(), &device).refusal(), (403, "forbidden".into()));
    assert_eq!(enroll(token.reveal(), "zz").refusal(), (422, "malformed".into()));
}
