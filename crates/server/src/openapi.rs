//! `/api/openapi.json`: the description of the API, written by hand and held to the routes by a
//! test.

use axum::http::header;
use axum::response::{IntoResponse, Response};

const DOCUMENT: &str = include_str!("openapi.json");

pub async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use crate::error::Code;
    use crate::routes::tests::paths;

    fn document() -> Value {
        serde_json::from_str(super::DOCUMENT).unwrap()
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let document = document();
        let described: BTreeSet<&str> =
            document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(described, BTreeSet::from_iter(paths()));
    }

    #[test]
    fn every_code_is_listed() {
        let document = document();
        let listed = document["components"]["schemas"]["Error"]["properties"]["code"]["enum"]
            .as_array()
            .unwrap();
        let listed: Vec<&str> = listed.iter().map(|code| code.as_str().unwrap()).collect();
        let known: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(listed, known);
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_an_id_and_an_answer() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(target)) = map.get("$ref") {
                        found.push(target.clone());
                    }
                    map.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for target in found {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
        let mut ids = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                if method == "parameters" {
                    continue;
                }
                let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{path}"));
                assert!(ids.insert(id.to_owned()), "{id} twice");
                assert!(operation["responses"].is_object(), "{method} {path}");
            }
        }
    }
}
