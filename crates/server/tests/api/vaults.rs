use crucible_trust::rights::{Access, Rights};
use serde_json::json;

use crate::running::{Running, name};

#[test]
fn a_vault_is_created_listed_and_shown() {
    let server = Running::start();
    let (_, token) = server.anna();
    let create = |vault: &str| {
        server
            .ask("POST", "/api/vaults")
            .token(token.reveal())
            .json(json!({ "name": vault }))
            .send()
    };
    let created = create("Work");
    assert_eq!(created.status, 201);
    assert_eq!(created.json()["access"], "write");
    assert_eq!(create("wORK").refusal(), (409, "exists".into()));
    assert_eq!(create("no/name").refusal(), (422, "malformed".into()));
    assert_eq!(create("api").refusal(), (422, "malformed".into()));

    let page = server.get("/api/vaults?limit=1", &token).json();
    assert_eq!(page["vaults"][0]["name"], "notes");
    let next = page["next"].as_str().unwrap();
    let page = server.get(&format!("/api/vaults?after={next}"), &token).json();
    assert_eq!(page["vaults"][0]["id"], created.json()["id"]);
    assert_eq!(page["next"], json!(null));

    assert_eq!(server.get("/api/vaults/work", &token).json()["root"], json!(null));
    server.round(&token, "work", "push");
    assert_eq!(server.get("/api/vaults/work", &token).json()["root"], "01".repeat(32));
}

#[test]
fn a_token_for_one_vault_lists_that_one() {
    let server = Running::start();
    let (anna, _) = server.anna();
    server.vault("work", anna);
    let token = server.token(anna, 12, &Rights::of_vault(&name("work"), Access::Read));
    let vaults = server.get("/api/vaults", &token).json()["vaults"].clone();
    assert_eq!(vaults.as_array().unwrap().len(), 1);
    assert_eq!((&vaults[0]["name"], &vaults[0]["access"]), (&json!("work"), &json!("read")));
}

#[test]
fn the_owner_says_who_is_a_member() {
    let server = Running::start();
    let (anna, annas) = server.anna();
    let bert = server.user(2);
    let berts = server.token(bert, 13, &Rights::ALL);
    let put = |token: &crucible_trust::capability::Token, email: &str, access: &str| {
        let ask = server.ask("PUT", "/api/vaults/notes/members").token(token.reveal());
        ask.json(json!({ "email": email, "access": access })).send()
    };
    assert_eq!(put(&annas, "USER2@example.org", "read").status, 200);
    assert_eq!(server.round(&berts, "notes", "pull").status, 200);
    assert_eq!(put(&berts, "user2@example.org", "write").refusal(), (403, "forbidden".into()));
    assert_eq!(put(&annas, "user2@example.org", "write").status, 200);
    assert_eq!(put(&berts, "user2@example.org", "write").refusal(), (403, "forbidden".into()));
    assert_eq!(put(&annas, "nobody@example.org", "read").refusal(), (404, "not_found".into()));
    assert_eq!(put(&annas, "nobody", "read").refusal(), (422, "malformed".into()));
    assert_eq!(put(&annas, "user2@example.org", "own").refusal(), (422, "malformed".into()));
    assert_eq!(put(&annas, "user1@example.org", "read").refusal(), (403, "forbidden".into()));
    let members = server.get("/api/vaults/notes/members", &berts).json();
    let listed = members["members"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    for member in listed {
        assert_eq!(member["owner"], json!(member["email"] == "user1@example.org"), "{member}");
    }

    let remove = |user: String| {
        let path = format!("/api/vaults/notes/members/{user}");
        server.ask("DELETE", &path).token(annas.reveal()).send()
    };
    assert_eq!(remove(anna.to_string()).refusal(), (403, "forbidden".into()));
    assert_eq!(remove(bert.to_string()).status, 204);
    assert_eq!(remove(bert.to_string()).refusal(), (404, "not_found".into()));
    assert_eq!(server.round(&berts, "notes", "pull").refusal(), (403, "forbidden".into()));
}

#[test]
fn a_vault_that_began_on_a_device_keeps_its_id() {
    let server = Running::start();
    let (_, token) = server.anna();
    let create = |id: &str| {
        let body = json!({ "name": "garden", "id": id });
        server.ask("POST", "/api/vaults").token(token.reveal()).json(body).send()
    };
    assert_eq!(create("zz").refusal(), (422, "malformed".into()));
    assert_eq!(create(&"ab".repeat(16)).json()["id"], "ab".repeat(16));
    // Nobody gets into a vault by knowing its id.
    let bert = server.user(2);
    let berts = server.token(bert, 13, &Rights::ALL);
    let body = json!({ "name": "mine", "id": "ab".repeat(16) });
    let stolen = server.ask("POST", "/api/vaults").token(berts.reveal()).json(body).send();
    assert_eq!(stolen.refusal(), (409, "exists".into()));
    assert_eq!(server.round(&berts, "mine", "pull").refusal(), (404, "not_found".into()));
}
